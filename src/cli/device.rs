//! `muster device`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::who::Who;
use super::{ask, find, page};
use crate::app::App;
use crate::catalogue::{CommandRow, catalogue};
use crate::domain::Refusal;
use crate::domain::apple::escrow::Kind;
use crate::domain::command::{self, Verb};
use crate::domain::compliance::Status;
use crate::domain::device::{Platform, State};
use crate::domain::inventory;
use crate::ids::UserId;
use crate::service::device::{self, Custom, ENROLLING, Explanation, Order, Overview, Reason};
use crate::service::{Error, Result};
use crate::store::devices::Filter;
use crate::store::{Conn, users};

/// Longest file of an order, in bytes.
const LONGEST_FILE: u64 = device::LONGEST_FILE as u64 / 4 * 3;
/// Longest line that is read for a value of an order.
const LONGEST_VALUE: u64 = 4096;

/// What is done to devices.
#[derive(Debug, Deserialize, Serialize, Subcommand)]
pub enum Command {
    /// Shows the devices
    List(Box<List>),
    /// Shows all that is known of a device
    Show {
        /// Id, name or serial number
        device: String,
    },
    /// Says rule by rule why a device is judged as it is
    Explain {
        /// Id, name or serial number
        device: String,
        /// Only what is not met
        #[arg(long)]
        failed: bool,
    },
    /// Has a device report everything again, now if it can be woken
    Sync {
        /// Id, name or serial number
        device: String,
    },
    /// Gives a device an order: one of the catalogue (see orders --known), or any node operation
    #[command(name = "command")]
    Give(Box<Give>),
    /// Shows the orders that a device was given, newest first
    Orders {
        /// Id, name or serial number
        #[arg(required_unless_present = "known")]
        device: Option<String>,
        /// Shows the orders that there are, or those with a word in their name or title
        #[arg(long, value_name = "WORD", num_args = 0..=1, default_missing_value = "", conflicts_with = "device")]
        known: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
    },
    /// Takes an order back that was not sent yet, or one that nobody knows the end of
    Cancel {
        /// Its id
        order: String,
    },
    /// Shows a list that a device answered to list-applications, list-users and the like
    Inventory {
        /// Id, name or serial number
        device: String,
        /// applications, users, updates, update-status, provisioning-profiles, books, extensions, restrictions, content-caching or
        /// lights-out
        #[arg(default_value = "applications", value_parser = read_list)]
        list: inventory::Kind,
    },
    /// Shows which secrets are kept of a device, or one of them as it is; that you read it is in the audit log
    Secret {
        /// Id, name or serial number
        device: String,
        /// fv-prk (recovery key of FileVault), recovery-lock, firmware, admin (administrator's password), pin (of a lock or wipe),
        /// activation-lock (code), location, and next-recovery-lock, next-firmware, next-admin, next-pin (told, not confirmed)
        #[arg(value_parser = read_kind)]
        kind: Option<Kind>,
    },
    /// Looks after PCs that are registered for Windows Autopilot
    #[command(subcommand)]
    Autopilot(super::autopilot::Command),
    /// Tells a device to leave: its profiles and certificates go, its owner's data stay
    Retire {
        /// Id, name or serial number
        device: String,
        /// Do not wait for it: it is lost, broken or wiped
        #[arg(long)]
        give_up: bool,
    },
}

/// Which devices.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct List {
    /// Of this user: name or id
    #[arg(long, value_name = "UPN|ID")]
    user: Option<String>,
    /// enrolling (begun and not finished), managed, retiring or retired
    #[arg(long, value_parser = [ENROLLING, "managed", "retiring", "retired"])]
    state: Option<String>,
    /// windows, macos or ios
    #[arg(long, value_parser = read_platform)]
    platform: Option<Platform>,
    /// Of this name
    #[arg(long)]
    name: Option<String>,
    /// Of this serial number
    #[arg(long)]
    serial: Option<String>,
    /// Those that come after this id
    #[arg(long, default_value = "", value_name = "ID")]
    after: String,
    /// How many at most
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
}

/// What a device is told to do.
#[derive(Debug, clap::Args, Deserialize, Serialize)]
pub struct Give {
    /// Id, name or serial number
    device: String,
    /// An order of the catalogue
    #[arg(required_unless_present = "uri", conflicts_with = "uri")]
    order: Option<String>,
    /// Any node instead
    #[arg(long)]
    uri: Option<String>,
    /// get, add, replace, delete or exec
    #[arg(long, default_value = "get", value_parser = read_verb, requires = "uri")]
    verb: Verb,
    /// chr, int, bool, b64, xml, float, date or time
    #[arg(long, requires = "data")]
    format: Option<String>,
    /// What an Apple device is told besides: message=…, pin=…; orders --known shows what each order takes; pin=- asks for the value, or
    /// reads a line of the standard input
    #[arg(long = "with", value_name = "NAME=VALUE", requires = "order", value_parser = read_value)]
    with: Vec<(String, String)>,
    /// The same from a file: image=…, profile=…
    #[arg(long = "with-file", value_name = "NAME=FILE", requires = "order", value_parser = read_file)]
    with_file: Vec<(String, String)>,
    /// What is written to the node or given to it
    #[arg(long, requires = "uri")]
    data: Option<String>,
    /// Yes, although it takes something away
    #[arg(long)]
    yes: bool,
}

impl Give {
    /// The order of the catalogue; `None` when it is a node that may be any.
    pub(super) fn known(&self) -> Option<&str> {
        self.order.as_deref()
    }

    /// The same with the values that are not on the command line, which are asked for where the person is.
    pub(super) fn with_secrets(mut self) -> anyhow::Result<Self> {
        for (name, value) in &mut self.with {
            *value = ask::value(std::mem::take(value), name, LONGEST_VALUE)?;
        }
        Ok(self)
    }
}

fn read_value(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a name, =, and a value")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn read_file(text: &str) -> std::result::Result<(String, String), String> {
    let (name, file) = read_value(text)?;
    let fail = |error: std::io::Error| format!("{file}: {error}");
    // A pipe says no length: no more is read than may be given.
    let mut bytes = Vec::new();
    std::fs::File::open(&file).map_err(fail)?.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(format!("{file}: longer than {LONGEST_FILE} bytes"));
    }
    Ok((name, STANDARD.encode(bytes)))
}

fn read_kind(text: &str) -> std::result::Result<Kind, String> {
    let all = || Kind::ALL.iter().filter(|kind| kind.is_for_people()).map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    Kind::parse(text).filter(|kind| kind.is_for_people()).ok_or_else(|| format!("use one of {}", all()))
}

fn read_list(text: &str) -> std::result::Result<inventory::Kind, String> {
    let all = || inventory::Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    inventory::Kind::parse(text).ok_or_else(|| format!("use one of {}", all()))
}

fn read_platform(text: &str) -> std::result::Result<Platform, String> {
    [Platform::Windows, Platform::MacOs, Platform::Ios]
        .into_iter()
        .find(|platform| platform.as_str() == text)
        .ok_or_else(|| "use windows, macos or ios".into())
}

fn read_verb(text: &str) -> std::result::Result<Verb, String> {
    Verb::parse(text).ok_or_else(|| "use get, add, replace, delete or exec".into())
}

pub(super) async fn run(app: &App, command: Command, who: &Who) -> Result<Value> {
    let by = &who.by;
    match command {
        Command::List(list) => {
            let user_id = match &list.user {
                Some(user) => Some(find::user(app, user).await?.id),
                None => None,
            };
            // Those that are enrolling are to be managed.
            let enrolling = list.state.as_deref().map(|state| state == ENROLLING);
            let state = list.state.as_deref().map(|state| State::parse(state).unwrap_or(State::Managed));
            let filter = Filter {
                user_id,
                state,
                enrolling: enrolling.filter(|_| state == Some(State::Managed)),
                platform: list.platform,
                display_name: list.name,
                serial_number: list.serial,
            };
            let found = device::list(app, filter, &list.after, page::probe(list.limit)).await?;
            let owners: BTreeSet<UserId> = found.iter().filter_map(|overview| overview.device.user_id.clone()).collect();
            let read = move |conn: &mut Conn| owners.into_iter().map(|id| Ok((id.clone(), users::load_user(conn, &id)?.upn))).collect();
            let upns: BTreeMap<UserId, String> = app.store.read(read).await?;
            let with_user = |overview: &Overview| {
                let mut shown = row(overview);
                let upn = overview.device.user_id.as_ref().and_then(|id| upns.get(id));
                if let Some(fields) = shown.as_object_mut() {
                    fields.insert("user".into(), json!(upn));
                }
                shown
            };
            Ok(page::cut(found.iter().map(with_user).collect(), list.limit, page::after("id")))
        }
        Command::Show { device } => show(app, &device).await,
        Command::Explain { device, failed } => {
            let reasons = device::explain(app, &find::device(app, &device).await?.id).await?;
            let wanted = reasons.iter().filter(|r| !failed || matches!(r.status, Status::NonCompliant | Status::Error | Status::Conflict));
            Ok(Value::Array(wanted.map(reason).collect()))
        }
        Command::Sync { device } => {
            let found = find::device(app, &device).await?;
            let woken = device::sync(app, &found.id, by).await?;
            let when = if woken { "the device is being woken" } else { "the device reports at its next poll" };
            Ok(json!({ "device": found.display_name, "when": when }))
        }
        Command::Give(give) => {
            let found = find::device(app, &give.device).await?;
            let mut values = BTreeMap::new();
            for (name, value) in give.with.into_iter().chain(give.with_file) {
                let twice = format!("{name}: given twice");
                if values.insert(name, value).is_some() {
                    return Err(Error::Invalid(Refusal::ProfileValueRefused, twice));
                }
            }
            let order = match (give.order, give.uri) {
                (Some(id), _) if values.is_empty() => Order::Known(id),
                (Some(id), _) => Order::With(id, values),
                (None, uri) => {
                    Order::Custom(Custom { verb: give.verb, uri: uri.unwrap_or_default(), format: give.format, data: give.data })
                }
            };
            Ok(show_order(&device::command(app, &found.id, order, give.yes, by).await?))
        }
        Command::Orders { known: Some(word), .. } => {
            let word = word.to_lowercase();
            let found = catalogue().commands().filter(|row| [&row.id, &row.title].iter().any(|text| text.to_lowercase().contains(&word)));
            let row = |row: &CommandRow| {
                json!({
                    "order": row.id, "platforms": row.platforms().join(" "), "takes": row.takes.join(" "), "needs_yes": row.destructive,
                    "title": row.title, "help": row.help,
                })
            };
            Ok(Value::Array(found.map(row).collect()))
        }
        Command::Orders { device: None, .. } => Ok(Value::Array(Vec::new())),
        Command::Orders { device: Some(device), limit, .. } => {
            let found = find::device(app, &device).await?;
            let orders = device::orders(app, &found.id, page::probe(limit)).await?;
            Ok(page::cut(orders.iter().map(show_order).collect(), limit, |_| None))
        }
        Command::Cancel { order } => match device::cancel(app, &order, by).await {
            Err(Error::NotFound(_)) => Err(find::missing("order", &order, "device orders DEVICE")),
            cancelled => Ok(show_order(&cancelled?)),
        },
        Command::Inventory { device, list } => {
            let found = find::device(app, &device).await?;
            let (list, at) = device::inventory(app, &found.id, list).await?;
            let mut rows: Vec<Value> = list.entries.into_iter().map(Value::Object).collect();
            if list.left_out > 0 {
                rows.push(json!({ "left_out": list.left_out }));
            }
            Ok(json!({ "device": found.display_name, "observed": at.to_string(), "list": rows }))
        }
        Command::Secret { device, kind } => {
            let found = find::device(app, &device).await?;
            match kind {
                None => Ok(json!(device::secrets(app, &found.id).await?)),
                Some(kind) => Ok(String::from_utf8_lossy(device::reveal(app, &found.id, kind, by).await?.expose()).into()),
            }
        }
        Command::Autopilot(command) => super::autopilot::run(app, command, by).await,
        Command::Retire { device, give_up } => {
            let found = find::device(app, &device).await?;
            device::retire(app, &found.id, &by.actor, &by.origin).await?;
            if give_up {
                device::give_up_device(app, &found.id, by).await?;
            }
            let now = find::device(app, found.id.as_str()).await?;
            let note = match (found.state, now.state) {
                (State::Retired, State::Retired) => "it was retired before",
                (State::Retiring, State::Retiring) => "it was told to leave before; `--give-up` ends it without its answer",
                (_, State::Retiring) => "it leaves when it next reports; `--give-up` ends it without its answer",
                _ => "it has to enrol again to be managed",
            };
            Ok(json!({ "device": now.display_name, "state": now.state, "note": note, "id": now.id }))
        }
    }
}

/// A device on one line.
pub(super) fn row(overview: &Overview) -> Value {
    let device = &overview.device;
    json!({
        "name": device.display_name, "state": overview.standing(), "compliance": overview.compliance, "platform": device.platform,
        "last_seen": overview.last_seen_at.to_string(), "os_version": device.os_version, "id": device.id,
        "compliant": overview.compliant,
    })
}

fn reason(reason: &Reason) -> Value {
    json!({
        "policy": reason.policy_name, "rule": reason.rule, "title": reason.title, "status": reason.status, "expected": reason.expected,
        "got": reason.got, "code": reason.code, "source": reason.source, "observed": reason.observed_at.map(|at| at.to_string()),
        "self_reported": reason.self_reported, "advice": reason.advice,
    })
}

fn show_order(order: &command::Command) -> Value {
    json!({
        "id": order.id, "order": order.kind, "state": order.state, "result": order.result, "by": order.created_by,
        "not_before": order.not_before.to_string(), "attempts": order.attempts, "verb": order.operation.says().0,
        "uri": order.operation.says().1,
    })
}

/// Whether the device can still show itself, in words.
fn identity(known: &Explanation) -> Option<String> {
    match (known.overview.device.state, known.identity_until) {
        (State::Retired, _) => None,
        (_, Some(until)) => Some(format!("until {until}")),
        (_, None) if known.identity_held => Some(
            "on hold: the device is refused; `muster ca certificates --status held` shows which, and `muster ca release` takes it off hold"
                .into(),
        ),
        (_, None) => Some(
            "none in force (ended, held or revoked): the device is refused; enrol it again, or `muster device retire DEVICE --give-up`"
                .into(),
        ),
    }
}

async fn show(app: &App, device: &str) -> Result<Value> {
    let id = find::device(app, device).await?.id;
    let known = device::show(app, &id).await?;
    let device = &known.overview.device;
    let owner = device.user_id.clone();
    let upn = app.store.read(move |conn| owner.map(|id| users::load_user(conn, &id)).transpose()).await?.map(|user| user.upn);
    let profiles: Vec<Value> = known
        .profiles
        .iter()
        .map(|profile| {
            json!({
                "profile": profile.name, "kind": profile.kind, "wanted": profile.desired_version, "given": profile.applied_version,
                "state": profile.state, "due": profile.due_at.map(|at| at.to_string()),
                "settings": profile.records.iter().map(|(name, record)| json!({ "setting": name, "record": record })).collect::<Vec<_>>(),
            })
        })
        .collect();
    let facts: Vec<Value> = known
        .facts
        .iter()
        .map(|fact| json!({ "fact": fact.name, "value": fact.value, "status": fact.status, "observed": fact.observed_at.to_string() }))
        .collect();
    let reasons: Vec<Value> = known.reasons.iter().map(reason).collect();
    Ok(json!({
        "id": device.id, "name": device.display_name, "platform": device.platform, "user": upn, "state": known.overview.standing(),
        "ownership": known.ownership, "managed_apple_account": known.managed_apple_account, "serial_number": device.serial_number,
        "manufacturer": device.manufacturer, "model": device.model,
        "os_version": device.os_version, "os_edition": device.os_edition, "hardware_id": device.hardware_id,
        "same_hardware_as": known.same_hardware_as, "says_serial_number": known.says_serial_number,
        "entra_device_id": device.entra_device_id, "last_seen": known.overview.last_seen_at.to_string(),
        "compliance": known.overview.compliance, "compliant": known.overview.compliant,
        "identity": identity(&known), "recovery_key": known.recovery_key,
        "grace_until": known.grace_expires_at.map(|at| at.to_string()), "judged_again": known.reevaluate_at.map(|at| at.to_string()),
        "profiles": profiles, "facts": facts, "reasons": reasons, "notes": known.notes,
    }))
}
