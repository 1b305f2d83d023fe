//! `RemoveProvisioningProfile`: applications that need the provisioning profile do not start any more.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{ForUsers, Request, named, needed};
use crate::domain::device::Platform;

pub(super) struct RemoveProvisioningProfile;

impl Request for RemoveProvisioningProfile {
    fn name(&self) -> &'static str {
        "RemoveProvisioningProfile"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> Result<Map<String, Value>, String> {
        needed(values, "uuid")?;
        Ok(named(values, &[("uuid", "UUID")]))
    }
}
