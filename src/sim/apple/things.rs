//! What a simulated device does with what else an administrator gives it or asks of it: provisioning profiles, books, restrictions, caches,
//! and other Macs that it switches.

use super::Device;
use super::connect::{Reply, UNKNOWN};
use super::orders::{done, unusable};
use super::profiles::Refused;
use crate::wire::cms::{SignedData, ber};
use crate::wire::plist::{Dict, Value};

impl Device {
    /// Carries such a command out.
    pub(super) fn obey_more(&mut self, request: &str, body: &Dict) -> Result<Dict, Reply> {
        let text = |key: &str| body.string(key).ok_or(Reply::Unreadable);
        let nothing = Ok(Dict::new());
        match request {
            "InstallProvisioningProfile" => {
                let profile = body.data("ProvisioningProfile").ok_or(Reply::Unreadable)?;
                let der = ber::to_der(profile).map_err(|_| unusable("not a provisioning profile"))?;
                SignedData::parse(&der).map_err(|_| unusable("not a provisioning profile"))?;
                let uuid = uuid::Uuid::new_v4().to_string();
                self.settings.provisioning.push(("Installed".into(), uuid));
                nothing
            }
            "RemoveProvisioningProfile" => {
                let uuid = text("UUID")?;
                let before = self.settings.provisioning.len();
                self.settings.provisioning.retain(|(_, known)| known != uuid);
                if self.settings.provisioning.len() < before { nothing } else { Err(unusable("There is no such provisioning profile.")) }
            }
            "ProvisioningProfileList" => {
                let one = |(name, uuid): &(String, String)| Value::Dict(done("Name", name.as_str()).with("UUID", uuid.as_str()));
                Ok(done(request, self.settings.provisioning.iter().map(one).collect::<Vec<_>>()))
            }
            "ScheduleOSUpdateScan" => Ok(done("ScanInitiated", true)),
            "Restrictions" => {
                let truth = done("allowCamera", done("value", false));
                let own = done("restrictedBool", truth).with("restrictedValue", done("maxInactivity", done("value", 5)));
                let each = if body.boolean("ProfileRestrictions") == Some(true) { done("org.example.p", own.clone()) } else { Dict::new() };
                Ok(done("GlobalRestrictions", own).with("ProfileRestrictions", each))
            }
            "ValidateApplications" => nothing,
            "InstallMedia" => {
                if text("MediaType")? != "Book" {
                    return Err(unusable("MediaType"));
                }
                let number = body.integer("iTunesStoreID").map(|number| number.to_string());
                let which = number.or_else(|| body.string("PersistentID").map(str::to_owned)).ok_or_else(|| unusable("which book?"))?;
                self.settings.books.push(which);
                Ok(done("MediaType", "Book").with("State", "Queued"))
            }
            "ManagedMediaList" => {
                let one = |book: &String| {
                    let number: i64 = book.parse().unwrap_or(0);
                    Value::Dict(done("iTunesStoreID", number).with("PersistentID", book.as_str()).with("State", "Managed"))
                };
                Ok(done("Books", self.settings.books.iter().map(one).collect::<Vec<_>>()))
            }
            "RemoveMedia" => {
                let which = body.string("iTunesStoreID").or(body.string("PersistentID")).ok_or(Reply::Unreadable)?;
                self.settings.books.retain(|book| book != which);
                nothing
            }
            "NSExtensionMappings" => {
                let one = done("Identifier", "org.example.share").with("ExtensionPoint", "com.apple.share-services");
                Ok(done("Extensions", vec![Value::Dict(one.with("DisplayName", "Share"))]))
            }
            "ContentCachingInformation" => {
                let status = done("Activated", true).with("Active", true).with("CacheUsed", 4096).with("CacheStatus", "OK");
                Ok(done("StatusResponse", status))
            }
            "LOMSetupRequest" => {
                let address = |address: &str| vec![Value::from(address)];
                let lists = done("PrimaryIPv6AddressList", address("fe80::1")).with("SecondaryIPv6AddressList", address("fe80::2"));
                Ok(lists.with("LOMProtocolVersion", 1))
            }
            "LOMDeviceRequest" => {
                let mut answers = Vec::new();
                for asked in body.array("RequestList").ok_or(Reply::Unreadable)? {
                    let asked = asked.as_dict().ok_or(Reply::Unreadable)?;
                    let text = |key: &str| asked.string(key).ok_or(Reply::Unreadable);
                    let (action, name) = (text("DeviceRequestType")?, text("DeviceDNSName")?);
                    let addressed = asked.array("PrimaryIPv6AddressList").is_some_and(|all| !all.is_empty());
                    let knows = ["PowerON", "PowerOFF", "Reset"].contains(&action) && asked.integer("LOMProtocolVersion") == Some(1);
                    let reached = addressed && knows && self.settings.switches.iter().any(|known| known == name);
                    let answer = done("DeviceRequestSuccess", reached).with("DeviceRequestUUID", text("DeviceRequestUUID")?);
                    answers.push(Value::Dict(if reached { answer } else { answer.with("DeviceRequestReturnError", "no answer") }));
                }
                Ok(done("ResponseList", answers))
            }
            "UserConfigured" => {
                let user = self.user.clone();
                self.settings.waiting_users.retain(|waiting| Some(waiting) != user.as_ref());
                nothing
            }
            _ => Err(Refused::command(UNKNOWN, request).into()),
        }
    }
}
