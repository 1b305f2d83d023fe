//! What is known of devices, and why they are judged as they are.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::notes;
use crate::app::App;
use crate::catalogue::catalogue;
use crate::clock::Time;
use crate::config::Config;
use crate::domain::apple::escrow::{Kind as Secret, wants_recovery_key};
use crate::domain::certificate::CertificateStatus;
use crate::domain::compliance::{BUILT_IN, SettingResult, State, Status};
use crate::domain::desired::{self, Record};
use crate::domain::device::{self, Device, Ownership, Platform};
use crate::domain::fact::{Fact, Facts};
use crate::domain::inventory;
use crate::domain::profile::Kind;
use crate::ids::{DeviceId, ProfileId};
use crate::secret::Sealer;
use crate::service::{Error, LONGEST_LIST, Result, restriction};
use crate::store::apple::{management, secrets};
use crate::store::certificates::Live;
use crate::store::{self, Conn, certificates, compliance, desired_items, devices, enrollments, facts, profiles};
use crate::wire::apple::enroll::Mode;

/// The fact by which an Apple device says its serial number.
const APPLE_SERIAL: &str = "apple.serial-number";
/// The name of the policy with [`BUILT_IN`] rules.
const BUILT_IN_NAME: &str = "Built-in device policy";

/// What a device is called that is to be managed and whose enrolment is not finished.
pub const ENROLLING: &str = "enrolling";

/// A device with its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// The device.
    #[serde(flatten)]
    pub device: Device,
    /// Its compliance state.
    pub compliance: State,
    /// The verdict as consumers see it; `None`: never judged.
    pub compliant: Option<bool>,
    /// When it was last heard of.
    pub last_seen_at: Time,
    /// Its enrolment was begun and is not finished.
    pub enrolling: bool,
}

impl Overview {
    /// Where the device is in its life, in a word for people.
    #[must_use]
    pub fn standing(&self) -> &'static str {
        if self.enrolling { ENROLLING } else { self.device.state.as_str() }
    }
}

/// A page of devices, after `after`.
///
/// # Errors
/// [`crate::service::Error::Unavailable`].
pub async fn list(app: &App, filter: devices::Filter, after: &str, limit: i64) -> Result<Vec<Overview>> {
    let after = after.to_owned();
    let page = app
        .store
        .read(move |conn| {
            let found = devices::list_devices(conn, &filter, &after, limit.clamp(1, LONGEST_LIST))?;
            found.into_iter().map(|device| overview(conn, device)).collect::<store::Result<Vec<_>>>()
        })
        .await?;
    Ok(page)
}

fn overview(conn: &mut Conn, device: Device) -> store::Result<Overview> {
    let stored = compliance::find_verdict(conn, &device.id)?;
    let subject = compliance::load_subject(conn, &device.id)?;
    Ok(Overview {
        enrolling: subject.enrolling && device.state == device::State::Managed,
        device,
        compliance: stored.as_ref().map_or(State::Unknown, |s| s.verdict.state),
        compliant: stored.map(|s| s.verdict.compliant),
        last_seen_at: subject.last_seen_at,
    })
}

/// How far one profile has got on a device.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileState {
    /// The profile.
    pub id: ProfileId,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// The version that the device should have.
    pub desired_version: Option<i64>,
    /// The version that it was given in full.
    pub applied_version: Option<i64>,
    /// How far.
    pub state: desired::State,
    /// When the server looks at it again.
    pub due_at: Option<Time>,
    /// Setting by setting.
    pub records: std::collections::BTreeMap<String, Record>,
}

/// All that is known of a device.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The device.
    #[serde(flatten)]
    pub overview: Overview,
    /// Whose it is.
    pub ownership: Ownership,
    /// The Managed Apple Account by which it enrolled.
    pub managed_apple_account: Option<String>,
    /// Other devices that say they are the same hardware and are not retired.
    pub same_hardware_as: Vec<DeviceId>,
    /// The serial number that it says it has, when that is another one than it enrolled with.
    pub says_serial_number: Option<String>,
    /// Until when it can show itself; `None` when no identity of it is in force, so that it is refused.
    pub identity_until: Option<Time>,
    /// Whether one of its identities is on hold.
    pub identity_held: bool,
    /// How it stands with the recovery key of FileVault that a profile of the Mac has it entrust to the server; `None`: there is no such profile.
    pub recovery_key: Option<&'static str>,
    /// Where it is, in words: that it is to leave or has left and how, that it is lost, that it put off what it was told.
    pub notes: Vec<String>,
    /// Until when failures are forgiven.
    pub grace_expires_at: Option<Time>,
    /// When the passing of time alone can change the verdict.
    pub reevaluate_at: Option<Time>,
    /// Why it is judged as it is.
    pub reasons: Vec<Reason>,
    /// Its profiles.
    pub profiles: Vec<ProfileState>,
    /// What it reported.
    pub facts: Vec<Fact>,
}

/// What one rule says of a device.
#[derive(Clone, Debug, Serialize)]
pub struct Reason {
    /// The policy's profile, or `built-in`.
    pub policy: String,
    /// The policy's name.
    pub policy_name: String,
    /// The rule.
    pub rule: String,
    /// Its name.
    pub title: String,
    /// What it is.
    pub status: Status,
    /// What the policy asks for.
    pub expected: Value,
    /// What the device reported.
    pub got: Option<String>,
    /// The protocol status that it reported instead of a value.
    pub code: Option<i64>,
    /// Where the report comes from.
    pub source: Option<String>,
    /// When the device said so.
    pub observed_at: Option<Time>,
    /// The device says it of itself, without attestation by hardware.
    pub self_reported: bool,
    /// What its user has to do, when it fails.
    pub advice: Option<String>,
}

/// The device with its profiles, facts and verdict.
///
/// # Errors
/// [`crate::service::Error::NotFound`].
pub async fn show(app: &App, id: &DeviceId) -> Result<Explanation> {
    let (id, config, now, sealer) = (id.clone(), Arc::clone(&app.config), app.now(), app.sealer());
    let explanation = app
        .store
        .read(move |conn| {
            let device = devices::load_device(conn, &id)?;
            let same_hardware = devices::list_same_hardware(conn, device.platform, device.hardware_id.as_deref(), None, 100)?;
            let others = same_hardware.into_iter().filter(|other| other.id != device.id && other.state != device::State::Retired);
            let same_hardware_as = others.map(|other| other.id).collect();
            let identities = Live { device: Some(id.clone()), identity: Some(true), held: true, standing: true, ..Live::default() };
            // The newest is among them: those that renewals replaced end soon.
            let identities = certificates::list_live(conn, &identities, None, now, 100)?;
            let active = identities.iter().filter(|certificate| certificate.status == CertificateStatus::Active);
            let items = desired_items::list_items(conn, &id)?;
            let verdict = compliance::find_verdict(conn, &id)?.map(|stored| stored.verdict);
            let facts = facts::list_for_device(conn, &id)?;
            let says_serial_number =
                facts.get(APPLE_SERIAL).and_then(|fact| fact.value.clone()).filter(|said| device.contradicts_serial(said));
            let mut reasons = Vec::new();
            if matches!(device.state, device::State::Retired | device::State::Retiring) {
                reasons.push(not_managed(device.state));
            }
            let mut names = std::collections::BTreeMap::from([(BUILT_IN.to_owned(), BUILT_IN_NAME.to_owned())]);
            for policy in verdict.iter().flat_map(|verdict| &verdict.policies) {
                if !names.contains_key(&policy.policy) {
                    // Also of a policy that is not for the device any more.
                    let id = ProfileId::parse(&policy.policy);
                    let found = match &id {
                        Some(id) => profiles::find_name(conn, id)?,
                        None => None,
                    };
                    let found = match (found, &id) {
                        (Some(found), _) => found,
                        (None, Some(id)) => {
                            let kept = profiles::find_deleted_name(conn, id)?.unwrap_or_else(|| id.to_string());
                            format!("deleted policy {kept}")
                        }
                        (None, None) => format!("deleted policy {}", policy.policy),
                    };
                    names.insert(policy.policy.clone(), found);
                }
            }
            for policy in verdict.iter().flat_map(|verdict| &verdict.policies) {
                for setting in &policy.settings {
                    let row = catalogue().rule(device.platform.as_str(), &setting.rule);
                    let failed = matches!(setting.status, Status::NonCompliant | Status::Error);
                    reasons.push(Reason {
                        policy: policy.policy.clone(),
                        policy_name: names.get(&policy.policy).cloned().unwrap_or_default(),
                        rule: setting.rule.clone(),
                        title: row.map_or_else(|| built_in_title(&setting.rule).to_owned(), |row| row.title.clone()),
                        status: setting.status,
                        expected: setting.expected.clone(),
                        got: setting.got.clone(),
                        code: setting.code,
                        source: setting.source.clone(),
                        observed_at: last_said(setting, &facts),
                        self_reported: setting.self_reported,
                        advice: match setting.status {
                            Status::Unknown => Some(not_told(setting.fact.as_deref())),
                            _ => row.filter(|_| failed).map(|row| row.reason_user.clone()),
                        },
                    });
                }
            }
            let profiles = items
                .into_iter()
                .map(|(item, name)| ProfileState {
                    id: item.profile_id,
                    name,
                    kind: item.kind,
                    desired_version: item.desired_version,
                    applied_version: item.applied_version,
                    state: item.state,
                    due_at: item.due_at,
                    records: item.detail.records,
                })
                .collect();
            let recovery_key = recovery_key(conn, &sealer, &device)?;
            let notes = notes::about(conn, &sealer, &device, &facts)?;
            let (mode, managed_apple_account) = management::find_account(conn, &id)?.unzip();
            Ok(Explanation {
                ownership: ownership(conn, &config, &device, mode)?,
                managed_apple_account,
                overview: overview(conn, device)?,
                same_hardware_as,
                says_serial_number,
                recovery_key,
                notes,
                identity_until: active.map(|certificate| certificate.not_after).max(),
                identity_held: identities.iter().any(|certificate| certificate.status == CertificateStatus::Held),
                grace_expires_at: verdict.as_ref().and_then(|v| v.grace_expires_at),
                reevaluate_at: verdict.and_then(|v| v.reevaluate_at),
                reasons,
                profiles,
                facts: facts.into_values().collect(),
            })
        })
        .await?;
    Ok(explanation)
}

/// Whose a device is; `mode`: how it enrolled by account.
fn ownership(conn: &mut Conn, config: &Config, device: &Device, mode: Option<Mode>) -> store::Result<Ownership> {
    let listed = match (mode, &device.serial_number) {
        (Some(mode), _) => mode == Mode::Device,
        (None, Some(serial)) => restriction::is_listed(conn, config, device.platform, serial)?,
        (None, None) => false,
    };
    Ok(if listed { Ownership::Company } else { Ownership::Personal })
}

/// Whether the recovery key of a Mac is kept that a profile has entrusted to the server.
fn recovery_key(conn: &mut Conn, sealer: &Sealer, device: &Device) -> store::Result<Option<&'static str>> {
    let enrollment = if device.platform == Platform::MacOs { enrollments::find_current_enrollment(conn, &device.id)? } else { None };
    let Some(enrollment) = enrollment else { return Ok(None) };
    let items = desired_items::list_for_device(conn, sealer, &device.id)?;
    if !items.iter().filter_map(|loaded| loaded.desired.as_ref()).any(|document| wants_recovery_key(&document.payloads)) {
        return Ok(None);
    }
    let kept = secrets::list_kinds(conn, &enrollment.id)?.into_iter().any(|(kind, _)| kind == Secret::FileVault);
    Ok(Some(if kept {
        "kept; `muster device secret DEVICE fv-prk` shows it"
    } else {
        "none kept yet: the Mac tells it once the profile has turned FileVault on, at its user's next sign-in; where it was on before, \
         run `sudo fdesetup changerecovery -personal` on it"
    }))
}

/// What to do about a rule of which nothing is known.
fn not_told(fact: Option<&str>) -> String {
    let what = fact.map_or_else(String::new, |fact| format!(" ({fact})"));
    format!("The device has not told this{what}. `muster device sync` asks it again; if it never tells, take the rule out of the policy.")
}

/// Why a device is not compliant that left or is to leave, whatever its rules said last.
fn not_managed(state: device::State) -> Reason {
    let advice = match state {
        device::State::Retired => "The device was retired: it has to enrol again to be managed and judged.",
        _ => "The device is to leave: it has to enrol again, once it has left, to be managed and judged.",
    };
    Reason {
        policy: BUILT_IN.to_owned(),
        policy_name: BUILT_IN_NAME.to_owned(),
        rule: "isManaged".to_owned(),
        title: built_in_title("isManaged").to_owned(),
        status: Status::NonCompliant,
        expected: "managed".into(),
        got: Some(state.to_string()),
        code: None,
        source: Some("server".to_owned()),
        observed_at: None,
        self_reported: false,
        advice: Some(advice.to_owned()),
    }
}

/// Devices that say they are the same hardware.
#[derive(Clone, Debug, Serialize)]
pub struct Contested {
    /// What they say they are.
    pub hardware_id: String,
    /// Who says so, without the retired.
    pub devices: Vec<DeviceId>,
}

/// Which hardware more than one device claims to be, some hundred at most: somebody has to look.
///
/// # Errors
/// [`crate::service::Error::Unavailable`].
pub async fn contested(app: &App) -> Result<Vec<Contested>> {
    let found = app.store.read(|conn| {
        let ids = devices::list_contested_hardware(conn, 100)?;
        let claims = ids.into_iter().map(|(platform, hardware_id)| {
            let all = devices::list_same_hardware(conn, platform, Some(&hardware_id), None, 100)?;
            let devices = all.into_iter().filter(|device| device.state != device::State::Retired).map(|device| device.id).collect();
            Ok(Contested { hardware_id, devices })
        });
        claims.collect::<store::Result<Vec<_>>>()
    });
    Ok(found.await?)
}

/// A device that says it has another serial number than it enrolled with.
#[derive(Clone, Debug, Serialize)]
pub struct ContestedSerial {
    /// Which.
    pub device: DeviceId,
    /// The number that counts.
    pub serial_number: Option<String>,
    /// What it says.
    pub says: String,
}

/// Which devices say they have another serial number than they enrolled with, some hundred at most: somebody has to look.
///
/// # Errors
/// [`crate::service::Error::Unavailable`].
pub async fn contested_serials(app: &App) -> Result<Vec<ContestedSerial>> {
    let found = app.store.read(|conn| devices::list_other_serials(conn, APPLE_SERIAL, 100)).await?;
    let contested = found.into_iter().filter(|(device, says)| device.contradicts_serial(says));
    Ok(contested.map(|(device, says)| ContestedSerial { device: device.id, serial_number: device.serial_number, says }).collect())
}

/// Why the device is judged as it is, rule by rule.
///
/// # Errors
/// [`crate::service::Error::NotFound`].
pub async fn explain(app: &App, id: &DeviceId) -> Result<Vec<Reason>> {
    Ok(show(app, id).await?.reasons)
}

/// When the device last said what decided: a fact that is read again with the same value needs no new verdict.
fn last_said(setting: &SettingResult, facts: &Facts) -> Option<Time> {
    let fact = setting.fact.as_ref().and_then(|name| facts.get(name)).filter(|fact| fact.value == setting.got);
    fact.map(|fact| fact.observed_at).or(setting.observed_at)
}

fn built_in_title(rule: &str) -> &str {
    match rule {
        "isActive" => "Is active",
        "hasPolicy" => "Has a compliance policy assigned",
        "isManaged" => "Is managed",
        "userExists" => "Enrolled user exists",
        "hasIdentity" => "Has an identity certificate in force",
        other => other,
    }
}

/// A list that the device answered, and when.
///
/// # Errors
/// [`Error::NotFound`] without such a device, or when it was not asked yet.
pub async fn inventory(app: &App, id: &DeviceId, kind: inventory::Kind) -> Result<(inventory::List, Time)> {
    let id = id.clone();
    let read = move |conn: &mut Conn| {
        devices::load_device(conn, &id)?;
        store::inventory::find_list(conn, &id, kind)
    };
    app.store.read(read).await?.ok_or(Error::NotFound("list; order it first"))
}
