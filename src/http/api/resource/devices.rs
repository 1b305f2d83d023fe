//! `/api/devices`: what is in place on a device, what is missing, and why.

use serde_json::Value;

use crate::domain::access::{Action, Need, Scope};
use crate::domain::compliance::{State, Status};
use crate::domain::desired::{self, Lack, Note, Record};
use crate::domain::device::{Device, Ownership, Platform};
use crate::domain::profile::Kind;
use crate::domain::readiness::{Method, Missing, Report, Standing, is_passwordless};
use crate::http::api::problem::Result;
use crate::http::api::route::{Call, Reply, routes};
use crate::http::api::schema::{At, Nothing, shown};
use crate::service::device::managed;
use crate::service::{Error, device, directory};

const READ: Need =
    Need { scopes: &[Scope::ManagedDevicesReadAll, Scope::ManagedDevicesReadWriteAll], action: Some(Action::ManagedDevicesRead) };

routes! {
    /// Shows whether the user of a device can sign in without a password there: each method, and what is missing for it. The id is that of
    /// the device, or the one by which Entra ID knows it.
    Get "devices/{id}/readiness", READ, Nothing, Nothing => 200 Readiness, [], show_readiness;
    /// Explains why a device has what it has and is judged as it is: rule by rule, profile by profile, and what it reported.
    Get "devices/{id}/explanation", READ, Nothing, Nothing => 200 DeviceExplanation, [], explain;
}

shown! {
    /// Why a device has what it has and is judged as it is.
    DeviceExplanation {
        /// The device.
        device: String,
        /// Its name.
        name: String,
        /// Its platform.
        platform: Platform,
        /// Where it is in its life: enrolling, managed, retiring or retired.
        state: String,
        /// Whose it is.
        ownership: Ownership,
        /// When it was last heard of.
        last_seen: At,
        /// How it is judged.
        compliance: State,
        /// The verdict as others are told; null when it was never judged.
        compliant: Option<bool>,
        /// Until when failures are forgiven.
        grace_until: Option<At>,
        /// When the passing of time alone can change the verdict.
        judged_again: Option<At>,
        /// Until when it can show itself; null when no identity of it is in force, so that it is refused.
        identity_until: Option<At>,
        /// Whether one of its identities is on hold.
        identity_held: bool,
        /// How it stands with the recovery key of a Mac that a profile has it entrust to the server.
        recovery_key: Option<String>,
        /// Where it is, in words: that it is to leave, that it is lost, that it put off what it was told.
        notes: Vec<String>,
        /// Other devices that say they are the same hardware.
        same_hardware_as: Vec<String>,
        /// The serial number that it says it has, when that is another one than it enrolled with.
        says_serial_number: Option<String>,
        /// Why it is judged as it is.
        reasons: Vec<Reason>,
        /// Its profiles, and how far each has got.
        profiles: Vec<ProfileState>,
        /// What it reported.
        facts: Vec<DeviceFact>,
    }
}

shown! {
    /// What one rule says of a device.
    Reason {
        /// The policy's name.
        policy: String,
        /// Its id, or built-in.
        policy_id: String,
        /// The rule.
        rule: String,
        /// Its name for people.
        title: String,
        /// What it says.
        status: Status,
        /// What the policy asks for.
        expected: Value,
        /// What the device reported.
        got: Option<String>,
        /// The status of its protocol that it reported instead of a value.
        code: Option<i64>,
        /// Where the report comes from.
        source: Option<String>,
        /// When the device said so.
        observed: Option<At>,
        /// Whether it says that of itself, without attestation by hardware.
        self_reported: bool,
        /// What is to be done when it fails.
        advice: Option<String>,
    }
}

shown! {
    /// How far a profile has got on a device.
    ProfileState {
        /// Its id.
        id: String,
        /// Its name.
        profile: String,
        /// What it does.
        kind: Kind,
        /// The version that the device should have; null when it is to be taken away.
        wanted: Option<i64>,
        /// The version that it was given in full.
        given: Option<i64>,
        /// How far.
        state: desired::State,
        /// When the server looks at it again.
        due: Option<At>,
        /// Setting by setting.
        settings: Vec<SettingState>,
    }
}

shown! {
    /// How far one thing has got that a profile wants.
    SettingState {
        /// Which.
        setting: String,
        /// How far.
        state: desired::State,
        /// When it last moved.
        at: At,
        /// The last status of the device's protocol.
        status: Option<i64>,
        /// The device's own error beside it.
        original_error: Option<String>,
        /// What the device lacks for it.
        lacks: Option<Lack>,
        /// What it waits for.
        note: Option<Note>,
        /// How often it has failed since it was wanted.
        tries: u32,
        /// The id of the profile whose value the device gets instead.
        winner: Option<String>,
        /// How often the device held something else after it had been right.
        drifted: u32,
    }
}

shown! {
    /// Something that a device reported.
    DeviceFact {
        /// Which.
        fact: String,
        /// Its value.
        value: Option<String>,
        /// How it answered, as in HTTP: 200 with a value, 204 when its answer left it out, 404 when it has no such thing.
        status: i64,
        /// When it was reported.
        observed: At,
    }
}

async fn explain(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<DeviceExplanation>> {
    let found = named(&call).await?;
    let known = device::show(call.app, &found.id).await?;
    let overview = &known.overview;
    let shown = DeviceExplanation {
        device: found.id.to_string(),
        platform: found.platform,
        state: overview.standing().to_owned(),
        ownership: known.ownership,
        last_seen: overview.last_seen_at.into(),
        compliance: overview.compliance,
        compliant: overview.compliant,
        grace_until: known.grace_expires_at.map(Into::into),
        judged_again: known.reevaluate_at.map(Into::into),
        identity_until: known.identity_until.map(Into::into),
        identity_held: known.identity_held,
        recovery_key: known.recovery_key.map(str::to_owned),
        same_hardware_as: known.same_hardware_as.iter().map(ToString::to_string).collect(),
        name: found.display_name,
        notes: known.notes,
        says_serial_number: known.says_serial_number,
        reasons: known.reasons.into_iter().map(reason).collect(),
        profiles: known.profiles.into_iter().map(profile).collect(),
        facts: known
            .facts
            .into_iter()
            .map(|fact| DeviceFact { fact: fact.name, value: fact.value, status: fact.status, observed: fact.observed_at.into() })
            .collect(),
    };
    Ok(shown.into())
}

fn reason(reason: device::Reason) -> Reason {
    Reason {
        policy: reason.policy_name,
        policy_id: reason.policy,
        rule: reason.rule,
        title: reason.title,
        status: reason.status,
        expected: reason.expected,
        got: reason.got,
        code: reason.code,
        source: reason.source,
        observed: reason.observed_at.map(Into::into),
        self_reported: reason.self_reported,
        advice: reason.advice,
    }
}

fn profile(profile: device::ProfileState) -> ProfileState {
    let setting = |(setting, record): (String, Record)| SettingState {
        setting,
        state: record.state,
        at: record.at.into(),
        status: record.status,
        original_error: record.original_error,
        lacks: record.lacks,
        note: record.note,
        tries: record.tries,
        winner: record.winner.map(|id| id.to_string()),
        drifted: record.drift.map_or(0, |drift| drift.count),
    };
    ProfileState {
        id: profile.id.to_string(),
        profile: profile.name,
        kind: profile.kind,
        wanted: profile.desired_version,
        given: profile.applied_version,
        state: profile.state,
        due: profile.due_at.map(Into::into),
        settings: profile.records.into_iter().map(setting).collect(),
    }
}

shown! {
    /// Whether the user of a device can sign in without a password there.
    Readiness {
        /// The device.
        device: String,
        /// Its name.
        name: String,
        /// Its platform.
        platform: Platform,
        /// Whether a method that nobody can phish is registered or ready, so that its user can do without a password.
        passwordless: bool,
        /// The methods.
        methods: Vec<MethodReadiness>,
    }
}

shown! {
    /// How a method to sign in stands.
    MethodReadiness {
        /// Which.
        method: Method,
        /// How.
        standing: Standing,
        /// What is missing.
        missing: Vec<Missing>,
        /// The names of the profiles that turn it on for the device.
        profiles: Vec<String>,
    }
}

/// The device of that id, of the directory or of those that are managed.
async fn named(call: &Call<'_>) -> Result<Device> {
    match directory::find_device(call.app, call.key(0)?, &call.reach).await {
        Err(Error::NotFound(_)) => Ok(managed::find_one(call.app, call.key(0)?, &call.reach).await?.device),
        found => Ok(found?.device),
    }
}

async fn show_readiness(call: Call<'_>, _: Nothing, _: Nothing) -> Result<Reply<Readiness>> {
    let found = named(&call).await?;
    let report = device::readiness(call.app, &found.id).await?;
    let passwordless = is_passwordless(&report);
    let show = |one: Report| MethodReadiness { method: one.method, standing: one.standing, missing: one.missing, profiles: one.profiles };
    let methods = report.into_iter().map(show).collect();
    Ok(Readiness { device: found.id.to_string(), name: found.display_name, platform: found.platform, passwordless, methods }.into())
}
