//! `InstallProvisioningProfile`: lets applications run that the organisation signed itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{ForUsers, Request, file};
use crate::domain::device::Platform;
use crate::wire::cms::{SignedData, ber};

pub(super) struct InstallProvisioningProfile;

impl Request for InstallProvisioningProfile {
    fn name(&self) -> &'static str {
        "InstallProvisioningProfile"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> Result<Map<String, Value>, String> {
        let (bytes, value) = file(values, "profile")?.ok_or("profile: is needed")?;
        let read = ber::to_der(&bytes).ok().is_some_and(|der| SignedData::parse(&der).is_ok());
        if !read {
            return Err("profile: not a provisioning profile (a signed file, .mobileprovision)".into());
        }
        Ok([("ProvisioningProfile".to_owned(), value)].into_iter().collect())
    }
}
