//! Whether a person can sign in without a password at a device: for each method what is in place, and what is missing. It is told from what
//! the device reported, what profiles gave it, what its user has registered and what the organisation's policies allow.

use super::apple::content::single_sign_on;
use super::apple::sso;
use super::desired::State;
use super::device::Platform;
use super::profile::{Document, split_scope};
use super::{passkey, tap};
use crate::catalogue::OsVersion;

/// What a Mac's key in the Secure Enclave calls its model (AAGUID).
pub const PLATFORM_CREDENTIAL: &str = "7fd635b3-2ef9-4542-8d9d-164f2c771efc";
/// The setting that offers Windows Hello for Business.
const HELLO: &str = "passport-for-work.use-passport-for-work";
/// The setting that keeps Windows Hello from working without a TPM.
const HELLO_NEEDS_TPM: &str = "passport-for-work.require-security-device";
/// The setting that offers security keys at the sign-in screen.
const SECURITY_KEY: &str = "passport-for-work.security-key.use-security-key-for-signin";
/// The setting that offers signing in by a page at the sign-in screen.
const WEB_SIGN_IN: &str = "authentication.enable-web-sign-in";
/// The member of an extension's payload that makes it Platform SSO.
const PLATFORM_SSO: &str = "PlatformSSO";

words! {
    /// A way to sign in without a password.
    Method {
        /// Windows Hello for Business.
        WindowsHello = "windows-hello",
        /// A security key at the sign-in screen of Windows.
        SecurityKey = "security-key",
        /// Signing in by a page at the sign-in screen of Windows, with a pass for example.
        WebSignIn = "web-sign-in",
        /// Platform SSO of a Mac.
        PlatformSso = "platform-sso",
        /// A passkey in browsers and applications.
        Passkey = "passkey",
        /// A pass for a limited time.
        TemporaryAccessPass = "temporary-access-pass",
    }
}

words! {
    /// How a method stands.
    Standing {
        /// Its user has registered it.
        Registered = "registered",
        /// Everything for it is in place.
        Ready = "ready",
        /// Something is missing.
        NotReady = "not-ready",
        /// It is not for such a device.
        NotApplicable = "not-applicable",
    }
}

words! {
    /// What is missing.
    Missing {
        /// The device is not managed, or is still enrolling.
        NotManaged = "not-managed",
        /// No person belongs to the device.
        NoUser = "no-user",
        /// The person's account is disabled.
        UserDisabled = "user-disabled",
        /// The device's system is too old.
        SystemTooOld = "system-too-old",
        /// The device has not said which version of its system it has.
        SystemUnknown = "system-unknown",
        /// No profile that is assigned to the device turns it on.
        NotConfigured = "not-configured",
        /// A profile turns it on, and the device has not shown yet that it has it.
        NotInPlace = "not-in-place",
        /// A profile turns it on, and the device did not take that.
        NotTaken = "not-taken",
        /// A profile asks for a TPM, and the device has told of none.
        NoTpm = "no-tpm",
        /// The organisation's policy turns it off.
        TurnedOff = "turned-off",
        /// The organisation's policy does not take that model of authenticator.
        ModelNotTaken = "model-not-taken",
        /// The person has registered no passkey that works there.
        NoPasskey = "no-passkey",
        /// The person has no pass that is good now.
        NoPass = "no-pass",
    }
}

/// How one method stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub method: Method,
    /// How.
    pub standing: Standing,
    /// What is missing, unless it is ready.
    pub missing: Vec<Missing>,
    /// The profiles that turn it on.
    pub profiles: Vec<String>,
}

/// A person as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// Whether they may sign in.
    pub enabled: bool,
    /// The models of their passkeys.
    pub passkeys: Vec<String>,
    /// Whether they have a pass that is good now.
    pub has_pass: bool,
}

/// What is known.
#[derive(Debug)]
pub struct Known<'a> {
    /// The device's platform.
    pub platform: Platform,
    /// Its system's version.
    pub os_version: Option<&'a str>,
    /// It is managed, and its enrolment is finished.
    pub managed: bool,
    /// It has told of a TPM.
    pub has_tpm: bool,
    /// The profiles that it should have: name, content and how far.
    pub profiles: Vec<(&'a str, &'a Document, State)>,
    /// Its user.
    pub person: Option<Person>,
    /// What holds for passkeys.
    pub passkeys: &'a passkey::Policy,
    /// What holds for passes.
    pub passes: &'a tap::Rules,
}

impl Known<'_> {
    /// How each method stands.
    #[must_use]
    pub fn report(&self) -> Vec<Report> {
        Method::ALL.iter().map(|method| self.of(*method)).collect()
    }

    fn of(&self, method: Method) -> Report {
        let mut report = Report { method, standing: Standing::NotApplicable, missing: Vec::new(), profiles: Vec::new() };
        let Some(least) = self.least_version(method) else { return report };
        let missing = &mut report.missing;
        if !self.managed {
            missing.push(Missing::NotManaged);
        }
        match self.os_version.and_then(OsVersion::parse) {
            None => missing.push(Missing::SystemUnknown),
            Some(version) if version < least => missing.push(Missing::SystemTooOld),
            Some(_) => {}
        }
        match &self.person {
            None => missing.push(Missing::NoUser),
            Some(person) if !person.enabled => missing.push(Missing::UserDisabled),
            Some(_) => {}
        }
        if let Some(turns_on) = switch(method) {
            let on: Vec<_> = self.profiles.iter().filter(|(_, document, _)| turns_on(document)).collect();
            report.profiles = on.iter().map(|(name, ..)| (*name).to_owned()).collect();
            if on.is_empty() {
                missing.push(Missing::NotConfigured);
            } else if !on.iter().any(|(.., state)| *state == State::Verified) {
                let refused = on.iter().all(|(.., state)| matches!(state, State::Failed | State::Conflict | State::NotApplicable));
                missing.push(if refused { Missing::NotTaken } else { Missing::NotInPlace });
            }
        }
        let registered = self.methods(method, &mut report.missing);
        report.standing = match (report.missing.is_empty(), registered) {
            (true, true) => Standing::Registered,
            (true, false) => Standing::Ready,
            (false, _) => Standing::NotReady,
        };
        report
    }

    /// The least version of the system; `None` where the method is not for the platform.
    fn least_version(&self, method: Method) -> Option<OsVersion> {
        let version = |major, minor, build| Some(OsVersion { major, minor, build, revision: 0 });
        match (method, self.platform) {
            (Method::WindowsHello, Platform::Windows) => version(10, 0, 17_763),
            (Method::SecurityKey, Platform::Windows) => version(10, 0, 18_362),
            (Method::WebSignIn | Method::Passkey, Platform::Windows) => version(10, 0, 22_000),
            (Method::PlatformSso | Method::Passkey, Platform::MacOs) => version(13, 0, 0),
            (Method::Passkey, Platform::Ios) => version(16, 0, 0),
            (Method::Passkey, Platform::Android) => version(14, 0, 0),
            (Method::TemporaryAccessPass, _) => version(0, 0, 0),
            _ => None,
        }
    }

    /// What policies and the person's own methods lack; whether they have registered it.
    fn methods(&self, method: Method, missing: &mut Vec<Missing>) -> bool {
        let keys = self.person.as_ref().map(|person| person.passkeys.as_slice()).unwrap_or_default();
        let taken = |key: &&String| self.passkeys.takes(key);
        match method {
            Method::WindowsHello => {
                let asks = self.profiles.iter().any(|(_, document, _)| is_on(document, HELLO_NEEDS_TPM));
                if asks && !self.has_tpm {
                    missing.push(Missing::NoTpm);
                }
                false
            }
            Method::SecurityKey | Method::Passkey | Method::PlatformSso if !self.passkeys.enabled => {
                missing.push(Missing::TurnedOff);
                false
            }
            Method::PlatformSso => {
                if !self.passkeys.takes(PLATFORM_CREDENTIAL) {
                    missing.push(Missing::ModelNotTaken);
                }
                keys.iter().any(|key| key == PLATFORM_CREDENTIAL)
            }
            Method::SecurityKey => {
                if self.person.is_some() && !keys.iter().any(|key| passkey::model(key) == "Security key" && self.passkeys.takes(key)) {
                    missing.push(Missing::NoPasskey);
                }
                true
            }
            Method::Passkey => keys.iter().filter(taken).count() > 0,
            Method::WebSignIn => false,
            Method::TemporaryAccessPass => {
                if !self.passes.enabled {
                    missing.push(Missing::TurnedOff);
                } else if self.person.as_ref().is_some_and(|person| !person.has_pass) {
                    missing.push(Missing::NoPass);
                }
                false
            }
        }
    }
}

/// Whether a person could do without a password there: a way that nobody can phish is registered or ready.
#[must_use]
pub fn is_passwordless(report: &[Report]) -> bool {
    let lasts = |method| !matches!(method, Method::TemporaryAccessPass | Method::WebSignIn);
    report.iter().any(|one| lasts(one.method) && matches!(one.standing, Standing::Registered | Standing::Ready))
}

/// What of a profile turns a method on; `None` where none is needed.
fn switch(method: Method) -> Option<fn(&Document) -> bool> {
    match method {
        Method::WindowsHello => Some(|document| is_on(document, HELLO)),
        Method::SecurityKey => Some(|document| is_on(document, SECURITY_KEY)),
        Method::WebSignIn => Some(|document| is_on(document, WEB_SIGN_IN)),
        Method::PlatformSso => Some(has_platform_sso),
        Method::Passkey | Method::TemporaryAccessPass => None,
    }
}

fn is_on(document: &Document, setting: &str) -> bool {
    let mut values = document.settings.iter().filter(|(name, _)| split_scope(name).0 == setting).map(|(_, value)| value);
    values.any(|value| value.as_bool() == Some(true) || value.as_i64() == Some(1))
}

fn has_platform_sso(document: &Document) -> bool {
    let extension = |kind: &str| [single_sign_on::KIND, sso::PAYLOAD, sso::DECLARATION].contains(&kind);
    document.payloads.iter().any(|payload| extension(&payload.kind) && payload.body.contains_key(PLATFORM_SSO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(value: serde_json::Value) -> Document {
        serde_json::from_value(value).unwrap()
    }

    fn of(known: &Known<'_>, method: Method) -> (Standing, Vec<Missing>) {
        let report = known.report().into_iter().find(|report| report.method == method).unwrap();
        (report.standing, report.missing)
    }

    #[test]
    fn windows_hello_needs_a_profile_that_the_pc_has() {
        let (keys, passes) = (passkey::Policy::default(), tap::Rules::default());
        let hello = document(json!({ "settings": { HELLO: true, HELLO_NEEDS_TPM: true } }));
        let mut known = Known {
            platform: Platform::Windows,
            os_version: Some("10.0.22631.1"),
            managed: true,
            has_tpm: true,
            profiles: vec![("Hello", &hello, State::Verified)],
            person: Some(Person { enabled: true, ..Person::default() }),
            passkeys: &keys,
            passes: &passes,
        };
        assert_eq!(of(&known, Method::WindowsHello), (Standing::Ready, vec![]));
        assert_eq!(of(&known, Method::PlatformSso), (Standing::NotApplicable, vec![]));
        assert_eq!(of(&known, Method::SecurityKey), (Standing::NotReady, vec![Missing::NotConfigured, Missing::NoPasskey]));
        assert_eq!(of(&known, Method::TemporaryAccessPass), (Standing::NotReady, vec![Missing::NoPass]));
        assert!(is_passwordless(&known.report()));
        known.has_tpm = false;
        assert_eq!(of(&known, Method::WindowsHello), (Standing::NotReady, vec![Missing::NoTpm]));
        known.profiles = vec![("Hello", &hello, State::Sent)];
        known.os_version = Some("10.0.10240");
        known.person = None;
        known.managed = false;
        let all = vec![Missing::NotManaged, Missing::SystemTooOld, Missing::NoUser, Missing::NotInPlace, Missing::NoTpm];
        assert_eq!(of(&known, Method::WindowsHello), (Standing::NotReady, all));
        known.profiles = vec![("Hello", &hello, State::Failed)];
        known.os_version = None;
        assert!(of(&known, Method::WindowsHello).1.contains(&Missing::NotTaken));
        assert!(of(&known, Method::WindowsHello).1.contains(&Missing::SystemUnknown));
        assert!(!is_passwordless(&known.report()));
    }

    #[test]
    fn a_mac_is_registered_by_its_users_platform_credential() {
        let (keys, passes) = (passkey::Policy::default(), tap::Rules::default());
        let sso = document(json!({ "payloads": [{ "type": "single-sign-on", "name": "sso", "PlatformSSO": {} }] }));
        let person = Person { enabled: true, passkeys: vec![PLATFORM_CREDENTIAL.into()], has_pass: true };
        let known = |keys, passes, enabled| {
            let known = Known {
                platform: Platform::MacOs,
                os_version: Some("15.1"),
                managed: true,
                has_tpm: false,
                profiles: vec![("SSO", &sso, State::Verified)],
                person: Some(Person { enabled, ..person.clone() }),
                passkeys: keys,
                passes,
            };
            known.report().into_iter().map(|report| (report.method, (report.standing, report.missing))).collect::<Vec<_>>()
        };
        let find = |all: &[(Method, (Standing, Vec<Missing>))], method| all.iter().find(|(one, _)| *one == method).unwrap().1.clone();
        let all = known(&keys, &passes, true);
        for (method, standing) in [
            (Method::PlatformSso, Standing::Registered),
            (Method::Passkey, Standing::Registered),
            (Method::TemporaryAccessPass, Standing::Ready),
            (Method::WindowsHello, Standing::NotApplicable),
        ] {
            assert_eq!(find(&all, method).0, standing, "{method}");
        }
        let disabled = known(&keys, &passes, false);
        assert_eq!(find(&disabled, Method::Passkey), (Standing::NotReady, vec![Missing::UserDisabled]));
        let mut others = passkey::Policy::default();
        others.key_restrictions.is_enforced = true;
        others.key_restrictions.aa_guids = vec![PLATFORM_CREDENTIAL.into()];
        let none = tap::Rules { enabled: false, ..tap::Rules::default() };
        let all = known(&others, &none, true);
        assert_eq!(find(&all, Method::PlatformSso), (Standing::NotReady, vec![Missing::ModelNotTaken]));
        assert_eq!(find(&all, Method::Passkey).0, Standing::Ready, "another passkey can be registered");
        assert_eq!(find(&all, Method::TemporaryAccessPass).1, vec![Missing::TurnedOff]);
        let off = passkey::Policy { enabled: false, ..passkey::Policy::default() };
        assert_eq!(find(&known(&off, &passes, true), Method::Passkey).1, vec![Missing::TurnedOff]);
    }
}
