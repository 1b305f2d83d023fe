//! Windows management sessions: a thin service around the machine in [`domain::dm_session`](crate::domain::dm_session).
//!
//! A message is: the certificate names the enrolment; a device with nothing to do is answered from the message alone; otherwise one read
//! brings everything about the device, the machine takes the message in, records and orders move, new work is planned, the machine writes
//! the answer, and one transaction stores all of it together with the answer's bytes. If another node stored first, the transaction is
//! refused and the message is looked at again: then it is a repetition.

mod apply;
mod commit;
mod due;
mod kept;
mod load;
mod proof;
mod report;

use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::device::Platform;
use crate::domain::dm_session::{
    Arrival, Context, Judgement, Manners, Proven, Received, Report, Session, arrival, check, ends_object, refuse,
};
use crate::domain::enrollment::{Enrollment, Kind, State};
use crate::service::device::confirm_renewal;
use crate::service::strangers::{Caller, turn_away};
use crate::service::{Error, Result};
use crate::store::dm_sessions::Stored;
use crate::store::enrollments::Identity;
use crate::store::{audit, dm_sessions, enrollments};
use crate::wire::syncml::SyncMl;
use openssl::sha::{Sha256, sha256};

use apply::Turn;
use commit::Slot;
use kept::{Kept, Unreadable};
use load::Loaded;
use proof::{Proof, authenticate};

/// How often a message is looked at again when another node was faster.
const TRIES: usize = 5;

/// Takes a message of a device in and makes the answer.
///
/// `certificate` is the SHA-256 of the client certificate in lower-case hex; `origin` is the address, for the audit log and for slowing
/// down whoever is turned away again and again.
///
/// # Errors
/// [`Error::Malformed`] when it is no SyncML; [`Error::Refused`] when the certificate is not that of a live enrolment or the message
/// speaks for another device; [`Error::Throttled`] in its place when that address was refused too often.
pub async fn receive(app: &App, certificate: &str, body: &[u8], origin: &str) -> Result<Vec<u8>> {
    let fingerprint = certificate.to_owned();
    let identity = app.store.look_up(move |conn| enrollments::find_identity(conn, &fingerprint)).await?;
    // Later than what was read: what was asked for in between is due, not work to come.
    let now = app.now();
    // An identity of another platform's enrolment is none here.
    let identity = identity.filter(|identity| identity.enrollment.platform == Platform::Windows);
    let mut caller = Caller { certificate: Some(certificate), known: identity.is_some(), origin, ..Caller::default() };
    if let Err(refusal) = identity.as_ref().map_or(Err(Refusal::CertificateNotOurs), |identity| identity.may_speak(now)) {
        // A device that left and lost the answer asks once more.
        let gone = identity.filter(|identity| identity.enrollment.state == State::Ended);
        if let Some(gone) = gone
            && let Some(answer) = farewell(app, &gone.enrollment, body).await?
        {
            return Ok(answer);
        }
        return Err(turn_away(app, refusal, &caller).await);
    }
    let Some(identity) = identity else { return Err(Refusal::CertificateNotOurs.into()) };
    let message = SyncMl::decode(body)?;
    let mdm_id = &identity.enrollment.mdm_id;
    if !message.header.source.uri.eq_ignore_ascii_case(mdm_id) {
        caller.source = &message.header.source.uri;
        return Err(turn_away(app, Refusal::ManagementSourceMismatch, &caller).await);
    }
    if let Err(refusal) = check(&message.header, mdm_id) {
        return Ok(refuse(&message, refusal).encode());
    }
    app.presence.seen(&identity.enrollment.id, now);
    if let Some(answer) = idle(app, &identity, message, now)? {
        metrics::counter!("muster_windows_messages_total", "kind" => "idle").increment(1);
        return Ok(answer);
    }
    metrics::counter!("muster_windows_messages_total", "kind" => "work").increment(1);
    // The certificate of a renewal is in force from its first use on, and the one before it is not any more.
    confirm_renewal(app, &identity, origin).await?;
    let hash = sha256(body);
    for _ in 0..TRIES {
        match turn(app, &identity, SyncMl::decode(body)?, &hash, &caller).await {
            Err(Error::Unavailable(why)) if why == load::BUSY => {}
            Err(Error::Conflict(_)) => {}
            other => return other,
        }
    }
    Err(Error::Unavailable("the session is busy on another node".into()))
}

/// The stored answer to the message with which a device left, when this is that message.
async fn farewell(app: &App, enrollment: &Enrollment, body: &[u8]) -> Result<Option<Vec<u8>>> {
    let Ok(message) = SyncMl::decode(body) else { return Ok(None) };
    let id = enrollment.id.clone();
    let Some(stored) = app.store.read(move |conn| dm_sessions::find_session(conn, &id)).await? else { return Ok(None) };
    let header = &message.header;
    match arrival(Some(&kept::last(&stored)), &header.session_id, header.msg_id, &sha256(body), app.now()) {
        Arrival::Repeat => Ok(kept::answer(&app.sealer(), &stored).ok()),
        Arrival::Start | Arrival::Next | Arrival::Refuse(_) => Ok(None),
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
    let (session, received) = Session::start(&message).receive(message, &context(enrollment, Proven::Certificate))?;
    if !says_nothing_new(&received, identity.report_hash.as_deref()) {
        return Ok(None);
    }
    let (session, answer, _) = session.respond(&manners(app));
    // The rest of its package, or of a large object, belongs to a session that is stored.
    Ok(session.is_over().then(|| answer.encode()))
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
    // Digests of OpenSSL's general kind look for their implementation each time, which takes longer than hashing so little.
    let mut hash = Sha256::new();
    for report in reports {
        for part in [report.uri.as_str(), report.value.text.as_str()] {
            hash.update(part.as_bytes());
            hash.update(b"\n");
        }
    }
    hex::encode(hash.finish().get(..16).unwrap_or_default())
}

fn context(enrollment: &Enrollment, proven: Proven) -> Context<'_> {
    Context { device_id: &enrollment.mdm_id, proven, shared: enrollment.kind == Kind::Device }
}

fn manners(app: &App) -> Manners {
    Manners { commands: app.config.windows.commands_per_message, ..Manners::default() }
}

/// A message that belongs to a session.
struct Begun {
    session: Session,
    /// The session before it, which died.
    lost: Option<Session>,
    /// The session begins with the message.
    first: bool,
    /// What is stored cannot be read and goes.
    unreadable: bool,
}

/// Finds the session of a message, or the answer that needs none.
fn begin(app: &App, stored: Option<&Stored>, message: &SyncMl, hash: &[u8; 32]) -> std::result::Result<Begun, Answer> {
    let sealer = app.sealer();
    let header = &message.header;
    let last = stored.map(kept::last);
    let mut arrived = arrival(last.as_ref(), &header.session_id, header.msg_id, hash, app.now());
    let mut unreadable = false;
    if let (Arrival::Repeat, Some(stored)) = (arrived, stored) {
        match kept::answer(&sealer, stored) {
            Ok(answer) => return Err(Answer::Known(answer)),
            Err(Unreadable) => unreadable = true,
        }
        arrived = if header.msg_id == 1 { Arrival::Start } else { Arrival::Next };
    }
    if let Arrival::Refuse(refusal) = arrived {
        return Err(Answer::Refuse(refusal));
    }
    let before = match stored.map(|stored| kept::state(&sealer, stored)) {
        Some(Ok(kept)) => kept,
        Some(Err(Unreadable)) => {
            unreadable = true;
            None
        }
        None => None,
    };
    let started = |lost| Ok(Begun { session: Session::start(message), lost, first: true, unreadable });
    match (arrived, before) {
        (Arrival::Start, before) => started(before.and_then(Kept::into_lost)),
        (_, Some(Kept::Challenged { lost })) if !unreadable => started(lost.map(|lost| *lost)),
        (_, Some(Kept::Open(session))) if !unreadable => Ok(Begun { session: *session, lost: None, first: false, unreadable }),
        // Without its session a message means nothing: the device has to start again.
        _ if unreadable => Err(Answer::Forget),
        // The last answer ended the session.
        _ => Err(Answer::Refuse(Refusal::ManagementSessionUnknown)),
    }
}

/// An answer that needs no session.
enum Answer {
    /// That of the last time.
    Known(Vec<u8>),
    /// No.
    Refuse(Refusal),
    /// No, and what is stored is of no use.
    Forget,
}

/// Forgets a session that nobody can read.
async fn forget(app: &App, enrollment: &Enrollment, origin: &str) -> Result<()> {
    let (id, entry, now) = (enrollment.id.clone(), unreadable(enrollment, origin), app.now());
    let forgotten = app.store.write(move |tx| {
        dm_sessions::purge_session(tx, &id)?;
        audit::append(tx, &entry, now)
    });
    Ok(forgotten.await?)
}

fn unreadable(enrollment: &Enrollment, origin: &str) -> Entry {
    Entry::new(format!("device:{}", enrollment.device_id), "management.session-unreadable", format!("enrollment:{}", enrollment.id), origin)
}

/// Looks at a message once.
async fn turn(app: &App, identity: &Identity, message: SyncMl, hash: &[u8; 32], caller: &Caller<'_>) -> Result<Vec<u8>> {
    let (loaded, now) = (Loaded::read(app, identity).await?, app.now());
    // It may have ended since the certificate was judged: a device that sends its last message again is answered from there.
    if loaded.known.enrollment.state == State::Ended {
        return Err(Refusal::EnrollmentEnded.into());
    }
    let (header, stored) = (&message.header, loaded.session.as_ref());
    let begun = match begin(app, stored, &message, hash) {
        Ok(begun) => begun,
        Err(Answer::Known(answer)) => return Ok(answer),
        Err(Answer::Refuse(refusal)) => return Ok(refuse(&message, refusal).encode()),
        Err(Answer::Forget) => {
            forget(app, &loaded.known.enrollment, caller.origin).await?;
            return Ok(refuse(&message, Refusal::ManagementSessionUnknown).encode());
        }
    };
    let Begun { mut session, lost, first, unreadable: corrupt } = begun;
    if session.is_receiving() && ends_object(&message) && !resume(app, &loaded, &mut session).await? {
        forget(app, &loaded.known.enrollment, caller.origin).await?;
        return Ok(refuse(&message, Refusal::ManagementSessionUnknown).encode());
    }
    let (proof, claim) = authenticate(app, &loaded, &message)?;
    let row = Stored {
        enrollment_id: identity.enrollment.id.clone(),
        session_id: header.session_id.clone(),
        msg_id: i64::from(header.msg_id),
        body_hash: hash.to_vec(),
        sealed_response: Vec::new(),
        sealed_state: None,
        version: stored.map_or(0, |stored| stored.version),
        started_at: stored.filter(|_| header.msg_id > 1).map_or(now, |stored| stored.started_at),
        answered_at: now,
    };
    let pieces = corrupt || session.is_receiving() || lost.as_ref().is_some_and(Session::is_receiving);
    let mut slot = Slot { stored: row, first, claim, pieces, piece: None };
    let proven = match proof {
        Proof::Proven(proven) => proven,
        Proof::Challenge(answer, judgement) => {
            let lost = lost.map(Box::new);
            let kept = if first { Kept::Challenged { lost } } else { Kept::Open(Box::new(session)) };
            // Nothing was taken in: what was kept of a large object stays.
            slot.pieces = false;
            return challenged(app, slot, &kept, answer.encode(), judgement, caller).await;
        }
    };
    let (session, received) = session.receive(message, &context(&identity.enrollment, proven))?;
    let mut turn = Turn::new(app, loaded.known, caller.origin).await?;
    if corrupt {
        turn.entries.push(unreadable(&identity.enrollment, caller.origin));
    }
    turn.run(session, lost, received, slot).await
}

/// Gives a session that is receiving a large object what has come of it; false when that cannot be read.
async fn resume(app: &App, loaded: &Loaded, session: &mut Session) -> Result<bool> {
    let Some(stored) = &loaded.session else { return Ok(false) };
    let id = stored.enrollment_id.clone();
    let pieces = app.store.read(move |conn| dm_sessions::list_pieces(conn, &id)).await?;
    let Ok(text) = kept::object(&app.sealer(), stored, &pieces) else { return Ok(false) };
    session.resume(text);
    Ok(true)
}

/// Stores that the device was asked for credentials: its next message goes on from there.
async fn challenged(app: &App, mut slot: Slot, kept: &Kept, answer: Vec<u8>, judgement: Judgement, caller: &Caller<'_>) -> Result<Vec<u8>> {
    slot.stored = kept::seal(&app.sealer(), slot.stored, Some(kept), &answer)?;
    app.store.write(move |tx| slot.store(tx)).await?;
    if judgement == Judgement::Wrong {
        // The answer is the challenge in any case: this only counts and records.
        match turn_away(app, Refusal::ManagementCredentialsWrong, caller).await {
            Error::Refused(_) | Error::Throttled(_) => {}
            error => return Err(error),
        }
    }
    Ok(answer)
}
