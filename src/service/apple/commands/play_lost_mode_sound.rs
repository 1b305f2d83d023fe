//! `PlayLostModeSound`: a device that is marked as lost makes itself heard.

use super::Request;

pub(super) struct PlayLostModeSound;

impl Request for PlayLostModeSound {
    fn name(&self) -> &'static str {
        "PlayLostModeSound"
    }
}
