//! SyncML 1.2 as OMA Device Management uses it, in both directions: the server and the simulated device share this codec.
//!
//! [`SyncMl::decode`] is one streaming pass over the bytes and [`SyncMl::encode`] writes straight into a buffer. The order of mixed
//! commands is kept, because answers are matched by it. What Windows is known to write oddly (prefixes, CDATA, a `Type` beside an
//! empty `Meta`, missing `CmdID`s) is read; what the protocol needs and is absent is [`Malformed`](super::Malformed).

pub mod auth;
mod decode;
mod encode;
mod types;

pub use decode::{MAX_BYTES, MAX_COMMANDS};
pub use types::{
    Address, Alert, Command, Cred, Data, Dtd, Format, Group, Header, Item, Markup, Meta, Operation, Results, Status, SyncMl, Unsupported,
    Verb,
};

/// The media type of messages in XML.
pub const MEDIA_TYPE: &str = "application/vnd.syncml.dm+xml";
/// Microsoft's namespace for original errors.
pub const MICROSOFT: &str = "http://schemas.microsoft.com/MobileDevice/MDM";
/// The namespace of what stands in `Meta`.
pub const METINF: &str = "syncml:metinf";

#[cfg(test)]
mod tests;
