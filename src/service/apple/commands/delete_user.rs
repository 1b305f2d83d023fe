//! `DeleteUser`: an account of the device goes, and the data in it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Request, flag, needed};
use crate::domain::device::Platform;

pub(super) struct DeleteUser;

impl Request for DeleteUser {
    fn name(&self) -> &'static str {
        "DeleteUser"
    }

    fn once(&self) -> bool {
        true
    }

    fn order(&self, values: &BTreeMap<String, String>, platform: Platform) -> Result<Map<String, Value>, String> {
        let (all, force) = (flag(values, "all")?, flag(values, "force")?);
        if platform == Platform::MacOs && (all.is_some() || force.is_some()) {
            return Err("all, force: only for Shared iPads".into());
        }
        let mut keys = Map::new();
        if all == Some(true) {
            if values.contains_key("user") {
                return Err("user: all of them are deleted, or one".into());
            }
            keys.insert("DeleteAllUsers".into(), true.into());
        } else {
            keys.insert("UserName".into(), needed(values, "user")?.into());
        }
        keys.extend(force.map(|force| ("ForceDeletion".to_owned(), force.into())));
        Ok(keys)
    }
}
