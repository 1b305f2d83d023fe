//! `ValidateApplications`: has an iPhone or iPad ask Apple whether applications that the organisation signed may still run.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{ForUsers, Request, list_of};
use crate::domain::device::Platform;

pub(super) struct ValidateApplications;

impl Request for ValidateApplications {
    fn name(&self) -> &'static str {
        "ValidateApplications"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> Result<Map<String, Value>, String> {
        Ok(list_of(values, "applications")?.map(|all| ("Identifiers".to_owned(), all)).into_iter().collect())
    }
}
