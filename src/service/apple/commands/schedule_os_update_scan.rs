//! `ScheduleOSUpdateScan`: has a Mac look for updates.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Request, flag};
use crate::domain::device::Platform;
use crate::wire::apple::command::Answer;

pub(super) struct ScheduleOsUpdateScan;

impl Request for ScheduleOsUpdateScan {
    fn name(&self) -> &'static str {
        "ScheduleOSUpdateScan"
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> Result<Map<String, Value>, String> {
        Ok(flag(values, "force")?.map(|force| ("Force".to_owned(), force.into())).into_iter().collect())
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        match answer.body.boolean("ScanInitiated") {
            Some(true) => Ok("the Mac looks for updates; list-updates shows what it found".into()),
            Some(false) => Err("the Mac did not begin to look for updates".into()),
            None => Err("no ScanInitiated in the answer".into()),
        }
    }
}
