//! What a simulated device is and how it is set: hardware, system, and what its user did with it.

use crate::catalogue::OsVersion;
use crate::catalogue::payload::System;
use crate::wire::apple::machine_info::MachineInfo;

/// What a device is.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Which system.
    pub system: System,
    /// The hardware's identifier.
    pub udid: String,
    /// The serial number.
    pub serial: String,
    /// The device's name.
    pub name: String,
    /// The model's identifier (`Mac14,2`).
    pub product: String,
    /// The model's name.
    pub model_name: String,
    /// The version of the operating system.
    pub os_version: String,
    /// Its build.
    pub build: String,
    /// Supervised.
    pub supervised: bool,
    /// Setup Assistant waits for `DeviceConfigured`.
    pub awaiting: bool,
    /// Enrolled from Setup Assistant.
    pub automated: bool,
    /// An iPad that several users share.
    pub shared: bool,
}

/// Nine hexadecimal digits and more that belong to a number: the same number is the same hardware.
fn digest(kind: &str, number: u64) -> String {
    hex::encode_upper(openssl::sha::sha256(format!("simulated {kind} {number}").as_bytes()))
}

impl Machine {
    /// A Mac with Apple silicon and that number: the same number is the same hardware.
    #[must_use]
    pub fn mac(number: u64) -> Self {
        let hex = digest("mac", number);
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        Self {
            system: System::Mac,
            udid: format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)),
            serial: format!("SIMM{number:08}"),
            name: format!("MAC-{number:05}"),
            product: "Mac14,2".into(),
            model_name: "MacBook Air".into(),
            os_version: "15.1".into(),
            build: "24B83".into(),
            supervised: true,
            awaiting: false,
            automated: false,
            shared: false,
        }
    }

    /// An iPhone with that number: the same number is the same hardware.
    #[must_use]
    pub fn iphone(number: u64) -> Self {
        let hex = digest("iphone", number);
        Self {
            system: System::Ios,
            udid: format!("00008110-{}", hex.get(..16).unwrap_or_default()),
            serial: format!("SIMI{number:08}"),
            name: format!("IPH-{number:05}"),
            product: "iPhone14,5".into(),
            model_name: "iPhone".into(),
            os_version: "18.1".into(),
            build: "22B83".into(),
            supervised: false,
            awaiting: false,
            automated: false,
            shared: false,
        }
    }

    /// The version, to be compared.
    #[must_use]
    pub fn version(&self) -> OsVersion {
        OsVersion::parse(&self.os_version).unwrap_or(OsVersion { major: 0, minor: 0, build: 0, revision: 0 })
    }

    /// A Mac with Apple silicon (`Mac14,2`); Intel's are called `MacBookPro16,1` and the like.
    #[must_use]
    pub fn silicon(&self) -> bool {
        self.system == System::Mac && self.product.starts_with("Mac1")
    }

    /// What the device says of itself before it enrols.
    #[must_use]
    pub fn info(&self) -> MachineInfo {
        MachineInfo {
            udid: Some(self.udid.clone()),
            serial: Some(self.serial.clone()),
            product: self.product.clone(),
            version: self.build.clone(),
            os_version: Some(self.os_version.clone()),
            language: Some("en".into()),
            mdm_can_request_software_update: true,
            ..MachineInfo::default()
        }
    }
}

/// What a device says of itself before it enrols as its user's own: nothing of its hardware but the model.
#[must_use]
pub fn hidden(info: MachineInfo) -> MachineInfo {
    MachineInfo { udid: None, serial: None, imei: None, meid: None, ..info }
}

/// How a device is set and what its user did with it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// An iPhone that is locked, a Mac that naps: most commands are answered by `NotNow`.
    pub locked: bool,
    /// The passcode or password.
    pub passcode: Option<String>,
    /// The start volume is encrypted.
    pub filevault: bool,
    /// The recovery key of the start volume.
    pub recovery_key: Option<String>,
    /// The password in front of recoveryOS.
    pub recovery_lock: Option<String>,
    /// The password in front of other start disks.
    pub firmware: Option<String>,
    /// The administrator account that Setup Assistant made: its short name and the hash of its password.
    pub administrator: Option<(String, Vec<u8>)>,
    /// Marked as lost, with the text on the lock screen.
    pub lost: Option<String>,
    /// Where it is.
    pub place: (f64, f64),
    /// The code that opens Activation Lock.
    pub bypass_code: Option<String>,
    /// Remote Desktop is on.
    pub remote_desktop: bool,
    /// Short names of its users.
    pub users: Vec<String>,
    /// Users whose account is locked.
    pub locked_users: Vec<String>,
    /// Settings that it was told, by their names.
    pub told: std::collections::BTreeMap<String, String>,
    /// Updates that it was told to install: version or product key, and what to do with it.
    pub updates: Vec<String>,
    /// The firewall is on.
    pub firewall: bool,
    /// System integrity protection is on.
    pub integrity: bool,
    /// The digits that open it after it was locked or erased.
    pub pin: Option<String>,
    /// Provisioning profiles: name and UUID.
    pub provisioning: Vec<(String, String)>,
    /// Books that it was given, by their numbers or names.
    pub books: Vec<String>,
    /// Names of the Macs that it can switch.
    pub switches: Vec<String>,
    /// Users who sign in to a Shared iPad wait in Setup Assistant.
    pub await_users: bool,
    /// Users who wait there.
    pub waiting_users: Vec<String>,
    /// The user lets a profile with FileVault have its way.
    pub obeys_filevault: bool,
    /// Switched off.
    pub off: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            locked: false,
            passcode: Some("correct-horse-42".into()),
            filevault: false,
            recovery_key: None,
            recovery_lock: None,
            firmware: None,
            administrator: None,
            lost: None,
            place: (48.2, 16.37),
            bypass_code: Some("F0RKX-5C1TN-G7H8-J2KW-A9QY-0PZE".into()),
            remote_desktop: false,
            users: vec!["ana".into(), "ben".into()],
            locked_users: Vec::new(),
            told: std::collections::BTreeMap::new(),
            updates: Vec::new(),
            firewall: true,
            integrity: true,
            pin: None,
            provisioning: vec![("Example".into(), "11111111-2222-3333-4444-555555555555".into())],
            books: Vec::new(),
            switches: vec!["other.example.org".into()],
            await_users: false,
            waiting_users: Vec::new(),
            obeys_filevault: true,
            off: false,
        }
    }
}
