//! What is kept of a session between two messages, sealed: it holds what is on its way to the device.

use serde::{Deserialize, Serialize};

use crate::domain::dm_session::{Last, Session};
use crate::secret::Sealer;
use crate::service::{Error, Result};
use crate::store::dm_sessions::Stored;
use crate::store::sealed::{PIECE, SESSION_RESPONSE, SESSION_STATE};

/// A session between two messages; one that is over keeps only its last answer.
#[derive(Serialize, Deserialize)]
pub(super) enum Kept {
    /// The device was asked for credentials before anything else. The session before this one died with that work, if it died.
    Challenged {
        /// The session before.
        lost: Option<Box<Session>>,
    },
    /// It goes on.
    Open(Box<Session>),
}

impl Kept {
    /// The session whose work nobody will answer for any more.
    pub(super) fn into_lost(self) -> Option<Session> {
        match self {
            Self::Challenged { lost } => lost.map(|lost| *lost),
            Self::Open(session) => Some(*session),
        }
    }
}

/// A stored session that does not open or does not parse: it counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// The stored message, for comparison.
pub(super) fn last(stored: &Stored) -> Last<'_> {
    Last {
        session_id: &stored.session_id,
        msg_id: u32::try_from(stored.msg_id).unwrap_or(u32::MAX),
        body: &stored.body_hash,
        answered_at: stored.answered_at,
    }
}

/// The stored answer.
pub(super) fn answer(sealer: &Sealer, stored: &Stored) -> Result<Vec<u8>, Unreadable> {
    let opened = sealer.open(SESSION_RESPONSE, &stored.sealed_response);
    opened.map(|bytes| bytes.expose().to_vec()).map_err(|error| unreadable(stored, &error))
}

/// The stored session; none when it is over.
pub(super) fn state(sealer: &Sealer, stored: &Stored) -> Result<Option<Kept>, Unreadable> {
    let Some(sealed) = &stored.sealed_state else { return Ok(None) };
    let opened = sealer.open(SESSION_STATE, sealed).map_err(|error| unreadable(stored, &error))?;
    serde_json::from_slice(opened.expose()).map(Some).map_err(|error| unreadable(stored, &error))
}

/// The large object that a session is receiving, as far as it has come.
pub(super) fn object(sealer: &Sealer, stored: &Stored, pieces: &[Vec<u8>]) -> Result<String, Unreadable> {
    let mut text = String::new();
    for piece in pieces {
        let opened = sealer.open(PIECE, piece).map_err(|error| unreadable(stored, &error))?;
        text.push_str(std::str::from_utf8(opened.expose()).map_err(|error| unreadable(stored, &error))?);
    }
    Ok(text)
}

fn unreadable(stored: &Stored, error: &dyn std::fmt::Display) -> Unreadable {
    tracing::error!(enrollment = %stored.enrollment_id, %error, "a stored session cannot be read");
    Unreadable
}

/// Puts the answer and what goes on of the session into a row.
pub(super) fn seal(sealer: &Sealer, mut stored: Stored, kept: Option<&Kept>, answer: &[u8]) -> Result<Stored> {
    stored.sealed_response = sealer.seal(SESSION_RESPONSE, answer)?;
    stored.sealed_state = match kept {
        Some(kept) => Some(sealer.seal(SESSION_STATE, &serde_json::to_vec(kept).map_err(Error::internal)?)?),
        None => None,
    };
    Ok(stored)
}
