//! Retiring a device, and the end of an enrolment, whoever ends it.

use std::sync::Arc;

use crate::app::App;
use crate::clock::{DAY, HOUR, MINUTE, Time};
use crate::domain::audit::Entry;
use crate::domain::certificate::RevocationReason;
use crate::domain::command::{Command, NodeOperation, Operation, State as CommandState, UNENROLL, Verb};
use crate::domain::compliance::Rules;
use crate::domain::device::{Platform, State as DeviceState};
use crate::domain::enrollment::{Enrollment, State};
use crate::domain::profile::Scope;
use crate::domain::signal::Initiator;
use crate::ids::{CommandId, DeviceId, EnrollmentId};
use crate::secret::Sealer;
use crate::service::apple;
use crate::service::directory::By;
use crate::service::pki::revoke;
use crate::service::push::enqueue_wake;
use crate::service::{Result, compliance};
use crate::store::apple::channels;
use crate::store::certificates::Live;
use crate::store::dm_sessions::Stored;
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, Conn, Tx, audit, commands, desired_items, devices, dm_sessions, enrollments};

/// How many enrolments one look at the silent ends at most; the next look ends more.
const BATCH: i64 = 200;

/// Tells a device to leave: its certificates are revoked at once, all but the one that it needs to hear the order; that one follows when
/// the device has left ([`left_in`]) or when nobody waits any longer ([`give_up`], [`end_silent`]). A device without enrolment is retired
/// at once.
///
/// # Errors
/// [`NotFound`](crate::service::Error::NotFound) without such a device.
pub async fn retire(app: &App, device: &DeviceId, actor: &str, origin: &str) -> Result<()> {
    let (id, actor, origin, now) = (device.clone(), actor.to_owned(), origin.to_owned(), app.now());
    let config = Arc::clone(&app.config);
    let rules = compliance::rules(&app.config);
    let of = id.clone();
    let read = move |conn: &mut Conn| Ok((devices::load_device(conn, &of)?.platform, enrollments::find_current_enrollment(conn, &of)?));
    let (platform, current) = app.store.read(read).await?;
    let provider = &app.config.windows.provider_id;
    let provider = current.as_ref().map_or(provider.as_str(), |enrollment| enrollment.provider(provider));
    let mut operation = if platform.is_apple() { apple::leave(app).await? } else { unenroll_operation(provider.to_owned()) };
    let sealer = app.sealer();
    let payload = commands::seal_payload(&sealer, &mut operation)?;
    app.store
        .write(move |tx| {
            take_turn(tx, Turn::Device)?;
            // The enrolment's row is taken before the device's, as sessions take them, and read afterwards.
            if let Some(current) = enrollments::find_current_enrollment(tx.conn(), &id)? {
                enrollments::lock_enrollment(tx, &current.id)?;
            }
            let mut device = devices::load_device(tx.conn(), &id)?;
            let before = device.state;
            let current = enrollments::find_current_enrollment(tx.conn(), &id)?;
            device.state = if current.is_some() { DeviceState::Retiring } else { DeviceState::Retired };
            if before == device.state || before == DeviceState::Retired {
                return Ok(());
            }
            devices::update_device(tx, &device, now)?;
            revoke_in(tx, &id, current.is_none(), &actor, &origin, now)?;
            if let Some(mut enrollment) = current {
                enrollment.state = State::Unenrolling;
                enrollments::claim_update(tx, &enrollment)?;
                end_orders(tx, &sealer, &enrollment.id, "ended: the device was retired", &actor, &origin, now)?;
                commands::insert_command(tx, &unenroll(&enrollment.id, operation.clone(), &actor, now), &payload, now)?;
                enqueue_wake(tx, &config, enrollment.platform, &enrollment.id, now)?;
            }
            desired_items::recompute_device(tx, &id, now)?;
            compliance::retire_in(tx, &id, rules, Initiator::Admin, now)?;
            let entry = Entry::new(&actor, "device.retire", format!("device:{id}"), &origin);
            let entry = entry.before(&serde_json::json!({ "state": before })).after(&serde_json::json!({ "state": device.state }));
            audit::append(tx, &entry, now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(())
}

/// Nothing more is certified for a device, and what was is revoked: without its identity, or with it.
fn revoke_in(tx: &mut Tx<'_>, id: &DeviceId, identity: bool, actor: &str, origin: &str, now: Time) -> store::Result<()> {
    // First what could still become a certificate, then the certificates.
    store::scep::withdraw(tx, id, None, actor, now)?;
    let all = Live { device: Some(id.clone()), identity: (!identity).then_some(false), ..Live::default() };
    revoke::revoke_live_in(tx, &all, |_| true, RevocationReason::CessationOfOperation, actor, origin, now)?;
    Ok(())
}

/// A PC has taken it on to wipe itself, in the caller's transaction. Whether it does shows only by its silence: one whose power is cut may
/// come back as it was. So it is as good as told to leave: it has no certificate any more but its identity, and hears the order if it
/// comes after all; if it does not, its enrolment ends ([`end_silent`]). `provider` is the server's name where the enrolment does not know
/// it. False when the enrolment had ended before.
///
/// # Errors
/// [`NotFound`](store::Error::NotFound) without such an enrolment.
pub fn wiped_in(tx: &mut Tx<'_>, id: &EnrollmentId, provider: &str, ending: &Ending<'_>) -> store::Result<bool> {
    let Ending { sealer, rules, origin, now } = *ending;
    let mut enrollment = enrollments::load_enrollment(tx.conn(), id)?;
    let mut device = devices::load_device(tx.conn(), &enrollment.device_id)?;
    if matches!(enrollment.state, State::Ended | State::Unenrolling) || device.state != DeviceState::Managed {
        return Ok(false);
    }
    let actor = format!("device:{}", device.id);
    let before = std::mem::replace(&mut device.state, DeviceState::Retiring);
    devices::update_device(tx, &device, now)?;
    revoke_in(tx, &device.id, false, &actor, origin, now)?;
    enrollment.state = State::Unenrolling;
    enrollments::claim_update(tx, &enrollment)?;
    end_orders(tx, sealer, id, "ended: the device wiped itself", &actor, origin, now)?;
    let mut operation = unenroll_operation(enrollment.provider(provider).to_owned());
    let payload = commands::seal_payload(sealer, &mut operation)?;
    // The wipe has told it.
    let order = Command { state: CommandState::Sent, ..unenroll(id, operation, &actor, now) };
    commands::insert_command(tx, &order, &payload, now)?;
    desired_items::recompute_device(tx, &device.id, now)?;
    compliance::retire_in(tx, &device.id, rules, Initiator::Admin, now)?;
    let entry = Entry::new(&actor, "device.wiped", format!("device:{}", device.id), origin);
    let entry = entry.before(&serde_json::json!({ "state": before })).after(&serde_json::json!({ "state": device.state }));
    audit::append(tx, &entry, now)?;
    Ok(true)
}

fn unenroll_operation(provider_id: String) -> Operation {
    Operation::Node(NodeOperation {
        verb: Verb::Exec,
        uri: "./Device/Vendor/MSFT/DMClient/Unenroll".into(),
        format: Some("chr".into()),
        data: Some(provider_id),
    })
}

fn unenroll(enrollment: &EnrollmentId, operation: Operation, actor: &str, now: Time) -> Command {
    Command {
        id: CommandId::new(),
        enrollment_id: enrollment.clone(),
        kind: UNENROLL.into(),
        scope: Scope::Device,
        operation,
        state: CommandState::Queued,
        attempts: 0,
        result: None,
        not_before: now,
        created_by: actor.to_owned(),
        version: 1,
    }
}

/// What the end of an enrolment needs besides itself.
#[derive(Clone, Copy)]
pub struct Ending<'e> {
    /// Seals what became of its orders.
    pub sealer: &'e Sealer,
    /// How its device is judged.
    pub rules: Rules,
    /// Where it came from, for the audit log.
    pub origin: &'e str,
    /// When.
    pub now: Time,
}

/// How a device leaves by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Its user unenrolled it (alert 1226 `com.microsoft:mdm.unenrollment.userrequest`).
    ByUser,
    /// It obeyed the order to leave.
    ByOrder,
    /// It has taken on the order to wipe itself ([`wiped_in`]).
    ByWipe,
}

/// Ends the enrolment of a device that has left, in the caller's transaction, and keeps the last answer, where there is one, for a device that lost it. False
/// when the enrolment had ended before.
///
/// # Errors
/// [`NotFound`](store::Error::NotFound) without such an enrolment.
pub fn left_in(tx: &mut Tx<'_>, id: &EnrollmentId, leaving: Leaving, answer: Option<&Stored>, ending: &Ending<'_>) -> store::Result<bool> {
    let (action, initiator) = match leaving {
        Leaving::ByUser => ("enrollment.end-by-user", Initiator::User),
        Leaving::ByOrder | Leaving::ByWipe => ("enrollment.end-by-order", Initiator::Admin),
    };
    let how = How { action, actor: None, initiator, only: None };
    let ended = End { how, ending }.carry_out(tx, id)?;
    if let Some(answer) = answer.filter(|_| ended) {
        dm_sessions::upsert_session(tx, &Stored { sealed_state: None, version: 0, ..answer.clone() })?;
    }
    Ok(ended)
}

/// Ends the enrolment of an Apple device whose profile was removed, in the caller's transaction. False when it had ended before.
///
/// # Errors
/// [`NotFound`](store::Error::NotFound) without such an enrolment.
pub fn checked_out_in(tx: &mut Tx<'_>, enrollment: &Enrollment, ending: &Ending<'_>) -> store::Result<bool> {
    let by_order = enrollment.state == State::Unenrolling;
    let (action, initiator) =
        if by_order { ("enrollment.end-by-order", Initiator::Admin) } else { ("enrollment.end-by-user", Initiator::User) };
    let how = How { action, actor: None, initiator, only: None };
    End { how, ending }.carry_out(tx, &enrollment.id)
}

/// Nobody waits for the device any longer: it is lost, broken or wiped.
///
/// # Errors
/// [`NotFound`](crate::service::Error::NotFound) without such an enrolment.
pub async fn give_up(app: &App, enrollment: &EnrollmentId, actor: &str, origin: &str) -> Result<()> {
    let how = How { action: "enrollment.give-up", actor: Some(actor), initiator: Initiator::Admin, only: None };
    end(app, enrollment, how, origin).await
}

/// The same for a device; nothing happens when it has no enrolment any more.
///
/// # Errors
/// Only the database's own.
pub async fn give_up_device(app: &App, device: &DeviceId, by: &By) -> Result<()> {
    let id = device.clone();
    match app.store.read(move |conn| enrollments::find_current_enrollment(conn, &id)).await? {
        Some(enrollment) => give_up(app, &enrollment.id, &by.actor, &by.origin).await,
        None => Ok(()),
    }
}

/// Ends the enrolments that were begun `enrollment.unfinished_days` ago and that no device has finished: an identity was issued, and the
/// device never called, or it introduced itself and could never be reached. Says how many.
///
/// # Errors
/// As [`end_silent`].
pub async fn end_unfinished(app: &App) -> Result<usize> {
    let begun_before = app.now().plus(-i64::from(app.config.enrollment.unfinished_days) * DAY);
    end_all(app, UNFINISHED, move |conn, after| enrollments::list_unfinished(conn, begun_before, after, BATCH)).await
}

/// Ends the enrolments of devices that were told to leave and do not answer: the order reached them and they have been silent for
/// `windows.give_up_polls` polls or `apple.give_up_hours`, which is how an obedient device behaves whose last word got lost; or
/// `enrollment.give_up_days` have passed since the order was given, whatever they did. Says how many.
///
/// # Errors
/// Only the database's own, when the list cannot be read; an enrolment that cannot be ended is logged and passed over.
pub async fn end_silent(app: &App) -> Result<usize> {
    let mut ended = 0;
    for platform in Platform::ALL {
        ended += end_silent_of(app, *platform).await?;
    }
    Ok(ended)
}

async fn end_silent_of(app: &App, platform: Platform) -> Result<usize> {
    let (config, now) = (&app.config, app.now());
    let silence = if platform.is_apple() {
        i64::from(config.apple.give_up_hours) * HOUR
    } else {
        i64::from(config.windows.give_up_polls) * i64::from(config.windows.poll_minutes) * MINUTE
    };
    let moments = (now.plus(-silence), now.plus(-i64::from(config.enrollment.give_up_days) * DAY));
    end_all(app, SILENT, move |conn, after| enrollments::list_silent_leavers(conn, platform, moments, after, BATCH)).await
}

/// Ends the enrolments that a list has, page by page; each in a transaction of its own.
async fn end_all(
    app: &App,
    how: How<'static>,
    list: impl Fn(&mut Conn, &str) -> store::Result<Vec<EnrollmentId>> + Clone + Send + 'static,
) -> Result<usize> {
    let (mut ended, mut after) = (0, String::new());
    loop {
        let (from, list) = (after.clone(), list.clone());
        let found = app.store.read(move |conn| list(conn, &from)).await?;
        for enrollment in &found {
            // One that cannot be ended must not keep the others.
            match end(app, enrollment, how, "job").await {
                Ok(()) => ended += 1,
                Err(error) => tracing::error!(%enrollment, %error, "an enrolment cannot be ended"),
            }
        }
        match found.last() {
            Some(last) => last.as_str().clone_into(&mut after),
            None => return Ok(ended),
        }
    }
}

async fn end(app: &App, id: &EnrollmentId, how: How<'_>, origin: &str) -> Result<()> {
    let (id, actor, origin, now) = (id.clone(), how.actor.map(str::to_owned), origin.to_owned(), app.now());
    let How { action, initiator, only, .. } = how;
    let (rules, sealer) = (compliance::rules(&app.config), app.sealer());
    let end = move |tx: &mut Tx<'_>| {
        let ending = Ending { sealer: &sealer, rules, origin: &origin, now };
        let how = How { action, actor: actor.as_deref(), initiator, only };
        End { how, ending: &ending }.carry_out(tx, &id)
    };
    app.store.write(end).await?;
    app.outbox.notify_waiters();
    Ok(())
}

/// How an enrolment ends.
#[derive(Clone, Copy)]
struct How<'e> {
    action: &'static str,
    /// The device itself when none is named.
    actor: Option<&'e str>,
    initiator: Initiator,
    /// It ends only while it is in this state.
    only: Option<State>,
}

const SILENT: How<'static> = How { action: "enrollment.end-by-silence", actor: Some("system"), initiator: Initiator::Admin, only: None };
/// A device that comes nevertheless is told to leave, as one that was retired: it has to begin anew.
const UNFINISHED: How<'static> =
    How { action: "enrollment.end-unfinished", actor: Some("system"), initiator: Initiator::Admin, only: Some(State::Provisioned) };

/// The end of an enrolment that retires its device.
struct End<'e> {
    how: How<'e>,
    ending: &'e Ending<'e>,
}

impl End<'_> {
    /// False when the enrolment had ended before.
    fn carry_out(&self, tx: &mut Tx<'_>, id: &EnrollmentId) -> store::Result<bool> {
        take_turn(tx, Turn::Device)?;
        let Ending { sealer, rules, origin, now } = *self.ending;
        let enrollment = enrollments::load_enrollment(tx.conn(), id)?;
        let How { action, actor, initiator, only } = self.how;
        if enrollment.state == State::Ended || only.is_some_and(|state| state != enrollment.state) {
            return Ok(false);
        }
        let actor = actor.map_or_else(|| format!("device:{}", enrollment.device_id), str::to_owned);
        end_in(tx, sealer, &enrollment, RevocationReason::CessationOfOperation, &actor, origin, now)?;
        if initiator == Initiator::Admin {
            enrollments::update_dismissed(tx, id)?;
        }
        let mut device = devices::load_device(tx.conn(), &enrollment.device_id)?;
        device.state = DeviceState::Retired;
        devices::update_device(tx, &device, now)?;
        desired_items::recompute_device(tx, &device.id, now)?;
        compliance::retire_in(tx, &device.id, rules, initiator, now)?;
        let entry = Entry::new(&actor, action, format!("enrollment:{id}"), origin);
        let entry = entry.before(&serde_json::json!({ "state": enrollment.state })).after(&serde_json::json!({ "state": State::Ended }));
        audit::append(tx, &entry, now)?;
        Ok(true)
    }
}

/// Ends the orders of an enrolment that are not over; why is said with each, and in the audit log.
fn end_orders(
    tx: &mut Tx<'_>,
    sealer: &Sealer,
    enrollment: &EnrollmentId,
    why: &str,
    actor: &str,
    origin: &str,
    now: Time,
) -> store::Result<()> {
    let end = commands::seal_end(sealer, why)?;
    for (id, kind) in commands::cancel_open(tx, enrollment, &end, now)? {
        let state = serde_json::json!({ "kind": kind, "state": CommandState::Cancelled, "why": why });
        audit::append(tx, &Entry::new(actor, "command.ended", format!("command:{id}"), origin).after(&state), now)?;
    }
    Ok(())
}

/// Ends an enrolment in the caller's transaction: its queue and its session are dropped, it may ask for no more certificates, and every
/// certificate of the device is revoked, the identity last.
/// The device's own state is the caller's.
///
/// # Errors
/// [`Busy`](store::Error::Busy) when somebody changed the enrolment since it was read.
pub fn end_in(
    tx: &mut Tx<'_>,
    sealer: &Sealer,
    enrollment: &Enrollment,
    reason: RevocationReason,
    actor: &str,
    origin: &str,
    now: Time,
) -> store::Result<()> {
    let ended = Enrollment { state: State::Ended, ended_at: Some(now), channel_uri: None, ..enrollment.clone() };
    enrollments::claim_update(tx, &ended)?;
    enrollments::update_work_and_wait(tx, &enrollment.id, None, None)?;
    let why = if reason == RevocationReason::Superseded { "ended: enrolled again" } else { "ended: the device has left" };
    end_orders(tx, sealer, &enrollment.id, why, actor, origin, now)?;
    dm_sessions::purge_session(tx, &enrollment.id)?;
    channels::delete_channels(tx, &enrollment.id)?;
    // First what could still become a certificate, then the certificates.
    store::scep::withdraw(tx, &enrollment.device_id, None, actor, now)?;
    store::acme_clients::delete_clients(tx, &enrollment.device_id, None)?;
    for identity in [false, true] {
        let live = Live { device: Some(enrollment.device_id.clone()), identity: Some(identity), ..Live::default() };
        revoke::revoke_live_in(tx, &live, |_| true, reason, actor, origin, now)?;
    }
    Ok(())
}
