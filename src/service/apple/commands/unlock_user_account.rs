//! `UnlockUserAccount`: lets a local user in again after too many wrong passwords.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Request, needed};
use crate::domain::device::Platform;

pub(super) struct UnlockUserAccount;

impl Request for UnlockUserAccount {
    fn name(&self) -> &'static str {
        "UnlockUserAccount"
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> Result<Map<String, Value>, String> {
        let user = needed(values, "user")?;
        Ok([("UserName".to_owned(), Value::from(user))].into_iter().collect())
    }
}
