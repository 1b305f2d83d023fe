//! Check-in: what a device says when it enrols, changes its push token, leaves, or asks for something between commands.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::Malformed;
use super::super::plist::{self, Data, Dict, Limits, Value};
use super::who::Who;

/// A check-in message.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckIn {
    /// Who speaks.
    pub who: Who,
    /// What is said.
    pub message: Message,
}

/// What a check-in message says, by its `MessageType`.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The profile is being installed: may the device enrol? Any answer but 200 stops it.
    Authenticate(Authenticate),
    /// Where to push to from now on.
    TokenUpdate(TokenUpdate),
    /// The profile was removed.
    CheckOut(CheckOut),
    /// A network user signs in to a Mac.
    UserAuthenticate(UserAuthenticate),
    /// The server shall keep the bootstrap token.
    SetBootstrapToken(SetBootstrapToken),
    /// The device wants its bootstrap token back.
    GetBootstrapToken(GetBootstrapToken),
    /// The device wants a token for a service.
    GetToken(GetToken),
    /// Declarative management: a request inside the check-in.
    DeclarativeManagement(DeclarativeManagement),
    /// The device is about to erase itself and to come back.
    ReturnToService(ReturnToService),
}

/// A device asks to be managed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Authenticate {
    /// The topic that the device will listen to.
    pub topic: String,
    /// The version of the operating system.
    #[serde(rename = "OSVersion", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Its build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_version: Option<String>,
    /// The model's identifier (`iPhone14,5`, `MacBookPro18,3`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    /// The serial number; not in a user enrolment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// The mobile equipment identity.
    #[serde(rename = "IMEI", skip_serializing_if = "Option::is_none")]
    pub imei: Option<String>,
    /// The mobile equipment identifier.
    #[serde(rename = "MEID", skip_serializing_if = "Option::is_none")]
    pub meid: Option<String>,
    /// The device's name (macOS).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// The model (macOS).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model's name (macOS).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_name: Option<String>,
}

impl Authenticate {
    /// The same with no text longer than that many characters.
    #[must_use]
    pub fn cut(mut self, most: usize) -> Self {
        let texts = [
            &mut self.os_version,
            &mut self.build_version,
            &mut self.product_name,
            &mut self.serial_number,
            &mut self.imei,
            &mut self.meid,
            &mut self.device_name,
            &mut self.model,
            &mut self.model_name,
        ];
        for text in texts.into_iter().flatten() {
            if let Some((end, _)) = text.char_indices().nth(most) {
                text.truncate(end);
            }
        }
        self
    }

    /// The same without what tells one piece of hardware from another.
    #[must_use]
    pub fn without_hardware(self) -> Self {
        Self { serial_number: None, imei: None, meid: None, ..self }
    }
}

/// Where to push to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TokenUpdate {
    /// The topic that the device listens to.
    pub topic: String,
    /// The channel's address at the push service.
    pub token: Data,
    /// The text that a push has to carry.
    pub push_magic: String,
    /// What clears the passcode (iOS). Absent does not mean gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlock_token: Option<Data>,
    /// Setup Assistant waits for `DeviceConfigured`. Absent does not mean changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaiting_configuration: Option<bool>,
}

/// The device leaves; it says so only if it can.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckOut {
    /// The topic that the device listened to.
    #[serde(default)]
    pub topic: String,
}

/// A network user signs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UserAuthenticate {
    /// The answer to the challenge; absent or empty in the first message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_response: Option<String>,
}

/// A bootstrap token to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SetBootstrapToken {
    /// The token; absent or empty: forget it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_token: Option<Data>,
    /// Setup Assistant waits for `DeviceConfigured`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaiting_configuration: Option<bool>,
}

/// The device wants its bootstrap token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetBootstrapToken {
    /// Setup Assistant waits for `DeviceConfigured`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaiting_configuration: Option<bool>,
}

/// The device wants a token for a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetToken {
    /// Which service: [`TOKEN_MAID`], [`TOKEN_WATCH`] or one that is not known here.
    pub token_service_type: String,
    /// What the token is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_parameters: Option<TokenParameters>,
}

/// Sign-in with a Managed Apple Account while a user enrolment is set up.
pub const TOKEN_MAID: &str = "com.apple.maid";
/// Pairing of a watch.
pub const TOKEN_WATCH: &str = "com.apple.watch.pairing";

/// What a token is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenParameters {
    /// The security token.
    #[serde(rename = "SecurityToken", skip_serializing_if = "Option::is_none")]
    pub security_token: Option<String>,
    /// The phone.
    #[serde(rename = "PhoneUDID", skip_serializing_if = "Option::is_none")]
    pub phone_udid: Option<String>,
    /// The watch.
    #[serde(rename = "WatchUDID", skip_serializing_if = "Option::is_none")]
    pub watch_udid: Option<String>,
}

/// A request of declarative management; see [`super::ddm`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeclarativeManagement {
    /// What is asked for: [`super::ddm::Endpoint::parse`] reads it.
    pub endpoint: String,
    /// JSON, in a status report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
}

/// The device asks how to come back after it has erased itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnToService {}

impl Message {
    /// The `MessageType`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Authenticate(_) => "Authenticate",
            Self::TokenUpdate(_) => "TokenUpdate",
            Self::CheckOut(_) => "CheckOut",
            Self::UserAuthenticate(_) => "UserAuthenticate",
            Self::SetBootstrapToken(_) => "SetBootstrapToken",
            Self::GetBootstrapToken(_) => "GetBootstrapToken",
            Self::GetToken(_) => "GetToken",
            Self::DeclarativeManagement(_) => "DeclarativeManagement",
            Self::ReturnToService(_) => "ReturnToService",
        }
    }

    fn to_value(&self) -> Result<Value, Malformed> {
        match self {
            Self::Authenticate(message) => plist::to_value(message),
            Self::TokenUpdate(message) => plist::to_value(message),
            Self::CheckOut(message) => plist::to_value(message),
            Self::UserAuthenticate(message) => plist::to_value(message),
            Self::SetBootstrapToken(message) => plist::to_value(message),
            Self::GetBootstrapToken(message) => plist::to_value(message),
            Self::GetToken(message) => plist::to_value(message),
            Self::DeclarativeManagement(message) => plist::to_value(message),
            Self::ReturnToService(message) => plist::to_value(message),
        }
    }
}

impl CheckIn {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is no property list, of an unknown type, names no device, or lacks what its type needs.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let dict = plist::decode_dict(body, Limits::RESULT)?;
        let kind = dict.string("MessageType").ok_or_else(|| Malformed::new("no message type", "MessageType"))?;
        let message = match kind {
            "Authenticate" => Message::Authenticate(plist::from_dict(&dict)?),
            "TokenUpdate" => Message::TokenUpdate(plist::from_dict(&dict)?),
            "CheckOut" => Message::CheckOut(plist::from_dict(&dict)?),
            "UserAuthenticate" => Message::UserAuthenticate(plist::from_dict(&dict)?),
            "SetBootstrapToken" => Message::SetBootstrapToken(plist::from_dict(&dict)?),
            "GetBootstrapToken" => Message::GetBootstrapToken(plist::from_dict(&dict)?),
            "GetToken" => Message::GetToken(plist::from_dict(&dict)?),
            "DeclarativeManagement" => Message::DeclarativeManagement(plist::from_dict(&dict)?),
            "ReturnToService" => Message::ReturnToService(plist::from_dict(&dict)?),
            _ => return Err(Malformed::new("unknown message type", "MessageType")),
        };
        let who: Who = plist::from_dict(&dict)?;
        who.channel()?;
        Ok(Self { who, message })
    }

    /// Writes the message, as a device does.
    ///
    /// # Errors
    /// Never for messages of these types.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut dict = Dict::new().with("MessageType", self.message.name());
        for part in [self.message.to_value()?, plist::to_value(&self.who)?] {
            for (key, value) in part.into_dict(self.message.name())? {
                dict.insert(key, value);
            }
        }
        Ok(plist::encode(&Value::Dict(dict)))
    }
}

/// What the server answers with a body; all other messages are answered by an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Message::GetBootstrapToken`]. Without a token the answer has no body.
    BootstrapToken(Data),
    /// To [`Message::GetToken`].
    Token(Data),
    /// To the first [`Message::UserAuthenticate`]: an empty challenge lets the user in with the next message.
    DigestChallenge(String),
    /// To [`Message::ReturnToService`].
    ReturnToService(Return),
}

/// How a device comes back after it has erased itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Return {
    /// Whether it shall come back by itself.
    pub enabled: bool,
    /// A profile with the Wi-Fi to use.
    #[serde(rename = "WiFiProfileData", skip_serializing_if = "Option::is_none")]
    pub wifi_profile: Option<Data>,
    /// An enrolment profile, instead of the one that the device would fetch.
    #[serde(rename = "MDMProfileData", skip_serializing_if = "Option::is_none")]
    pub mdm_profile: Option<Data>,
    /// The bootstrap token, so that applications can stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap_token: Option<Data>,
}

#[derive(Deserialize)]
struct One<T> {
    #[serde(alias = "BootstrapToken", alias = "TokenData", alias = "DigestChallenge", alias = "ReturnToService")]
    only: T,
}

impl Answer {
    fn key(&self) -> &'static str {
        match self {
            Self::BootstrapToken(_) => "BootstrapToken",
            Self::Token(_) => "TokenData",
            Self::DigestChallenge(_) => "DigestChallenge",
            Self::ReturnToService(_) => "ReturnToService",
        }
    }

    /// The answer as a property list.
    ///
    /// # Errors
    /// Never for answers of these types.
    pub fn to_value(&self) -> Result<Value, Malformed> {
        let value = match self {
            Self::BootstrapToken(token) | Self::Token(token) => Value::Data(token.clone()),
            Self::DigestChallenge(challenge) => Value::from(challenge.as_str()),
            Self::ReturnToService(answer) => plist::to_value(answer)?,
        };
        Ok(Value::Dict(Dict::new().with(self.key(), value)))
    }

    /// The answer's body.
    ///
    /// # Errors
    /// Never for answers of these types.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        Ok(plist::encode(&self.to_value()?))
    }

    /// Reads the answer to a message, as a device does; `None` when its body is empty.
    ///
    /// # Errors
    /// When it is no property list, or not the answer to such a message.
    pub fn decode(to: &Message, body: &[u8]) -> Result<Option<Self>, Malformed> {
        fn one<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
            plist::decode_as::<One<T>>(body, Limits::MESSAGE).map(|answer| answer.only)
        }
        if body.is_empty() {
            return Ok(None);
        }
        Ok(Some(match to {
            Message::GetBootstrapToken(_) => Self::BootstrapToken(one(body)?),
            Message::GetToken(_) => Self::Token(one(body)?),
            Message::UserAuthenticate(_) => Self::DigestChallenge(one(body)?),
            Message::ReturnToService(_) => Self::ReturnToService(one(body)?),
            Message::Authenticate(_)
            | Message::TokenUpdate(_)
            | Message::CheckOut(_)
            | Message::SetBootstrapToken(_)
            | Message::DeclarativeManagement(_) => return Err(Malformed::new("an answer where none is due", to.name())),
        }))
    }
}
