//! SCEP: what a request may ask for, compared with what was granted, and the transactions that requests belong to.

use crate::clock::{MINUTE, Time};
use crate::domain::Refusal;
use crate::domain::certificate::{Grant, KeyAlgorithm, KeyUsage, San, is_sid_uri, rsa_algorithm, usage};
use crate::ids::{AuthorityId, CertificateId, DeviceId, EnrollmentId, ProfileId, UserId};
use crate::wire::asn1;
use crate::wire::cms::Digest;
use crate::wire::pkcs10::{GeneralName, Request, key_usage};
use crate::wire::scep::{FailInfo, Fault};

/// How long an answered request is answered again with the same certificate, and its transaction name is taken, in milliseconds: SCEP has
/// no confirmation, so the answer may have been lost.
pub const REPLAY: i64 = 10 * MINUTE;

words! {
    /// Why a request was decided as it was: the word in audit rows. The words of Intune's validation interface are kept as they are.
    Reason {
        /// A challenge of another authority or profile, or one that nobody minted.
        BadCertificateRequestIdInChallenge = "BadCertificateRequestIdInChallenge",
        /// The message says that it was signed at a time far from ours (`scep.clock_skew_hours`).
        ClockWrong = "ClockWrong",
        /// The device that the certificate would be for has left.
        BadDeviceIdInChallenge = "BadDeviceIdInChallenge",
        /// The user that the certificate would be for is disabled or gone.
        BadUserIdInChallenge = "BadUserIdInChallenge",
        /// The challenge's check value is wrong.
        ChallengeDecodingError = "ChallengeDecodingError",
        /// The challenge is over.
        ChallengeExpired = "ChallengeExpired",
        /// There is no challenge.
        ChallengePasswordMissing = "ChallengePasswordMissing",
        /// The challenge was used by another request.
        ChallengeUsed = "ChallengeUsed",
        /// The request or its envelope does not open or does not hold together; no detail on purpose.
        CertificateRequestDecodingFailed = "CertificateRequestDecodingFailed",
        /// Extended key usages other than granted.
        EnhancedKeyUsageMismatch = "EnhancedKeyUsageMismatch",
        /// Powers that nobody is given by enrolment: a CA, OCSP signing and the like.
        ForbiddenExtension = "ForbiddenExtension",
        /// A security identifier other than the holder's: an attempt to become somebody else.
        ForeignSid = "ForeignSid",
        /// A key of a kind or length other than granted.
        KeyLengthMismatch = "KeyLengthMismatch",
        /// Key usages other than granted.
        KeyUsageMismatch = "KeyUsageMismatch",
        /// The device should not have the profile any more that the certificate would be for.
        ScepProfileNoLongerTargetedToTheClient = "ScepProfileNoLongerTargetedToTheClient",
        /// The signer's key is not the request's.
        RegisteredKeyMismatch = "RegisteredKeyMismatch",
        /// The renewing certificate is not one of ours, or not valid.
        SigningCertThumbprintMismatch = "SigningCertThumbprintMismatch",
        /// The message's signature or form is wrong.
        SignatureValidationFailed = "SignatureValidationFailed",
        /// Other alternative names than granted.
        SubjectAltNameMismatch = "SubjectAltNameMismatch",
        /// Alternative names were granted, none was asked for.
        SubjectAltNameMissing = "SubjectAltNameMissing",
        /// Another subject than granted.
        SubjectNameMismatch = "SubjectNameMismatch",
        /// A subject was granted, none was asked for.
        SubjectNameMissing = "SubjectNameMissing",
        /// An algorithm that is unknown, forbidden or switched off.
        AlgorithmRefused = "AlgorithmRefused",
        /// The authority issues nothing at present.
        AuthorityPaused = "AuthorityPaused",
        /// The certificate is not near its end yet (`scep.renewal_percent`).
        RenewalTooEarly = "RenewalTooEarly",
        /// As many certificates of the kind as allowed are good (`scep.live_certificates`).
        RenewalTooMany = "RenewalTooMany",
        /// A certificate in the same place is on hold, or one that took the place of the renewing one is, was or is revoked.
        CertificateHeld = "CertificateHeld",
        /// An administrator refused.
        RefusedByAdministrator = "RefusedByAdministrator",
        /// The transaction belongs to another request or signer.
        TransactionMismatch = "TransactionMismatch",
        /// Nobody knows the transaction.
        TransactionUnknown = "TransactionUnknown",
        /// No such certificate.
        CertificateUnknown = "CertificateUnknown",
        /// The issuing core said no.
        NotIssued = "NotIssued",
    }
}

impl Reason {
    /// What the client is told.
    #[must_use]
    pub fn fail_info(self) -> FailInfo {
        match self {
            Self::AlgorithmRefused => FailInfo::BadAlg,
            Self::CertificateRequestDecodingFailed | Self::SignatureValidationFailed => FailInfo::BadMessageCheck,
            Self::CertificateUnknown => FailInfo::BadCertId,
            Self::ClockWrong => FailInfo::BadTime,
            _ => FailInfo::BadRequest,
        }
    }

    /// The named refusal, for reasons that say what to do.
    #[must_use]
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::RenewalTooEarly => Some(Refusal::ScepRenewalTooEarly),
            Self::RenewalTooMany => Some(Refusal::ScepRenewalTooMany),
            Self::CertificateHeld => Some(Refusal::CertificateHeld),
            Self::BadDeviceIdInChallenge | Self::BadUserIdInChallenge | Self::ScepProfileNoLongerTargetedToTheClient => {
                Some(Refusal::ScepHolderGone)
            }
            _ => None,
        }
    }
}

/// The reason and the answer for a message that cannot be accepted as it is.
#[must_use]
pub fn judge_fault(fault: Fault) -> (Reason, FailInfo) {
    match fault.fail_info() {
        FailInfo::BadAlg => (Reason::AlgorithmRefused, FailInfo::BadAlg),
        info => (Reason::SignatureValidationFailed, info),
    }
}

/// A one-time permission to ask for one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Identifier: 32 hexadecimal digits, also inside the text that the device gets.
    pub id: String,
    /// Which authority issues.
    pub authority_id: AuthorityId,
    /// The profile that wants the certificate.
    pub profile_id: Option<ProfileId>,
    /// The enrolment that it is for.
    pub enrollment_id: Option<EnrollmentId>,
    /// The device.
    pub device_id: Option<DeviceId>,
    /// The user.
    pub user_id: Option<UserId>,
    /// What is granted.
    pub grant: Grant,
    /// Whether an administrator has to agree first.
    pub needs_approval: bool,
    /// When it ends.
    pub expires_at: Time,
    /// When it was used.
    pub consumed_at: Option<Time>,
}

impl Challenge {
    /// Whether it may be used now, with this authority.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check(&self, authority: &AuthorityId, now: Time) -> Result<(), Reason> {
        if self.authority_id != *authority {
            return Err(Reason::BadCertificateRequestIdInChallenge);
        }
        if self.consumed_at.is_some() {
            return Err(Reason::ChallengeUsed);
        }
        if now >= self.expires_at {
            return Err(Reason::ChallengeExpired);
        }
        Ok(())
    }
}

words! {
    /// Where a transaction stands.
    State {
        /// Answered with a certificate.
        Issued = "issued",
        /// Waits for an administrator.
        Pending = "pending",
        /// Refused by an administrator.
        Refused = "refused",
    }
}

/// A request and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Which authority was asked.
    pub authority_id: AuthorityId,
    /// The client's name for it.
    pub transaction_id: String,
    /// SHA-256 of the signer's public key, in hexadecimal.
    pub signer_hash: String,
    /// SHA-256 of the certification request, in hexadecimal.
    pub request_hash: String,
    /// The challenge that it used.
    pub challenge_id: Option<String>,
    /// Where it stands.
    pub state: State,
    /// The certification request while it waits; empty once it is decided.
    pub request: Vec<u8>,
    /// What is granted.
    pub grant: Grant,
    /// The certificate.
    pub certificate_id: Option<CertificateId>,
    /// When it came.
    pub created_at: Time,
    /// When it was decided.
    pub decided_at: Option<Time>,
    /// Who decided.
    pub decided_by: Option<String>,
    /// The certificate that renews itself by it.
    pub renews: Option<CertificateId>,
}

impl Transaction {
    /// Whether it still answers for its name: undecided, or decided a short while ago.
    #[must_use]
    pub fn is_live(&self, now: Time) -> bool {
        self.decided_at.is_none_or(|at| now.since(at) < REPLAY)
    }
}

/// Compares what a request asks for with what is granted. The certificate is made from the grant alone; a request that asks for anything
/// else comes from a device that was told otherwise, or from somebody who tries.
///
/// # Errors
/// The first difference, the dangerous ones first.
pub fn compare(request: &Request, grant: &Grant) -> Result<(), Reason> {
    refuse_dangerous(request, grant)?;
    compare_subject(request, grant)?;
    compare_names(request, grant)?;
    if let Some(asked) = request.key_usage {
        let granted = grant.key_usages.iter().fold(0, |sum, usage| {
            sum | match usage {
                KeyUsage::DigitalSignature => key_usage::DIGITAL_SIGNATURE,
                KeyUsage::KeyEncipherment => key_usage::KEY_ENCIPHERMENT,
            }
        });
        if asked != granted {
            return Err(Reason::KeyUsageMismatch);
        }
    }
    if !request.ext_key_usage.is_empty() && !same_set(&request.ext_key_usage, &grant.extended_key_usages) {
        return Err(Reason::EnhancedKeyUsageMismatch);
    }
    let key = key_algorithm(request).ok_or(Reason::KeyLengthMismatch)?;
    grant.key_rules.check(key).map_err(|_| Reason::KeyLengthMismatch)
}

fn refuse_dangerous(request: &Request, grant: &Grant) -> Result<(), Reason> {
    let forbidden_usage = request.key_usage.is_some_and(|asked| asked & (key_usage::KEY_CERT_SIGN | key_usage::CRL_SIGN) != 0);
    let forbidden_purpose = request.ext_key_usage.iter().any(|oid| usage::FORBIDDEN.contains(&oid.as_str()));
    if request.wants_ca || forbidden_usage || forbidden_purpose {
        return Err(Reason::ForbiddenExtension);
    }
    let ours = grant.sid.as_deref().map(sid_extension);
    if request.extensions.iter().any(|(oid, value)| oid == SID_EXTENSION && ours.as_ref() != Some(value)) {
        return Err(Reason::ForeignSid);
    }
    let foreign = request.san.iter().any(|name| match name {
        GeneralName::Uri(uri) => is_sid_uri(uri) && !grant.sans.contains(&San::Uri(uri.clone())),
        _ => false,
    });
    if foreign { Err(Reason::ForeignSid) } else { Ok(()) }
}

/// `szOID_NTDS_CA_SECURITY_EXT` (MS-WCCE 2.2.2.7.7.4).
const SID_EXTENSION: &str = "1.3.6.1.4.1.311.25.2";
/// `szOID_NTDS_OBJECTSID`, 1.3.6.1.4.1.311.25.2.1.
const SID_NAME: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x19, 0x02, 0x01];

/// The value that the security extension has for this identifier.
fn sid_extension(sid: &str) -> Vec<u8> {
    let value = asn1::tlv(asn1::context(0), &asn1::tlv(asn1::OCTET_STRING, sid.as_bytes()));
    let name = asn1::wrap(asn1::context(0), &[&asn1::tlv(asn1::OID, SID_NAME), &value]);
    asn1::tlv(asn1::SEQUENCE, &name)
}

/// Values exactly, in order, whatever string type they came in; the parts of one RDN in any order.
fn compare_subject(request: &Request, grant: &Grant) -> Result<(), Reason> {
    if request.subject.is_empty() {
        return if grant.subject.is_empty() { Ok(()) } else { Err(Reason::SubjectNameMissing) };
    }
    let asked: Vec<Vec<(&str, &str)>> = request
        .subject
        .chunk_by(|a, b| a.rdn == b.rdn)
        .map(|parts| sorted(parts.iter().map(|part| (part.oid.as_str(), part.value.as_str())).collect()))
        .collect();
    let granted: Vec<Vec<(&str, &str)>> =
        grant.subject.iter().map(|rdn| sorted(rdn.0.iter().map(|part| (part.kind.oid(), part.value.as_str())).collect())).collect();
    if asked == granted { Ok(()) } else { Err(Reason::SubjectNameMismatch) }
}

fn sorted<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort_unstable();
    list
}

fn compare_names(request: &Request, grant: &Grant) -> Result<(), Reason> {
    if request.san.is_empty() {
        return if grant.sans.is_empty() { Ok(()) } else { Err(Reason::SubjectAltNameMissing) };
    }
    let asked: Option<Vec<San>> = request.san.iter().map(as_san).collect();
    match asked {
        Some(asked) if same_set(&asked, &grant.sans) => Ok(()),
        _ => Err(Reason::SubjectAltNameMismatch),
    }
}

fn as_san(name: &GeneralName) -> Option<San> {
    Some(match name {
        GeneralName::Email(text) => San::Email(text.clone()),
        GeneralName::Dns(text) => San::Dns(text.clone()),
        GeneralName::Uri(text) => San::Uri(text.clone()),
        GeneralName::Upn(text) => San::Upn(text.clone()),
        GeneralName::Ip(octets) => {
            let address = <[u8; 4]>::try_from(octets.as_slice()).map(std::net::IpAddr::from);
            let address = address.or_else(|_| <[u8; 16]>::try_from(octets.as_slice()).map(std::net::IpAddr::from)).ok()?;
            San::Ip(address.to_string())
        }
        GeneralName::Other(..) => return None,
    })
}

fn same_set<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    a.iter().all(|one| b.contains(one)) && b.iter().all(|one| a.contains(one))
}

/// The algorithm of a request's key, if the product accepts it at all: RSA as [`rsa_algorithm`] says, P-256, P-384.
#[must_use]
pub fn key_algorithm(request: &Request) -> Option<KeyAlgorithm> {
    let key = request.public_key().ok()?;
    if let Ok(rsa) = key.rsa() {
        return rsa_algorithm(rsa.n(), rsa.e());
    }
    match key.ec_key().ok()?.group().curve_name()? {
        openssl::nid::Nid::X9_62_PRIME256V1 => Some(KeyAlgorithm::P256),
        openssl::nid::Nid::SECP384R1 => Some(KeyAlgorithm::P384),
        _ => None,
    }
}

/// Whether a digest is accepted: SHA-2 always, SHA-1 by configuration.
#[must_use]
pub fn accepts_digest(digest: Digest, allow_sha1: bool) -> bool {
    match digest {
        Digest::Md5 => false,
        Digest::Sha1 => allow_sha1,
        Digest::Sha224 | Digest::Sha256 | Digest::Sha384 | Digest::Sha512 => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::certificate::{AttributeType, Purpose, Rdn, SID_URI_PREFIX};
    use crate::wire::pkcs10::{NamePart, Wish, build};
    use openssl::pkey::{PKey, Private};
    use std::sync::LazyLock;

    static KEY: LazyLock<PKey<Private>> = LazyLock::new(|| PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap());

    fn grant() -> Grant {
        let mut grant = Grant::client(Purpose::Authentication, "PC 1", 30);
        grant.subject.push(Rdn::new(AttributeType::Organization, "Example, Ltd"));
        grant.sans = vec![San::Upn("ana@example.org".into()), San::Dns("pc1.example.org".into())];
        grant.sid = Some("S-1-5-21-1-2-3-1001".into());
        grant
    }

    fn wish() -> Wish {
        let mut wish = Wish::common_name("PC 1");
        wish.subject.push(NamePart { rdn: 1, oid: "2.5.4.10".into(), value: "Example, Ltd".into() });
        wish.san = vec![GeneralName::Dns("pc1.example.org".into()), GeneralName::Upn("ana@example.org".into())];
        wish.ext_key_usage = vec![usage::CLIENT_AUTH.into()];
        wish.key_usage = Some(key_usage::DIGITAL_SIGNATURE | key_usage::KEY_ENCIPHERMENT);
        wish
    }

    fn judge(change: impl Fn(&mut Wish)) -> Result<(), Reason> {
        let mut wish = wish();
        change(&mut wish);
        compare(&Request::parse(&build(&wish, &KEY, Digest::Sha256).unwrap()).unwrap(), &grant())
    }

    #[test]
    fn what_was_granted_may_be_asked_for() {
        assert_eq!(judge(|_| ()), Ok(()));
        // Clients that cannot ask for usages are given them all the same.
        assert_eq!(judge(|wish| (wish.key_usage, wish.ext_key_usage) = (None, Vec::new())), Ok(()));
        let own = sid_extension("S-1-5-21-1-2-3-1001");
        assert_eq!(judge(|wish| wish.extensions.push((SID_EXTENSION.into(), own.clone()))), Ok(()));
    }

    #[test]
    fn every_difference_is_named() {
        assert_eq!(judge(|wish| wish.subject.clear()), Err(Reason::SubjectNameMissing));
        assert_eq!(judge(|wish| wish.subject[0].value = "PC 2".into()), Err(Reason::SubjectNameMismatch));
        assert_eq!(judge(|wish| wish.subject[0].value = "pc 1".into()), Err(Reason::SubjectNameMismatch));
        assert_eq!(judge(|wish| wish.subject[1].rdn = 0), Err(Reason::SubjectNameMismatch));
        assert_eq!(judge(|wish| wish.san.clear()), Err(Reason::SubjectAltNameMissing));
        assert_eq!(judge(|wish| wish.san.truncate(1)), Err(Reason::SubjectAltNameMismatch));
        assert_eq!(judge(|wish| wish.san.push(GeneralName::Dns("x.example.org".into()))), Err(Reason::SubjectAltNameMismatch));
        assert_eq!(judge(|wish| wish.san.push(GeneralName::Other(0x88, vec![0x2a]))), Err(Reason::SubjectAltNameMismatch));
        assert_eq!(judge(|wish| wish.key_usage = Some(key_usage::KEY_ENCIPHERMENT)), Err(Reason::KeyUsageMismatch));
        assert_eq!(judge(|wish| wish.ext_key_usage.push(usage::SERVER_AUTH.into())), Err(Reason::EnhancedKeyUsageMismatch));
    }

    #[test]
    fn powers_and_identities_of_others_are_refused() {
        let ca = ("2.5.29.19".to_owned(), vec![0x30, 3, 1, 1, 0xff]);
        assert_eq!(judge(|wish| wish.extensions.push(ca.clone())), Err(Reason::ForbiddenExtension));
        assert_eq!(judge(|wish| wish.key_usage = Some(key_usage::KEY_CERT_SIGN)), Err(Reason::ForbiddenExtension));
        assert_eq!(judge(|wish| wish.key_usage = Some(key_usage::CRL_SIGN)), Err(Reason::ForbiddenExtension));
        assert_eq!(judge(|wish| wish.ext_key_usage.push(usage::OCSP_SIGNING.into())), Err(Reason::ForbiddenExtension));
        let foreign = sid_extension("S-1-5-21-1-2-3-500");
        assert_eq!(judge(|wish| wish.extensions.push((SID_EXTENSION.into(), foreign.clone()))), Err(Reason::ForeignSid));
        for uri in [format!("{SID_URI_PREFIX}S-1-5-21-1-2-3-500"), format!("{}S-1", SID_URI_PREFIX.to_uppercase())] {
            assert_eq!(judge(|wish| wish.san.push(GeneralName::Uri(uri.clone()))), Err(Reason::ForeignSid), "{uri}");
        }
    }

    #[test]
    fn weak_and_unusual_keys_are_refused() {
        let judge = |key: &PKey<Private>| {
            let csr = build(&wish(), key, Digest::Sha256).unwrap();
            compare(&Request::parse(&csr).unwrap(), &grant())
        };
        let rsa = |bits, exponent: u32| {
            let exponent = openssl::bn::BigNum::from_u32(exponent).unwrap();
            PKey::from_rsa(openssl::rsa::Rsa::generate_with_e(bits, &exponent).unwrap()).unwrap()
        };
        let curve = |nid| {
            let group = openssl::ec::EcGroup::from_curve_name(nid).unwrap();
            PKey::from_ec_key(openssl::ec::EcKey::generate(&group).unwrap()).unwrap()
        };
        assert_eq!(judge(&rsa(1024, 65_537)), Err(Reason::KeyLengthMismatch));
        assert_eq!(judge(&rsa(2048, 3)), Err(Reason::KeyLengthMismatch));
        assert_eq!(judge(&curve(openssl::nid::Nid::X9_62_PRIME192V1)), Err(Reason::KeyLengthMismatch));
        assert_eq!(judge(&curve(openssl::nid::Nid::SECP521R1)), Err(Reason::KeyLengthMismatch));
        assert_eq!(judge(&curve(openssl::nid::Nid::X9_62_PRIME256V1)), Ok(()));
    }
}
