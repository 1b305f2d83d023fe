//! `ClearActivationLockBypassCode`: the device forgets its code. What is kept of it stays: it may still be the one that Apple knows.

use super::Request;

pub(super) struct ClearActivationLockBypassCode;

impl Request for ClearActivationLockBypassCode {
    fn name(&self) -> &'static str {
        "ClearActivationLockBypassCode"
    }
}
