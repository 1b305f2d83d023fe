//! `ShutDownDevice`: iPhones and iPads obey only when they are supervised.

use super::Request;

pub(super) struct ShutDownDevice;

impl Request for ShutDownDevice {
    fn name(&self) -> &'static str {
        "ShutDownDevice"
    }

    fn once(&self) -> bool {
        true
    }
}
