//! Configuration profiles: the outer document and the envelope of each payload, and the first document of over-the-air enrolment.

use super::super::Malformed;
use super::super::plist::{self, Data, Dict, Limits, Value};

/// Whose settings a profile holds on a Mac.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The computer's.
    System,
    /// The user's.
    User,
}

impl Scope {
    /// The word in the document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "System",
            Self::User => "User",
        }
    }
}

/// A configuration profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// What a later profile must carry to take the place of this one.
    pub identifier: String,
    /// Another one for each content.
    pub uuid: String,
    /// The other keys of the document: names, scope, removal.
    pub body: Dict,
    /// What is in it.
    pub content: Content,
}

/// What is in a profile.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// The payloads.
    Plain(Vec<Payload>),
    /// The payloads, encrypted to a certificate of the device ([`Profile::plain_content`] is what was encrypted).
    Encrypted(Data),
}

/// A payload of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// Which kind.
    pub kind: String,
    /// Its name, unique in the profile.
    pub identifier: String,
    /// Payloads refer to each other by it; one that stays the same is updated in place.
    pub uuid: String,
    /// Its own keys, and the names for people.
    pub body: Dict,
}

const ENVELOPE: [&str; 4] = ["PayloadType", "PayloadVersion", "PayloadIdentifier", "PayloadUUID"];

fn envelope(kind: &str, identifier: &str, uuid: &str) -> Dict {
    Dict::new().with("PayloadType", kind).with("PayloadVersion", 1).with("PayloadIdentifier", identifier).with("PayloadUUID", uuid)
}

fn part(dict: &Dict, key: &'static str) -> Result<String, Malformed> {
    let text = dict.string(key).filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| Malformed::new("is missing or no text", key))
}

fn rest(dict: Dict, without: &str) -> Dict {
    dict.into_iter().filter(|(key, _)| !ENVELOPE.contains(&key.as_str()) && key != without).collect()
}

impl Payload {
    /// The payload as it stands in a profile.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut dict = envelope(&self.kind, &self.identifier, &self.uuid);
        for (key, value) in self.body.iter() {
            dict.insert(key, value.clone());
        }
        Value::Dict(dict)
    }

    fn from_value(value: Value) -> Result<Self, Malformed> {
        let dict = value.into_dict("PayloadContent")?;
        Ok(Self {
            kind: part(&dict, "PayloadType")?,
            identifier: part(&dict, "PayloadIdentifier")?,
            uuid: part(&dict, "PayloadUUID")?,
            body: rest(dict, ""),
        })
    }
}

impl Profile {
    /// The document as a property list.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut dict = envelope("Configuration", &self.identifier, &self.uuid);
        for (key, value) in self.body.iter() {
            dict.insert(key, value.clone());
        }
        match &self.content {
            Content::Plain(payloads) => dict.insert("PayloadContent", payloads.iter().map(Payload::to_value).collect::<Vec<_>>()),
            Content::Encrypted(cms) => {
                dict.insert("IsEncrypted", true);
                dict.insert("EncryptedPayloadContent", cms.clone());
            }
        }
        Value::Dict(dict)
    }

    /// The document.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        plist::encode(&self.to_value())
    }

    /// What is encrypted when a profile is encrypted: the list of payloads, as a property list of its own. `None` when it is already.
    #[must_use]
    pub fn plain_content(&self) -> Option<Vec<u8>> {
        match &self.content {
            Content::Plain(payloads) => Some(plist::encode(&Value::Array(payloads.iter().map(Payload::to_value).collect()))),
            Content::Encrypted(_) => None,
        }
    }

    /// Reads a document, without the signature that may be around it.
    ///
    /// # Errors
    /// When it is no property list or no configuration profile, or a payload lacks its type, name or UUID.
    pub fn decode(document: &[u8]) -> Result<Self, Malformed> {
        let mut dict = plist::decode_dict(document, Limits::MESSAGE)?;
        if dict.string("PayloadType") != Some("Configuration") {
            return Err(Malformed::new("not a configuration profile", "PayloadType"));
        }
        let content = match (dict.remove("PayloadContent"), dict.remove("EncryptedPayloadContent")) {
            (Some(Value::Array(payloads)), _) => Content::Plain(payloads.into_iter().map(Payload::from_value).collect::<Result<_, _>>()?),
            (None, Some(Value::Data(cms))) => Content::Encrypted(cms),
            (None, None) => Content::Plain(Vec::new()),
            _ => return Err(Malformed::new("neither payloads nor encrypted payloads", "PayloadContent")),
        };
        Ok(Self {
            identifier: part(&dict, "PayloadIdentifier")?,
            uuid: part(&dict, "PayloadUUID")?,
            body: rest(dict, "IsEncrypted"),
            content,
        })
    }

    /// The payloads; none when they are encrypted.
    #[must_use]
    pub fn payloads(&self) -> &[Payload] {
        match &self.content {
            Content::Plain(payloads) => payloads,
            Content::Encrypted(_) => &[],
        }
    }
}

/// The first document of over-the-air enrolment: the device shall send what it is, signed, to a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileService {
    /// Where to send it; the identity's certificate goes to the same place afterwards.
    pub url: String,
    /// What the device shall tell.
    pub attributes: Vec<String>,
    /// What the device shall give back.
    pub challenge: Option<String>,
    /// The document's name.
    pub identifier: String,
    /// The document's UUID.
    pub uuid: String,
    /// For people.
    pub display_name: Option<String>,
    /// For people.
    pub organization: Option<String>,
}

impl ProfileService {
    /// All that a device tells.
    pub const ATTRIBUTES: [&'static str; 6] = ["UDID", "VERSION", "PRODUCT", "SERIAL", "MEID", "IMEI"];

    /// The document.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut content = Dict::new().with("URL", self.url.as_str());
        content.insert("DeviceAttributes", self.attributes.iter().map(|name| Value::from(name.as_str())).collect::<Vec<_>>());
        content.insert_some("Challenge", self.challenge.as_deref());
        let mut dict = envelope("Profile Service", &self.identifier, &self.uuid);
        dict.insert_some("PayloadDisplayName", self.display_name.as_deref());
        dict.insert_some("PayloadOrganization", self.organization.as_deref());
        dict.insert("PayloadContent", content);
        plist::encode(&Value::Dict(dict))
    }

    /// Reads the document, as a device does.
    ///
    /// # Errors
    /// When it is no property list, or another document.
    pub fn decode(document: &[u8]) -> Result<Self, Malformed> {
        let dict = plist::decode_dict(document, Limits::MESSAGE)?;
        if dict.string("PayloadType") != Some("Profile Service") {
            return Err(Malformed::new("not a profile service", "PayloadType"));
        }
        let content = dict.dict("PayloadContent").ok_or_else(|| Malformed::new("is missing", "PayloadContent"))?;
        let attributes = content.array("DeviceAttributes").unwrap_or_default();
        Ok(Self {
            url: part(content, "URL")?,
            attributes: attributes.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            challenge: content.string("Challenge").map(str::to_owned),
            identifier: part(&dict, "PayloadIdentifier")?,
            uuid: part(&dict, "PayloadUUID")?,
            display_name: dict.string("PayloadDisplayName").map(str::to_owned),
            organization: dict.string("PayloadOrganization").map(str::to_owned),
        })
    }
}
