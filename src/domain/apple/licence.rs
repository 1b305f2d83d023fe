//! Licences of the App Store, which devices get by their serial numbers before the application itself.

use crate::clock::Time;

words! {
    /// How far a licence is on its way to a device, or back.
    State {
        /// A device wants it.
        Wanted = "wanted",
        /// The store works on giving it.
        Asked = "asked",
        /// The device has it.
        Held = "held",
        /// The store did not give it.
        Failed = "failed",
        /// No device wants it any more.
        Unwanted = "unwanted",
        /// The store works on taking it back.
        Returning = "returning",
    }
}

/// A licence of one application for one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Licence {
    /// The device's serial number.
    pub serial: String,
    /// The application's number in the store.
    pub store_id: i64,
    /// How far it is.
    pub state: State,
    /// Under which name the store works on it.
    pub event: Option<String>,
    /// Why it was not given.
    pub error: Option<String>,
}

/// The connection with the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The content token, sealed.
    pub sealed_token: Vec<u8>,
    /// The location's identifier.
    pub location_id: String,
    /// Its name.
    pub location: String,
    /// The organisation.
    pub organisation: String,
    /// When the token ends.
    pub ends_at: Time,
    /// How many days before its end was last warned of it.
    pub warned_days: Option<i64>,
    /// Until when the store wants to be left alone.
    pub wait_until: Option<Time>,
    /// What an administrator has to see to, and since when.
    pub alarm: Option<(String, Time)>,
}
