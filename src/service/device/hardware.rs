//! Whose hardware it is. A device says itself which hardware it is (`HWDevID`, UDID), so anybody who may enrol can say what another device
//! says. What is known under that hardware id ends only when something proves that the device changed hands: it is the same user's, the
//! connection holds its management certificate, a description that Apple's key signed names it, the identity provider's signed token names it, or an administrator has retired it.
//! Otherwise both stay, and administrators are told of both.

use serde_json::json;

use crate::domain::audit::Entry;
use crate::domain::device::{Device, State};
use crate::ids::{DeviceId, UserId};

/// What an enrolment proves beside the self-asserted hardware id.
#[derive(Debug)]
pub(in crate::service) struct Proof<'a> {
    /// Who enrols; nobody, when an organisation's device enrols by itself.
    pub(in crate::service) user: Option<&'a UserId>,
    /// The device whose management certificate the connection holds, or that Apple's signature says it is.
    pub(in crate::service) holds: Option<&'a DeviceId>,
    /// The device that the identity provider's token names.
    pub(in crate::service) entra_device_id: Option<&'a str>,
}

/// What an enrolment means for the devices that are known under its hardware id.
#[derive(Debug, Default)]
pub(in crate::service) struct Claim {
    /// The user's own: it enrols again.
    pub(in crate::service) own: Option<Device>,
    /// Those that were this hardware: in other hands it becomes another device, because what is known of it is known under another name.
    pub(in crate::service) left: Vec<Device>,
    /// Those that say the same of themselves and stay.
    pub(in crate::service) contested: Vec<Device>,
}

/// Judges the devices with the same hardware id or identity provider's id.
pub(in crate::service) fn judge(known: Vec<Device>, hardware_id: Option<&str>, proof: &Proof<'_>) -> Claim {
    let (mut own, others): (Vec<_>, Vec<_>) = known.into_iter().partition(|device| device.user_id.as_ref() == proof.user);
    // Two of one user's: the one with the same hardware id is it; the other had the identity provider's id before.
    own.sort_by_key(|device| device.hardware_id.as_deref() != hardware_id);
    let mut own = own.into_iter();
    let mut claim = Claim { own: own.next(), left: own.collect(), contested: Vec::new() };
    for device in others {
        let released = matches!(device.state, State::Retiring | State::Retired);
        let held = proof.holds == Some(&device.id);
        let vouched = proof.entra_device_id.is_some() && device.entra_device_id.as_deref() == proof.entra_device_id;
        if released || held || vouched { claim.left.push(device) } else { claim.contested.push(device) }
    }
    claim
}

/// One audit row for each device whose hardware `device` claims, which names both.
pub(in crate::service) fn alerts<'a>(device: &'a Device, contested: &'a [Device], origin: &'a str) -> impl Iterator<Item = Entry> + 'a {
    contested.iter().map(move |other| {
        let state = json!({
            "hardware_id": device.hardware_id, "device": other.id, "user": other.user_id, "claimed_by_device": device.id,
            "claimed_by_user": device.user_id, "advice": "retire the one of the two that is not the hardware",
        });
        Entry::new("system", "device.hardware-contested", format!("device:{}", other.id), origin).after(&state)
    })
}

/// The same for the log and the numbers.
pub(in crate::service) fn warn(device: &Device, contested: &[Device]) {
    for other in contested {
        tracing::warn!(device = %other.id, claimed_by = %device.id, "two devices say that they are the same hardware");
        metrics::counter!("muster_hardware_contested_total").increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::device::Platform;

    fn device(user: &UserId, state: State, entra: Option<&str>) -> Device {
        Device {
            id: DeviceId::new(),
            display_name: "PC".into(),
            platform: Platform::Windows,
            user_id: Some(user.clone()),
            hardware_id: Some("hw".into()),
            entra_device_id: entra.map(str::to_owned),
            serial_number: None,
            manufacturer: None,
            model: None,
            os_version: None,
            os_edition: None,
            state,
        }
    }

    #[test]
    fn only_proof_ends_what_somebody_else_has() {
        let (ana, ben) = (UserId::new(), UserId::new());
        let pc = device(&ana, State::Managed, Some("e1"));
        let judge = |pc: &Device, user: &UserId, holds: Option<&DeviceId>, entra: Option<&str>| {
            let claim = judge(vec![pc.clone()], Some("hw"), &Proof { user: Some(user), holds, entra_device_id: entra });
            (claim.own.is_some(), claim.left.len(), claim.contested.len())
        };
        let (own, left, contested) = ((true, 0, 0), (false, 1, 0), (false, 0, 1));
        assert_eq!(judge(&pc, &ana, None, None), own);
        assert_eq!(judge(&pc, &ben, None, None), contested);
        assert_eq!(judge(&pc, &ben, Some(&DeviceId::new()), Some("e2")), contested, "another device's proof");
        assert_eq!(judge(&pc, &ben, Some(&pc.id), None), left);
        assert_eq!(judge(&pc, &ben, None, Some("e1")), left);
        assert_eq!(judge(&device(&ana, State::Managed, None), &ben, None, None), contested, "no id is not the same id");
        assert_eq!(judge(&device(&ana, State::Retired, None), &ben, None, None), left);
        assert_eq!(judge(&device(&ana, State::Retiring, None), &ben, None, None), left);
    }

    #[test]
    fn of_two_of_one_user_the_one_with_the_hardware_id_goes_on() {
        let ana = UserId::new();
        let (mut older, newer) = (device(&ana, State::Managed, Some("e1")), device(&ana, State::Managed, None));
        older.hardware_id = None;
        let proof = Proof { user: Some(&ana), holds: None, entra_device_id: Some("e1") };
        let claim = judge(vec![older.clone(), newer.clone()], Some("hw"), &proof);
        assert_eq!((claim.own, claim.left), (Some(newer), vec![older]));
    }
}
