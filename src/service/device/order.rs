//! Orders that an administrator gives to a device.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use crate::app::App;
use crate::catalogue::{CommandRow, Format, Need, OsVersion, Vars, catalogue, meant};
use crate::clock::Time;
use crate::config::Config;
use crate::domain::Refusal;
use crate::domain::apple::escrow::Kind;
use crate::domain::command::{Command, Input, NodeOperation, Operation, Request, State, Verb};
use crate::domain::device::{Platform, State as DeviceState};
use crate::domain::enrollment::{Enrollment, State as EnrollmentState};
use crate::domain::fact::Facts;
use crate::domain::profile::{Custom as Node, Scope};
use crate::ids::{CommandId, DeviceId, EnrollmentId};
use crate::service::apple::commands as commands_of_apple;
use crate::service::directory::By;
use crate::service::push::{apns, enqueue_wake};
use crate::service::{Error, LONGEST_LIST, Result};
use crate::store::apple::channels::{self, Channel, DEVICE};
use crate::store::apple::secrets;
use crate::store::{self, Conn, Tx, audit, commands, devices, enrollments, facts};

/// The kind of an order that is not of the catalogue; in the store.
const CUSTOM: &str = "custom";
/// Longest value of an order, in bytes.
const LONGEST: usize = 1024;
/// Longest file of an order, in bytes of Base64.
pub const LONGEST_FILE: usize = 4 * 1024 * 1024;
/// The value that names the user who obeys, where it is not the device.
const USER: &str = "user";
/// Enrolments of a device whose orders are shown, the newest first.
const ENROLLMENTS: i64 = 1000;

/// What a device is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// A command of the catalogue, by its id.
    Known(String),
    /// A command of the catalogue with what Apple devices are told besides: a message, a PIN.
    With(String, BTreeMap<String, String>),
    /// An operation on any node.
    Custom(Custom),
}

/// An operation on any node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom {
    /// What to do.
    pub verb: Verb,
    /// The node's address.
    pub uri: String,
    /// OMA-DM format word; default, where there is data: `chr`.
    pub format: Option<String>,
    /// The data, as text.
    pub data: Option<String>,
}

/// An order as it will be sent.
struct Ready {
    kind: String,
    scope: Scope,
    operation: Operation,
    destructive: bool,
    row: Option<&'static CommandRow>,
    /// One of the device's users obeys: the one of that short name or, without, the only one.
    by_user: Option<Option<String>>,
}

impl Order {
    /// `provider`: the server's name in the device's tree.
    fn prepare(self, app: &App, platform: Platform, version: Option<&str>, provider: &str) -> Result<Ready> {
        let known = |id: &str| {
            let row = catalogue().command(id);
            if let Some(row) = row.filter(|row| row.is_of(platform.as_str())) {
                return Ok(row);
            }
            let why = row.map_or_else(
                || {
                    let known = catalogue().commands().filter(|row| row.is_of(platform.as_str())).map(|row| row.id.as_str());
                    format!("{}{}", meant(id, known), id.chars().take(64).collect::<String>())
                },
                |row| format!("{id} is for {}, and this is {platform}", row.platforms().join(" and ")),
            );
            Err(Error::Invalid(Refusal::OrderUnknown, why))
        };
        match self {
            Self::Known(id) if platform.is_apple() => Self::With(id, BTreeMap::new()).prepare(app, platform, version, provider),
            Self::With(id, values) => {
                let row = known(&id)?;
                let refuse = |why: String| Error::Invalid(Refusal::ProfileValueRefused, why);
                let request = commands_of_apple::find(&row.request).filter(|_| platform.is_apple());
                let request = request.ok_or_else(|| refuse(format!("{id}: takes no values on {platform}")))?;
                if let Some(name) = values.keys().find(|name| !row.takes.contains(name)) {
                    let takes = if row.takes.is_empty() { "no values".to_owned() } else { row.takes.join(", ") };
                    return Err(refuse(format!("{}: the order takes {takes}", name.chars().take(64).collect::<String>())));
                }
                for (name, value) in &values {
                    let longest = if row.files.contains(name) { LONGEST_FILE } else { LONGEST };
                    if value.len() > longest || value.contains(char::is_control) {
                        return Err(refuse(format!("{name}: up to {longest} bytes without control characters")));
                    }
                    let since = row.knows_since(platform.as_str(), name);
                    let has = version.and_then(OsVersion::parse);
                    if let Some((since, has)) = since.zip(has).filter(|(since, has)| has < since) {
                        return Err(Error::Invalid(Refusal::OrderUnsupported, format!("{name}: since {since}, and the device has {has}")));
                    }
                }
                let keys = request.order(&values, platform).map_err(refuse)?;
                let by_user = request.by_user(platform).then(|| values.get(USER).cloned());
                let operation =
                    Operation::Request(Request { request: row.request.clone(), keys, large: Vec::new(), once: request.once(), user: None });
                Ok(Ready { kind: id, scope: Scope::Device, operation, destructive: row.destructive, row: Some(row), by_user })
            }
            Self::Custom(_) if platform.is_apple() => Err(Error::Invalid(Refusal::OrderUnknown, format!("{platform} has no nodes"))),
            Self::Known(id) => {
                let row = known(&id)?;
                let vars = Vars { tenant: app.tenant.as_str(), provider };
                let data = row.data(&vars);
                let format = (row.format != Format::Null).then(|| row.format.as_str().to_owned());
                let operation = Operation::Node(NodeOperation { verb: Verb::Exec, uri: row.locuri(&vars), format, data });
                Ok(Ready { kind: id, scope: Scope::Device, operation, destructive: row.destructive, row: Some(row), by_user: None })
            }
            Self::Custom(custom) => custom.prepare(),
        }
    }
}

impl Custom {
    fn prepare(self) -> Result<Ready> {
        let refuse = |problem: crate::domain::profile::Problem| Error::Invalid(problem.refusal, problem.detail);
        let address = Node::check_address(&self.uri).map_err(refuse)?;
        let wants_data = matches!(self.verb, Verb::Add | Verb::Replace);
        let may_have_data = wants_data || self.verb == Verb::Exec;
        if (wants_data && self.data.is_none()) || (!may_have_data && self.data.is_some()) {
            let what = if wants_data { "needs data" } else { "has no data" };
            return Err(Error::Invalid(Refusal::ProfileValueRefused, format!("{}: {what}", self.verb)));
        }
        let mut format = None;
        if let Some(value) = &self.data {
            let word = self.format.unwrap_or_else(|| "chr".into());
            let node = Node { name: String::new(), uri: self.uri.clone(), format: word.clone(), value: value.clone() };
            node.check().map_err(refuse)?;
            format = Some(word);
        }
        let scope = address.scope();
        let operation = Operation::Node(NodeOperation { verb: self.verb, uri: self.uri, format, data: self.data });
        // Nobody knows what it does: running and deleting may take something away.
        let destructive = matches!(self.verb, Verb::Exec | Verb::Delete);
        Ok(Ready { kind: CUSTOM.into(), scope, operation, destructive, row: None, by_user: None })
    }
}

/// The enrolment through which a managed device can be reached.
fn reachable(conn: &mut Conn, device: &DeviceId) -> store::Result<Enrollment> {
    let known = devices::load_device(conn, device)?;
    let current = enrollments::find_current_enrollment(conn, device)?;
    current
        .filter(|enrollment| known.state == DeviceState::Managed && enrollment.state != EnrollmentState::Unenrolling)
        .ok_or_else(|| Refusal::DeviceNotManaged.into())
}

/// Whether the device can do what the row says, as far as is known of it.
fn fits(conn: &mut Conn, row: &CommandRow, operation: &Operation, enrollment: &Enrollment) -> store::Result<()> {
    let device = &enrollment.device_id;
    let known = devices::load_device(conn, device)?;
    if enrollment.is_user_enrollment() && !is_for_users(operation, known.platform) {
        return Err(Refusal::OrderNotForUserEnrollment.into());
    }
    let platform = known.platform.as_str();
    let (version, edition) = (known.os_version.as_deref(), known.os_edition.as_deref());
    if version.is_some_and(|version| !row.supports(platform, version)) || edition.is_some_and(|edition| !row.has_edition(edition)) {
        return Err(Refusal::OrderUnsupported.into());
    }
    let facts = facts::list_for_device(conn, device)?;
    let waits = channels::find_channel(conn, &enrollment.id, DEVICE)?.is_some_and(|channel| channel.awaiting_since.is_some());
    let keeps = secrets::list_kinds(conn, &enrollment.id)?.into_iter().any(|(kind, _)| kind == Kind::FileVault);
    match row.needs(platform).iter().find_map(|need| lacks(*need, &facts, waits, keeps)) {
        Some(refusal) => Err(refusal.into()),
        None => Ok(()),
    }
}

/// Whether an Apple device obeys that is its user's own (user enrolment).
fn is_for_users(operation: &Operation, platform: Platform) -> bool {
    let Operation::Request(request) = operation else { return false };
    commands_of_apple::find(&request.request).is_some_and(|found| found.for_users().has(platform, &request.keys))
}

/// Why a device does not obey; `None` when it does, or nothing is known that speaks against it. `waits`: in Setup Assistant;
/// `keeps`: its recovery key is kept.
fn lacks(need: Need, facts: &Facts, waits: bool, keeps: bool) -> Option<Refusal> {
    let says = |name: &str, value: &str| facts.get(name).is_some_and(|fact| fact.value.as_deref() == Some(value));
    let (met, refusal) = match need {
        Need::Supervision => (!says("apple.supervised", "false"), Refusal::OrderNeedsSupervision),
        Need::Silicon => (!says("apple.apple-silicon", "false"), Refusal::OrderNeedsSilicon),
        Need::Intel => (!says("apple.apple-silicon", "true"), Refusal::OrderNeedsIntel),
        // These are the exception: a device has to say so.
        Need::SharedIpad => (says("ios.shared", "true"), Refusal::OrderNeedsSharedIpad),
        Need::LostMode => (says("ios.lost-mode", "true"), Refusal::OrderNeedsLostMode),
        Need::Automated => (says("macos.automated", "true"), Refusal::OrderNeedsAutomated),
        Need::Setup => (waits, Refusal::OrderNeedsSetup),
        Need::RecoveryKey => (keeps, Refusal::OrderNeedsRecoveryKey),
    };
    (!met).then_some(refusal)
}

/// The channel of the user who is to obey: the one of that short name or key or, without, the only one.
fn user_of(conn: &mut Conn, enrollment: &EnrollmentId, wanted: Option<&str>) -> store::Result<String> {
    let all = channels::list_channels(conn, enrollment)?.into_iter().filter(|channel| channel.user_key != DEVICE);
    let is = |channel: &Channel| wanted.is_none_or(|name| channel.user_key == name || channel.user_short_name.as_deref() == Some(name));
    let mut found = all.filter(is);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only.user_key),
        _ => Err(Refusal::OrderNeedsUser.into()),
    }
}

/// Wakes the device, where that is set up and it has a channel; whether it was.
fn wake(tx: &mut Tx<'_>, config: &Config, enrollment: &Enrollment, now: Time) -> store::Result<bool> {
    if enrollment.platform == Platform::Windows && enrollment.channel_uri.is_none() {
        return Ok(false);
    }
    enqueue_wake(tx, config, enrollment.platform, &enrollment.id, now)
}

/// Queues an order for the device's next contact, and wakes it where that is set up. An order that takes something away has to be
/// confirmed.
///
/// # Errors
/// `CMD0001` to `CMD0015`, `PRF0001`, `PRF0010`; [`Error::NotFound`] without such a device.
pub async fn command(app: &App, device: &DeviceId, order: Order, confirmed: bool, by: &By) -> Result<Command> {
    let of = device.clone();
    let read = move |conn: &mut Conn| Ok((devices::load_device(conn, &of)?, enrollments::find_current_enrollment(conn, &of)?));
    let (known, current) = app.store.read(read).await?;
    let (platform, version) = (known.platform, known.os_version.as_deref());
    let now = &app.config.windows.provider_id;
    let mut ready = order.prepare(app, platform, version, current.as_ref().map_or(now, |enrollment| enrollment.provider(now)))?;
    if ready.destructive && !confirmed {
        return Err(Refusal::OrderNotConfirmed.into());
    }
    let (device, by, now, config) = (device.clone(), by.clone(), app.now(), Arc::clone(&app.config));
    let id = CommandId::new();
    // A user's own device refuses such an order below.
    let reachable_by = current.as_ref().filter(|enrollment| !enrollment.is_user_enrollment());
    if let (Some(wanted), Some(current), Operation::Request(request)) = (ready.by_user.take(), reachable_by, &mut ready.operation) {
        let enrollment = current.id.clone();
        request.user = Some(app.store.read(move |conn| user_of(conn, &enrollment, wanted.as_deref())).await?);
    }
    let whole = ready.operation.clone();
    let sealed = commands::seal_payload(&app.sealer(), &mut ready.operation)?;
    let queued = app
        .store
        .write(move |tx| {
            let enrollment = reachable(tx.conn(), &device)?;
            if let Some(row) = ready.row {
                fits(tx.conn(), row, &whole, &enrollment)?;
            }
            let command = Command {
                id: id.clone(),
                enrollment_id: enrollment.id.clone(),
                kind: ready.kind.clone(),
                scope: ready.scope,
                operation: ready.operation.clone(),
                state: State::Queued,
                attempts: 0,
                result: None,
                not_before: now,
                created_by: by.actor.clone(),
                version: 1,
            };
            commands::insert_command(tx, &command, &sealed, now)?;
            match command.operation.user() {
                Some(user) => apns::enqueue_wake(tx, &enrollment.id, user, now)?,
                None => drop(wake(tx, &config, &enrollment, now)?),
            }
            // What a custom order writes may be a secret.
            let data = match &command.operation {
                Operation::Node(node) => node.data.as_ref().map(|data| format!("({} characters)", data.chars().count())),
                // The names say enough: a PIN is one of the values.
                Operation::Request(request) => Some(request.names().join(", ")),
            };
            let (verb, uri) = command.operation.says();
            let after = json!({
                "order": command.kind, "device": device, "verb": verb, "uri": uri, "data": data,
            });
            audit::append(tx, &by.entry("device.command", format!("command:{}", command.id)).after(&after), now)?;
            Ok(command)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(queued)
}

/// Has the device report everything again at its next contact, and wakes it where that is set up; whether it is being woken.
///
/// # Errors
/// `CMD0004`; [`Error::NotFound`] without such a device.
pub async fn sync(app: &App, device: &DeviceId, by: &By) -> Result<bool> {
    let (device, by, now, config) = (device.clone(), by.clone(), app.now(), Arc::clone(&app.config));
    let woken = app
        .store
        .write(move |tx| {
            let enrollment = reachable(tx.conn(), &device)?;
            // Sessions take this row before the facts, too.
            enrollments::lock_enrollment(tx, &enrollment.id)?;
            facts::update_all_due(tx, &device, now)?;
            enrollments::update_work_at(tx, &enrollment.id, Some(now))?;
            let woken = wake(tx, &config, &enrollment, now)?;
            audit::append(tx, &by.entry("device.sync", format!("device:{device}")).after(&json!({ "woken": woken })), now)?;
            Ok(woken)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(woken)
}

/// The orders that a device was given, newest first: those of earlier enrolments, too, for as long as they are kept.
///
/// # Errors
/// [`Error::NotFound`] without such a device.
pub async fn orders(app: &App, device: &DeviceId, limit: i64) -> Result<Vec<Command>> {
    let (device, sealer) = (device.clone(), app.sealer());
    let found = app
        .store
        .read(move |conn| {
            devices::load_device(conn, &device)?;
            let all = enrollments::list_enrollments(conn, &device, ENROLLMENTS)?;
            let all: Vec<EnrollmentId> = all.into_iter().map(|enrollment| enrollment.id).collect();
            commands::list_commands(conn, &sealer, &all, limit.clamp(1, LONGEST_LIST))
        })
        .await?;
    Ok(found)
}

/// Takes an order back.
///
/// # Errors
/// `CMD0005` when it is over; [`Error::NotFound`].
pub async fn cancel(app: &App, order: &str, by: &By) -> Result<Command> {
    let id = CommandId::parse(order).ok_or(Error::NotFound("order"))?;
    let (by, now, sealer) = (by.clone(), app.now(), app.sealer());
    let cancelled = app
        .store
        .write(move |tx| {
            let before = commands::load_command(tx.conn(), &sealer, &id)?;
            let was = before.state;
            let after = before.step(Input::Cancel, now).ok_or(Refusal::OrderOver)?;
            commands::update_cancelled(tx, &after, now)?;
            let entry = by.entry("device.command-cancel", format!("command:{id}"));
            audit::append(tx, &entry.before(&json!({ "state": was })).after(&json!({ "state": after.state })), now)?;
            Ok(after)
        })
        .await?;
    Ok(cancelled)
}
