//! OCSP (RFC 6960, nonce bounds of RFC 9654): requests are read, responses are built and, for tests and simulated devices, read back.

use super::Malformed;
use super::asn1::{self, Reader, context, context_primitive, sequence, tlv};
use super::x509::{Extension, SignatureAlgorithm};
use der::asn1::ObjectIdentifier;

const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
const BASIC_RESPONSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// The longest request that is read, in bytes.
pub const MAX_REQUEST: usize = 16 * 1024;
/// How many certificates one request may ask about.
pub const MAX_CERTIFICATES: usize = 32;
const NONCE_LENGTHS: std::ops::RangeInclusive<usize> = 1..=128;

/// The digest that a request names certificates by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1, which Windows and Apple use.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Hash {
    /// Its word in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }
}

/// Which certificate is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertId {
    /// By which digest; `None` for one that we do not know.
    pub hash: Option<Hash>,
    /// Digest of the issuer's name.
    pub issuer_name_hash: Vec<u8>,
    /// Digest of the issuer's key bits.
    pub issuer_key_hash: Vec<u8>,
    /// Serial number: contents of the INTEGER, minimal and not negative.
    pub serial: Vec<u8>,
    /// The whole CertID as it stands in the request: the answer repeats it. Besides what the other fields say it holds only whether the
    /// digest's parameters are NULL or absent, and only in DER.
    pub raw: Vec<u8>,
}

impl CertId {
    /// Whether it is written as [`cert_id`] writes it (parameters NULL, as nearly all clients do), so that an answer to one asker can be
    /// kept for all.
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        self.hash.is_some_and(|hash| cert_id(hash, &self.issuer_name_hash, &self.issuer_key_hash, &self.serial) == self.raw)
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The certificates asked about, one to [`MAX_CERTIFICATES`].
    pub certificates: Vec<CertId>,
    /// What makes the answer fresh: contents of the nonce.
    pub nonce: Option<Vec<u8>>,
}

impl Request {
    /// Reads a request; a signature on it is not looked at.
    ///
    /// # Errors
    /// [`Malformed`] when it is none, asks about nothing or too much, has a nonce outside 1 to 128 bytes, or has a critical extension other
    /// than the nonce (RFC 6960 4.4): what it asks for cannot be given.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_REQUEST {
            return Err(Malformed::new("too long", "request"));
        }
        let mut tbs = asn1::only_sequence(bytes)?.reader().expect(asn1::SEQUENCE, "TBSRequest")?.reader();
        tbs.optional(context(0))?;
        tbs.optional(context(1))?;
        let mut list = tbs.expect(asn1::SEQUENCE, "request list")?.reader();
        let mut certificates = Vec::new();
        while !list.is_empty() {
            if certificates.len() == MAX_CERTIFICATES {
                return Err(Malformed::new("too many certificates", "request"));
            }
            let mut single = list.expect(asn1::SEQUENCE, "request")?.reader();
            certificates.push(read_cert_id(&single.expect(asn1::SEQUENCE, "CertID")?)?);
            if let Some(outer) = single.optional(context(0))? {
                read_extensions(outer.value, |_, _| Ok(false))?;
            }
            single.end()?;
        }
        if certificates.is_empty() {
            return Err(Malformed::new("no certificate", "request"));
        }
        let nonce = match tbs.optional(context(2))? {
            Some(outer) => find_nonce(outer.value)?,
            None => None,
        };
        tbs.end()?;
        Ok(Self { certificates, nonce })
    }

    /// A request about certificates of one issuer, with or without a nonce.
    #[must_use]
    pub fn der(ids: &[Vec<u8>], nonce: Option<&[u8]>) -> Vec<u8> {
        let list: Vec<u8> = ids.iter().flat_map(|id| sequence(&[id])).collect();
        let extensions = nonce.map(|n| tlv(context(2), &sequence(&[&nonce_extension(n).der()]))).unwrap_or_default();
        sequence(&[&sequence(&[&tlv(asn1::SEQUENCE, &list), &extensions])])
    }
}

/// A CertID of digests of the issuer's name (DER) and key bits, and a serial number (big-endian).
#[must_use]
pub fn cert_id(hash: Hash, name_hash: &[u8], key_hash: &[u8], serial: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha1 => SHA1,
        Hash::Sha256 => SHA256,
    };
    let algorithm = sequence(&[&asn1::oid(&algorithm), &[asn1::NULL, 0]]);
    sequence(&[&algorithm, &asn1::octets(name_hash), &asn1::octets(key_hash), &asn1::unsigned(serial)])
}

fn read_cert_id(element: &asn1::Element<'_>) -> Result<CertId, Malformed> {
    let mut reader = element.reader();
    let mut algorithm = reader.expect(asn1::SEQUENCE, "digest algorithm")?.reader();
    let digest = algorithm.element()?.oid()?;
    if let Some(parameters) = algorithm.optional(asn1::NULL)?
        && !parameters.value.is_empty()
    {
        return Err(Malformed::new("parameters of a digest that are not NULL", "CertID"));
    }
    algorithm.end()?;
    let hash = match digest {
        SHA1 => Some(Hash::Sha1),
        SHA256 => Some(Hash::Sha256),
        _ => None,
    };
    let issuer_name_hash = reader.expect(asn1::OCTET_STRING, "issuer name digest")?.value.to_vec();
    let issuer_key_hash = reader.expect(asn1::OCTET_STRING, "issuer key digest")?.value.to_vec();
    let serial = reader.expect(asn1::INTEGER, "serial number")?;
    reader.end()?;
    // Any longer spelling of a number would be another CertID that means the same certificate; and nobody issues negative ones.
    if serial.value.first().is_none_or(|first| first & 0x80 != 0) || asn1::unsigned(serial.value) != serial.raw {
        return Err(Malformed::new("a serial number that is negative or not minimal", "CertID"));
    }
    let serial = serial.value.to_vec();
    Ok(CertId { hash, issuer_name_hash, issuer_key_hash, serial, raw: element.raw.to_vec() })
}

fn find_nonce(extensions: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut nonce = None;
    read_extensions(extensions, |id, value| {
        if id != NONCE {
            return Ok(false);
        }
        let mut inner = Reader::new(value);
        let bytes = inner.expect(asn1::OCTET_STRING, "nonce")?.value;
        inner.end()?;
        if !NONCE_LENGTHS.contains(&bytes.len()) || nonce.is_some() {
            return Err(Malformed::new("a nonce that is not 1 to 128 bytes, once", "request"));
        }
        nonce = Some(bytes.to_vec());
        Ok(true)
    })?;
    Ok(nonce)
}

/// Shows each extension's type and value to `take`, which says whether it knows the type; the critical ones must be known.
fn read_extensions(extensions: &[u8], mut take: impl FnMut(ObjectIdentifier, &[u8]) -> Result<bool, Malformed>) -> Result<(), Malformed> {
    let mut reader = asn1::only_sequence(extensions)?.reader();
    while !reader.is_empty() {
        let mut extension = reader.expect(asn1::SEQUENCE, "extension")?.reader();
        let id = extension.element()?.oid()?;
        let critical = extension.optional(asn1::BOOLEAN)?.is_some_and(|flag| flag.value != [0]);
        let value = extension.expect(asn1::OCTET_STRING, "extension value")?.value;
        extension.end()?;
        if !take(id, value)? && critical {
            return Err(Malformed::new("a critical extension that is not known", "request"));
        }
    }
    Ok(())
}

fn nonce_extension(nonce: &[u8]) -> Extension {
    Extension { id: NONCE, critical: false, value: asn1::octets(nonce) }
}

/// What is known of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Issued and not revoked.
    Good,
    /// Revoked.
    Revoked {
        /// Seconds since 1970.
        at: i64,
        /// CRLReason code; 0 is left out.
        reason: u8,
    },
    /// Not issued here.
    Unknown,
}

/// The answer about one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Single<'a> {
    /// The request's CertID, as it stood there.
    pub cert_id: &'a [u8],
    /// The answer.
    pub status: Status,
    /// Seconds since 1970.
    pub this_update: i64,
    /// Seconds since 1970.
    pub next_update: i64,
}

/// What the responder signs.
#[derive(Clone, Debug)]
pub struct ToBeSigned<'a> {
    /// SHA-1 of the bits of the responder's key.
    pub responder_key_hash: [u8; 20],
    /// Seconds since 1970.
    pub produced_at: i64,
    /// One answer per certificate.
    pub answers: &'a [Single<'a>],
    /// The request's nonce.
    pub nonce: Option<&'a [u8]>,
}

impl ToBeSigned<'_> {
    /// The ResponseData.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        let mut answers = Vec::new();
        for answer in self.answers {
            let status = match answer.status {
                Status::Good => tlv(context_primitive(0), &[]),
                Status::Revoked { at, reason } => {
                    let reason = if reason == 0 { Vec::new() } else { tlv(context(0), &tlv(asn1::ENUMERATED, &[reason])) };
                    asn1::wrap(context(1), &[&asn1::generalized_time(at), &reason])
                }
                Status::Unknown => tlv(context_primitive(2), &[]),
            };
            let next = tlv(context(0), &asn1::generalized_time(answer.next_update));
            answers.extend(sequence(&[answer.cert_id, &status, &asn1::generalized_time(answer.this_update), &next]));
        }
        let extensions = self.nonce.map(|n| tlv(context(1), &sequence(&[&nonce_extension(n).der()]))).unwrap_or_default();
        sequence(&[
            &tlv(context(2), &asn1::octets(&self.responder_key_hash)),
            &asn1::generalized_time(self.produced_at),
            &tlv(asn1::SEQUENCE, &answers),
            &extensions,
        ])
    }
}

/// A successful response: what was signed, how, the signature, and the responder's certificate.
#[must_use]
pub fn response(to_be_signed: &[u8], algorithm: SignatureAlgorithm, signature: &[u8], certificate: &[u8]) -> Vec<u8> {
    let certificates = tlv(context(0), &sequence(&[certificate]));
    let basic = sequence(&[to_be_signed, &algorithm.der(), &asn1::bits(signature), &certificates]);
    let bytes = sequence(&[&asn1::oid(&BASIC_RESPONSE), &asn1::octets(&basic)]);
    sequence(&[&tlv(asn1::ENUMERATED, &[0]), &tlv(context(0), &bytes)])
}

/// A response that says why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request does not parse.
    MalformedRequest,
    /// Our own fault.
    InternalError,
    /// Not now.
    TryLater,
    /// The issuer that was asked about is not ours.
    Unauthorized,
}

impl Failure {
    /// The response, which is not signed.
    #[must_use]
    pub fn der(self) -> Vec<u8> {
        let code = match self {
            Self::MalformedRequest => 1,
            Self::InternalError => 2,
            Self::TryLater => 3,
            Self::Unauthorized => 6,
        };
        sequence(&[&tlv(asn1::ENUMERATED, &[code])])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(serial: u8) -> Vec<u8> {
        cert_id(Hash::Sha1, &[1; 20], &[2; 20], &[serial])
    }

    #[test]
    fn several_certificates_and_a_nonce_are_read() {
        let request = Request::parse(&Request::der(&[id(1), id(0x80)], Some(&[9; 16]))).unwrap();
        assert_eq!(request.nonce.as_deref(), Some(&[9; 16][..]));
        assert_eq!(request.certificates.len(), 2);
        assert_eq!(request.certificates[1].serial, [0, 0x80]);
        assert_eq!(request.certificates[1].raw, id(0x80));
        assert_eq!(request.certificates[0].hash, Some(Hash::Sha1));
    }

    #[test]
    fn a_nonce_has_1_to_128_bytes() {
        for (length, good) in [(0, false), (1, true), (16, true), (128, true), (129, false)] {
            let request = Request::der(&[id(1)], Some(&vec![1; length]));
            assert_eq!(Request::parse(&request).is_ok(), good, "{length}");
        }
    }

    #[test]
    fn unknown_extensions_are_passed_over_unless_they_are_critical() {
        let extension = |id: ObjectIdentifier, critical| Extension { id, critical, value: asn1::octets(&[7; 16]) }.der();
        let unknown = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.55555.1");
        let request = |whole: &[u8], single: &[u8]| {
            let wrapped = |n, list: &[u8]| if list.is_empty() { Vec::new() } else { tlv(context(n), &sequence(&[list])) };
            let one = sequence(&[&id(1), &wrapped(0, single)]);
            Request::parse(&sequence(&[&sequence(&[&tlv(asn1::SEQUENCE, &one), &wrapped(2, whole)])])).map(|read| read.nonce)
        };
        let nonce = Some(vec![7; 16]);
        assert_eq!(request(&[], &[]), Ok(None));
        assert_eq!(request(&[extension(unknown, false), extension(NONCE, false)].concat(), &extension(unknown, false)), Ok(nonce.clone()));
        assert_eq!(request(&extension(NONCE, true), &[]), Ok(nonce));
        assert!(request(&extension(unknown, true), &[]).is_err());
        assert!(request(&[extension(NONCE, false), extension(unknown, true)].concat(), &[]).is_err());
        assert!(request(&[], &extension(unknown, true)).is_err());
        assert!(request(&[], &extension(NONCE, true)).is_err(), "the nonce is the whole request's");
    }

    #[test]
    fn a_request_about_nothing_or_too_much_is_malformed() {
        assert!(Request::parse(&Request::der(&[], None)).is_err());
        let many: Vec<_> = (0..=MAX_CERTIFICATES).map(|_| id(1)).collect();
        assert!(Request::parse(&Request::der(&many, None)).is_err());
        assert!(Request::parse(&Request::der(&many[1..], None)).is_ok());
        let whole = Request::der(&[id(1)], Some(&[1]));
        for cut in 0..whole.len() {
            assert!(Request::parse(&whole[..cut]).is_err());
        }
    }

    #[test]
    fn a_certificate_is_named_in_one_way_only() {
        let with = |algorithm: &[u8], serial: &[u8]| {
            let algorithm = sequence(&[&asn1::oid(&SHA1), algorithm]);
            let id = sequence(&[&algorithm, &asn1::octets(&[1; 20]), &asn1::octets(&[2; 20]), &tlv(asn1::INTEGER, serial)]);
            Request::parse(&Request::der(&[id], None)).map(|request| request.certificates[0].is_canonical())
        };
        assert_eq!(with(&[asn1::NULL, 0], &[0x41]), Ok(true));
        assert_eq!(with(&[asn1::NULL, 0], &[0, 0x81]), Ok(true));
        assert_eq!(with(&[asn1::NULL, 0], &[0]), Ok(true));
        assert_eq!(with(&[], &[0x41]), Ok(false), "RFC 5754 leaves the parameters out");
        for serial in [&[][..], &[0, 0x41], &[0, 0, 0x81], &[0x81], &[0xff, 0x41]] {
            assert!(with(&[asn1::NULL, 0], serial).is_err(), "{serial:02x?}");
        }
        for parameters in [&[asn1::NULL, 1, 0][..], &[asn1::OCTET_STRING, 0], &[asn1::NULL, 0, asn1::NULL, 0]] {
            assert!(with(parameters, &[0x41]).is_err(), "{parameters:02x?}");
        }
    }

    #[test]
    fn failures_have_the_codes_of_the_standard() {
        assert_eq!(Failure::MalformedRequest.der(), [0x30, 3, 0x0a, 1, 1]);
        assert_eq!(Failure::Unauthorized.der(), [0x30, 3, 0x0a, 1, 6]);
        assert_eq!(Failure::TryLater.der(), [0x30, 3, 0x0a, 1, 3]);
        assert_eq!(Failure::InternalError.der(), [0x30, 3, 0x0a, 1, 2]);
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::parse(&bytes);
        }

        #[test]
        fn a_request_reads_back(serials in proptest::collection::vec(1u8..0x7f, 1..8), nonce in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..128))) {
            let ids: Vec<_> = serials.iter().map(|s| id(*s)).collect();
            let read = Request::parse(&Request::der(&ids, nonce.as_deref())).unwrap();
            prop_assert_eq!(read.certificates.into_iter().map(|c| c.raw).collect::<Vec<_>>(), ids);
            prop_assert_eq!(read.nonce, nonce);
        }
    }
}
