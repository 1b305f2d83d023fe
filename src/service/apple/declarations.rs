//! Declarative management of a device's channel: what is declared, the answers to its questions, and what its reports say.
//!
//! What goes this way is decided by [`crate::domain::apple::way`]: one device never gets a payload in two ways. Beside the profiles' own
//! declarations a device is subscribed to the status items that facts come from.

use serde_json::json;

use super::names;
use super::turn::{self, Turn};
use crate::app::App;
use crate::catalogue::OsVersion;
use crate::catalogue::payload::{Device, System};
use crate::domain::apple::content;
use crate::domain::apple::declarations::{Set, Wanted, identifier};
use crate::domain::apple::declared::Standing;
use crate::domain::apple::way;
use crate::domain::desired::{Content, Input, State};
use crate::ids::EnrollmentId;
use crate::service::{Error, Result};
use crate::wire::Malformed;
use crate::wire::apple::ddm::{Capabilities, Endpoint, Kind, StatusReport};

const SUBSCRIPTIONS: &str = "com.apple.configuration.management.status-subscriptions";

/// Whether the device knows declarations.
fn knows(turn: &Turn<'_>) -> Option<(System, OsVersion)> {
    let system = content::system(turn.device.platform)?;
    let version = OsVersion::parse(turn.device.os_version.as_deref()?)?;
    way::declares(system, version).then_some((system, version))
}

/// What is declared to the device; `None` when it knows no declarations.
pub(super) fn set(turn: &Turn<'_>) -> Option<Set> {
    let (system, version) = knows(turn)?;
    let prefix = names(turn.app).prefix().to_owned();
    let user_enrollment = turn.known.enrollment.is_user_enrollment();
    let device = Device { system, version, user_enrollment, uuid_of: &|_| None };
    let mut set = Set::default();
    let mut complete = true;
    for (_, winner) in turn.wanted() {
        let Content::Declarations(payloads) = &winner.content else { continue };
        // One that this version does not have is left out; its record says so.
        let Ok(made) = content::declarations(payloads, winner.profile.as_str(), &prefix, &device, turn.catalogue) else { continue };
        for (identifier, wanted) in made {
            complete &= set.add(identifier, wanted);
        }
    }
    let capabilities: Option<Capabilities> = turn.channel.capabilities.as_deref().and_then(|text| serde_json::from_str(text).ok());
    if let Some(capabilities) = capabilities.filter(|_| turn.user().is_none()) {
        let platform = turn.device.platform.as_str();
        let items = turn.catalogue.facts().filter_map(|row| row.status_item(platform, user_enrollment));
        let items = items.filter(|item| capabilities.reports(item));
        let items: Vec<_> = items.map(|item| json!({ "Name": item })).collect();
        if !items.is_empty() && capabilities.takes(SUBSCRIPTIONS) {
            let payload = [("StatusItems".to_owned(), items.into())].into_iter().collect();
            let wanted = Wanted { kind: SUBSCRIPTIONS.into(), payload, behind: String::new() };
            complete &= set.add(identifier(&prefix, Kind::Configuration, "status"), wanted);
        }
    }
    if set.iter().any(|declaration| Kind::of_type(&declaration.kind) == Some(Kind::Configuration)) {
        complete &= set.activate(identifier(&prefix, Kind::Activation, "all"), None);
    }
    if !complete {
        tracing::error!(device = %turn.device.id, "declarations that do not fit are left out");
    }
    Some(set)
}

/// Answers a declarative management message of a channel (`user`: the user's key, or that of the device channel). `None`: there is no such
/// declaration.
///
/// # Errors
/// [`Error::Malformed`] for an unknown endpoint or a report that is none; else the database's own.
pub async fn receive(
    app: &App,
    enrollment: &EnrollmentId,
    user: &str,
    endpoint: &str,
    data: Option<&[u8]>,
    origin: &str,
) -> Result<Option<Vec<u8>>> {
    let endpoint = Endpoint::parse(endpoint).ok_or_else(|| Malformed::new("no such endpoint", "Endpoint"))?;
    if endpoint == Endpoint::Status {
        let report = StatusReport::decode(data.unwrap_or_default())?;
        turn::retried(async || {
            let Some(mut turn) = Turn::read(app, enrollment, user, origin).await? else { return Ok(Some(Vec::new())) };
            take(&mut turn, &report);
            turn.plan();
            turn.commit().await?;
            Ok(Some(Vec::new()))
        })
        .await
    } else {
        let Some(turn) = Turn::read(app, enrollment, user, origin).await? else { return Ok(None) };
        let Some(set) = set(&turn) else { return Ok(None) };
        let body = match &endpoint {
            Endpoint::Tokens => serde_json::to_vec(&set.tokens(turn.channel.ddm_changed_at.unwrap_or(turn.now))),
            Endpoint::Items => serde_json::to_vec(&set.manifest()),
            Endpoint::Declaration(kind, identifier) => match set.get(*kind, identifier) {
                Some(declaration) => serde_json::to_vec(declaration),
                None => return Ok(None),
            },
            Endpoint::Status => return Ok(None),
        };
        Ok(Some(body.map_err(Error::internal)?))
    }
}

/// Takes a report in.
fn take(turn: &mut Turn<'_>, report: &StatusReport) {
    if let Some(capabilities) = report.capabilities()
        && let Ok(text) = serde_json::to_string(&capabilities)
    {
        turn.channel.capabilities = Some(text);
    }
    let (platform, user_enrollment) = (turn.device.platform.as_str(), turn.known.enrollment.is_user_enrollment());
    // Facts are the device's.
    let own = turn.user().is_none();
    for row in turn.catalogue.facts().filter(|_| own) {
        let item = row.status_item(platform, user_enrollment);
        let value = item.and_then(|item| report.item(item)).and_then(|value| match value {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Bool(_) | serde_json::Value::Number(_) => Some(value.to_string()),
            _ => None,
        });
        if value.is_some() {
            turn.report(&row.name, value, 200, "status report", row.every_hours);
            if !row.is_asked(platform, user_enrollment) {
                turn.never_ask(&row.name);
            }
        }
    }
    if let Some(set) = set(turn) {
        turn.channel.declared.take(report, &set);
    }
    judge(turn);
}

/// Moves the records of declarations by what the device has said of them so far.
pub(super) fn judge(turn: &mut Turn<'_>) {
    let Some(set) = set(turn) else { return };
    let prefix = names(turn.app).prefix().to_owned();
    let Some((system, version)) = knows(turn) else { return };
    let user_enrollment = turn.known.enrollment.is_user_enrollment();
    let device = Device { system, version, user_enrollment, uuid_of: &|_| None };
    let mut moves = Vec::new();
    for (key, winner) in turn.wanted() {
        let Content::Declarations(payloads) = &winner.content else { continue };
        let Ok(made) = content::declarations(payloads, winner.profile.as_str(), &prefix, &device, turn.catalogue) else { continue };
        let Some((_, record)) = turn.record(key) else { continue };
        let standing = turn.channel.declared.standing(&set, made.iter().map(|(name, _)| name.as_str()));
        // What is known already is not said again.
        let input = match (standing, record.state) {
            (Standing::InForce, state) if state != State::Verified => Input::Matches,
            (Standing::Refused(why), state) if state != State::Failed => Input::Refused { status: 0, original_error: Some(why) },
            (Standing::NotInForce(why), State::Verified) => Input::Differs { found: Some(why) },
            _ => continue,
        };
        moves.push((key.clone(), input));
    }
    for (key, input) in moves {
        turn.apply(&key, input);
    }
}
