//! Declarative management of a device's channel: what is declared, the answers to its questions, and what its reports say.
//!
//! What goes this way is decided by [`crate::domain::apple::way`]: one device never gets a payload in two ways. Beside the profiles' own
//! declarations a device is subscribed to the status items that facts come from, and to its lists of applications.

use serde_json::{Value, json};

use super::apps::declared;
use super::commands::profile_list::next_generation;
use super::ground::Ground;
use super::turn::{self, Turn};
use crate::app::App;
use crate::domain::apple::content;
use crate::domain::apple::content::app::PROFILE;
use crate::domain::apple::declarations::{Set, Wanted, identifier};
use crate::domain::apple::declared::Standing;
use crate::domain::apple::way;
use crate::domain::certificate::CertificateStatus;
use crate::domain::desired::{Content, Input, Lack, State, Winner};
use crate::domain::profile::Payload;
use crate::ids::EnrollmentId;
use crate::service::round::ISSUES_AGAIN;
use crate::service::{Error, Result};
use crate::wire::Malformed;
use crate::wire::apple::ddm::{Capabilities, Endpoint, Kind, MANAGED_APPS, PACKAGES, StatusReport};

/// Most that is kept of what a device can do; real ones say some kilobytes.
const LONGEST_CAPABILITIES: usize = 64 * 1024;

const SUBSCRIPTIONS: &str = "com.apple.configuration.management.status-subscriptions";

/// Where a record remembers the certificates that came with its assets.
const CERTIFICATES: &str = "certificates";
/// Where a record remembers, by payload, since when another identity is wanted than the first.
const ROUND: &str = "round";

/// The fact that tells that the start volume is encrypted.
const FILEVAULT: &str = "macos.filevault";

/// The source of facts that devices report by themselves.
const REPORT: &str = "status report";

/// Why a device refuses an asset that it could not fetch.
const NOT_FETCHED: &str = "Error.AssetCannotBeDownloaded";

/// Payloads, and the declarations that they become, with their identifiers, in the same order; or the payload that is wrong, and why.
type Made = std::result::Result<(Vec<Payload>, Vec<(String, Wanted)>), (String, String)>;

/// The declarations of a record; `None` when it has none, or none yet.
pub(super) fn made(turn: &Turn<'_>, ground: &Ground, key: &str, winner: &Winner) -> Option<Made> {
    let Content::Declarations(payloads) = &winner.content else { return None };
    let prefix = ground.names().prefix();
    if declared::is(turn, key) {
        let one = |(payloads, behind): (Vec<Payload>, String)| {
            let target = ground.target("", &|_| String::new(), &[]);
            let mut made = content::declarations(&payloads, PROFILE, prefix, &target, turn.catalogue)?;
            let configures = |wanted: &Wanted| Kind::of_type(&wanted.kind) == Some(Kind::Configuration);
            made.iter_mut()
                .map(|(_, wanted)| wanted)
                .filter(|wanted| configures(wanted))
                .for_each(|wanted| wanted.behind.clone_from(&behind));
            Ok((payloads, made))
        };
        return Some(declared::payloads(turn, ground, key)?.map_err(|why| (key.to_owned(), why)).and_then(one));
    }
    let memory = turn.record(key).map(|(_, record)| &record.memory);
    let rounds = memory.and_then(|memory| memory.get(ROUND)).cloned().unwrap_or_default();
    let round = |name: &str| rounds.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let target = ground.target("", &round, &[]);
    let made = content::declarations(payloads, winner.profile.as_str(), prefix, &target, turn.catalogue);
    Some(made.map(|made| (payloads.clone(), made)))
}

/// Says of declarations that are not made for the device why that is so.
pub(super) fn leave_out(turn: &mut Turn<'_>) {
    let Some(ground) = Ground::of(turn) else { return };
    let mut moves = Vec::new();
    for (key, winner) in turn.wanted() {
        let (Content::Declarations(payloads), Some((_, record))) = (&winner.content, turn.record(key)) else { continue };
        if record.state == State::NotApplicable || record.state == State::Failed && record.due_at.is_none_or(|at| at > turn.now) {
            continue;
        }
        if !content::supports(payloads, ground.system(), ground.version(), turn.catalogue) {
            moves.push((key.clone(), Input::Lacks(Lack::Version)));
        } else if let Some(Err((at, why))) = made(turn, &ground, key, winner) {
            moves.push((key.clone(), Input::Unmet { why: format!("{at}: {why}") }));
        }
    }
    for (key, input) in moves {
        turn.apply(&key, input);
    }
}

/// Has the device fetch assets anew whose certificates near their end, or were revoked; whether there are any.
pub(super) fn renew(turn: &mut Turn<'_>, key: &str) -> bool {
    let Some(Content::Declarations(payloads)) = turn.effective.winners.get(key).map(|winner| winner.content.clone()) else { return false };
    let had = turn.record(key).is_some_and(|(_, record)| record.memory.contains_key(CERTIFICATES));
    let mut old = Vec::new();
    for payload in &payloads {
        let Some(percent) = content::renewal(payload) else { continue };
        let due = match turn.certificates_of(key, &payload.name).first() {
            Some(newest) => newest.status == CertificateStatus::Active && turn.now >= newest.renews_from(percent),
            None => had,
        };
        if due {
            old.push(payload.name.clone());
        }
    }
    if old.is_empty() {
        return false;
    }
    for payload in old {
        next_generation(turn, key, &payload);
        let round = uuid::Uuid::now_v7().to_string();
        turn.remember(key, |memory| {
            memory.remove(CERTIFICATES);
            if let Some(rounds) = memory.entry(ROUND).or_insert_with(|| json!({})).as_object_mut() {
                rounds.insert(payload, round.into());
            }
        });
    }
    turn.apply(key, Input::Changed);
    true
}

/// The declarations of a record are in force: the device has the certificates of its assets.
fn have(turn: &mut Turn<'_>, key: &str) {
    let Some(Content::Declarations(payloads)) = turn.effective.winners.get(key).map(|winner| winner.content.clone()) else { return };
    let mut held = Vec::new();
    for payload in payloads.iter().filter(|payload| content::renewal(payload).is_some()) {
        let Some(newest) = turn.certificates_of(key, &payload.name).into_iter().next().cloned() else { continue };
        turn.supersede(key, &payload.name, &newest);
        held.push(newest.sha256);
    }
    if !held.is_empty() {
        turn.remember(key, |memory| {
            memory.insert(CERTIFICATES.into(), held.into());
        });
    }
}

/// What is declared to the device; `None` when it knows no declarations.
pub(super) fn set(turn: &Turn<'_>) -> Option<Set> {
    let ground = Ground::of(turn).filter(|ground| way::declares(ground.system(), ground.version()))?;
    let prefix = ground.names().prefix();
    let user_enrollment = turn.known.enrollment.is_user_enrollment();
    let mut set = Set::default();
    let mut complete = true;
    for (key, winner) in turn.wanted() {
        // One that this version does not have is left out; its record says so.
        let Some(Ok((_, made))) = made(turn, &ground, key, winner) else { continue };
        for (identifier, wanted) in made {
            complete &= set.add(identifier, wanted);
        }
    }
    let capabilities: Option<Capabilities> = turn.channel.capabilities.as_deref().and_then(|text| serde_json::from_str(text).ok());
    if let Some(capabilities) = capabilities.filter(|_| turn.user().is_none()) {
        let platform = turn.device.platform.as_str();
        let items = turn.catalogue.facts().filter_map(|row| row.status_item(platform, user_enrollment));
        let items = items.chain([MANAGED_APPS, PACKAGES]).filter(|item| capabilities.reports(item));
        let items: Vec<_> = items.map(|item| json!({ "Name": item })).collect();
        if !items.is_empty() && capabilities.takes(SUBSCRIPTIONS) {
            let payload = [("StatusItems".to_owned(), items.into())].into_iter().collect();
            let wanted = Wanted { kind: SUBSCRIPTIONS.into(), payload, behind: String::new() };
            complete &= set.add(identifier(prefix, Kind::Configuration, "status"), wanted);
        }
    }
    if set.iter().any(|declaration| Kind::of_type(&declaration.kind) == Some(Kind::Configuration)) {
        complete &= set.activate(identifier(prefix, Kind::Activation, "all"), None);
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

impl Turn<'_> {
    /// Whether what is known of a fact came with a report.
    fn is_reported(&self, name: &str) -> bool {
        self.known.facts.get(name).is_some_and(|fact| fact.value.is_some() && fact.source == REPORT)
    }
}

/// Takes a report in.
fn take(turn: &mut Turn<'_>, report: &StatusReport) {
    if let Some(capabilities) = report.capabilities()
        && let Ok(text) = serde_json::to_string(&capabilities)
    {
        if text.len() <= LONGEST_CAPABILITIES {
            turn.channel.capabilities = Some(text);
        } else {
            // It is read with every message: what it could do before stays.
            tracing::warn!(device = %turn.device.id, bytes = text.len(), "a device says more of its capabilities than is kept");
        }
    }
    let (platform, user_enrollment) = (turn.device.platform.as_str(), turn.known.enrollment.is_user_enrollment());
    // Facts are the device's.
    let own = turn.user().is_none();
    for row in turn.catalogue.facts().filter(|_| own) {
        let item = row.status_item(platform, user_enrollment);
        let value = item.and_then(|item| report.item(item)).and_then(|value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
            _ => None,
        });
        if row.name == FILEVAULT && value.as_deref() == Some("true") && turn.fact(FILEVAULT) != Some("true") {
            turn.expect_recovery_key();
        }
        if value.is_some() {
            // What is not asked for waits for the next report.
            let every_hours = row.is_asked(platform, user_enrollment).then_some(row.every_hours);
            turn.report(&row.name, value, 200, REPORT, every_hours);
        } else if item.is_some_and(|item| report.retracts(item)) && turn.is_reported(&row.name) {
            turn.retract(&row.name, REPORT, row.is_asked(platform, user_enrollment));
        }
    }
    if let Some(set) = set(turn) {
        turn.channel.declared.take(report, &set);
    }
    if own {
        let prefix = turn.names.prefix().to_owned();
        declared::hear(turn, report, &prefix);
    }
    judge(turn);
}

/// Moves the records of declarations by what the device has said of them so far.
pub(super) fn judge(turn: &mut Turn<'_>) {
    let Some(set) = set(turn) else { return };
    let Some(ground) = Ground::of(turn) else { return };
    let (mut moves, mut apps) = (Vec::new(), Vec::new());
    for (key, winner) in turn.wanted() {
        let Some(Ok((_, made))) = made(turn, &ground, key, winner) else { continue };
        let Some((_, record)) = turn.record(key) else { continue };
        let standing = turn.channel.declared.standing(&set, made.iter().map(|(name, _)| name.as_str()));
        if declared::is(turn, key) {
            apps.push((key.clone(), standing));
            continue;
        }
        // What is known already is not said again.
        let input = match (standing, record.state) {
            (Standing::InForce, state) if state != State::Verified => Input::Matches,
            // It may be there the next time.
            (Standing::Refused(why), state) if state != State::Failed && why.contains(NOT_FETCHED) && !turn.authority.issues(turn.now) => {
                Input::Postponed { until: turn.now.plus(ISSUES_AGAIN) }
            }
            (Standing::Refused(why), state) if state != State::Failed && why.contains(NOT_FETCHED) => {
                Input::Retry { status: 0, original_error: Some(why) }
            }
            (Standing::Refused(why), state) if state != State::Failed => Input::Refused { status: 0, original_error: Some(why) },
            (Standing::NotInForce(why), State::Verified) => Input::Differs { found: Some(why) },
            _ => continue,
        };
        moves.push((key.clone(), input));
    }
    for (key, input) in moves {
        if matches!(input, Input::Matches) {
            have(turn, &key);
        }
        turn.apply(&key, input);
    }
    for (key, standing) in apps {
        declared::judge_by(turn, &key, standing);
    }
}
