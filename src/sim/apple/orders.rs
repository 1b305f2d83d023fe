//! What a simulated device does when an administrator orders something: locks, lost mode, users, settings, updates.

use super::connect::{Reply, UNUSABLE};
use super::profiles::Refused;
use super::{Device, answers};
use crate::catalogue::OsVersion;
use crate::catalogue::payload::System;
use crate::wire::plist::{self, Dict, Limits, Value};

/// Settings that a device takes, by system; those with a star only when it is supervised.
const SETTINGS_OF_MACS: [&str; 5] = ["DeviceName", "HostName", "OrganizationInfo", "MDMOptions", "Bluetooth"];
const SETTINGS_OF_PHONES: [&str; 10] = [
    "DeviceName*",
    "OrganizationInfo",
    "MDMOptions",
    "Bluetooth*",
    "DataRoaming",
    "TimeZone*",
    "PersonalHotspot",
    "ApplicationAttributes",
    "Wallpaper*",
    "AccessibilitySettings*",
];
/// Those that only a Shared iPad takes besides.
const SETTINGS_OF_SHARED: [&str; 3] = ["SharedDeviceConfiguration", "DiagnosticSubmission", "AppAnalytics"];

pub(super) fn unusable(why: &str) -> Reply {
    Refused::command(UNUSABLE, why).into()
}

pub(super) fn done(key: &str, value: impl Into<Value>) -> Dict {
    Dict::new().with(key, value)
}

impl Device {
    /// Whether the device knows a command: by its system, its version, its chip, its supervision and its state.
    pub(super) fn knows(&self, request: &str) -> bool {
        let (mac, supervised) = (self.machine.system == System::Mac, self.machine.supervised);
        let phone = !mac;
        let before_27 = self.machine.version() < OsVersion { major: 27, minor: 0, build: 0, revision: 0 };
        match request {
            "SetRecoveryLock" | "VerifyRecoveryLock" => self.machine.silicon(),
            "SetFirmwarePassword" | "VerifyFirmwarePassword" => mac && !self.machine.silicon(),
            "InstalledApplicationList" | "Settings" => true,
            "UserList" | "DeleteUser" => {
                if mac {
                    supervised
                } else {
                    self.machine.shared
                }
            }
            "LogOutUser" => phone && self.machine.shared,
            "UnlockUserAccount" => mac,
            "EnableLostMode" | "DisableLostMode" | "DeviceLocation" | "PlayLostModeSound" => phone && supervised,
            "ActivationLockBypassCode" | "ClearActivationLockBypassCode" => supervised,
            "EnableRemoteDesktop" | "DisableRemoteDesktop" => mac && supervised,
            "ScheduleOSUpdate" | "OSUpdateStatus" => before_27 && supervised,
            "AvailableOSUpdates" => before_27 && (mac || supervised),
            "RefreshCellularPlans" => phone,
            "AccountConfiguration" => mac && self.machine.awaiting,
            "SetAutoAdminPassword" => mac && self.machine.automated,
            "InstallProvisioningProfile" | "RemoveProvisioningProfile" | "ProvisioningProfileList" => true,
            "ScheduleOSUpdateScan" => mac && supervised,
            "Restrictions" | "ValidateApplications" | "ManagedMediaList" | "RemoveMedia" => phone,
            // On a Mac it is a user's affair.
            "InstallMedia" => phone || self.user.is_some(),
            "NSExtensionMappings" => mac && self.user.is_some(),
            "ContentCachingInformation" | "LOMSetupRequest" | "LOMDeviceRequest" => mac,
            "UserConfigured" => self.machine.shared && self.user.is_some(),
            _ => false,
        }
    }

    /// Carries such a command out.
    pub(super) fn obey(&mut self, request: &str, body: &Dict) -> Result<Dict, Reply> {
        let mac = self.machine.system == System::Mac;
        let text = |key: &str| body.string(key).ok_or(Reply::Unreadable);
        let nothing = Ok(Dict::new());
        match request {
            "SetRecoveryLock" => {
                set_lock(&mut self.settings.recovery_lock, body)?;
                nothing
            }
            "VerifyRecoveryLock" => Ok(done("PasswordVerified", self.settings.recovery_lock.as_deref() == Some(text("Password")?))),
            "SetFirmwarePassword" => {
                let changed = set_lock(&mut self.settings.firmware, body).is_ok();
                Ok(done(request, done("PasswordChanged", changed)))
            }
            "VerifyFirmwarePassword" => {
                let holds = self.settings.firmware.as_deref() == Some(text("Password")?);
                Ok(done(request, done("PasswordVerified", holds)))
            }
            "InstalledApplicationList" => Ok(done(request, self.installed_apps(body))),
            "UserList" => Ok(done("Users", self.settings.users.iter().map(|user| user_of(user, mac)).collect::<Vec<_>>())),
            "UnlockUserAccount" => {
                let user = self.user(text("UserName")?)?;
                self.settings.locked_users.retain(|locked| *locked != user);
                nothing
            }
            "LogOutUser" => nothing,
            "DeleteUser" => {
                if body.boolean("DeleteAllUsers") == Some(true) {
                    self.settings.users.clear();
                } else {
                    let user = self.user(text("UserName")?)?;
                    self.settings.users.retain(|known| *known != user);
                }
                nothing
            }
            "EnableLostMode" => {
                let shown =
                    body.string("Message").or(body.string("PhoneNumber")).ok_or_else(|| unusable("neither message nor phone number"))?;
                self.settings.lost = Some(shown.to_owned());
                nothing
            }
            "DisableLostMode" => self.settings.lost.take().map(|_| Dict::new()).ok_or_else(|| unusable("The device is not in Lost Mode.")),
            "PlayLostModeSound" | "DeviceLocation" if self.settings.lost.is_none() => Err(unusable("The device is not in Lost Mode.")),
            "PlayLostModeSound" => nothing,
            "DeviceLocation" => {
                let (latitude, longitude) = self.settings.place;
                let place = done("Latitude", latitude).with("Longitude", longitude).with("HorizontalAccuracy", 12.5);
                let place = place.with("VerticalAccuracy", -1.0).with("Altitude", 180.0).with("Speed", -1.0).with("Course", -1.0);
                Ok(place.with("Timestamp", "2026-01-02T03:04:05Z"))
            }
            "ActivationLockBypassCode" => match &self.settings.bypass_code {
                Some(code) => Ok(done(request, code.as_str())),
                None => Err(unusable("There is no bypass code.")),
            },
            "ClearActivationLockBypassCode" => {
                self.settings.bypass_code = None;
                nothing
            }
            "EnableRemoteDesktop" | "DisableRemoteDesktop" => {
                self.settings.remote_desktop = request == "EnableRemoteDesktop";
                nothing
            }
            "AvailableOSUpdates" => Ok(done(request, vec![update_of(mac)])),
            "OSUpdateStatus" => {
                let status = |key: &String| {
                    let status = done("ProductKey", key.as_str()).with("IsDownloaded", true).with("DownloadPercentComplete", 1.0);
                    Value::Dict(status.with("Status", "Installing"))
                };
                Ok(done(request, self.settings.updates.iter().map(status).collect::<Vec<_>>()))
            }
            "ScheduleOSUpdate" => self.schedule(body),
            "RefreshCellularPlans" => text("eSIMServerURL").map(|_| Dict::new()),
            "Settings" => self.set(body),
            "AccountConfiguration" => {
                let accounts = body.array("AutoSetupAdminAccounts").unwrap_or_default();
                if let Some(account) = accounts.first().and_then(Value::as_dict) {
                    let name = account.string("shortName").ok_or(Reply::Unreadable)?;
                    let hash = entropy(account.data("passwordHash").unwrap_or_default())?;
                    self.settings.administrator = Some((name.to_owned(), hash));
                } else if body.boolean("SkipPrimarySetupAccountCreation") == Some(true) {
                    return Err(unusable("no account at all"));
                }
                nothing
            }
            "SetAutoAdminPassword" => {
                let known = answers::administrator(&self.machine);
                let hash = entropy(body.data("passwordHash").ok_or(Reply::Unreadable)?)?;
                match &mut self.settings.administrator {
                    Some((_, old)) if text("GUID")? == known => *old = hash,
                    _ => return Err(unusable("there is no such account")),
                }
                nothing
            }
            _ => self.obey_more(request, body),
        }
    }

    fn user(&self, name: &str) -> Result<String, Reply> {
        self.settings.users.iter().find(|user| *user == name).cloned().ok_or_else(|| unusable("There is no such user."))
    }

    fn schedule(&mut self, body: &Dict) -> Result<Dict, Reply> {
        let mut results = Vec::new();
        for update in body.array("Updates").ok_or(Reply::Unreadable)? {
            let update = update.as_dict().ok_or(Reply::Unreadable)?;
            let action = update.string("InstallAction").ok_or(Reply::Unreadable)?;
            let which = update.string("ProductKey").or(update.string("ProductVersion")).ok_or(Reply::Unreadable)?;
            // What is later than the version that it has is on offer.
            let known = which == "MSU_UPDATE_1" || OsVersion::parse(which).is_some_and(|version| version > self.machine.version());
            if known {
                self.settings.updates.push(format!("{which} {action}"));
            }
            let action = if !known {
                "Error"
            } else if action == "Default" {
                "InstallASAP"
            } else {
                action
            };
            let result = done("ProductKey", which).with("InstallAction", action);
            results.push(Value::Dict(result.with("Status", if known { "Downloading" } else { "Idle" })));
        }
        Ok(done("UpdateResults", results))
    }

    fn set(&mut self, body: &Dict) -> Result<Dict, Reply> {
        let known: &[&str] = if self.machine.system == System::Mac { &SETTINGS_OF_MACS } else { &SETTINGS_OF_PHONES };
        let mut results = Vec::new();
        for item in body.array("Settings").ok_or(Reply::Unreadable)? {
            let item = item.as_dict().ok_or(Reply::Unreadable)?;
            let name = item.string("Item").ok_or(Reply::Unreadable)?;
            let takes = known.contains(&name)
                || (self.machine.supervised && known.contains(&format!("{name}*").as_str()))
                || (self.machine.shared && SETTINGS_OF_SHARED.contains(&name));
            let whole = Value::Dict(item.clone());
            let value = item.get(name).or_else(|| item.get("Enabled")).unwrap_or(&whole);
            let status = if takes {
                if name == "DeviceName" {
                    self.machine.name = value.as_str().unwrap_or_default().to_owned();
                }
                if let Some(awaits) = item.dict("AwaitUserConfiguration") {
                    self.settings.await_users = awaits.boolean("Enabled").ok_or(Reply::Unreadable)?;
                }
                self.settings.told.insert(name.to_owned(), value.to_json().to_string());
                "Acknowledged"
            } else {
                "Error"
            };
            results.push(Value::Dict(done("Status", status)));
        }
        // Macs answer as the schema has it, iPhones as the older description.
        match results.first() {
            Some(one) if self.machine.system == System::Mac => Ok(done("Settings", one.clone())),
            _ => Ok(done("Settings", results)),
        }
    }
}

/// Sets, changes or takes away a password in front of starting.
fn set_lock(lock: &mut Option<String>, body: &Dict) -> Result<(), Reply> {
    let new = body.string("NewPassword").ok_or(Reply::Unreadable)?;
    if lock.as_deref().is_some_and(|current| body.string("CurrentPassword") != Some(current)) {
        return Err(unusable("The current password is incorrect."));
    }
    let right = (8..=32).contains(&new.len()) && new.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !new.is_empty() && !right {
        return Err(unusable("The new password is not acceptable."));
    }
    *lock = Some(new.to_owned()).filter(|new| !new.is_empty());
    Ok(())
}

/// The derived key in the hash of a password.
fn entropy(hash: &[u8]) -> Result<Vec<u8>, Reply> {
    let outer = plist::decode_dict(hash, Limits::MESSAGE).map_err(|_| unusable("the hash cannot be read"))?;
    let inner = outer.dict("SALTED-SHA512-PBKDF2").ok_or_else(|| unusable("not a hash that is known"))?;
    let (entropy, salt) = (inner.data("entropy").unwrap_or_default(), inner.data("salt").unwrap_or_default());
    let rounds = inner.integer("iterations").unwrap_or(0);
    if entropy.len() != 128 || salt.len() != 32 || rounds < 20_000 {
        return Err(unusable("a hash that is too weak"));
    }
    Ok(hash.to_vec())
}

fn user_of(name: &str, mac: bool) -> Value {
    let user = done("UserName", name).with("IsLoggedIn", name == "ana");
    Value::Dict(if mac {
        let user = user.with("FullName", name.to_uppercase()).with("UID", 501).with("UserGUID", format!("GUID-{name}"));
        user.with("MobileAccount", false).with("HasSecureToken", true)
    } else {
        user.with("HasDataToSync", false).with("DataQuota", 1_000_000).with("DataUsed", 1_000)
    })
}

fn update_of(mac: bool) -> Value {
    let update = done("ProductKey", "MSU_UPDATE_1").with("HumanReadableName", "System 99.0").with("Version", "99.0");
    let update =
        update.with("Build", "99A1").with("DownloadSize", 1_000_000).with("IsSecurityResponse", false).with("RestartRequired", true);
    Value::Dict(if mac {
        update.with("HumanReadableNameLocale", "en").with("MetadataURL", "https://example.org/m").with("AppIdentifiersToClose", Vec::new())
    } else {
        update.with("ProductName", "iOS").with("InstallSize", 2_000_000)
    })
}
