//! Packages of applications that the organisation hands out itself.

use crate::clock::Time;
use crate::ids::PackageId;

words! {
    /// What kind of file a package is.
    Form {
        /// An installer package of macOS (a signed, flat product archive).
        Pkg = "pkg",
        /// An application of iOS and iPadOS.
        Ipa = "ipa",
    }
}

impl Form {
    /// What the first bytes of a file say; `None`: it is neither.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        if head.starts_with(b"xar!") {
            return Some(Self::Pkg);
        }
        head.starts_with(b"PK\x03\x04").then_some(Self::Ipa)
    }
}

/// A package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Identifier.
    pub id: PackageId,
    /// What profiles call it.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// The application's bundle identifier.
    pub bundle_id: String,
    /// The application's version.
    pub version: String,
    /// What kind of file it is.
    pub form: Form,
    /// Bytes.
    pub size: i64,
    /// When it was brought.
    pub created_at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_first_bytes() {
        assert_eq!(Form::of(b"xar!\0\x1c"), Some(Form::Pkg));
        assert_eq!(Form::of(b"PK\x03\x04\x14"), Some(Form::Ipa));
        assert_eq!(Form::of(b"\x7fELF"), None);
        assert_eq!(Form::of(b""), None);
    }
}
