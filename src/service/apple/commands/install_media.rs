//! `InstallMedia`: gives a book. On a Mac it is its user's affair.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{ForUsers, Request, named};
use crate::domain::device::Platform;
use crate::wire::apple::command::Answer;

pub(super) struct InstallMedia;

/// What can be said of a book that is not of the store.
const ABOUT: [(&str, &str); 6] =
    [("url", "MediaURL"), ("id", "PersistentID"), ("kind", "Kind"), ("version", "Version"), ("author", "Author"), ("title", "Title")];
/// How a book may be made.
const KINDS: [&str; 3] = ["pdf", "epub", "ibooks"];

/// A number of the store's.
pub(super) fn store_id(values: &BTreeMap<String, String>) -> Result<Option<i64>, String> {
    let number = |text: &String| text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "store-id: a number".to_owned());
    values.get("store-id").map(number).transpose()
}

impl Request for InstallMedia {
    fn name(&self) -> &'static str {
        "InstallMedia"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::Phones
    }

    fn by_user(&self, platform: Platform) -> bool {
        platform == Platform::MacOs
    }

    fn order(&self, values: &BTreeMap<String, String>, platform: Platform) -> Result<Map<String, Value>, String> {
        let mut keys = named(values, &ABOUT);
        match (store_id(values)?, keys.is_empty()) {
            (Some(number), true) => {
                keys.insert("iTunesStoreID".into(), number.into());
            }
            (Some(_), false) => return Err("store-id: the store knows the rest by itself".into()),
            (None, _) if platform == Platform::MacOs => return Err("store-id: is needed; Macs take books of the store only".into()),
            (None, _) => {
                let url = values.get("url").ok_or("store-id, url: one of them is needed")?;
                if !url.starts_with("https://") {
                    return Err("url: begins with https://".into());
                }
                if !values.contains_key("id") {
                    return Err("id: is needed with url, and names the book (org.example.manual)".into());
                }
                if values.get("kind").is_none_or(|kind| !KINDS.contains(&kind.as_str())) {
                    return Err("kind: pdf, epub or ibooks".into());
                }
            }
        }
        keys.insert("MediaType".into(), "Book".into());
        Ok(keys)
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        match answer.body.string("State").unwrap_or_default() {
            "" => Ok("done".into()),
            "Failed" => Err("the device could not install the book".into()),
            state => Ok(format!("the book is {}", state.chars().take(50).collect::<String>())),
        }
    }
}
