//! The parts of a SyncML message.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::wire::Malformed;
use crate::wire::xml::{Element, Limits};

/// A whole message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncMl {
    /// Which document type it is written in; an answer uses the one of the question.
    pub dtd: Dtd,
    /// `SyncHdr`.
    pub header: Header,
    /// What `SyncBody` holds, in order.
    pub body: Vec<Command>,
    /// Whether the package ends with this message (`Final`).
    pub last: bool,
    /// Whether Microsoft's namespace is declared, which asks the device for original errors. Written anyway when a status carries one.
    pub microsoft: bool,
}

/// The document type of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dtd {
    /// `SYNCML:SYNCML1.1`.
    V11,
    /// `SYNCML:SYNCML1.2`.
    #[default]
    V12,
}

impl Dtd {
    /// The namespace of the message.
    #[must_use]
    pub fn namespace(self) -> &'static str {
        match self {
            Self::V11 => "SYNCML:SYNCML1.1",
            Self::V12 => "SYNCML:SYNCML1.2",
        }
    }
}

/// `SyncHdr`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `VerDTD`, such as `1.2`.
    pub ver_dtd: String,
    /// `VerProto`, such as `DM/1.2`.
    pub ver_proto: String,
    /// `SessionID`, chosen by the client; it repeats over time.
    pub session_id: String,
    /// `MsgID`; each side counts its own from 1.
    pub msg_id: u32,
    /// Who shall receive the message.
    pub target: Address,
    /// Who sends it; `LocName` is the user name of digest authentication.
    pub source: Address,
    /// Digest credentials.
    pub cred: Option<Cred>,
    /// `MaxMsgSize` and `MaxObjSize` of the sender.
    pub meta: Meta,
}

/// `Target` or `Source`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// `LocURI`.
    pub uri: String,
    /// `LocName`.
    pub name: Option<String>,
}

impl Address {
    /// An address without a name.
    #[must_use]
    pub fn new(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), name: None }
    }
}

/// `Cred`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Cred {
    /// Its `Format` and `Type`.
    pub meta: Meta,
    /// The digest, in the format of `meta`.
    pub data: String,
}

impl std::fmt::Debug for Cred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cred").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// `Meta`; empty means absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// `Format`.
    pub format: Option<Format>,
    /// `Type`: a media type, an alert type or an authentication type.
    pub kind: Option<String>,
    /// `Mark`: the severity of an alert.
    pub mark: Option<String>,
    /// `Size` of a large object, in bytes; on its first chunk.
    pub size: Option<u64>,
    /// `NextNonce`, base64.
    pub next_nonce: Option<String>,
    /// `MaxMsgSize`, in bytes.
    pub max_msg_size: Option<u64>,
    /// `MaxObjSize`, in bytes.
    pub max_obj_size: Option<u64>,
}

impl Meta {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Only a format.
    #[must_use]
    pub fn format(format: Format) -> Self {
        Self { format: Some(format), ..Self::default() }
    }
}

/// Declares an enum whose variants are fixed names in the protocol.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name as the protocol spells it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Reads the name, whatever its case.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str().eq_ignore_ascii_case(text))
            }
        }
    };
}

names! {
    /// How data is written (`Format`).
    Format {
        /// Text.
        Chr = "chr",
        /// A decimal number.
        Int = "int",
        /// `true` or `false`.
        Bool = "bool",
        /// Base64 of bytes.
        B64 = "b64",
        /// Bytes; base64 on the wire in XML.
        Bin = "bin",
        /// An interior node; no data.
        Node = "node",
        /// Markup.
        Xml = "xml",
        /// No data.
        Null = "null",
        /// A time of day.
        Time = "time",
        /// A day.
        Date = "date",
        /// A number with a fraction.
        Float = "float",
    }
}

names! {
    /// What an operation does to its nodes.
    Verb {
        /// Creates a node.
        Add = "Add",
        /// Removes a node and what is below it.
        Delete = "Delete",
        /// Runs a node.
        Exec = "Exec",
        /// Reads a node.
        Get = "Get",
        /// Changes a node.
        Replace = "Replace",
    }
}

names! {
    /// Commands of SyncML that Device Management has no use for: they are answered with 406.
    Unsupported {
        /// `Copy`.
        Copy = "Copy",
        /// `Map`.
        Map = "Map",
        /// `Put`.
        Put = "Put",
        /// `Search`.
        Search = "Search",
        /// `Sync`.
        Sync = "Sync",
    }
}

/// One thing in a message's body. A `CmdID` may be missing: the receiver answers 400 for that command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `Alert`.
    Alert(Alert),
    /// `Atomic`: all or nothing.
    Atomic(Group),
    /// `Add`, `Delete`, `Exec`, `Get` or `Replace`.
    Operation(Operation),
    /// `Results` of a `Get`.
    Results(Results),
    /// `Sequence`: in this order.
    Sequence(Group),
    /// `Status` of a command of the other side.
    Status(Status),
    /// A command that is no part of Device Management, with its `CmdID`.
    Unsupported(Unsupported, Option<String>),
}

impl Command {
    /// The `CmdID`.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Alert(alert) => alert.id.as_deref(),
            Self::Atomic(group) | Self::Sequence(group) => group.id.as_deref(),
            Self::Operation(operation) => operation.id.as_deref(),
            Self::Results(results) => results.id.as_deref(),
            Self::Status(status) => status.id.as_deref(),
            Self::Unsupported(_, id) => id.as_deref(),
        }
    }

    /// The element's name, as `Cmd` of a `Status` names it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Alert(_) => "Alert",
            Self::Atomic(_) => "Atomic",
            Self::Operation(operation) => operation.verb.as_str(),
            Self::Results(_) => "Results",
            Self::Sequence(_) => "Sequence",
            Self::Status(_) => "Status",
            Self::Unsupported(what, _) => what.as_str(),
        }
    }
}

/// `Status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `CmdID`.
    pub id: Option<String>,
    /// Which message of the other side; 0 when absent or unreadable.
    pub msg_ref: u32,
    /// Which command of that message; `0` is its header.
    pub cmd_ref: String,
    /// The name of that command.
    pub cmd: Cow<'static, str>,
    /// `TargetRef`.
    pub target_refs: Vec<String>,
    /// `SourceRef`.
    pub source_refs: Vec<String>,
    /// `Chal`: its `Meta`.
    pub chal: Option<Meta>,
    /// The code; 0 when unreadable.
    pub code: u16,
    /// `msft:originalerror`, such as `0x86000002`.
    pub original_error: Option<String>,
    /// Items, such as the child that failed.
    pub items: Vec<Item>,
}

/// `Results`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// `CmdID`.
    pub id: Option<String>,
    /// Which message of the other side; 0 when absent.
    pub msg_ref: u32,
    /// Which command of that message.
    pub cmd_ref: String,
    /// Holds for all items that say nothing else.
    pub meta: Meta,
    /// `TargetRef`.
    pub target_ref: Option<String>,
    /// `SourceRef`.
    pub source_ref: Option<String>,
    /// The values: `Source` names the node.
    pub items: Vec<Item>,
}

/// `Alert`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// `CmdID`.
    pub id: Option<String>,
    /// The alert code; 0 when absent or unreadable.
    pub code: u16,
    /// `Correlator` of an asynchronous `Exec`.
    pub correlator: Option<String>,
    /// Its items; `Meta/Type` names what a generic alert is about.
    pub items: Vec<Item>,
}

/// `Add`, `Delete`, `Exec`, `Get` or `Replace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// `CmdID`.
    pub id: Option<String>,
    /// Which of them.
    pub verb: Verb,
    /// Holds for all items that say nothing else.
    pub meta: Meta,
    /// `Correlator`: comes back in the alert that ends an asynchronous `Exec`.
    pub correlator: Option<String>,
    /// What it is done to.
    pub items: Vec<Item>,
}

/// The content of `Atomic` or `Sequence`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// `CmdID`.
    pub id: Option<String>,
    /// Holds for all commands that say nothing else.
    pub meta: Meta,
    /// The commands, in order.
    pub commands: Vec<Command>,
}

/// `Item`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The node that is meant.
    pub target: Option<Address>,
    /// The node that speaks.
    pub source: Option<Address>,
    /// What the data is.
    pub meta: Meta,
    /// The data.
    pub data: Option<Data>,
    /// Whether more chunks of the same data follow.
    pub more: bool,
}

/// What `Data` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Text, decoded.
    Text(String),
    /// Elements.
    Markup(Markup),
}

impl Data {
    /// The text, or the markup as text: a receiver does not care which of both ways its markup came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Markup(markup) => markup.as_str(),
        }
    }

    /// As [`Self::as_str`], owned.
    #[must_use]
    pub fn into_string(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Markup(markup) => markup.0,
        }
    }
}

/// A well-formed piece of markup that needs no declarations from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markup(String);

impl Markup {
    /// Checks that the piece can stand inside any element.
    ///
    /// # Errors
    /// When it is not well-formed there, or holds no element.
    pub fn parse(piece: &str) -> Result<Self, Malformed> {
        let limits = Limits { bytes: usize::MAX, depth: 64, nodes: 1_000_000, attributes: 256 };
        let whole = Element::parse(format!("<Data>{piece}</Data>").as_bytes(), limits)?;
        // A last `\r` or lone bytes would change when they are read back; only whole elements keep their form.
        if whole.elements().next().is_none() || piece.contains('\r') {
            return Err(Malformed::new("no markup", "Data"));
        }
        Ok(Self(piece.to_owned()))
    }

    /// The markup.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
