//! `RestartDevice`: iPhones and iPads obey only when they are supervised.

use super::Request;

pub(super) struct RestartDevice;

impl Request for RestartDevice {
    fn name(&self) -> &'static str {
        "RestartDevice"
    }

    fn once(&self) -> bool {
        true
    }
}
