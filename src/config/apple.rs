//! Settings of Apple devices.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::show::{self, Row};
use crate::domain::device::Platform;
use crate::wire::apple::enroll::Mode;

settings! {
    /// Apple.
    Apple {
        /// Life of a device's identity certificate, in days.
        identity_days: u32 = 365;
        /// How many days before its end the server renews it.
        renewal_days: u32 = 60;
        /// A device that was told to leave, and heard it, has left when it is silent for that many hours.
        give_up_hours: u32 = 24;
        /// How long an enrolment profile may be installed, in minutes.
        session_minutes: u32 = 60;
        /// The sign-in page and links enrol over the air: a device proves what it is before it gets a profile, which is for it alone.
        over_the_air: bool = false;
        /// Hours between two looks at the profiles that were installed, to find drift.
        drift_hours: u32 = 24;
        /// Manage the users of Macs, too: their channels are offered in the enrolment profile.
        user_channels: bool = false;
        /// Have devices that enrol from now on sign their messages, and take the signature for the client certificate where a reverse
        /// proxy (`proxies`) ends TLS and passes none on.
        sign_messages: bool = false;
        /// How old an attestation may be, in days: devices make a new one at most every seven days, and are asked as often.
        attestation_days: u32 = 30;
        /// PEM file with the root that attestations lead to, in the place of Apple Enterprise Attestation Root CA: for tests only.
        attestation_root_file: Option<PathBuf> = None;
        /// Single sign-on by the organisation's build of the extension.
        sso: Sso = Sso::default();
        /// Enrolment by account.
        account: Account = Account::default();
        /// Enrolment from Setup Assistant.
        automated: Automated = Automated::default();
        /// Licences of the App Store; off without a content token (`muster apple content-token`).
        content: Content = Content::default();
        /// Apple Push Notification service; off without a push certificate (`muster apple push-csr`).
        apns: Apns = Apns::default();
    }
}

settings! {
    /// Single sign-on by the organisation's build of the extension.
    Sso {
        /// The extension on Macs, as `TEAMID.bundle.id`; empty: there is none, and profiles with `single-sign-on` are refused.
        macos_extension: String = String::new();
        /// The same for iPhones and iPads.
        ios_extension: String = String::new();
        /// Applications (and further extensions) that stand for this server's host beside the extensions.
        apps: Vec<String> = Vec::new();
        /// How long a device can register with the token that its profile gives it, in days.
        token_days: u32 = 30;
    }
}

settings! {
    /// Enrolment by account: a person signs in with the Managed Apple Account in the settings of the device.
    Account {
        /// Domains of the Managed Apple Accounts whose devices enrol here (`example.org`), as people type them.
        domains: Vec<String> = Vec::new();
        /// How Macs enrol: `user` (they stay their user's own, and hide their hardware), `device` (they are the organisation's), or `off`.
        macos: String = "off".into();
        /// The same for iPhones and iPads.
        ios: String = "off".into();
        /// Domain of the Managed Apple Accounts, where it is another than that of the user names; empty: an account is called as its user.
        apple_domain: String = String::new();
    }
}

impl Account {
    /// How devices of the platform enrol by account; `None`: they do not.
    #[must_use]
    pub fn mode(&self, platform: Platform) -> Option<Mode> {
        let word = match platform {
            Platform::MacOs => &self.macos,
            Platform::Ios => &self.ios,
            Platform::Windows | Platform::Android => return None,
        };
        MODES.iter().find(|(known, _)| known == word).and_then(|(_, mode)| *mode)
    }
}

/// How devices may enrol by account.
pub(super) const MODES: [(&str, Option<Mode>); 3] = [("off", None), ("user", Some(Mode::User)), ("device", Some(Mode::Device))];

settings! {
    /// Enrolment from Setup Assistant.
    Automated {
        /// A person has to sign in; else every device enrols whose serial number the organisation lists.
        require_sign_in: bool = true;
        /// Version that a Mac installs first when it has an older one and can; empty means none. It must be on offer for the model.
        macos_version: String = String::new();
        /// The same for iPhones and iPads.
        ios_version: String = String::new();
        /// Address of the profile with the Platform SSO extension that Macs set up before they enrol (macOS 26); needs the package, too.
        platform_sso_profile_url: String = String::new();
        /// Address of the manifest of the package with that extension.
        platform_sso_manifest_url: String = String::new();
        /// Minutes after which Setup Assistant goes on although not everything is installed.
        await_minutes: u32 = 15;
        /// Name of the profile with the Wi-Fi that iPhones and iPads use when they return to service (`profile.return_to_service`); empty:
        /// they have Ethernet, or know none.
        return_to_service_wifi: String = String::new();
        /// PEM file with the CA whose devices may describe themselves, in the place of Apple's iPhone Device CA: for tests only.
        device_ca_file: Option<PathBuf> = None;
        /// The web service of Apple Business Manager; off without a server token (`muster apple ade-key`).
        service_url: String = "https://mdmenrollment.apple.com".into();
        /// PEM file: the root that the service's certificate has to chain to; default: the system's roots.
        service_root_file: Option<PathBuf> = None;
        /// What devices in Apple Business Manager are told.
        profile: SetupProfile = SetupProfile::default();
        /// The administrator account that Setup Assistant makes on Macs.
        administrator: Administrator = Administrator::default();
    }
}

settings! {
    /// The administrator account that Setup Assistant makes on Macs that wait in it (`await_configured`); its password is made for each
    /// Mac and kept (`muster device secret MAC admin`).
    Administrator {
        /// Short name of the account; empty means none.
        name: String = String::new();
        /// Its name for people.
        full_name: String = String::new();
        /// The login window does not show it.
        hidden: bool = true;
        /// The account that the user makes in Setup Assistant is no administrator.
        standard_users: bool = false;
    }
}

settings! {
    /// What devices in Apple Business Manager are told: a change reaches Apple with the next reading of the list, and a device when it is
    /// set up the next time.
    SetupProfile {
        /// Name of the profile, shown to the user.
        name: String = "Muster".into();
        /// The step cannot be skipped.
        mandatory: bool = true;
        /// The user may remove the management later.
        removable: bool = false;
        /// Setup Assistant waits until everything is installed (`apple.automated.await_minutes`).
        await_configured: bool = true;
        /// Macs on Ethernet go through Setup Assistant by themselves; needs `language` and `region`.
        auto_advance: bool = false;
        /// iPhones and iPads may be paired with other computers.
        allow_pairing: bool = true;
        /// iPads are shared by several users.
        shared_ipad: bool = false;
        /// iPhones and iPads (iOS 26) erase themselves and come back when their user has done, or after a time.
        return_to_service: bool = false;
        /// Department, shown to the user.
        department: String = String::new();
        /// Telephone number for help, shown to the user.
        support_phone_number: String = String::new();
        /// Mail address for help.
        support_email_address: String = String::new();
        /// Language for Macs that go on by themselves (`en`).
        language: String = String::new();
        /// Region for them (`DE`).
        region: String = String::new();
        /// Panes that are not shown (`AppleID`, `Siri`, `Privacy`, …; Apple's list of skip keys).
        skip_setup_items: Vec<String> = Vec::new();
    }
}

settings! {
    /// Licences of the App Store; off without a content token (`muster apple content-token`).
    Content {
        /// Apps and Books of Apple Business Manager.
        service_url: String = "https://vpp.itunes.apple.com/mdm/v2".into();
        /// PEM file: the root that the service's certificate has to chain to; default: the system's roots.
        service_root_file: Option<PathBuf> = None;
    }
}

settings! {
    /// Apple Push Notification service; off without a push certificate (`muster apple push-csr`).
    Apns {
        /// The service; `:2197` after the host where a firewall keeps port 443 closed.
        url: String = "https://api.push.apple.com".into();
        /// PEM file: the root that the service's certificate has to chain to; default: the system's roots.
        root_file: Option<PathBuf> = None;
        /// For how long the service keeps a wake for a device that is off, in hours.
        expiration_hours: u32 = 168;
    }
}
