//! The command channel: what the server orders and what the device answers.

use serde::{Deserialize, Serialize};

use super::super::Malformed;
use super::super::plist::{self, Dict, Limits, Value};
use super::who::Who;

/// A command to a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The command's name, which the result carries.
    pub uuid: String,
    /// What to do: `RequestType`, exactly as the device spells it.
    pub request_type: String,
    /// The request's other keys.
    pub body: Dict,
}

impl Command {
    /// The command as a property list.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut request = Dict::new().with("RequestType", self.request_type.as_str());
        for (key, value) in self.body.iter() {
            request.insert(key, value.clone());
        }
        Value::Dict(Dict::new().with("CommandUUID", self.uuid.as_str()).with("Command", request))
    }

    /// The message's body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        plist::encode(&self.to_value())
    }

    /// Reads a message, as a device does.
    ///
    /// # Errors
    /// When it is no property list, or name or request are missing.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let mut dict = plist::decode_dict(body, Limits::RESULT)?;
        let missing = |key: &'static str| Malformed::new("is missing", key);
        let uuid = dict.string("CommandUUID").ok_or_else(|| missing("CommandUUID"))?.to_owned();
        let mut body = dict.remove("Command").ok_or_else(|| missing("Command"))?.into_dict("Command")?;
        match body.remove("RequestType") {
            Some(Value::String(request_type)) => Ok(Self { uuid, request_type, body }),
            _ => Err(missing("RequestType")),
        }
    }
}

/// How it stands with a command, or with the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Done.
    Acknowledged,
    /// Refused or failed; [`Answer::errors`] says why.
    Error,
    /// The device cannot read the command.
    CommandFormatError,
    /// The device asks for a command.
    Idle,
    /// Not now: the device is locked or busy, and will ask again.
    NotNow,
}

/// One link of the chain of causes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Cause {
    /// The number, within the domain.
    #[serde(default)]
    pub error_code: i64,
    /// Whose number.
    #[serde(default)]
    pub error_domain: String,
    /// In the device's language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localized_description: Option<String>,
    /// In English; macOS often leaves it out.
    #[serde(default, rename = "USEnglishDescription", skip_serializing_if = "Option::is_none")]
    pub us_english_description: Option<String>,
}

impl Cause {
    /// Reads a link as far as it can be read: a result is a result, whatever is written in its explanation.
    fn read(link: &Dict) -> Self {
        let text = |key: &str| match link.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            _ => None,
        };
        let error_code = match link.get("ErrorCode") {
            Some(Value::Integer(code)) => *code,
            Some(Value::Unsigned(code)) => i64::try_from(*code).unwrap_or(i64::MAX),
            #[allow(clippy::cast_possible_truncation, reason = "saturates, and a code has no fraction")]
            Some(Value::Real(code)) => *code as i64,
            Some(Value::String(code)) => code.trim().parse().unwrap_or_default(),
            _ => 0,
        };
        Self {
            error_code,
            error_domain: text("ErrorDomain").unwrap_or_default(),
            localized_description: text("LocalizedDescription"),
            us_english_description: text("USEnglishDescription"),
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.us_english_description.as_ref().or(self.localized_description.as_ref()).map_or("", String::as_str);
        write!(f, "{} {}: {text}", self.error_domain, self.error_code)
    }
}

/// What a device sends to the command channel: the result of a command, or that it is idle.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Who speaks.
    pub who: Who,
    /// How it stands.
    pub status: Status,
    /// Which command; `None` only when idle.
    pub command_uuid: Option<String>,
    /// Why it failed, outermost first.
    pub errors: Vec<Cause>,
    /// The result's other keys.
    pub body: Dict,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    status: Status,
    #[serde(rename = "CommandUUID", skip_serializing_if = "Option::is_none")]
    command_uuid: Option<String>,
    #[serde(default, skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    error_chain: Vec<Cause>,
}

/// What is not the result's own. macOS repeats the request's type; iOS does not.
const ENVELOPE: [&str; 11] = [
    "Status",
    "CommandUUID",
    "ErrorChain",
    "UDID",
    "EnrollmentID",
    "UserID",
    "UserShortName",
    "UserLongName",
    "EnrollmentUserID",
    "NotOnConsole",
    "RequestType",
];

/// Longest name of a command that is taken back from a device, in bytes.
const LONGEST_UUID: usize = 256;

impl Answer {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is no property list, its status is missing or unknown, no device is named, or a result names no command.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let dict = plist::decode_dict(body, Limits::RESULT)?;
        let envelope: Envelope = plist::from_dict(&dict)?;
        let who: Who = plist::from_dict(&dict)?;
        who.channel()?;
        let command_uuid = envelope.command_uuid.filter(|_| envelope.status != Status::Idle);
        match &command_uuid {
            None if envelope.status != Status::Idle => return Err(Malformed::new("a result without a command", "CommandUUID")),
            Some(uuid) if uuid.is_empty() || uuid.len() > LONGEST_UUID => {
                return Err(Malformed::new("not the name of a command", "CommandUUID"));
            }
            _ => {}
        }
        let errors = dict.array("ErrorChain").unwrap_or_default().iter().filter_map(Value::as_dict).map(Cause::read).collect();
        let body = dict.into_iter().filter(|(key, _)| !ENVELOPE.contains(&key.as_str())).collect();
        Ok(Self { who, status: envelope.status, command_uuid, errors, body })
    }

    /// Writes the message, as a device does.
    ///
    /// # Errors
    /// Never for messages of this type.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let envelope = Envelope { status: self.status, command_uuid: self.command_uuid.clone(), error_chain: self.errors.clone() };
        let mut dict = plist::to_value(&self.who)?.into_dict("who")?;
        for (key, value) in plist::to_value(&envelope)?.into_dict("envelope")? {
            dict.insert(key, value);
        }
        for (key, value) in self.body.iter() {
            dict.insert(key, value.clone());
        }
        Ok(plist::encode(&Value::Dict(dict)))
    }
}
