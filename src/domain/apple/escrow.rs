//! What a device entrusts to the server.

use crate::domain::profile::Payload;

/// The payload with which a Mac encrypts its recovery key for the server.
const ESCROW: &str = "com.apple.security.FDERecoveryKeyEscrow";

/// Whether a profile has Macs entrust their recovery key to the server.
#[must_use]
pub fn wants_recovery_key(payloads: &[Payload]) -> bool {
    payloads.iter().any(|payload| payload.kind == ESCROW)
}

words! {
    /// A secret that is kept for a device, one of each kind.
    Kind {
        /// The bootstrap token of a Mac: authorises updates and makes secure token users.
        Bootstrap = "bootstrap",
        /// Clears the passcode of an iPhone or iPad.
        Unlock = "unlock",
        /// The personal recovery key of FileVault.
        FileVault = "fv-prk",
        /// The password of recoveryOS.
        RecoveryLock = "recovery-lock",
        /// The password of recoveryOS that the Mac was told and has not confirmed: it may be in force already.
        NextRecoveryLock = "next-recovery-lock",
        /// The firmware password of a Mac with an Intel processor.
        Firmware = "firmware",
        /// The firmware password that the Mac was told and has not confirmed.
        NextFirmware = "next-firmware",
        /// The password of the administrator account that the server has Setup Assistant make.
        Admin = "admin",
        /// The administrator's password that the Mac was told and has not confirmed.
        NextAdmin = "next-admin",
        /// Opens Activation Lock in the place of the user's Apple Account.
        ActivationLock = "activation-lock",
        /// What opens a Mac that was locked, or that was erased and has an Intel processor.
        Pin = "pin",
        /// The PIN that the Mac was told and has not confirmed: it may be in force already.
        NextPin = "next-pin",
        /// Where a lost iPhone or iPad last was, as JSON; forgotten when it is not lost any more.
        Location = "location",
    }
}

impl Kind {
    /// Whether people use it; tokens are given to the device only.
    #[must_use]
    pub fn is_for_people(self) -> bool {
        !matches!(self, Self::Bootstrap | Self::Unlock)
    }
}
