//! `RefreshCellularPlans`: an iPhone or iPad looks for its eSIM at the carrier.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Request, needed};
use crate::domain::device::Platform;

pub(super) struct RefreshCellularPlans;

impl Request for RefreshCellularPlans {
    fn name(&self) -> &'static str {
        "RefreshCellularPlans"
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> Result<Map<String, Value>, String> {
        let url = needed(values, "url")?;
        if !reqwest::Url::parse(url).is_ok_and(|url| url.scheme() == "https" && url.has_host()) {
            return Err("url: an address that begins with https".into());
        }
        Ok([("eSIMServerURL".to_owned(), Value::from(url))].into_iter().collect())
    }
}
