//! Everything that a message changed is stored in one transaction, together with the answer's bytes.

use super::apply::Turn;
use super::proof::Claim;
use crate::domain::dm_session::Session;
use crate::secret::Sealer;
use crate::service::Result;
use crate::service::device::{self, Leaving};
use crate::store::dm_sessions::Stored;
use crate::store::sealed::PIECE;
use crate::store::targets::{self, take_turn};
use crate::store::{self, Tx, dm_sessions, enrollments};

/// The place that a message takes in its session's row.
pub(super) struct Slot {
    /// The row to be stored.
    pub(super) stored: Stored,
    /// The session begins with this message.
    pub(super) first: bool,
    /// The nonce that the message used.
    pub(super) claim: Option<Claim>,
    /// Whether pieces of a large object may be kept from before.
    pub(super) pieces: bool,
    /// The piece that this message brought: its number and its sealed text.
    pub(super) piece: Option<(u32, Vec<u8>)>,
}

impl Slot {
    /// Takes the piece of a large object that came with the message out of the session.
    pub(super) fn keep_piece(&mut self, sealer: &Sealer, session: &mut Session) -> Result<()> {
        let piece = session.take_piece();
        // Pieces are forgotten when their object is whole or dropped, and when another begins.
        self.pieces &= !session.is_receiving() || piece.as_ref().is_some_and(|piece| piece.number == 0);
        self.piece = match piece {
            Some(piece) => Some((piece.number, sealer.seal(PIECE, piece.text.as_bytes())?)),
            None => None,
        };
        Ok(())
    }

    /// Stores the row, if no other node has answered since it was read, and claims the nonce.
    pub(super) fn store(&self, tx: &mut Tx<'_>) -> store::Result<()> {
        let enrollment = &self.stored.enrollment_id;
        if let Some(claim) = &self.claim {
            claim.claim(tx, enrollment)?;
        }
        dm_sessions::upsert_session(tx, &self.stored)?;
        if self.pieces {
            dm_sessions::purge_pieces(tx, enrollment)?;
        }
        match &self.piece {
            Some((number, text)) => dm_sessions::insert_piece(tx, enrollment, *number, text),
            None => Ok(()),
        }
    }
}

impl Turn<'_> {
    /// Stores everything that the message changed, in one transaction.
    pub(super) async fn commit(self, over_now: bool, slot: Slot) -> Result<()> {
        let (report_hash, left) = (self.report_hash.clone(), self.left);
        let (app, changes) = self.changes()?;
        let (sealer, config) = (app.sealer(), std::sync::Arc::clone(&app.config));
        let ring = app
            .store
            .write(move |tx| {
                let (id, now) = (&slot.stored.enrollment_id, changes.now);
                if left.is_some() {
                    take_turn(tx, targets::Turn::Device)?;
                }
                changes.check(tx)?;
                slot.store(tx)?;
                let mut ring = changes.store(tx)?;
                if let Some(hash) = &report_hash {
                    enrollments::update_report_hash(tx, id, hash)?;
                }
                if over_now {
                    let due = changes.next_work(tx, None)?;
                    enrollments::update_work_at(tx, id, due)?;
                }
                changes.record(tx)?;
                if let Some(leaving) = left {
                    let ending = device::Ending { sealer: &sealer, rules: changes.rules, origin: &changes.origin, now };
                    ring |= match leaving {
                        Leaving::ByWipe => device::wiped_in(tx, id, &config.windows.provider_id, &ending)?,
                        Leaving::ByOrder | Leaving::ByUser => device::left_in(tx, id, leaving, Some(&slot.stored), &ending)?,
                    };
                }
                Ok(ring)
            })
            .await?;
        if ring {
            app.outbox.notify_waiters();
        }
        Ok(())
    }
}
