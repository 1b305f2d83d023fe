//! Certificates: what may be issued (a grant), the templates that grants are made of, and the record of an issued certificate.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::clock::Time;
use crate::ids::{AuthorityId, CertificateId, DeviceId, EnrollmentId, ProfileId, UserId};
use crate::wire::xml::is_char;

mod name;
mod rsa;
mod template;

pub use name::{Attribute, AttributeType, Rdn, parse_name, show_name};
pub use rsa::rsa_algorithm;
pub use template::{Template, Unresolved, Variables, is_of_user};

/// Extended key usages and other object identifiers, in dotted text.
pub mod usage {
    /// TLS client authentication.
    pub const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
    /// TLS server authentication.
    pub const SERVER_AUTH: &str = "1.3.6.1.5.5.7.3.1";
    /// OCSP signing.
    pub const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";
    /// Smart card logon.
    pub const SMART_CARD_LOGON: &str = "1.3.6.1.4.1.311.20.2.2";
    /// What no enrolment may ever be given: it would make the holder a responder, signer or agent of the authority.
    pub const FORBIDDEN: &[&str] = &[
        OCSP_SIGNING,
        "1.3.6.1.5.5.7.3.8",       // time stamping
        "1.3.6.1.5.5.7.3.3",       // code signing
        "2.5.29.37.0",             // any
        "1.3.6.1.4.1.311.20.2.1",  // enrolment agent
        "1.3.6.1.4.1.311.10.12.1", // any application policy
    ];
}

/// How Windows domain controllers find the account of a certificate: the URI form of a SID (KB5014754).
pub const SID_URI_PREFIX: &str = "tag:microsoft.com,2022-09-14:sid:";

/// Whether a URI says whose account it is, in whatever case.
#[must_use]
pub fn is_sid_uri(uri: &str) -> bool {
    uri.get(..SID_URI_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(SID_URI_PREFIX))
}

words! {
    /// What a certificate is for.
    Purpose {
        /// A device's identity towards this server's device management.
        MdmIdentity = "mdm-identity",
        /// A device's, for one message of over-the-air enrolment.
        ProfileService = "profile-service",
        /// Authentication elsewhere (VPN, Wi-Fi, sign-in), delivered by a profile.
        Authentication = "authentication",
        /// Ordered by an administrator from a request file.
        Manual = "manual",
        /// A TLS server of ours.
        Server = "server",
        /// A subordinate authority.
        Authority = "authority",
        /// A SCEP registration authority of ours.
        Registration = "registration",
        /// An OCSP responder of ours.
        OcspResponder = "ocsp-responder",
        /// What devices encrypt their recovery keys for.
        Escrow = "escrow",
    }
}

impl Purpose {
    /// Whether the holder is a part of this server rather than somebody who enrolled.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Server | Self::Authority | Self::Registration | Self::OcspResponder | Self::Escrow)
    }
}

words! {
    /// Whether a certificate may be relied upon; expiry is judged by time, not stored.
    CertificateStatus {
        /// Not revoked.
        Active = "active",
        /// On hold: revoked until released.
        Held = "held",
        /// Revoked for good.
        Revoked = "revoked",
    }
}

words! {
    /// Why a certificate is revoked (RFC 5280 5.3.1).
    RevocationReason {
        /// No reason given.
        Unspecified = "unspecified",
        /// The private key is known or feared to be in other hands.
        KeyCompromise = "key-compromise",
        /// The authority's key is.
        AuthorityCompromise = "authority-compromise",
        /// The holder's name or affiliation changed.
        AffiliationChanged = "affiliation-changed",
        /// A newer certificate took its place.
        Superseded = "superseded",
        /// No longer needed: the device was retired.
        CessationOfOperation = "cessation-of-operation",
        /// Suspended; may be released.
        CertificateHold = "certificate-hold",
        /// The holder lost a privilege that the certificate states.
        PrivilegeWithdrawn = "privilege-withdrawn",
    }
}

impl RevocationReason {
    /// The CRLReason code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::AuthorityCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
            Self::PrivilegeWithdrawn => 9,
        }
    }

    /// The reason of a CRLReason code.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| i64::from(reason.code()) == code)
    }
}

words! {
    /// Key algorithms that the authority has and accepts.
    KeyAlgorithm {
        /// RSA, 2048 bits.
        Rsa2048 = "rsa-2048",
        /// RSA, 3072 bits.
        Rsa3072 = "rsa-3072",
        /// RSA, 4096 bits.
        Rsa4096 = "rsa-4096",
        /// NIST P-256.
        P256 = "p-256",
        /// NIST P-384.
        P384 = "p-384",
    }
}

impl KeyAlgorithm {
    /// The modulus length, for RSA.
    #[must_use]
    pub fn rsa_bits(self) -> Option<u32> {
        match self {
            Self::Rsa2048 => Some(2048),
            Self::Rsa3072 => Some(3072),
            Self::Rsa4096 => Some(4096),
            Self::P256 | Self::P384 => None,
        }
    }
}

words! {
    /// What a holder's key may do, as far as enrolment can ask for it.
    KeyUsage {
        /// Sign challenges and handshakes.
        DigitalSignature = "digital-signature",
        /// Unwrap keys (RSA only).
        KeyEncipherment = "key-encipherment",
    }
}

/// Which keys a grant accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyRules {
    /// Accepted algorithms; empty accepts all that the product knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<KeyAlgorithm>,
    /// Shortest RSA modulus, in bits; never below 2048.
    pub min_rsa_bits: u32,
}

impl Default for KeyRules {
    fn default() -> Self {
        Self { allowed: Vec::new(), min_rsa_bits: 2048 }
    }
}

impl KeyRules {
    /// Judges a key's algorithm.
    ///
    /// # Errors
    /// [`Refusal::CertificateKeyRefused`].
    pub fn check(&self, algorithm: KeyAlgorithm) -> Result<(), Refusal> {
        let known = self.allowed.is_empty() || self.allowed.contains(&algorithm);
        let long = algorithm.rsa_bits().is_none_or(|bits| bits >= self.min_rsa_bits.max(2048));
        if known && long { Ok(()) } else { Err(Refusal::CertificateKeyRefused) }
    }
}

/// A subject alternative name; in a template the text may hold `{{Variables}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "lowercase", deny_unknown_fields)]
pub enum San {
    /// rfc822Name.
    Email(String),
    /// User principal name (otherName 1.3.6.1.4.1.311.20.2.3).
    Upn(String),
    /// dNSName.
    Dns(String),
    /// uniformResourceIdentifier.
    Uri(String),
    /// iPAddress.
    Ip(String),
}

impl San {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Email(t) | Self::Upn(t) | Self::Dns(t) | Self::Uri(t) | Self::Ip(t) => t,
        }
    }

    /// What kind of name it is, as templates say it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Upn(_) => "upn",
            Self::Dns(_) => "dns",
            Self::Uri(_) => "uri",
            Self::Ip(_) => "ip",
        }
    }

    /// The same kind of name with another text.
    #[must_use]
    pub fn with_text(&self, text: String) -> Self {
        match self {
            Self::Email(_) => Self::Email(text),
            Self::Upn(_) => Self::Upn(text),
            Self::Dns(_) => Self::Dns(text),
            Self::Uri(_) => Self::Uri(text),
            Self::Ip(_) => Self::Ip(text),
        }
    }

    fn is_well_formed(&self) -> bool {
        let text = self.text();
        if text.is_empty() || text.len() > 2048 || !text.chars().all(|c| is_char(c) && !c.is_control()) {
            return false;
        }
        match self {
            Self::Email(_) => {
                text.is_ascii()
                    && !text.contains(' ')
                    && text.split_once('@').is_some_and(|(l, d)| !l.is_empty() && !d.is_empty() && !d.contains('@'))
            }
            Self::Upn(_) => true,
            Self::Dns(_) => {
                let name = text.strip_prefix("*.").unwrap_or(text);
                text.len() <= 253
                    && name.split('.').all(|label| {
                        (1..=63).contains(&label.len())
                            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                            && !label.starts_with('-')
                            && !label.ends_with('-')
                    })
            }
            Self::Uri(_) => {
                text.is_ascii()
                    && !text.contains(' ')
                    && text.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
            }
            Self::Ip(_) => text.parse::<std::net::IpAddr>().is_ok(),
        }
    }
}

/// Permission to issue one certificate: everything in it but the key. A request is compared with it, never copied into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What the certificate is for.
    pub purpose: Purpose,
    /// The subject, in the order of its encoding; may be empty when there is a subject alternative name.
    pub subject: Vec<Rdn>,
    /// Subject alternative names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<San>,
    /// Extended key usages, dotted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_key_usages: Vec<String>,
    /// Key usages; key encipherment is dropped for elliptic curve keys.
    pub key_usages: Vec<KeyUsage>,
    /// Life in days; ends no later than the authority's.
    pub days: u32,
    /// The account's SID for the security extension 1.3.6.1.4.1.311.25.2, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Which keys are accepted.
    #[serde(default)]
    pub key_rules: KeyRules,
    /// The device that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    /// The user that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The enrolment that it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment_id: Option<EnrollmentId>,
    /// The profile that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_id: Option<ProfileId>,
    /// The name of the payload in that profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// How the holder may renew what an administrator granted; none: another certificate needs another challenge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
}

words! {
    /// How a certificate renews itself (RFC 8894 section 2.3).
    Renewal {
        /// When an administrator agrees each time.
        Approved = "approved",
        /// By itself.
        Free = "free",
    }
}

impl Grant {
    /// A grant of a client certificate for `purpose` with this common name and life, and nothing else in it.
    #[must_use]
    pub fn client(purpose: Purpose, common_name: &str, days: u32) -> Self {
        Self {
            purpose,
            subject: vec![Rdn::new(AttributeType::CommonName, common_name)],
            sans: Vec::new(),
            extended_key_usages: vec![usage::CLIENT_AUTH.to_owned()],
            key_usages: vec![KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment],
            days,
            sid: None,
            key_rules: KeyRules::default(),
            device_id: None,
            user_id: None,
            enrollment_id: None,
            profile_id: None,
            payload: None,
            renewal: None,
        }
    }

    /// The names by which somebody is told who shows the certificate, in lower case.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        let subject = self.subject.iter().flat_map(|rdn| &rdn.0).map(|attribute| attribute.value.as_str());
        let sans = self.sans.iter().map(|san| match san {
            San::Uri(text) => text.strip_prefix("mailto:").unwrap_or(text),
            other => other.text(),
        });
        subject.chain(sans).map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect()
    }

    /// The security identifiers that it carries, as extension or as the name that Active Directory reads in its place.
    #[must_use]
    pub fn sids(&self) -> BTreeSet<String> {
        let named = self.sans.iter().filter_map(|san| match san {
            San::Uri(text) => text.strip_prefix("tag:microsoft.com,2022-09-14:sid:").map(str::to_owned),
            _ => None,
        });
        self.sid.clone().into_iter().chain(named).collect()
    }

    /// Judges the contents, whoever made them.
    ///
    /// # Errors
    /// [`Refusal::CertificateUsageForbidden`], [`Refusal::CertificateUsageInvalid`], [`Refusal::CertificateNameMissing`],
    /// [`Refusal::CertificateNameInvalid`].
    pub fn check(&self) -> Result<(), Refusal> {
        self.find_fault().map_or(Ok(()), |(refusal, _)| Err(refusal))
    }

    /// What [`Self::check`] refuses, and over which field and value.
    #[must_use]
    pub fn find_fault(&self) -> Option<(Refusal, String)> {
        let usages = || self.extended_key_usages.iter();
        if let Some(oid) = usages().find(|oid| !self.purpose.is_ours() && usage::FORBIDDEN.contains(&oid.as_str())) {
            return Some((Refusal::CertificateUsageForbidden, format!("extended key usage {oid}")));
        }
        if self.subject.is_empty() && self.sans.is_empty() {
            return Some((Refusal::CertificateNameMissing, "subject and alternative names".into()));
        }
        let invalid = |what: String| Some((Refusal::CertificateNameInvalid, what));
        if let Some(rdn) = self.subject.iter().find(|rdn| !rdn.is_well_formed()) {
            return invalid(format!("subject: {}", show_name(std::slice::from_ref(rdn))));
        }
        if let Some(sid) = self.sid.as_deref().filter(|sid| !is_sid(sid)) {
            return invalid(format!("SID: {sid}"));
        }
        if let Some(oid) = usages().find(|oid| der::asn1::ObjectIdentifier::new(oid).is_err()) {
            return Some((Refusal::CertificateUsageInvalid, format!("extended key usage {oid}")));
        }
        let san = self.sans.iter().find(|san| !san.is_well_formed())?;
        invalid(format!("alternative name ({}): {}", san.kind(), san.text()))
    }
}

/// Whether a text is a security identifier, such as `S-1-5-21-1-2-3-1001`.
#[must_use]
pub fn is_sid(text: &str) -> bool {
    text.len() <= 184
        && text.strip_prefix("S-1-").is_some_and(|rest| {
            rest.split('-').count() >= 2 && rest.split('-').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        })
}

/// The record of an issued certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Identifier.
    pub id: CertificateId,
    /// Who issued it.
    pub authority_id: AuthorityId,
    /// Serial number, lower-case hex of the 16 big-endian bytes.
    pub serial: String,
    /// SHA-1 of the certificate, lower-case hex (what Windows calls the thumbprint).
    pub sha1: String,
    /// SHA-256 of the certificate, lower-case hex.
    pub sha256: String,
    /// The subject for people, RFC 4514.
    pub subject: String,
    /// Whether it may be relied upon.
    pub status: CertificateStatus,
    /// First moment of validity.
    pub not_before: Time,
    /// Last moment of validity.
    pub not_after: Time,
    /// When it was revoked or put on hold.
    pub revoked_at: Option<Time>,
    /// Why.
    pub revocation_reason: Option<RevocationReason>,
    /// The certificate that took its place.
    pub superseded_by: Option<CertificateId>,
    /// What it was issued for.
    pub grant: Grant,
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// When it was issued.
    pub created_at: Time,
}

impl Certificate {
    /// When no more than `percent` of its life is left.
    #[must_use]
    pub fn renews_from(&self, percent: u32) -> Time {
        let life = self.not_after.since(self.not_before);
        self.not_after.plus(-(life / 100).saturating_mul(i64::from(percent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_survives_json() {
        let mut grant = Grant::client(Purpose::Authentication, "a", 30);
        grant.sans = vec![San::Upn("ana@example.org".into()), San::Uri(format!("{SID_URI_PREFIX}S-1-5-21-1"))];
        grant.sid = Some("S-1-5-21-1-2-3-1001".into());
        grant.key_rules.allowed = vec![KeyAlgorithm::Rsa2048];
        let text = serde_json::to_string(&grant).unwrap();
        assert_eq!(serde_json::from_str::<Grant>(&text).unwrap(), grant);
    }

    #[test]
    fn usages_that_would_make_an_agent_of_the_authority_are_refused() {
        for oid in usage::FORBIDDEN {
            let mut grant = Grant::client(Purpose::Authentication, "a", 30);
            grant.extended_key_usages.push((*oid).to_owned());
            assert_eq!(grant.check().unwrap_err().code(), "CRT0014", "{oid}");
        }
    }

    #[test]
    fn a_grant_without_any_name_or_with_a_malformed_one_is_refused() {
        let mut grant = Grant::client(Purpose::Authentication, "a", 30);
        grant.subject.clear();
        assert_eq!(grant.check().unwrap_err().code(), "CRT0016");
        for san in [
            San::Dns("a b".into()),
            San::Dns("-a.example".into()),
            San::Email("nobody".into()),
            San::Email("é@example.org".into()),
            San::Uri("x y:z".into()),
            San::Ip("300.1.1.1".into()),
            San::Upn("a\0b".into()),
        ] {
            grant.sans = vec![san.clone()];
            assert_eq!(grant.check().unwrap_err().code(), "CRT0015", "{san:?}");
        }
        grant.sans = vec![San::Dns("*.example.org".into()), San::Ip("::1".into())];
        assert!(grant.check().is_ok());
        grant.sid = Some("S-1-5-x".into());
        assert!(grant.check().is_err());
    }

    #[test]
    fn key_rules_never_go_below_2048_bits() {
        let rules = KeyRules { allowed: Vec::new(), min_rsa_bits: 3072 };
        assert_eq!(rules.check(KeyAlgorithm::Rsa2048).unwrap_err().code(), "CRT0013");
        assert!(rules.check(KeyAlgorithm::P256).is_ok());
        let only = KeyRules { allowed: vec![KeyAlgorithm::Rsa2048], min_rsa_bits: 0 };
        assert!(only.check(KeyAlgorithm::Rsa2048).is_ok());
        assert!(only.check(KeyAlgorithm::P256).is_err());
    }

    #[test]
    fn reasons_keep_their_codes() {
        for reason in RevocationReason::ALL {
            assert_eq!(RevocationReason::from_code(i64::from(reason.code())), Some(*reason));
        }
        assert_eq!(RevocationReason::from_code(7), None);
    }
}
