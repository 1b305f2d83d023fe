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

/// How an installer package begins: magic, size of the header, version, and then the length of the table of contents, packed and unpacked,
/// and its checksum's kind; the first byte behind it is that of zlib. For simulated packages.
pub const XAR: [u8; 29] = [b'x', b'a', b'r', b'!', 0, 28, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0x78];

/// Whether a file begins as an archive in the format of xar: with a header of version 1, and behind it a table of contents that is packed.
fn is_xar(head: &[u8]) -> bool {
    let word = |at: usize| Some(u16::from_be_bytes([*head.get(at)?, *head.get(at + 1)?]));
    let size = word(4).map(usize::from).filter(|size| (28..=512).contains(size));
    let packed = head.get(8..16).is_some_and(|length| length.iter().any(|byte| *byte != 0));
    head.starts_with(b"xar!") && word(6) == Some(1) && packed && size.and_then(|size| head.get(size)) == Some(&0x78)
}

impl Form {
    /// What the first bytes of a file say; `None`: it is neither.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        if is_xar(head) {
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
        assert_eq!(Form::of(&XAR), Some(Form::Pkg));
        assert_eq!(Form::of(&[b"xar!".as_slice(), &[7; 100]].concat()), None, "noise behind the magic");
        for end in 0..XAR.len() {
            assert_eq!(Form::of(&XAR[..end]), None, "{end}");
        }
        assert_eq!(Form::of(b"PK\x03\x04\x14"), Some(Form::Ipa));
        assert_eq!(Form::of(b"\x7fELF"), None);
        assert_eq!(Form::of(b""), None);
    }
}
