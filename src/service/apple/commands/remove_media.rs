//! `RemoveMedia`: takes a book back that the server gave.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::install_media::store_id;
use super::{ForUsers, Request, named};
use crate::domain::device::Platform;

pub(super) struct RemoveMedia;

impl Request for RemoveMedia {
    fn name(&self) -> &'static str {
        "RemoveMedia"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> Result<Map<String, Value>, String> {
        // The number is a text here.
        store_id(values)?;
        let mut keys = named(values, &[("store-id", "iTunesStoreID"), ("id", "PersistentID")]);
        if keys.len() != 1 {
            return Err("store-id, id: one of them is needed".into());
        }
        keys.insert("MediaType".into(), "Book".into());
        Ok(keys)
    }
}
