//! `LogOutUser`: ends the session of the user of a Shared iPad.

use super::Request;

pub(super) struct LogOutUser;

impl Request for LogOutUser {
    fn name(&self) -> &'static str {
        "LogOutUser"
    }

    fn once(&self) -> bool {
        true
    }
}
