//! What a simulated device answers to questions: what it is, how secure it is, what it has.

use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;

use super::machine::{Machine, Settings};
use super::profiles::Store;
use crate::catalogue::payload::System;
use crate::wire::Malformed;
use crate::wire::cms::{CertificateView, Cipher, seal};
use crate::wire::plist::{Data, Dict, Value};

/// The payload that says to which certificate the recovery key is encrypted.
const ESCROW: &str = "com.apple.security.FDERecoveryKeyEscrow";
/// The payload with rules for the passcode.
const PASSCODE: &str = "com.apple.mobiledevice.passwordpolicy";

/// Questions that a user's own device does not answer.
pub const HIDDEN: [&str; 15] = [
    "UDID",
    "ProvisioningUDID",
    "SerialNumber",
    "IMEI",
    "MEID",
    "WiFiMAC",
    "BluetoothMAC",
    "EthernetMAC",
    "ServiceSubscriptions",
    "AwaitingConfiguration",
    "IsMDMLostModeEnabled",
    "IsCloudBackupEnabled",
    "IsActivationLockSupported",
    "PINRequiredForDeviceLock",
    "PINRequiredForEraseDevice",
];
/// What a user's own device leaves out of `SecurityInfo`.
const HIDDEN_SECURITY: [&str; 9] = [
    "PasscodePresent",
    "PasscodeCompliantWithProfiles",
    "PasscodeLockGracePeriod",
    "PasscodeLockGracePeriodEnforced",
    "FDE_HasPersonalRecoveryKey",
    "FDE_HasInstitutionalRecoveryKey",
    "FDE_PersonalRecoveryKeyCMS",
    "RemoteDesktopEnabled",
    "IsRecoveryLockEnabled",
];

/// What `DeviceInformation` answers: questions that the device does not know are left out.
#[must_use]
pub fn device_information(queries: &[Value], machine: &Machine, settings: &Settings) -> Dict {
    let known = queries.iter().filter_map(Value::as_str).filter_map(|query| Some((query, one(query, machine, settings)?)));
    Dict::new().with("QueryResponses", known.collect::<Dict>())
}

fn one(query: &str, machine: &Machine, settings: &Settings) -> Option<Value> {
    let text = |text: &str| Some(Value::from(text));
    let mac = machine.system == System::Mac;
    match query {
        "UDID" => text(&machine.udid),
        "DeviceName" => text(&machine.name),
        "OSVersion" => text(&machine.os_version),
        "BuildVersion" => text(&machine.build),
        "ModelName" => text(&machine.model_name),
        "Model" | "ProductName" => text(&machine.product),
        "SerialNumber" => text(&machine.serial),
        "WiFiMAC" => text("02:00:00:00:00:01"),
        "BluetoothMAC" => text("02:00:00:00:00:02"),
        "DeviceCapacity" => Some(Value::Real(256.0)),
        "AvailableDeviceCapacity" => Some(Value::Real(128.5)),
        "BatteryLevel" => Some(Value::Real(0.75)),
        "IsSupervised" => Some(machine.supervised.into()),
        "AwaitingConfiguration" => Some(machine.awaiting.into()),
        "IsMultiUser" if !mac => Some(machine.shared.into()),
        "IsMDMLostModeEnabled" if !mac => Some(settings.lost.is_some().into()),
        "IsDeviceLocatorServiceEnabled" | "IsCloudBackupEnabled" if !mac => Some(false.into()),
        "IsAppleSilicon" if mac => Some(machine.silicon().into()),
        "AutoSetupAdminAccounts" if mac && machine.automated => {
            let (name, _) = settings.administrator.as_ref()?;
            let account = Dict::new().with("GUID", administrator(machine)).with("shortName", name.as_str());
            Some(vec![account.into()].into())
        }
        "IsActivationLockSupported" | "HasBattery" | "SupportsiOSAppInstalls" if mac => Some(true.into()),
        "PINRequiredForDeviceLock" | "PINRequiredForEraseDevice" if mac => Some(false.into()),
        "SystemIntegrityProtectionEnabled" if mac => Some(settings.integrity.into()),
        "LocalHostName" | "HostName" if mac => text(&machine.name),
        "ProvisioningUDID" if mac => text(&super::attestation::udid(machine)),
        "EthernetMAC" if mac => text("02:00:00:00:00:03"),
        "TimeZone" if !mac => text("Europe/Vienna"),
        _ => None,
    }
}

/// The GUID of the administrator account that Setup Assistant makes.
#[must_use]
pub fn administrator(machine: &Machine) -> String {
    machine.udid.chars().rev().collect()
}

/// What `SecurityInfo` answers; `users`: of a device that is its user's own (user enrolment).
///
/// # Errors
/// When the recovery key cannot be encrypted to the certificate of the profile that asks for it.
pub fn security_info(machine: &Machine, settings: &Settings, profiles: &Store, users: bool) -> Result<Dict, Malformed> {
    let mut info = match machine.system {
        System::Ios => Dict::new()
            .with("HardwareEncryptionCaps", 3)
            .with("PasscodePresent", settings.passcode.is_some())
            // Without any rule a device without a passcode calls itself compliant.
            .with("PasscodeCompliant", is_compliant(settings, profiles))
            .with("PasscodeCompliantWithProfiles", is_compliant(settings, profiles))
            .with("PasscodeLockGracePeriod", 0)
            .with("PasscodeLockGracePeriodEnforced", 0),
        System::Mac => {
            let firewall = Dict::new()
                .with("FirewallEnabled", settings.firewall)
                .with("BlockAllIncoming", false)
                .with("StealthMode", false)
                .with("Applications", Vec::new());
            let management = Dict::new()
                .with("EnrolledViaDEP", machine.automated || machine.awaiting)
                .with("UserApprovedEnrollment", true)
                .with("IsUserEnrollment", users)
                .with("IsActivationLockManageable", false);
            let mut info = Dict::new()
                .with("FDE_Enabled", settings.filevault)
                .with("FDE_HasPersonalRecoveryKey", settings.recovery_key.is_some())
                .with("FDE_HasInstitutionalRecoveryKey", false)
                .with("SystemIntegrityProtectionEnabled", settings.integrity)
                .with("FirewallSettings", firewall)
                .with("ManagementStatus", management)
                .with("SecureBoot", Dict::new().with("SecureBootLevel", "full").with("ExternalBootLevel", "disallowed"))
                .with("RemoteDesktopEnabled", settings.remote_desktop)
                .with("AuthenticatedRootVolumeEnabled", true)
                .with("IsRecoveryLockEnabled", settings.recovery_lock.is_some());
            info.insert_some("FDE_PersonalRecoveryKeyCMS", escrowed(settings, profiles)?.map(Data));
            info
        }
    };
    for key in HIDDEN_SECURITY.iter().filter(|_| users) {
        info.remove(key);
    }
    Ok(Dict::new().with("SecurityInfo", info))
}

/// Whether the passcode is what the installed profiles ask for.
#[must_use]
pub fn is_compliant(settings: &Settings, profiles: &Store) -> bool {
    let passcode = settings.passcode.as_deref();
    profiles.payloads(PASSCODE).all(|payload| {
        let rule = |key: &str| payload.body.boolean(key).unwrap_or(false);
        let number = |key: &str| payload.body.integer(key).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let Some(passcode) = passcode else { return !rule("forcePIN") && number("minLength") == 0 };
        let complex = passcode.chars().filter(|c| !c.is_alphanumeric()).count();
        passcode.chars().count() >= number("minLength")
            && complex >= number("minComplexChars")
            && (!rule("requireAlphanumeric") || (passcode.contains(char::is_numeric) && passcode.contains(char::is_alphabetic)))
    })
}

/// The recovery key, encrypted as the profile with the escrow wants it.
fn escrowed(settings: &Settings, profiles: &Store) -> Result<Option<Vec<u8>>, Malformed> {
    let Some(key) = settings.recovery_key.as_ref().filter(|_| settings.filevault) else { return Ok(None) };
    for installed in profiles.iter() {
        let Some(escrow) = installed.profile.payloads().iter().find(|payload| payload.kind == ESCROW) else { continue };
        let uuid = escrow.body.string("EncryptCertPayloadUUID").unwrap_or_default();
        let Some(certificate) = installed.certificates.get(uuid) else { continue };
        return encrypt(key.as_bytes(), certificate).map(Some);
    }
    Ok(None)
}

/// Encrypts to a certificate.
///
/// # Errors
/// When the certificate cannot be read or its key cannot encrypt.
pub fn encrypt(content: &[u8], certificate: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut random = [0u8; 32];
    rand_bytes(&mut random).map_err(|_| Malformed::new("no randomness", "EnvelopedData"))?;
    let (key, iv) = random.split_at(16);
    seal(content, &CertificateView::parse(certificate)?, Cipher::Aes128, key, iv)
}

/// A recovery key as Macs show it: six groups of four.
///
/// # Errors
/// When the system has no randomness.
pub fn recovery_key() -> Result<String, ErrorStack> {
    const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut random = [0u8; 24];
    rand_bytes(&mut random)?;
    let letters: Vec<char> = random.iter().map(|byte| LETTERS.get(usize::from(byte % 32)).map_or('A', |l| char::from(*l))).collect();
    Ok(letters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_answered_by_those_who_know() {
        let ask = |machine: &Machine| {
            let queries = ["UDID", "IsAppleSilicon", "AvailableDeviceCapacity", "Unheard"].map(Value::from);
            let body = device_information(&queries, machine, &Settings::default());
            body.dict("QueryResponses").unwrap().keys().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(ask(&Machine::mac(1)), ["UDID", "IsAppleSilicon", "AvailableDeviceCapacity"]);
        assert_eq!(ask(&Machine::iphone(1)), ["UDID", "AvailableDeviceCapacity"]);
        assert_eq!((Machine::mac(1).udid.len(), Machine::iphone(1).udid.len()), (36, 25));
        assert_eq!(Machine::mac(7).udid, Machine::mac(7).udid);
    }

    #[test]
    fn without_a_rule_a_phone_without_a_passcode_calls_itself_compliant() {
        let settings = Settings { passcode: None, ..Settings::default() };
        let info = security_info(&Machine::iphone(1), &settings, &Store::default(), false).unwrap();
        let info = info.dict("SecurityInfo").unwrap();
        assert_eq!((info.boolean("PasscodePresent"), info.boolean("PasscodeCompliant")), (Some(false), Some(true)));
    }

    #[test]
    fn recovery_keys_look_like_those_of_macs() {
        let key = recovery_key().unwrap();
        assert_eq!(key.split('-').map(str::len).collect::<Vec<_>>(), [4; 6]);
        assert_ne!(key, recovery_key().unwrap());
    }
}
