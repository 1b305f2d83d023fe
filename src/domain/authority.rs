//! Certification authorities and the keys that serve them, as they are recorded.

use super::certificate::{KeyAlgorithm, Purpose};
use crate::clock::Time;
use crate::ids::AuthorityId;

words! {
    /// Where an authority stands in the hierarchy.
    Kind {
        /// Signs issuing authorities.
        Root = "root",
        /// Signs everything else.
        Issuing = "issuing",
    }
}

words! {
    /// Whether an authority issues. CRL, OCSP and certificate downloads go on in every state.
    Status {
        /// Issues.
        Active = "active",
        /// Issues nothing for the time being.
        Paused = "paused",
        /// Issues nothing any more; its certificate is revoked.
        Revoked = "revoked",
    }
}

/// An authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Identifier.
    pub id: AuthorityId,
    /// Name in addresses, unique: lower-case letters, digits and hyphens.
    pub name: String,
    /// Place in the hierarchy.
    pub kind: Kind,
    /// Whether it issues.
    pub status: Status,
    /// Who signed its certificate; `None` for a root.
    pub parent_id: Option<AuthorityId>,
    /// Its key.
    pub key_algorithm: KeyAlgorithm,
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// Its private key, PKCS#8, sealed.
    pub sealed_key: Vec<u8>,
    /// Number of the newest CRL that was begun.
    pub crl_number: i64,
    /// When the next CRL is due.
    pub crl_due_at: Time,
    /// First moment of validity.
    pub not_before: Time,
    /// Last moment of validity.
    pub not_after: Time,
    /// When it was made.
    pub created_at: Time,
    /// The certificates above it that belong to others, nearest first, to the root, DER; empty when all above it is ours.
    pub upper_chain: Vec<Vec<u8>>,
    /// What people call it.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// When it was changed last.
    pub updated_at: Time,
    /// How often it was changed, and once for its making.
    pub version: i64,
}

/// An authority that waits for an outside authority to sign its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Identifier, which it keeps.
    pub id: AuthorityId,
    /// Name in addresses, unique among all authorities.
    pub name: String,
    /// Common name that was asked for.
    pub common_name: String,
    /// Its key.
    pub key_algorithm: KeyAlgorithm,
    /// Its private key, PKCS#8, sealed.
    pub sealed_key: Vec<u8>,
    /// The request, PKCS#10, DER.
    pub request: Vec<u8>,
    /// When it was made.
    pub created_at: Time,
    /// What people call it.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// When it was changed last.
    pub updated_at: Time,
    /// How often it was changed, and once for its making.
    pub version: i64,
}

/// A certificate with a key of ours: SCEP registration authority, OCSP responder or TLS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The certificate's identifier.
    pub id: crate::ids::CertificateId,
    /// Who issued it.
    pub authority_id: AuthorityId,
    /// What it is for.
    pub purpose: Purpose,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// The private key, PKCS#8, sealed.
    pub sealed_key: Vec<u8>,
    /// First moment of validity.
    pub not_before: Time,
    /// Last moment of validity.
    pub not_after: Time,
    /// When it was made.
    pub created_at: Time,
}

/// A name for addresses, made of what people call it: other signs than letters and digits become hyphens. It may be none ([`is_name`]).
#[must_use]
pub fn name_of(display_name: &str) -> String {
    let words = display_name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    name.get(..40).unwrap_or(&name).trim_end_matches('-').to_owned()
}

/// Whether a text can name an authority in addresses: 1 to 40 lower-case letters, digits and hyphens.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_addresses_are_made_of_words() {
        assert_eq!(name_of("Issuing CA 2 (Wi-Fi)"), "issuing-ca-2-wi-fi");
        assert_eq!(name_of(&"A b ".repeat(20)), "a-b-a-b-a-b-a-b-a-b-a-b-a-b-a-b-a-b-a-b");
        assert!(is_name(&name_of("Zürich")) && !is_name(&name_of("日本")) && !is_name(&name_of("-")));
    }
}
