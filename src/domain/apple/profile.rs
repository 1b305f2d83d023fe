//! How profiles are named. A profile takes the place of the one with its identifier; inside, a payload with the identifier and UUID of an
//! installed one is updated in place, and any other is removed and installed anew. So payload UUIDs stay while the profile is the same
//! profile, and the profile's own UUID says which content it has.

use openssl::sha::{Sha1, sha256};
use uuid::{Builder, Uuid};

use crate::ids::{ProfileId, TenantId};
use crate::wire::apple::profile::{Content, Payload, Profile, Scope};
use crate::wire::plist::{self, Dict, Value};

/// Under which all names are made: an arbitrary UUID that never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x6d75_7374_6572_4d44_8d4d_0a9f_6c1e_5b27);

/// Makes the names of one organisation's profiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    tenant: TenantId,
    prefix: String,
}

/// A payload before it is named.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Which kind.
    pub kind: String,
    /// Its name in the profile, stable over versions.
    pub name: String,
    /// Another text makes another UUID: the device drops what it has and begins anew (a new identity instead of the old).
    pub generation: String,
    /// Its own keys.
    pub body: Dict,
}

/// A UUID of version 5 (RFC 9562): the same for the same name.
#[must_use]
fn named(namespace: Uuid, name: &str) -> Uuid {
    let mut digest = Sha1::new();
    digest.update(namespace.as_bytes());
    digest.update(name.as_bytes());
    let digest = digest.finish();
    let first: [u8; 16] = std::array::from_fn(|at| digest.get(at).copied().unwrap_or_default());
    Builder::from_sha1_bytes(first).into_uuid()
}

impl Names {
    /// Names below a prefix in reverse order of a domain's words (`org.example.mdm`).
    #[must_use]
    pub fn new(tenant: TenantId, prefix: impl Into<String>) -> Self {
        Self { tenant, prefix: prefix.into() }
    }

    /// The prefix for a server at that host: its words in reverse order.
    #[must_use]
    pub fn prefix_of(host: &str) -> String {
        host.split('.').rev().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(".")
    }

    /// The prefix of all names.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The identifier of the enrolment profile: one for all devices, never another.
    #[must_use]
    pub fn enrollment(&self) -> String {
        format!("{}.enrollment", self.prefix)
    }

    /// What the identifiers of all profiles begin with, but for the one of enrolment.
    #[must_use]
    pub fn profiles(&self) -> String {
        format!("{}.profile.", self.prefix)
    }

    /// The identifier of a profile on a device.
    #[must_use]
    pub fn profile(&self, profile: &ProfileId) -> String {
        format!("{}.profile.{profile}", self.prefix)
    }

    /// Which profile of ours an identifier names, when a device lists what it has.
    #[must_use]
    pub fn parse(&self, identifier: &str) -> Option<ProfileId> {
        ProfileId::parse(identifier.strip_prefix(&self.prefix)?.strip_prefix(".profile.")?)
    }

    /// The `PayloadUUID` of a payload, for references from its neighbours.
    #[must_use]
    pub fn payload_uuid(&self, identifier: &str, name: &str, generation: &str) -> String {
        let tenant = named(NAMESPACE, self.tenant.as_str());
        let within = named(tenant, identifier);
        let text = if generation.is_empty() { name.to_owned() } else { format!("{name}\n{generation}") };
        named(within, &text).to_string().to_ascii_uppercase()
    }

    /// Puts a profile together: names and UUIDs, and a UUID of the whole that changes exactly with the content.
    #[must_use]
    pub fn assemble(&self, identifier: &str, about: &About, parts: Vec<Part>) -> Profile {
        let payloads: Vec<Payload> = parts
            .into_iter()
            .map(|part| Payload {
                identifier: format!("{identifier}.{}", part.name),
                uuid: self.payload_uuid(identifier, &part.name, &part.generation),
                kind: part.kind,
                body: part.body,
            })
            .collect();
        let mut body = Dict::new().with("PayloadDisplayName", about.display_name.as_str());
        body.insert_some("PayloadDescription", Some(about.description.as_str()).filter(|text| !text.is_empty()));
        body.insert_some("PayloadOrganization", Some(about.organization.as_str()).filter(|text| !text.is_empty()));
        body.insert_some("PayloadScope", about.scope.map(Scope::as_str));
        let mut profile = Profile { identifier: identifier.to_owned(), uuid: String::new(), body, content: Content::Plain(payloads) };
        let digest = hex::encode(sha256(&plist::encode(&profile.to_value())));
        profile.uuid = self.payload_uuid(identifier, "", &digest);
        profile
    }
}

/// What a profile says of itself to people, and whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Its name.
    pub display_name: String,
    /// What it does.
    pub description: String,
    /// Whose device this is.
    pub organization: String,
    /// The computer's or the user's; `None` where systems know no difference, and in enrolment profiles.
    pub scope: Option<Scope>,
}

/// Whether the device has the profile in this very content: what `ProfileList` says of it is compared by identifier and UUID.
#[must_use]
pub fn is_installed(listed: &[Value], profile: &Profile) -> bool {
    listed.iter().filter_map(Value::as_dict).any(|entry| {
        entry.string("PayloadIdentifier") == Some(profile.identifier.as_str())
            && entry.string("PayloadUUID").is_some_and(|uuid| uuid.eq_ignore_ascii_case(&profile.uuid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new(TenantId::from_store("0192f0c1-0000-7000-8000-000000000001".into()), Names::prefix_of("mdm.example.org"))
    }

    fn part(name: &str, generation: &str, ssid: &str) -> Part {
        Part {
            kind: "com.apple.wifi.managed".into(),
            name: name.into(),
            generation: generation.into(),
            body: Dict::new().with("SSID_STR", ssid),
        }
    }

    fn about() -> About {
        About { display_name: "Net".into(), scope: Some(Scope::System), ..About::default() }
    }

    #[test]
    fn uuids_are_those_of_the_rfc() {
        let dns = Uuid::try_parse("6ba7b810-9dad-11d1-80b4-00c04fd430c8").unwrap();
        assert_eq!(named(dns, "www.example.com").to_string(), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    }

    #[test]
    fn payloads_keep_their_uuid_when_the_content_changes_and_the_whole_does_not() {
        let names = names();
        let make = |ssid| names.assemble("org.example.mdm.profile.x", &about(), vec![part("wifi", "", ssid)]);
        let (one, two) = (make("a"), make("b"));
        assert_eq!(one.payloads()[0].uuid, two.payloads()[0].uuid);
        assert_eq!(one.payloads()[0].identifier, "org.example.mdm.profile.x.wifi");
        assert_ne!(one.uuid, two.uuid);
        assert_eq!(one, make("a"));
    }

    #[test]
    fn another_generation_profile_or_tenant_is_another_uuid() {
        let names = names();
        let other = Names::new(TenantId::from_store("0192f0c1-0000-7000-8000-000000000002".into()), "org.example.mdm");
        let uuids = [
            names.payload_uuid("p", "scep", ""),
            names.payload_uuid("p", "scep", "2"),
            names.payload_uuid("q", "scep", ""),
            names.payload_uuid("p", "wifi", ""),
            other.payload_uuid("p", "scep", ""),
        ];
        let unique: std::collections::BTreeSet<_> = uuids.iter().collect();
        assert_eq!(unique.len(), uuids.len());
    }

    #[test]
    fn identifiers_are_read_back() {
        let (names, id) = (names(), ProfileId::new());
        assert_eq!(names.prefix, "org.example.mdm");
        assert_eq!(names.parse(&names.profile(&id)), Some(id));
        assert_eq!(names.parse(&names.enrollment()), None);
        assert_eq!(names.parse("org.example.mdm.profile.x"), None);
        assert_eq!(names.parse("com.other.profile.0192f0c1-0000-7000-8000-000000000001"), None);
    }

    #[test]
    fn a_listed_profile_is_recognised_by_its_content() {
        let profile = names().assemble("p", &about(), vec![part("wifi", "", "a")]);
        let entry = |uuid: &str| Value::Dict(Dict::new().with("PayloadIdentifier", "p").with("PayloadUUID", uuid));
        assert!(is_installed(&[entry(&profile.uuid.to_ascii_lowercase())], &profile));
        assert!(!is_installed(&[entry("other"), Value::from(1)], &profile));
    }
}
