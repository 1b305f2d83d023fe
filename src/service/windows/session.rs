//! Windows management sessions: a thin service around the machine in [`domain::dm_session`](crate::domain::dm_session).
//!
//! A message is: the certificate names the enrolment; a device with nothing to do is answered from the message alone; otherwise one read
//! brings everything about the device, the machine takes the message in, records and orders move, new work is planned, the machine writes
//! the answer, and one transaction stores all of it together with the answer's bytes. If another node stored first, the transaction is
//! refused and the message is looked at again: then it is a repetition.

mod apply;
mod due;
mod load;
mod proof;

use openssl::sha::sha256;
use serde_json::json;

use super::enroll;
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::dm_session::{Arrival, Context, Last, Manners, Proven, Received, Report, Session, arrival, refuse};
use crate::domain::enrollment::State;
use crate::service::device;
use crate::service::{Error, Result};
use crate::store::dm_sessions::Stored;
use crate::store::enrollments::Identity;
use crate::store::{audit, enrollments};
use crate::wire::syncml::SyncMl;

use apply::Turn;
use load::Loaded;
use proof::{Proof, authenticate};

/// How often a message is looked at again when another node was faster.
const TRIES: usize = 5;

/// Takes a message of a device in and makes the answer.
///
/// `certificate` is the SHA-256 of the client certificate in lower-case hex; `origin` is the address, for the audit log.
///
/// # Errors
/// [`Error::Malformed`] when it is no SyncML; [`Error::Refused`] when the certificate is not that of a live enrolment or the message
/// speaks for another device.
pub async fn receive(app: &App, certificate: &str, body: &[u8], origin: &str) -> Result<Vec<u8>> {
    let now = app.now();
    let fingerprint = certificate.to_owned();
    let identity = app.store.look_up(move |conn| enrollments::find_identity(conn, &fingerprint)).await?;
    let identity = match judge(identity, now) {
        Ok(identity) => identity,
        Err(refusal) => return Err(refused(app, refusal, "", certificate, origin).await),
    };
    let message = SyncMl::decode(body)?;
    if !message.header.source.uri.eq_ignore_ascii_case(&identity.enrollment.mdm_id) {
        return Err(refused(app, Refusal::ManagementSourceMismatch, &message.header.source.uri, certificate, origin).await);
    }
    app.presence.seen(&identity.enrollment.id, now);
    if let Some(answer) = idle(app, &identity, message, now)? {
        metrics::counter!("muster_windows_messages_total", "kind" => "idle").increment(1);
        return Ok(answer);
    }
    metrics::counter!("muster_windows_messages_total", "kind" => "work").increment(1);
    // The certificate of a renewal is in force from its first use on, and the one before it is not any more.
    enroll::confirm_renewal(app, &identity, origin).await?;
    let hash = sha256(body);
    for _ in 0..TRIES {
        match turn(app, &identity, SyncMl::decode(body)?, &hash, origin).await {
            Err(Error::Unavailable(why)) if why == load::BUSY => {}
            Err(Error::Conflict(_)) => {}
            other => return other,
        }
    }
    Err(Error::Unavailable("the session is busy on another node".into()))
}

/// Whether a certificate's holder may hold a session (MS-MDM 2.1: the certificate is the identity).
fn judge(identity: Option<Identity>, now: Time) -> std::result::Result<Identity, Refusal> {
    let identity = identity.ok_or(Refusal::CertificateNotOurs)?;
    if identity.certificate.revoked_at.is_some() {
        return Err(Refusal::CertificateRevoked);
    }
    if now < identity.certificate.not_before || now >= identity.certificate.not_after {
        return Err(Refusal::CertificateExpired);
    }
    match identity.enrollment.state {
        State::Provisioned | State::Active | State::Unenrolling => Ok(identity),
        State::Ended => Err(Refusal::EnrollmentEnded),
    }
}

async fn refused(app: &App, refusal: Refusal, source: &str, certificate: &str, origin: &str) -> Error {
    let entry = Entry::new("anonymous", "management.refused", format!("certificate:{certificate}"), origin).after(&json!({
        "code": refusal.code(),
        "source": source.chars().take(200).collect::<String>(),
    }));
    let now = app.now();
    match app.store.write(move |tx| audit::append(tx, &entry, now)).await {
        Ok(()) => refusal.into(),
        Err(error) => error.into(),
    }
}

/// The answer to a first message of a device that has nothing to do and says nothing new; `None` when the whole way has to be gone.
///
/// It depends on the message alone, so a device that lost it and asks again gets the same bytes without anything being stored.
fn idle(app: &App, identity: &Identity, message: SyncMl, now: Time) -> Result<Option<Vec<u8>>> {
    let enrollment = &identity.enrollment;
    let due = enrollment.work_at.is_some_and(|at| at <= now);
    // A certificate that is seen for the first time after a renewal is taken over on the long way.
    let current = enrollment.certificate_id.as_ref() == Some(&identity.certificate.id);
    if message.header.msg_id != 1 || due || enrollment.state != State::Active || !current || app.config.windows.md5_authentication {
        return Ok(None);
    }
    let (session, received) = Session::start(&message).receive(message, &context(&enrollment.mdm_id, Proven::Certificate))?;
    if !says_nothing_new(&received, identity.report_hash.as_deref()) {
        return Ok(None);
    }
    let (_, answer, _) = session.respond(&manners(app));
    Ok(Some(answer.encode()))
}

fn says_nothing_new(received: &Received, known: Option<&str>) -> bool {
    // Who sits there (1224) asks for nothing.
    received.notices.iter().all(|notice| notice.code == 1224)
        && received.outcomes.is_empty()
        && !received.unenrolled
        && !received.aborted
        && (received.reports.is_empty() || known == Some(report_hash(&received.reports).as_str()))
}

/// A short hash of what the device says of itself.
fn report_hash(reports: &[Report]) -> String {
    let mut text = String::with_capacity(256);
    for report in reports {
        for part in [report.uri.as_str(), report.value.text.as_str()] {
            text.push_str(part);
            text.push('\n');
        }
    }
    let hash = sha256(text.as_bytes());
    hex::encode(hash.get(..16).unwrap_or_default())
}

fn context(device_id: &str, proven: Proven) -> Context<'_> {
    Context { device_id, proven }
}

fn manners(app: &App) -> Manners {
    Manners { commands: app.config.windows.commands_per_message, ..Manners::default() }
}

/// Looks at a message once.
async fn turn(app: &App, identity: &Identity, message: SyncMl, hash: &[u8; 32], origin: &str) -> Result<Vec<u8>> {
    let loaded = Loaded::read(app, identity).await?;
    let last = loaded.session.as_ref().map(|stored| Last {
        session_id: &stored.session_id,
        msg_id: u32::try_from(stored.msg_id).unwrap_or(u32::MAX),
        body: &stored.body_hash,
    });
    let header = &message.header;
    let (session, lost) = match arrival(last.as_ref(), &header.session_id, header.msg_id, hash) {
        Arrival::Repeat => return Ok(loaded.session.map(|stored| stored.response).unwrap_or_default()),
        Arrival::Refuse(refusal) => return Ok(refuse(&message, refusal).encode()),
        Arrival::Start => (Session::start(&message), loaded.open_session()),
        Arrival::Next => match loaded.open_session() {
            Some(session) => (session, None),
            // The last answer ended the session.
            None => return Ok(refuse(&message, Refusal::ManagementSessionUnknown).encode()),
        },
    };
    let started_at = match &loaded.session {
        Some(stored) if header.msg_id > 1 => stored.started_at,
        Some(_) | None => app.now(),
    };
    let stored = Stored {
        enrollment_id: identity.enrollment.id.clone(),
        session_id: header.session_id.clone(),
        msg_id: i64::from(header.msg_id),
        body_hash: hash.to_vec(),
        response: Vec::new(),
        state: String::new(),
        version: loaded.session.as_ref().map_or(0, |stored| stored.version),
        started_at,
    };
    let proven = match authenticate(app, identity, &message).await? {
        Proof::Proven(proven) => proven,
        Proof::Challenge(answer) => return Ok(answer.encode()),
    };
    let (session, received) = session.receive(message, &context(&identity.enrollment.mdm_id, proven))?;
    if received.unenrolled {
        let (_, answer, _) = session.respond(&manners(app));
        if identity.enrollment.state == State::Unenrolling {
            device::ended_by_order(app, &identity.enrollment.id, origin).await?;
        } else {
            device::ended_by_user(app, &identity.enrollment.id, origin).await?;
        }
        return Ok(answer.encode());
    }
    let turn = Turn::new(app, loaded, origin);
    let (answer, left) = turn.run(session, lost, received, stored).await?;
    if left {
        device::ended_by_order(app, &identity.enrollment.id, origin).await?;
    }
    Ok(answer)
}

/// Stores a session's state and the bytes of its last answer.
fn seal(mut stored: Stored, session: &Session, answer: &SyncMl) -> Result<Stored> {
    stored.response = answer.encode();
    // What is over needs no state: only the answer, for a device that lost it.
    stored.state = if session.is_over() { String::new() } else { serde_json::to_string(session).map_err(Error::internal)? };
    Ok(stored)
}
