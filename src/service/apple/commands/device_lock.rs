//! `DeviceLock`. A Mac restarts into a lock that a PIN opens; an iPhone or iPad shows its lock screen.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{ForUsers, Request, named, pin};
use crate::domain::device::Platform;

pub(super) struct DeviceLock;

impl Request for DeviceLock {
    fn name(&self) -> &'static str {
        "DeviceLock"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::Phones
    }

    fn once(&self) -> bool {
        true
    }

    fn order(&self, values: &BTreeMap<String, String>, platform: Platform) -> Result<Map<String, Value>, String> {
        let mac = platform == Platform::MacOs;
        match pin(values)? {
            None if mac => return Err("pin: a Mac is opened with it again; six digits".into()),
            Some(_) if !mac => return Err("pin: an iPhone or iPad has its passcode".into()),
            _ => {}
        }
        Ok(named(values, &[("message", "Message"), ("phone", "PhoneNumber"), ("pin", "PIN")]))
    }
}
