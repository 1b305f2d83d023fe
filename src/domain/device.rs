//! The directory device, which outlives its enrolments.

use crate::catalogue::Inventory;
use crate::ids::{DeviceId, UserId};

words! {
    /// The operating system family.
    Platform {
        /// Windows 10 and 11.
        Windows = "windows",
        /// macOS.
        MacOs = "macos",
        /// iOS and iPadOS.
        Ios = "ios",
        /// Android.
        Android = "android",
    }
}

impl Platform {
    /// Whether Apple's protocol manages it.
    #[must_use]
    pub fn is_apple(self) -> bool {
        matches!(self, Self::MacOs | Self::Ios)
    }
}

words! {
    /// Where a device is in its life.
    State {
        /// Enrolled and managed.
        Managed = "managed",
        /// Told to leave; its enrolment ends with its next contact.
        Retiring = "retiring",
        /// Not managed any more; its certificates are revoked.
        Retired = "retired",
    }
}

words! {
    /// Whose a device is.
    Ownership {
        /// The organisation's: it lists the serial number, or the device enrolled as the organisation's by account.
        Company = "company",
        /// Its user's own.
        Personal = "personal",
    }
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Device {
    /// Identifier, also the one that certificates and signals carry.
    pub id: DeviceId,
    /// Name for people.
    pub display_name: String,
    /// Operating system family.
    pub platform: Platform,
    /// Whose it is.
    pub user_id: Option<UserId>,
    /// Stable over re-enrolment (Windows `HWDevID`, Apple UDID): finds the old row.
    pub hardware_id: Option<String>,
    /// The identity provider's own id for the device, when it has one.
    pub entra_device_id: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Maker.
    pub manufacturer: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Version as the device reports it (`10.0.22631.4317`).
    pub os_version: Option<String>,
    /// Edition or SKU as the device reports it.
    pub os_edition: Option<String>,
    /// Where it is in its life.
    pub state: State,
}

impl Device {
    /// Takes a reported value into the column of the inventory that it is for, trimmed and cut; an empty one says nothing.
    pub fn take_inventory(&mut self, column: Inventory, value: &str) {
        let text: String = value.trim().chars().take(256).collect();
        if text.is_empty() || column == Inventory::SerialNumber && self.keeps_serial() {
            return;
        }
        match column {
            Inventory::DisplayName => self.display_name = text,
            Inventory::SerialNumber => self.serial_number = Some(text),
            Inventory::Manufacturer => self.manufacturer = Some(text),
            Inventory::Model => self.model = Some(text),
            Inventory::OsVersion => self.os_version = Some(text),
            Inventory::OsEdition => self.os_edition = Some(text),
            Inventory::EntraDeviceId => self.entra_device_id = Some(text),
            // Known from the enrolment, which finds the device by it.
            Inventory::HardwareId | Inventory::ChannelUri => {}
        }
    }

    /// Whether the serial number stays what it is, whatever the device says of it later. That of an Apple device was proven, or said, when
    /// it enrolled; certificates and licences are given for it, so nothing that it says afterwards makes it another one.
    #[must_use]
    pub fn keeps_serial(&self) -> bool {
        self.platform.is_apple() && self.serial_number.is_some()
    }

    /// Whether a serial number that is reported contradicts the one that stays.
    #[must_use]
    pub fn contradicts_serial(&self, reported: &str) -> bool {
        let said = reported.trim();
        self.keeps_serial() && !said.is_empty() && self.serial_number.as_deref() != Some(said)
    }
}
