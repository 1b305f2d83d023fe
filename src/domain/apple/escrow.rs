//! What a device entrusts to the server.

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
    }
}
