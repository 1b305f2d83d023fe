//! Judging devices, and telling the world when the judgement flips.

use serde_json::json;

use super::signals::caep;
use crate::app::App;
use crate::catalogue::catalogue;
use crate::clock::{HOUR, Time};
use crate::config::Config;
use crate::domain::audit::Entry;
use crate::domain::compliance::{BUILT_IN, Enforced, Input, Policy, Rules, State, Verdict, evaluate};
use crate::domain::desired::{self, Candidate, Content, Winner};
use crate::domain::device;
use crate::domain::profile::{Document, Kind};
use crate::domain::signal::{ComplianceChange, Initiator};
use crate::ids::{DeviceId, ProfileId, UserId};
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, Tx, audit, desired_items, facts, meta};

/// How many devices share a transaction when time is due.
const BATCH: i64 = 50;
/// When a device is tried again that cannot be judged, in milliseconds.
const RETRY: i64 = HOUR;
/// Where the settings are kept that the stored verdicts were made with.
const SETTINGS_KEY: &str = "compliance.settings";

/// The organisation's settings.
#[must_use]
pub fn rules(config: &Config) -> Rules {
    Rules { secure_by_default: config.compliance.secure_by_default, validity_days: config.compliance.validity_days }
}

/// What an evaluation came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The verdict in force.
    pub verdict: Verdict,
    /// Whether consumers see something else than before: ring `app.outbox` after the commit.
    pub flipped: bool,
}

/// Judges a device inside the caller's transaction, as its last step: stores the verdict, and on a change of state an audit row, and on a
/// flip of what consumers see the signals. A device that is leaving or gone is judged by [`retire_in`] only.
///
/// # Errors
/// [`store::Error::NotFound`] when there is no such device; [`store::Error::Busy`] when another node was faster.
pub fn reevaluate_in(tx: &mut Tx<'_>, device: &DeviceId, rules: Rules, initiator: Initiator, now: Time) -> store::Result<Judged> {
    let previous = store::compliance::find_verdict(tx.conn(), device)?;
    judge_in(tx, device, previous, None, rules, initiator, now)
}

/// As [`reevaluate_in`] for a device that enrols, perhaps anew: the clocks of its life before are forgotten.
///
/// # Errors
/// As [`reevaluate_in`].
pub fn enrolled_in(tx: &mut Tx<'_>, device: &DeviceId, rules: Rules, now: Time) -> store::Result<Judged> {
    let mut previous = store::compliance::find_verdict(tx.conn(), device)?;
    if let Some(stored) = &mut previous {
        stored.verdict = stored.verdict.clone().of_new_life();
    }
    judge_in(tx, device, previous, None, rules, Initiator::User, now)
}

/// As [`reevaluate_in`] while the device is here: when it said something `new`, or when being here is all that was missing. Returns whether
/// consumers see something else than before.
///
/// # Errors
/// As [`reevaluate_in`].
pub fn checked_in(tx: &mut Tx<'_>, device: &DeviceId, new: bool, rules: Rules, now: Time) -> store::Result<bool> {
    let previous = store::compliance::find_verdict(tx.conn(), device)?;
    if !new && !previous.as_ref().is_some_and(|stored| stored.verdict.waits_for_device()) {
        return Ok(false);
    }
    Ok(judge_in(tx, device, previous, Some(now), rules, Initiator::Policy, now)?.flipped)
}

/// `seen_at`: when the device was heard of, where the store does not know it yet.
fn judge_in(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    previous: Option<store::compliance::Stored>,
    seen_at: Option<Time>,
    rules: Rules,
    initiator: Initiator,
    now: Time,
) -> store::Result<Judged> {
    if previous.is_none() {
        // Without a row nobody can mark it as outdated: no policy may come or go meanwhile.
        take_turn(tx, Turn::Device)?;
    }
    let subject = store::compliance::load_subject(tx.conn(), device)?;
    // Of an Apple device that only introduced itself nothing is known, and nobody proved that it is one.
    if subject.enrolling && subject.platform.is_apple() {
        // One that was here before keeps the verdict of then.
        return Ok(Judged { verdict: previous.map_or_else(|| gone(None), |stored| stored.verdict), flipped: false });
    }
    if subject.state != device::State::Managed {
        return match previous {
            Some(mut stored) => {
                if stored.verdict.reevaluate_at.take().is_some() {
                    store::compliance::claim_verdict(tx, device, &stored.verdict.clone(), Some(&stored), now)?;
                }
                Ok(Judged { verdict: stored.verdict, flipped: false })
            }
            None => Ok(Judged { verdict: gone(None), flipped: false }),
        };
    }
    let known = facts::list_for_device(tx.conn(), device)?;
    let policies = store::compliance::list_policies(tx.conn(), device)?;
    let enforced = enforced(tx, device, subject.platform, &policies)?;
    let verdict = evaluate(&Input {
        platform: subject.platform,
        os_version: subject.os_version.as_deref(),
        os_edition: subject.os_edition.as_deref(),
        facts: &known,
        enforced: &enforced,
        policies: &policies,
        person: subject.person,
        last_seen_at: seen_at.map_or(subject.last_seen_at, |seen_at| seen_at.max(subject.last_seen_at)),
        cut_off: store::compliance::is_cut_off(tx.conn(), device, now)?,
        previous: previous.as_ref().map(|stored| &stored.verdict),
        rules,
        catalogue: catalogue(),
        now,
    });
    let initiator = match &previous {
        Some(stored) if matches!(initiator, Initiator::System | Initiator::Policy) && decided(&stored.verdict, &verdict) => {
            Initiator::Admin
        }
        _ => initiator,
    };
    let why = reason(&verdict, subject.platform);
    put(tx, device, previous.as_ref(), (verdict, &why), rules, initiator, now)
}

/// How far the settings are that the policies enforce: what wins among them, and what the device is known to have of it.
fn enforced(tx: &mut Tx<'_>, device: &DeviceId, platform: device::Platform, policies: &[Policy]) -> store::Result<Enforced> {
    let documents: Vec<(ProfileId, Document)> = policies
        .iter()
        .map(|policy| {
            let document = Document { compliance: Some(policy.content.clone()), ..Document::default() };
            (ProfileId::from_store(policy.id.clone()), document)
        })
        .collect();
    let candidates: Vec<Candidate<'_>> =
        documents.iter().map(|(profile, document)| Candidate { profile, kind: Kind::Compliance, document }).collect();
    let winners = desired::effective(&candidates, desired::Target::Of(platform), catalogue()).winners;
    if winners.is_empty() {
        return Ok(Enforced::new());
    }
    let details = desired_items::list_enforced(tx.conn(), device)?;
    let since = |key: &String, winner: &Winner| {
        let record = details.iter().find(|(profile, _)| *profile == winner.profile).and_then(|(_, detail)| detail.records.get(key))?;
        let settled = match record.state {
            desired::State::Verified | desired::State::Failed | desired::State::NotApplicable => record.value_hash == winner.value_hash,
            desired::State::Assigned
            | desired::State::Pending
            | desired::State::Sent
            | desired::State::Delivered
            | desired::State::Conflict
            | desired::State::Removing => false,
        };
        settled.then_some(record.at)
    };
    let of_setting = |(key, winner): (String, Winner)| match &winner.content {
        Content::Setting { id, .. } => Some((id.clone(), since(&key, &winner))),
        Content::Custom(_) | Content::Payload(_) | Content::Profile(_) | Content::Declarations(_) => None,
    };
    Ok(winners.into_iter().filter_map(of_setting).collect())
}

/// Whether an administrator's decision lies between the two: other policies, or a user who was disabled or enabled.
fn decided(before: &Verdict, after: &Verdict) -> bool {
    let policies = |verdict: &Verdict| verdict.policies.iter().map(|policy| (policy.policy.clone(), policy.version)).collect::<Vec<_>>();
    let user = |verdict: &Verdict| {
        let mut settings = verdict.policies.iter().filter(|policy| policy.policy == BUILT_IN).flat_map(|policy| &policy.settings);
        settings.find(|setting| setting.rule == "userExists").map(|setting| setting.status)
    };
    policies(before) != policies(after) || user(before) != user(after)
}

/// The last verdict of a device that leaves: not compliant, and never judged again.
///
/// # Errors
/// As [`reevaluate_in`].
pub fn retire_in(tx: &mut Tx<'_>, device: &DeviceId, rules: Rules, initiator: Initiator, now: Time) -> store::Result<Judged> {
    let previous = store::compliance::find_verdict(tx.conn(), device)?;
    let verdict = gone(previous.as_ref().map(|stored| &stored.verdict));
    put(tx, device, previous.as_ref(), (verdict, "The device is not managed any more."), rules, initiator, now)
}

fn gone(previous: Option<&Verdict>) -> Verdict {
    Verdict {
        state: State::Noncompliant,
        compliant: false,
        grace_expires_at: None,
        reevaluate_at: None,
        held: None,
        policies: previous.map(|verdict| verdict.policies.clone()).unwrap_or_default(),
    }
}

/// Stores a verdict; `why`: what receivers are told when it flips what they see.
fn put(
    tx: &mut Tx<'_>,
    device: &DeviceId,
    previous: Option<&store::compliance::Stored>,
    (verdict, why): (Verdict, &str),
    rules: Rules,
    initiator: Initiator,
    now: Time,
) -> store::Result<Judged> {
    if previous.is_some_and(|stored| stored.verdict == verdict) {
        return Ok(Judged { verdict, flipped: false });
    }
    store::compliance::claim_verdict(tx, device, &verdict, previous, now)?;
    // Consumers that have heard nothing believe what the organisation's default says.
    let was = previous.map_or(!rules.secure_by_default, |stored| stored.verdict.compliant);
    let flipped = was != verdict.compliant;
    if flipped {
        let change = ComplianceChange {
            device: device.clone(),
            previous: was,
            current: verdict.compliant,
            initiator,
            reason: why.to_owned(),
            txn: uuid::Uuid::now_v7().to_string(),
        };
        caep::enqueue_compliance_change(tx, &change, now)?;
    }
    let state = |verdict: &Verdict| json!({"state": verdict.state, "compliant": verdict.compliant, "failed": verdict.failed_rules()});
    if flipped || previous.is_none_or(|stored| stored.verdict.state != verdict.state) {
        let mut entry = Entry::new("system", "compliance.change", format!("device:{device}"), initiator.as_str()).after(&state(&verdict));
        if let Some(stored) = previous {
            entry = entry.before(&state(&stored.verdict));
        }
        audit::append(tx, &entry, now)?;
    }
    Ok(Judged { verdict, flipped })
}

/// Why, for administrators, in English.
fn reason(verdict: &Verdict, platform: device::Platform) -> String {
    if verdict.compliant {
        let text = match verdict.state {
            State::Compliant | State::ConfigManager => "All compliance policies are met.",
            State::InGracePeriod => "A compliance rule is not met, and the time to meet it has not ended.",
            State::Error => "A compliance rule cannot be judged; what was in force before holds.",
            State::Unknown | State::Noncompliant | State::Conflict => "The device has not reported yet.",
        };
        return text.into();
    }
    let mut reasons: Vec<&str> = verdict.failed_rules().into_iter().map(|rule| reason_of(rule, platform)).collect();
    reasons.truncate(10);
    if reasons.is_empty() { "The device has not reported yet.".into() } else { reasons.join(" ") }
}

fn reason_of(rule: &str, platform: device::Platform) -> &str {
    match rule {
        "isActive" => "The device has not checked in, or not reported everything, for too long.",
        "hasPolicy" => "No compliance policy applies to the device.",
        "userExists" => "The device's user is disabled or gone.",
        "hasIdentity" => "The device's identity certificate is revoked or on hold: it cannot come any more.",
        _ => catalogue().rule(platform.as_str(), rule).map_or("A compliance rule is not met.", |row| row.reason_admin.as_str()),
    }
}

/// Judges a device now.
///
/// # Errors
/// As [`reevaluate_in`].
pub async fn reevaluate(app: &App, device: &DeviceId, initiator: Initiator) -> super::Result<Verdict> {
    let (device, rules, now) = (device.clone(), rules(&app.config), app.now());
    let judged = app.store.write(move |tx| reevaluate_in(tx, &device, rules, initiator, now)).await?;
    if judged.flipped {
        app.outbox.notify_waiters();
    }
    Ok(judged.verdict)
}

/// Judges the devices whose time has come: graces that end, errors that are held no longer, devices that fell silent, policies that came
/// or went. Returns how many were judged.
///
/// # Errors
/// [`super::Error::Unavailable`].
pub async fn run_due(app: &App) -> super::Result<usize> {
    run_due_among(app, None).await
}

/// The same for the devices of a user alone: so that what was decided about the user holds at once, and not when the job comes round.
///
/// # Errors
/// [`super::Error::Unavailable`].
pub async fn run_due_of_user(app: &App, user: &UserId) -> super::Result<usize> {
    run_due_among(app, Some(user)).await
}

async fn run_due_among(app: &App, user: Option<&UserId>) -> super::Result<usize> {
    let rules = rules(&app.config);
    let mut judged = 0;
    loop {
        let (now, of) = (app.now(), user.cloned());
        let due = app.store.read(move |conn| match &of {
            None => store::compliance::list_due(conn, now, BATCH),
            Some(user) => store::compliance::list_due_of_user(conn, user, now, BATCH),
        });
        let due = due.await?;
        if due.is_empty() {
            return Ok(judged);
        }
        judged += due.len();
        judge_page(app, due, rules, Initiator::System, now).await?;
    }
}

/// Judges some devices now, in one transaction; one that cannot be judged is tried again in an hour.
///
/// # Errors
/// [`super::Error::Unavailable`].
pub(in crate::service) async fn judge(app: &App, devices: Vec<DeviceId>, initiator: Initiator) -> super::Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    judge_page(app, devices, rules(&app.config), initiator, app.now()).await
}

async fn judge_page(app: &App, devices: Vec<DeviceId>, rules: Rules, initiator: Initiator, now: Time) -> super::Result<()> {
    match judge_all(app, devices.clone(), rules, initiator, now).await {
        Ok(()) => Ok(()),
        Err(error @ (store::Error::Unavailable(_) | store::Error::Busy)) => Err(error.into()),
        Err(_) => judge_each(app, devices, rules, initiator, now).await,
    }
}

/// Judges devices in one transaction.
async fn judge_all(app: &App, due: Vec<DeviceId>, rules: Rules, initiator: Initiator, now: Time) -> store::Result<()> {
    let flipped = app
        .store
        .write(move |tx| {
            let mut flipped = false;
            store::compliance::lock_verdicts(tx, &due)?;
            for device in &due {
                flipped |= reevaluate_in(tx, device, rules, initiator, now)?.flipped;
            }
            Ok(flipped)
        })
        .await?;
    if flipped {
        app.outbox.notify_waiters();
    }
    Ok(())
}

/// Judges devices one by one, so that one that cannot be judged does not keep the others from it; it is tried again in an hour.
async fn judge_each(app: &App, due: Vec<DeviceId>, rules: Rules, initiator: Initiator, now: Time) -> super::Result<()> {
    for device in due {
        match judge_all(app, vec![device.clone()], rules, initiator, now).await {
            Ok(()) => {}
            Err(error @ (store::Error::Unavailable(_) | store::Error::Busy)) => return Err(error.into()),
            Err(error) => {
                tracing::error!(%device, %error, "a device cannot be judged");
                metrics::counter!("muster_compliance_failed_total").increment(1);
                app.store.write(move |tx| store::compliance::update_due(tx, &device, now.plus(RETRY))).await?;
            }
        }
    }
    Ok(())
}

/// Lets all devices be judged anew when the organisation's settings are not those of the stored verdicts. Called at the start.
///
/// # Errors
/// [`super::Error::Unavailable`].
pub async fn settings_in_force(app: &App) -> super::Result<bool> {
    let rules = rules(&app.config);
    let text = format!("secure_by_default={} validity_days={}", rules.secure_by_default, rules.validity_days);
    let now = app.now();
    let changed = app
        .store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            let before = meta::find_value(tx.conn(), SETTINGS_KEY)?;
            if before.as_deref() == Some(text.as_str()) {
                return Ok(false);
            }
            meta::upsert_value(tx, SETTINGS_KEY, &text)?;
            store::compliance::update_all_due(tx, now)?;
            let mut entry = Entry::new("system", "compliance.settings", "tenant:self", "start").after(&json!(text));
            if let Some(before) = before {
                entry = entry.before(&json!(before));
            }
            audit::append(tx, &entry, now)?;
            Ok(true)
        })
        .await?;
    Ok(changed)
}
