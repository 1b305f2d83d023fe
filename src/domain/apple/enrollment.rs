//! Who may speak for a device: what an `Authenticate` means, and that every later message comes from the identity that was bound to it.
//!
//! An enrolment profile is made in a *session* of ours, and the identity's certificate names the session. The protocol itself lets any
//! identity claim any device in an `Authenticate`, because that is how a device enrols again; what the session knows decides instead.

use crate::domain::Refusal;
use crate::domain::device::Platform;
use crate::domain::enrollment::Enrollment;
use crate::ids::{EnrollmentId, UserId};
use crate::wire::apple::DeviceKey;
use crate::wire::apple::enroll::{Mdm, Mode};

/// What is known of the session in which the identity was given out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Who signed in; `None` for a device without a user.
    pub user: Option<UserId>,
    /// The device's identifier, when it was proven before the profile was given out (signed machine info, attestation).
    pub udid: Option<String>,
    /// The serial number, when it was proven before the profile was given out.
    pub serial: Option<String>,
    /// The mode that the profile says; `None`: it was not made for an account.
    pub mode: Option<Mode>,
    /// The enrolment whose identity this one renews.
    pub renews: Option<EnrollmentId>,
    /// The device that the certificate was bound to by an earlier message.
    pub bound_to: Option<String>,
}

/// The enrolment that lives under the claimed identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Which.
    pub id: EnrollmentId,
    /// Whose.
    pub user: Option<UserId>,
    /// It is a user enrolment: what lives there is no identifier of hardware.
    pub user_enrollment: bool,
    /// The claim comes from the certificate that the enrolment has.
    pub same_certificate: bool,
}

/// What an `Authenticate` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A device that is not enrolled.
    New,
    /// The same message again, or an old one that somebody sends again: answered, and nothing changes.
    Repeated(EnrollmentId),
    /// A new identity for the enrolment: everything stays, and the old certificate goes once the new one has been used.
    Renewed(EnrollmentId),
    /// The device enrols again: the enrolment ends with its queue, tokens and keys, and a new one begins with nothing of it.
    Replaced(EnrollmentId),
}

/// Decides on an `Authenticate`: the claimed identifier and serial number, the session of the certificate, and the enrolment that lives
/// under the identifier.
///
/// # Errors
/// [`Refusal::ManagementSourceMismatch`] when the certificate belongs to another device than the claimed one,
/// [`Refusal::EnrollmentModeForeign`] when the device enrols in another way than its profile is for, [`Refusal::DeviceOfAnother`] when the device is enrolled for somebody else and nothing proves that it is the same device.
pub fn authenticate(device: &DeviceKey, serial: Option<&str>, session: &Session, live: Option<&Live>) -> Result<Decision, Refusal> {
    let claimed = device.as_str();
    if session.bound_to.as_deref().is_some_and(|bound| bound != claimed) {
        return Err(Refusal::ManagementSourceMismatch);
    }
    let proven = session.udid.is_some() || session.serial.is_some();
    // Nobody gets out of the limits of a user enrolment, or hides a device that is to be known, by the name that the device gives itself.
    if session.renews.is_none() && (session.mode == Some(Mode::User)) != device.is_user_enrollment() {
        return Err(Refusal::EnrollmentModeForeign);
    }
    if device.is_user_enrollment() {
        // It shows no identifiers of the hardware: what is for a certain device is not for it.
        if proven {
            return Err(Refusal::ManagementSourceMismatch);
        }
    } else {
        let differs = |proven: &Option<String>, said: Option<&str>| proven.as_deref().is_some_and(|proven| Some(proven) != said);
        if differs(&session.udid, Some(claimed)) || differs(&session.serial, serial) {
            return Err(Refusal::ManagementSourceMismatch);
        }
    }
    let Some(live) = live else {
        // The enrolment to be renewed is not this device's, or has ended meanwhile.
        return if session.renews.is_some() { Err(Refusal::ManagementSourceMismatch) } else { Ok(Decision::New) };
    };
    // An identifier of one kind that is spelled like one of the other names another device.
    if live.user_enrollment != device.is_user_enrollment() {
        return Err(Refusal::ManagementSourceMismatch);
    }
    if live.same_certificate {
        return Ok(Decision::Repeated(live.id.clone()));
    }
    match &session.renews {
        Some(renews) if *renews == live.id => return Ok(Decision::Renewed(live.id.clone())),
        Some(_) => return Err(Refusal::ManagementSourceMismatch),
        None => {}
    }
    if proven || live.user == session.user { Ok(Decision::Replaced(live.id.clone())) } else { Err(Refusal::DeviceOfAnother) }
}

/// Whether the identity of an enrolment may speak for a device in any other message than `Authenticate`.
///
/// # Errors
/// [`Refusal::ManagementSourceMismatch`].
pub fn speaks_for(enrollment: &Enrollment, device: &DeviceKey) -> Result<(), Refusal> {
    let same = enrollment.mdm_id == device.as_str() && enrollment.is_user_enrollment() == device.is_user_enrollment();
    if same { Ok(()) } else { Err(Refusal::ManagementSourceMismatch) }
}

/// The management payload for an update of the enrolment profile: with another identity, and nothing else.
///
/// # Errors
/// [`Refusal::EnrollmentUpdateRefused`] when `next` says what a device with `known` would refuse: another server, topic, mode or account, or
/// more rights.
pub fn update(known: &Mdm, next: Mdm) -> Result<Mdm, Refusal> {
    if known.refuses(&next).is_some() { Err(Refusal::EnrollmentUpdateRefused) } else { Ok(next) }
}

/// The platform that a model (`iPhone14,5`) belongs to; `None` when the device does not say, or it is none that we know.
///
/// # Errors
/// [`Refusal::DeviceKindUnsupported`].
pub fn platform(product: &str) -> Result<Option<Platform>, Refusal> {
    let is = |families: &[&str]| families.iter().any(|family| product.starts_with(family));
    if is(&["AppleTV", "Watch", "RealityDevice", "AudioAccessory"]) {
        return Err(Refusal::DeviceKindUnsupported);
    }
    if is(&["Mac", "iMac", "VirtualMac", "Xserve"]) {
        return Ok(Some(Platform::MacOs));
    }
    Ok(is(&["iPhone", "iPad", "iPod"]).then_some(Platform::Ios))
}

/// Which kind of identity a device can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// An RSA key by SCEP: every device.
    Scep,
    /// A key in hardware by ACME, without attestation: Macs with a T2 chip.
    AcmeHardware,
    /// A key in hardware by ACME that Apple attests: iPhones and iPads from the A11 on, and Macs with Apple silicon.
    AcmeAttested,
}

/// The best identity for a model (`iPhone14,5`) and version; without them it is one that every device can hold.
#[must_use]
pub fn identity(product: &str, os_version: Option<&str>) -> Identity {
    let major = os_version.and_then(|version| version.split('.').next()?.parse::<u32>().ok()).unwrap_or(0);
    let at = product.find(|c: char| c.is_ascii_digit()).unwrap_or(product.len());
    let (family, numbers) = product.split_at(at);
    let generation = numbers.split(',').next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
    let (needed, best) = match family {
        // iPhone 8 and X have the A11.
        "iPhone" => (16, if generation >= 10 { Identity::AcmeAttested } else { Identity::Scep }),
        // iPad7 has the A10; iPad8 is the first with an A12X.
        "iPad" => (16, if generation >= 8 { Identity::AcmeAttested } else { Identity::Scep }),
        // From 2022 on all models are called so; virtual machines have no Secure Enclave of their own.
        "Mac" => (14, Identity::AcmeAttested),
        "MacBookPro" => (14, mac(generation, 15, 17)),
        "MacBookAir" => (14, mac(generation, 8, 10)),
        "Macmini" => (14, mac(generation, 8, 9)),
        "iMac" => (14, mac(generation, 20, 21)),
        "iMacPro" => (14, Identity::AcmeHardware),
        "MacPro" => (14, mac(generation, 7, u32::MAX)),
        _ => (u32::MAX, Identity::Scep),
    };
    if major >= needed { best } else { Identity::Scep }
}

fn mac(generation: u32, first_t2: u32, first_apple: u32) -> Identity {
    if generation >= first_apple {
        Identity::AcmeAttested
    } else if generation >= first_t2 {
        Identity::AcmeHardware
    } else {
        Identity::Scep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::enrollment::Kind;

    fn udid(id: &str) -> DeviceKey {
        DeviceKey::Udid(id.into())
    }

    fn live(user: Option<&UserId>) -> Live {
        Live { id: EnrollmentId::new(), user: user.cloned(), user_enrollment: false, same_certificate: false }
    }

    #[test]
    fn a_device_that_is_not_known_enrols() {
        assert_eq!(authenticate(&udid("a"), None, &Session::default(), None), Ok(Decision::New));
        let proven = Session { udid: Some("a".into()), serial: Some("s".into()), ..Session::default() };
        assert_eq!(authenticate(&udid("a"), Some("s"), &proven, None), Ok(Decision::New));
    }

    #[test]
    fn an_identity_never_claims_another_device() {
        let refused = |device: &str, serial: Option<&str>, session: Session| {
            assert_eq!(authenticate(&udid(device), serial, &session, None), Err(Refusal::ManagementSourceMismatch));
        };
        refused("b", None, Session { bound_to: Some("a".into()), ..Session::default() });
        refused("b", None, Session { udid: Some("a".into()), ..Session::default() });
        refused("a", Some("t"), Session { serial: Some("s".into()), ..Session::default() });
        refused("a", None, Session { serial: Some("s".into()), ..Session::default() });
        refused("a", None, Session { renews: Some(EnrollmentId::new()), ..Session::default() });
    }

    #[test]
    fn an_identity_speaks_for_its_device_under_its_own_kind_of_name() {
        let enrollment = |kind| Enrollment {
            id: EnrollmentId::new(),
            device_id: crate::ids::DeviceId::new(),
            platform: Platform::Ios,
            kind,
            state: crate::domain::enrollment::State::Active,
            mdm_id: "a".into(),
            provider_id: None,
            user_id: None,
            context: String::new(),
            channel_uri: None,
            certificate_id: None,
            work_at: None,
            waiting_since: None,
            last_seen_at: None,
            enrolled_at: crate::clock::Time(0),
            ended_at: None,
            version: 1,
        };
        let (users, devices) = (enrollment(Kind::Full), enrollment(Kind::Device));
        let hidden = DeviceKey::EnrollmentId("a".into());
        assert_eq!((speaks_for(&devices, &udid("a")), speaks_for(&users, &hidden)), (Ok(()), Ok(())));
        for (enrollment, device) in [(&devices, udid("b")), (&devices, hidden), (&users, udid("a"))] {
            assert_eq!(speaks_for(enrollment, &device), Err(Refusal::ManagementSourceMismatch));
        }
    }

    #[test]
    fn an_update_changes_the_identity_and_nothing_else() {
        let known = Mdm {
            identity: "1".into(),
            topic: "com.apple.mgmt.x".into(),
            server_url: "https://a/mdm".into(),
            access_rights: Some(1),
            enrollment_mode: Some(Mode::Device),
            account: Some("ana@example.org".into()),
            ..Mdm::default()
        };
        let next = Mdm { identity: "2".into(), ..known.clone() };
        assert_eq!(update(&known, next.clone()), Ok(next.clone()));
        for changed in [
            Mdm { server_url: "https://b/mdm".into(), ..next.clone() },
            Mdm { check_in_url: Some("https://b/in".into()), ..next.clone() },
            Mdm { topic: "com.apple.mgmt.y".into(), ..next.clone() },
            Mdm { access_rights: Some(3), ..next.clone() },
            Mdm { enrollment_mode: Some(Mode::User), ..next.clone() },
            Mdm { enrollment_mode: None, ..next.clone() },
            Mdm { account: Some("ben@example.org".into()), ..next },
        ] {
            assert_eq!(update(&known, changed).unwrap_err().code(), "ENR0037");
        }
    }

    #[test]
    fn a_renewal_keeps_and_a_new_enrolment_replaces() {
        let user = UserId::new();
        let live = live(Some(&user));
        let session = Session { user: Some(user), ..Session::default() };
        let decide = |session: &Session, live: &Live| authenticate(&udid("a"), None, session, Some(live));
        assert_eq!(decide(&session, &live), Ok(Decision::Replaced(live.id.clone())));
        let renewal = Session { renews: Some(live.id.clone()), ..session.clone() };
        assert_eq!(decide(&renewal, &live), Ok(Decision::Renewed(live.id.clone())));
        let other = Session { renews: Some(EnrollmentId::new()), ..session.clone() };
        assert_eq!(decide(&other, &live), Err(Refusal::ManagementSourceMismatch));
        let again = Live { same_certificate: true, ..live };
        assert_eq!(decide(&session, &again), Ok(Decision::Repeated(again.id.clone())));
    }

    #[test]
    fn nobody_takes_over_the_device_of_another() {
        let live = live(Some(&UserId::new()));
        let session = Session { user: Some(UserId::new()), ..Session::default() };
        assert_eq!(authenticate(&udid("a"), Some("s"), &session, Some(&live)), Err(Refusal::DeviceOfAnother));
        let proven = Session { serial: Some("s".into()), ..session };
        assert_eq!(authenticate(&udid("a"), Some("s"), &proven, Some(&live)), Ok(Decision::Replaced(live.id.clone())));
    }

    #[test]
    fn a_user_enrolment_shows_no_hardware_and_gets_nothing_that_is_for_a_certain_device() {
        let hidden = DeviceKey::EnrollmentId("e".into());
        let by_user = Session { mode: Some(Mode::User), ..Session::default() };
        assert_eq!(authenticate(&hidden, None, &by_user, None), Ok(Decision::New));
        for proven in [Session { udid: Some("a".into()), ..by_user.clone() }, Session { serial: Some("s".into()), ..by_user.clone() }] {
            assert_eq!(authenticate(&hidden, None, &proven, None), Err(Refusal::ManagementSourceMismatch));
        }
        // The profile says which kind of name the device has to give itself.
        for mode in [None, Some(Mode::Device)] {
            let session = Session { mode, ..Session::default() };
            assert_eq!(authenticate(&hidden, None, &session, None).unwrap_err().code(), "ENR0036");
        }
        assert_eq!(authenticate(&udid("e"), None, &by_user, None), Err(Refusal::EnrollmentModeForeign));
        // Hardware that is spelled like the enrolment is another device, also for the same person.
        let hardware = Live { user_enrollment: false, ..live(None) };
        assert_eq!(authenticate(&hidden, None, &by_user, Some(&hardware)), Err(Refusal::ManagementSourceMismatch));
        let own = Live { user_enrollment: true, ..live(None) };
        assert_eq!(authenticate(&hidden, None, &by_user, Some(&own)), Ok(Decision::Replaced(own.id.clone())));
    }

    #[test]
    fn models_belong_to_their_platform_and_others_are_refused_by_name() {
        for mac in ["Mac14,2", "MacBookPro16,1", "iMac21,1", "VirtualMac2,1"] {
            assert_eq!(platform(mac), Ok(Some(Platform::MacOs)));
        }
        for phone in ["iPhone14,5", "iPad8,1", "iPod9,1"] {
            assert_eq!(platform(phone), Ok(Some(Platform::Ios)));
        }
        for other in ["AppleTV11,1", "Watch6,1", "RealityDevice14,1"] {
            assert_eq!(platform(other).unwrap_err().code(), "ENR0023");
        }
        assert_eq!((platform("Toaster1,1"), platform("")), (Ok(None), Ok(None)));
    }

    #[test]
    fn models_hold_the_identity_that_their_chip_allows() {
        for (product, version, expected) in [
            ("iPhone10,3", "16.0", Identity::AcmeAttested),
            ("iPhone10,3", "15.7", Identity::Scep),
            ("iPhone9,1", "16.0", Identity::Scep),
            ("iPad7,5", "17.0", Identity::Scep),
            ("iPad8,1", "17.0", Identity::AcmeAttested),
            ("Mac14,2", "14.0", Identity::AcmeAttested),
            ("Mac14,2", "13.6", Identity::Scep),
            ("MacBookPro17,1", "15.1", Identity::AcmeAttested),
            ("MacBookPro16,1", "15.1", Identity::AcmeHardware),
            ("MacBookPro14,1", "15.1", Identity::Scep),
            ("MacPro7,1", "15.1", Identity::AcmeHardware),
            ("VirtualMac2,1", "15.1", Identity::Scep),
            ("", "26.0", Identity::Scep),
        ] {
            assert_eq!(identity(product, Some(version)), expected, "{product} {version}");
        }
        assert_eq!(identity("Mac14,2", None), Identity::Scep);
    }
}
