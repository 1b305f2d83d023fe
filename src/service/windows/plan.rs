//! From desired state to the commands of a session, and from the device's answers back to records.
//!
//! The key of a piece of work says what it is ([`Key`]).

use serde_json::Value;

use crate::catalogue::{Access, Catalogue, FactRow, Setting, Vars, Withdraw};
use crate::clock::{HOUR, MINUTE, Time};
use crate::domain::desired::{Content, Input, Removal, Winner};
use crate::domain::dm_session::{Op, Outcome, Planned, Verdict};
use crate::domain::work::Key;
use crate::wire::locuri;
use crate::wire::syncml::Format;

/// How long an order waits that the device did not even begin (its user is not there, it stopped before it).
pub(super) const NOT_NOW: i64 = 15 * MINUTE;
/// How long something for a user who is not there waits before it makes a session worth its while.
pub(super) const USER_WAIT: i64 = HOUR;

/// The status of the operation that decided.
pub(super) fn status(outcome: &Outcome) -> i64 {
    let decisive = outcome.culprit.and_then(|at| outcome.ops.get(at)).or_else(|| outcome.ops.last());
    decisive.map_or(0, |op| i64::from(op.status))
}

/// The value that the operation at `place` brought.
pub(super) fn value(outcome: &Outcome, place: usize) -> Option<&str> {
    outcome.ops.get(place)?.value.as_ref().map(|value| value.text.as_str())
}

/// How a record moves when the device did not do what it was asked.
pub(super) fn input(verdict: Verdict, outcome: &Outcome, now: Time) -> Input {
    let status = status(outcome);
    let original_error = outcome.culprit.and_then(|at| outcome.ops.get(at)).and_then(|op| op.original_error.clone());
    match verdict {
        Verdict::Done => Input::Taken { status },
        Verdict::NotApplicable => Input::NotApplicable { status },
        Verdict::Deferred => Input::Postponed { until: now.plus(USER_WAIT) },
        Verdict::Retry => Input::Retry { status, original_error },
        Verdict::Failed => Input::Refused { status, original_error },
    }
}

/// How the record at `place` moves, of several that the device takes all or none of. Only one of them is to blame when it takes none.
pub(super) fn member(outcome: &Outcome, place: usize, now: Time) -> Input {
    let status = outcome.ops.get(place).map_or(0, |op| i64::from(op.status));
    let fell = outcome.culprit.is_some_and(|culprit| culprit != place);
    match outcome.verdict {
        Verdict::Done => Input::Taken { status },
        // The device does not have the one: it may take the others.
        Verdict::NotApplicable if fell => Input::Postponed { until: now },
        Verdict::Retry if fell => Input::Retry { status, original_error: None },
        Verdict::Failed if fell => Input::Refused { status, original_error: None },
        verdict => input(verdict, outcome, now),
    }
}

/// The group of a record's setting, and the scope, when its provider takes it only together with the others of its group.
pub(super) fn group<'a>(key: &'a str, catalogue: &'a Catalogue) -> Option<(&'a str, &'a str)> {
    let (id, scope) = setting_of(key)?;
    Some((catalogue.setting(id)?.atomic.as_deref()?, scope))
}

/// Identifier and scope of a record's setting.
fn setting_of(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("setting:")?.rsplit_once('@')
}

/// Where a record's value goes: the node and how to write it.
pub(super) struct Target<'a> {
    uri: String,
    setting: Option<&'a Setting>,
    format: Format,
}

/// What the server's own names are on a device.
pub(super) fn target<'a>(content: &Content, catalogue: &'a Catalogue, vars: &Vars<'_>) -> Option<Target<'a>> {
    match content {
        Content::Setting { id, scope, .. } => {
            let setting = catalogue.setting(id)?;
            Some(Target { uri: setting.locuri(*scope, vars)?, setting: Some(setting), format: setting.format })
        }
        Content::Custom(custom) => Some(Target { uri: custom.uri.clone(), setting: None, format: Format::parse(&custom.format)? }),
        Content::Payload(_) | Content::Profile(_) | Content::Declarations(_) => None,
    }
}

/// Sets a setting or a custom node; the error says why it cannot be sent.
pub(super) fn set(winner: &Winner, catalogue: &Catalogue, vars: &Vars<'_>) -> Result<Op, String> {
    let target = target(&winner.content, catalogue, vars).ok_or("the setting does not exist in this scope")?;
    let data = match &winner.content {
        Content::Setting { value, .. } => target.setting.ok_or("no such setting")?.encode(value)?,
        Content::Custom(custom) => custom.value.clone(),
        Content::Payload(_) | Content::Profile(_) | Content::Declarations(_) => return Err("not a setting".into()),
    };
    Ok(Op::replace(target.uri, target.format, data))
}

/// What may be done with a setting's node.
pub(super) fn access(content: &Content, catalogue: &Catalogue) -> Access {
    match content {
        Content::Setting { id, .. } => catalogue.setting(id).map_or_else(Access::default, |row| row.access),
        Content::Custom(_) | Content::Payload(_) | Content::Profile(_) | Content::Declarations(_) => Access::default(),
    }
}

/// Reads a setting or a custom node back.
pub(super) fn check(key: &str, winner: &Winner, catalogue: &Catalogue, vars: &Vars<'_>) -> Option<Planned> {
    Some(work(Key::Check(key), vec![Op::get(target(&winner.content, catalogue, vars)?.uri)]))
}

/// Whether the device holds what we want.
pub(super) fn holds(winner: &Winner, catalogue: &Catalogue, found: Option<&str>) -> bool {
    let Some(found) = found else { return false };
    match &winner.content {
        Content::Setting { id, value, .. } => catalogue.setting(id).is_some_and(|row| row.matches(found, value)),
        Content::Custom(custom) if custom.format == "bool" || custom.format == "int" => found.trim() == custom.value.trim(),
        // The device may write markup and text anew: white space tells nothing.
        Content::Custom(custom) => found.split_whitespace().eq(custom.value.split_whitespace()),
        Content::Payload(_) | Content::Profile(_) | Content::Declarations(_) => false,
    }
}

/// Takes a setting or a custom node away. The address is the one that was sent, which the record keeps.
pub(super) fn remove(removal: &Removal, catalogue: &Catalogue) -> Option<Op> {
    let uri = removal.record.address.as_deref()?;
    let setting = setting_of(&removal.key).and_then(|(id, _)| catalogue.setting(id));
    Some(match setting.map(Setting::withdraw) {
        // A node that cannot be deleted is put back to its default.
        Some(Withdraw::Default) => {
            let row = setting?;
            Op::replace(uri, row.format, row.default.clone()?)
        }
        Some(Withdraw::Delete) | None => Op::delete(uri),
        Some(Withdraw::Keep) => return None,
    })
}

/// Asks for a fact.
pub(super) fn fact(row: &FactRow, vars: &Vars<'_>) -> Planned {
    work(Key::Fact(&row.name), vec![Op::get(row.locuri(vars))])
}

/// Work that is not atomic; an address under `./User` makes it the user's.
pub(super) fn work(key: Key<'_>, ops: Vec<Op>) -> Planned {
    let user = ops.iter().any(|op| op.uri.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("./User")));
    let scope = if user { locuri::Scope::User } else { locuri::Scope::Device };
    Planned { key: key.to_string(), scope, ops, atomic: false }
}

/// The value of a setting as people read it, for logs and explanations: never a secret one.
pub(super) fn shown(content: &Content, catalogue: &Catalogue) -> String {
    match content {
        Content::Setting { id, value, .. } if catalogue.setting(id).is_none_or(|row| !row.secret) => match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        },
        Content::Setting { .. } | Content::Payload(_) | Content::Profile(_) | Content::Declarations(_) => "(not shown)".into(),
        // What it means is not known: it may be a secret.
        Content::Custom(custom) => format!("({} characters)", custom.value.chars().count()),
    }
}
