//! The evaluation.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::state::{ERROR_HOLD, PENDING_HOLD, PolicyResult, SettingResult, State, Status, Verdict};
use crate::catalogue::{Catalogue, FactRow, Judgement, Reading, RuleRow};
use crate::clock::{DAY, HOUR, Time};
use crate::domain::device::Platform;
use crate::domain::fact::{Fact, Facts};
use crate::domain::profile::Compliance;

/// The rule of the built-in policy that a device fails whose identity was revoked.
pub(super) const CUT_OFF: &str = "hasIdentity";

/// The id of the policy that every device has.
pub const BUILT_IN: &str = "built-in";

/// What the organisation decided for all devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A device without any applicable policy is not compliant.
    pub secure_by_default: bool,
    /// Days after the last check-in when a device stops being compliant.
    pub validity_days: u32,
}

/// A policy that is assigned to the device or to its user.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its profile.
    pub id: String,
    /// Its version.
    pub version: i64,
    /// For which devices.
    pub platform: Platform,
    /// Its rules.
    pub content: Compliance,
}

/// Whose device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Person {
    /// Nobody's: the device enrolled by itself.
    Nobody,
    /// Somebody who may sign in.
    Present,
    /// Somebody whose account is disabled or gone.
    Missing,
}

/// By setting that policies enforce: since when the device is known to hold the wanted value, or to refuse it; `None`: it is on its way.
pub type Enforced = BTreeMap<String, Option<Time>>;

/// All that a verdict depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The device's platform.
    pub platform: Platform,
    /// Its system's version, when it is known: a fact that it does not have is never asked for.
    pub os_version: Option<&'a str>,
    /// What is known of its edition.
    pub os_edition: Option<&'a str>,
    /// What it reported.
    pub facts: &'a Facts,
    /// How far the settings are that policies enforce.
    pub enforced: &'a Enforced,
    /// What it is judged by.
    pub policies: &'a [Policy],
    /// Whose it is.
    pub person: Person,
    /// When it was last heard of.
    pub last_seen_at: Time,
    /// Its identity was revoked or put on hold: whatever it is like by now, nobody hears of it.
    pub cut_off: bool,
    /// The verdict before.
    pub previous: Option<&'a Verdict>,
    /// The organisation's settings.
    pub rules: Rules,
    /// The rows.
    pub catalogue: &'a Catalogue,
    /// The present moment.
    pub now: Time,
}

/// Judges a device.
///
/// A definite failure outside its grace decides at once; else an error leaves the collapsed verdict as it was when the error began, for
/// seven days, and then fails; else a failure inside its grace; else the worst of the policies. The built-in policy can only fail a device:
/// it makes one compliant only where no other policy applies.
#[must_use]
pub fn evaluate(input: &Input<'_>) -> Verdict {
    let judged: Vec<PolicyResult> = input.policies.iter().map(|policy| judge(policy, input)).collect();
    let now = input.now;
    // Whoever decides by what a device said long ago judges a device that is not there.
    let settings = || judged.iter().flat_map(|policy| &policy.settings);
    let oldest = settings().filter(|s| s.pending_since.is_none()).filter_map(|s| s.observed_at).min();
    let pending: Vec<Time> = settings().filter_map(|s| s.pending_since).map(|since| since.plus(PENDING_HOLD)).collect();
    let active_until = last_active(oldest, input);
    let mut policies = vec![built_in(active_until, oldest, input)];
    policies.extend(judged);

    let errors: Vec<Time> = policies.iter().flat_map(|p| &p.settings).filter_map(|s| s.error_since).collect();
    let oldest_error = errors.iter().min().copied();
    let hold_ends = oldest_error.map(|since| since.plus(ERROR_HOLD));
    let graces: Vec<Time> = policies.iter().filter_map(|p| p.grace_expires_at).collect();
    let grace_ends = graces.iter().min().copied();
    let failed = policies.iter().any(|p| p.failing_since.is_some() && p.grace_expires_at.is_none() && p.fails_now());

    let before = input.previous.map(|verdict| verdict.compliant);
    // Nothing is known of a device that was never judged: the organisation's default speaks for it.
    let default = !input.rules.secure_by_default;
    let held = oldest_error.map(|_| input.previous.and_then(|v| v.held).or(before).unwrap_or(default));
    let others = policies.iter().skip(1).map(|policy| policy.status).filter(|status| *status != Status::NotApplicable);
    let merged = if others.clone().next().is_some() { Status::worst(others) } else { Status::Compliant };

    let (state, compliant) = if failed {
        (State::Noncompliant, false)
    } else if let Some(ends) = hold_ends {
        if now < ends { (State::Error, held.unwrap_or(default)) } else { (State::Noncompliant, false) }
    } else if grace_ends.is_some() {
        (State::InGracePeriod, true)
    } else {
        match merged {
            Status::Compliant | Status::Remediated | Status::NotApplicable => (State::Compliant, true),
            Status::Unknown | Status::NotAssigned => (State::Unknown, before.unwrap_or(default)),
            Status::NonCompliant => (State::Noncompliant, false),
            Status::Error => (State::Error, before.unwrap_or(default)),
            Status::Conflict => (State::Conflict, false),
        }
    };
    let reevaluate_at = graces.into_iter().chain(hold_ends).chain(pending).chain([active_until.plus(1)]).filter(|at| *at > now).min();
    Verdict { state, compliant, grace_expires_at: grace_ends, reevaluate_at, held, policies }
}

impl PolicyResult {
    fn fails_now(&self) -> bool {
        self.settings.iter().any(|setting| setting.status == Status::NonCompliant)
    }
}

/// The last moment at which a device that stays silent counts as active: it was heard of, and so was every fact that decided a rule.
fn last_active(oldest: Option<Time>, input: &Input<'_>) -> Time {
    let said = oldest.map_or(input.last_seen_at, |oldest| oldest.min(input.last_seen_at));
    said.plus(i64::from(input.rules.validity_days).saturating_mul(DAY))
}

fn judge(policy: &Policy, input: &Input<'_>) -> PolicyResult {
    let previous = input.previous.and_then(|verdict| verdict.policies.iter().find(|p| p.policy == policy.id));
    if policy.platform != input.platform {
        return PolicyResult {
            policy: policy.id.clone(),
            version: policy.version,
            status: Status::NotApplicable,
            failing_since: None,
            grace_expires_at: None,
            settings: Vec::new(),
        };
    }
    let settings: Vec<SettingResult> =
        policy.content.rules.iter().filter_map(|(id, wanted)| setting(id, wanted, previous, input)).collect();
    let status = if settings.is_empty() { Status::Compliant } else { Status::worst(settings.iter().map(|s| s.status)) };
    with_grace(
        PolicyResult { policy: policy.id.clone(), version: policy.version, status, failing_since: None, grace_expires_at: None, settings },
        policy.content.grace_hours,
        previous,
        input.now,
    )
}

/// The clock of a failure starts with the first failing evaluation and goes on until the policy is followed again: neither an edit of the
/// policy nor a reading that cannot be judged or is missing starts it anew.
fn with_grace(mut result: PolicyResult, grace_hours: u32, previous: Option<&PolicyResult>, now: Time) -> PolicyResult {
    let failing = result.fails_now();
    let since = previous.and_then(|p| p.failing_since);
    let followed = |setting: &SettingResult| matches!(setting.status, Status::Compliant | Status::Remediated | Status::NotApplicable);
    result.failing_since = if failing { since.or(Some(now)) } else { since.filter(|_| !result.settings.iter().all(followed)) };
    let ends = result.failing_since.map(|since| since.plus(i64::from(grace_hours).saturating_mul(HOUR)));
    result.grace_expires_at = ends.filter(|ends| failing && *ends > now);
    result
}

fn setting(id: &str, wanted: &Value, previous: Option<&PolicyResult>, input: &Input<'_>) -> Option<SettingResult> {
    let blank = |status| SettingResult {
        rule: id.to_owned(),
        status,
        expected: wanted.clone(),
        fact: None,
        got: None,
        code: None,
        source: None,
        observed_at: None,
        self_reported: false,
        error_since: None,
        pending_since: None,
    };
    let before = previous.and_then(|p| p.settings.iter().find(|s| s.rule == id));
    let mut result = match input.catalogue.rule(input.platform.as_str(), id) {
        // A rule that this version of the program does not have cannot be judged: that is an error, never silence.
        None => blank(Status::Error),
        Some(rule) => {
            let (judgement, check) =
                rule.judge(wanted, |name| if lacks(name, input) { Reading::Status(404) } else { reading(input.facts.get(name)) });
            let pending_since = pending(rule, judgement, before, input);
            if pending_since.is_some_and(|since| input.now < since.plus(PENDING_HOLD)) {
                let kept = before.cloned().unwrap_or_else(|| blank(Status::Unknown));
                return Some(SettingResult { expected: wanted.clone(), pending_since, ..kept });
            }
            let status = match judgement {
                Judgement::NotEvaluated => return None,
                Judgement::NotApplicable => Status::NotApplicable,
                Judgement::Holds => Status::Compliant,
                Judgement::Unknown => Status::Unknown,
                Judgement::Fails => Status::NonCompliant,
                Judgement::Error => Status::Error,
            };
            let lacking = check.is_some_and(|check| lacks(&check.fact, input));
            let fact = check.filter(|_| !lacking).and_then(|check| input.facts.get(&check.fact));
            SettingResult {
                fact: check.map(|check| check.fact.clone()),
                got: fact.and_then(|fact| fact.value.clone()),
                code: if lacking { Some(404) } else { fact.map(|fact| fact.status).filter(|status| *status != 200) },
                source: fact.map(|fact| fact.source.clone()),
                observed_at: fact.map(|fact| fact.observed_at),
                self_reported: rule.self_reported,
                pending_since,
                ..blank(status)
            }
        }
    };
    if result.status == Status::Error {
        result.error_since = before.and_then(|s| s.error_since).or(Some(input.now));
    }
    Some(result)
}

/// Whether the device's build or edition has no such thing: it is never asked, and says nothing, as if it had answered 404.
fn lacks(fact: &str, input: &Input<'_>) -> bool {
    let row = input.catalogue.fact(fact);
    let has = |row: &FactRow| input.os_version.is_none_or(|v| row.supports(v)) && input.os_edition.is_none_or(|e| row.has_edition(e));
    row.is_some_and(|row| !has(row))
}

/// Since when a rule waits for its setting, which is on its way to the device or arrived after the fact was read: until then the rule keeps
/// its last result. A device that never takes the setting is judged by what it says after [`PENDING_HOLD`].
fn pending(rule: &RuleRow, judgement: Judgement, before: Option<&SettingResult>, input: &Input<'_>) -> Option<Time> {
    if judgement == Judgement::NotEvaluated {
        return None;
    }
    let since = input.enforced.get(&rule.enforce.as_ref()?.setting)?;
    let read = |name: &str| input.facts.get(name).map(|fact| fact.observed_at);
    let fresh = |since: Time| rule.check.iter().all(|check| read(&check.fact).is_none_or(|read| read >= since));
    // An older reading that agrees with what the device has taken needs no other.
    let settled = since.is_some_and(|since| judgement == Judgement::Holds || fresh(since));
    (!settled).then(|| before.and_then(|before| before.pending_since).unwrap_or(input.now))
}

fn reading(fact: Option<&Fact>) -> Reading<'_> {
    match fact {
        None => Reading::Unknown,
        Some(fact) => match (&fact.value, fact.status) {
            (Some(value), 200) => Reading::Value(value),
            (None, 200) => Reading::Value(""),
            // The device answered, and left this out.
            (None, 204) => Reading::Unknown,
            (_, status) => Reading::Status(u16::try_from(status).unwrap_or(500)),
        },
    }
}

fn built_in(active_until: Time, oldest: Option<Time>, input: &Input<'_>) -> PolicyResult {
    let row = |rule: &str, holds: Option<bool>, expected: Value, got: Option<String>, observed_at: Option<Time>| SettingResult {
        rule: rule.to_owned(),
        status: match holds {
            None => Status::NotApplicable,
            Some(true) => Status::Compliant,
            Some(false) => Status::NonCompliant,
        },
        expected,
        fact: None,
        got,
        code: None,
        source: Some("server".into()),
        observed_at,
        self_reported: false,
        error_since: None,
        pending_since: None,
    };
    let heard = oldest.map_or(input.last_seen_at, |oldest| oldest.min(input.last_seen_at));
    let applicable = input.policies.iter().filter(|policy| policy.platform == input.platform).count();
    let person = match input.person {
        Person::Nobody => None,
        Person::Present => Some(true),
        Person::Missing => Some(false),
    };
    let mut settings = vec![
        row(
            "isActive",
            Some(input.now <= active_until),
            json!(format!("a check-in with all facts within {} days", input.rules.validity_days)),
            Some(heard.to_string()),
            Some(heard),
        ),
        row(
            "hasPolicy",
            Some(applicable > 0 || !input.rules.secure_by_default),
            json!(if input.rules.secure_by_default { "a policy for this platform" } else { "no policy needed" }),
            Some(format!("{applicable} applicable of {} assigned", input.policies.len())),
            None,
        ),
        row("userExists", person, json!("an enabled user"), None, None),
    ];
    if input.cut_off {
        settings.push(row(CUT_OFF, Some(false), json!("an identity certificate that is neither revoked nor on hold"), None, None));
    }
    let status = Status::worst(settings.iter().map(|s| s.status));
    let previous = input.previous.and_then(|verdict| verdict.policies.iter().find(|p| p.policy == BUILT_IN));
    let result = PolicyResult { policy: BUILT_IN.into(), version: 1, status, failing_since: None, grace_expires_at: None, settings };
    with_grace(result, 0, previous, input.now)
}

#[cfg(test)]
mod tests;
