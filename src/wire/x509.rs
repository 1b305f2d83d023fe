//! X.509 certificates (RFC 5280): built over the issuer's raw name bytes, and taken apart without re-encoding anything.

use std::net::IpAddr;

use der::asn1::ObjectIdentifier;
use openssl::sha::sha256;

use super::Malformed;
use super::asn1::{self, Element, Reader, context, context_primitive, sequence, tlv, wrap};

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.14");
/// Type of the keyUsage extension.
pub const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
const SUBJECT_ALT_NAME: ObjectIdentifier = oid("2.5.29.17");
/// Type of the basicConstraints extension.
pub const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = oid("2.5.29.31");
const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.35");
/// Type of the nameConstraints extension.
pub const NAME_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.30");
const EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");
const AUTHORITY_INFO_ACCESS: ObjectIdentifier = oid("1.3.6.1.5.5.7.1.1");
const ACCESS_OCSP: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.1");
const ACCESS_CA_ISSUERS: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.2");
const OCSP_NO_CHECK: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.1.5");
const SID_EXTENSION: ObjectIdentifier = oid("1.3.6.1.4.1.311.25.2");
const SID_VALUE: ObjectIdentifier = oid("1.3.6.1.4.1.311.25.2.1");
/// Type of the otherName that is a user principal name.
pub const UPN: ObjectIdentifier = oid("1.3.6.1.4.1.311.20.2.3");
const APPLICATION_POLICIES: ObjectIdentifier = oid("1.3.6.1.4.1.311.21.10");

const COUNTRY: &str = "2.5.4.6";
const DOMAIN_COMPONENT: &str = "0.9.2342.19200300.100.1.25";
const EMAIL: &str = "1.2.840.113549.1.9.1";

/// keyUsage bit: sign data.
pub const DIGITAL_SIGNATURE: u8 = 0;
/// keyUsage bit: unwrap keys.
pub const KEY_ENCIPHERMENT: u8 = 2;
/// keyUsage bit: sign certificates.
pub const KEY_CERT_SIGN: u8 = 5;
/// keyUsage bit: sign CRLs.
pub const CRL_SIGN: u8 = 6;

/// A signature algorithm that authorities sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    RsaSha256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    RsaSha384,
    /// ECDSA with SHA-256.
    EcdsaSha256,
    /// ECDSA with SHA-384.
    EcdsaSha384,
}

impl SignatureAlgorithm {
    /// The AlgorithmIdentifier: NULL parameters for RSA, none for ECDSA.
    #[must_use]
    pub fn der(self) -> Vec<u8> {
        let (id, parameters): (_, &[u8]) = match self {
            Self::RsaSha256 => (oid("1.2.840.113549.1.1.11"), &[asn1::NULL, 0]),
            Self::RsaSha384 => (oid("1.2.840.113549.1.1.12"), &[asn1::NULL, 0]),
            Self::EcdsaSha256 => (oid("1.2.840.10045.4.3.2"), &[]),
            Self::EcdsaSha384 => (oid("1.2.840.10045.4.3.3"), &[]),
        };
        sequence(&[&asn1::oid(&id), parameters])
    }
}

/// One attribute of a name: dotted type and value.
pub type NameAttribute<'a> = (&'a str, &'a str);

/// A Name of relative names, each of one or more attributes.
///
/// Values are PrintableString when its alphabet has all their characters, else UTF8String; e-mail addresses and domain components are
/// IA5String.
///
/// # Errors
/// [`Malformed`] when a type is no object identifier, or a value does not fit its type's only alphabet.
pub fn name(rdns: &[Vec<NameAttribute<'_>>]) -> Result<Vec<u8>, Malformed> {
    let mut sets = Vec::with_capacity(rdns.len());
    for rdn in rdns {
        let attributes = rdn.iter().map(|(kind, value)| {
            let id = parse_oid(kind)?;
            Ok(sequence(&[&asn1::oid(&id), &directory_string(kind, value)?]))
        });
        sets.push(asn1::set_of(asn1::SET, attributes.collect::<Result<_, Malformed>>()?));
    }
    Ok(tlv(asn1::SEQUENCE, &sets.concat()))
}

fn directory_string(kind: &str, value: &str) -> Result<Vec<u8>, Malformed> {
    let tag = match kind {
        EMAIL | DOMAIN_COMPONENT if value.is_ascii() => asn1::IA5_STRING,
        EMAIL | DOMAIN_COMPONENT => return Err(Malformed::new("a value that is not ASCII", kind)),
        COUNTRY if value.len() == 2 && value.bytes().all(|b| b.is_ascii_alphabetic()) => asn1::PRINTABLE_STRING,
        COUNTRY => return Err(Malformed::new("a country that is not two letters", kind)),
        _ => return Ok(asn1::directory_string(value)),
    };
    Ok(tlv(tag, value.as_bytes()))
}

/// An object identifier of dotted text.
///
/// # Errors
/// [`Malformed`] when it is none.
pub fn parse_oid(text: &str) -> Result<ObjectIdentifier, Malformed> {
    ObjectIdentifier::new(text).map_err(|_| Malformed::new("not an object identifier", text))
}

/// An extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its type.
    pub id: ObjectIdentifier,
    /// Whether who does not know it must reject.
    pub critical: bool,
    /// The DER that its OCTET STRING holds.
    pub value: Vec<u8>,
}

impl Extension {
    fn new(id: ObjectIdentifier, critical: bool, value: Vec<u8>) -> Self {
        Self { id, critical, value }
    }

    /// basicConstraints, critical: an authority with at most `path_length` authorities below it.
    #[must_use]
    pub fn authority(path_length: Option<u8>) -> Self {
        let length = path_length.map(|n| asn1::number(u64::from(n))).unwrap_or_default();
        Self::new(BASIC_CONSTRAINTS, true, sequence(&[&asn1::TRUE, &length]))
    }

    /// basicConstraints, critical: no authority.
    #[must_use]
    pub fn end_entity() -> Self {
        Self::new(BASIC_CONSTRAINTS, true, sequence(&[]))
    }

    /// keyUsage, critical, of bit numbers.
    #[must_use]
    pub fn key_usage(bits: &[u8]) -> Self {
        Self::new(KEY_USAGE, true, asn1::named_bits(bits))
    }

    /// extKeyUsage.
    #[must_use]
    pub fn extended_key_usage(usages: &[ObjectIdentifier]) -> Self {
        let ids: Vec<u8> = usages.iter().flat_map(asn1::oid).collect();
        Self::new(EXTENDED_KEY_USAGE, false, tlv(asn1::SEQUENCE, &ids))
    }

    /// Microsoft's application policies: the same usages once more, as policies.
    #[must_use]
    pub fn application_policies(usages: &[ObjectIdentifier]) -> Self {
        let policies: Vec<u8> = usages.iter().flat_map(|id| sequence(&[&asn1::oid(id)])).collect();
        Self::new(APPLICATION_POLICIES, false, tlv(asn1::SEQUENCE, &policies))
    }

    /// subjectKeyIdentifier.
    #[must_use]
    pub fn subject_key_identifier(id: &[u8]) -> Self {
        Self::new(SUBJECT_KEY_IDENTIFIER, false, asn1::octets(id))
    }

    /// authorityKeyIdentifier with the issuer's subject key identifier.
    #[must_use]
    pub fn authority_key_identifier(id: &[u8]) -> Self {
        Self::new(AUTHORITY_KEY_IDENTIFIER, false, sequence(&[&tlv(context_primitive(0), id)]))
    }

    /// subjectAltName; critical when the subject is empty.
    #[must_use]
    pub fn subject_alt_name(names: &[GeneralName<'_>], critical: bool) -> Self {
        let names: Vec<u8> = names.iter().flat_map(GeneralName::der).collect();
        Self::new(SUBJECT_ALT_NAME, critical, tlv(asn1::SEQUENCE, &names))
    }

    /// cRLDistributionPoints with one address.
    #[must_use]
    pub fn crl_distribution_point(url: &str) -> Self {
        let full_name = tlv(context(0), &GeneralName::Uri(url).der());
        Self::new(CRL_DISTRIBUTION_POINTS, false, sequence(&[&sequence(&[&tlv(context(0), &full_name)])]))
    }

    /// authorityInfoAccess: where the issuer's certificate and its OCSP responder are.
    #[must_use]
    pub fn authority_info_access(ocsp: &str, ca_issuers: &str) -> Self {
        let access = |method: &ObjectIdentifier, url: &str| sequence(&[&asn1::oid(method), &GeneralName::Uri(url).der()]);
        Self::new(AUTHORITY_INFO_ACCESS, false, sequence(&[&access(&ACCESS_OCSP, ocsp), &access(&ACCESS_CA_ISSUERS, ca_issuers)]))
    }

    /// id-pkix-ocsp-nocheck: nobody need ask whether the responder itself is revoked.
    #[must_use]
    pub fn ocsp_no_check() -> Self {
        Self::new(OCSP_NO_CHECK, false, vec![asn1::NULL, 0])
    }

    /// Microsoft's SID extension (MS-WCCE 2.2.2.7.7.4): the text of the account's SID.
    #[must_use]
    pub fn sid(sid: &str) -> Self {
        let value = tlv(context(0), &asn1::octets(sid.as_bytes()));
        Self::new(SID_EXTENSION, false, sequence(&[&wrap(context(0), &[&asn1::oid(&SID_VALUE), &value])]))
    }

    /// The extension as it stands in a certificate or CRL.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        let critical: &[u8] = if self.critical { &asn1::TRUE } else { &[] };
        sequence(&[&asn1::oid(&self.id), critical, &asn1::octets(&self.value)])
    }
}

/// A GeneralName.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneralName<'a> {
    /// rfc822Name, ASCII.
    Email(&'a str),
    /// dNSName, ASCII.
    Dns(&'a str),
    /// uniformResourceIdentifier, ASCII.
    Uri(&'a str),
    /// iPAddress.
    Ip(IpAddr),
    /// otherName: user principal name.
    Upn(&'a str),
}

impl GeneralName<'_> {
    /// Its encoding.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        match self {
            Self::Email(text) => tlv(context_primitive(1), text.as_bytes()),
            Self::Dns(text) => tlv(context_primitive(2), text.as_bytes()),
            Self::Uri(text) => tlv(context_primitive(6), text.as_bytes()),
            Self::Ip(IpAddr::V4(ip)) => tlv(context_primitive(7), &ip.octets()),
            Self::Ip(IpAddr::V6(ip)) => tlv(context_primitive(7), &ip.octets()),
            Self::Upn(text) => {
                let value = wrap(context(0), &[&tlv(asn1::UTF8_STRING, text.as_bytes())]);
                wrap(context(0), &[&asn1::oid(&UPN), &value])
            }
        }
    }
}

/// What the issuer signs.
#[derive(Clone, Debug)]
pub struct ToBeSigned<'a> {
    /// Serial number, big-endian, positive.
    pub serial: &'a [u8],
    /// How the issuer signs.
    pub algorithm: SignatureAlgorithm,
    /// The issuer's name, byte for byte as its own certificate has it.
    pub issuer: &'a [u8],
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// The holder's Name, DER.
    pub subject: &'a [u8],
    /// The holder's SubjectPublicKeyInfo, DER.
    pub spki: &'a [u8],
    /// Extensions, each type once.
    pub extensions: &'a [Extension],
}

impl ToBeSigned<'_> {
    /// The TBSCertificate.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        let extensions: Vec<u8> = self.extensions.iter().flat_map(Extension::der).collect();
        sequence(&[
            &tlv(context(0), &asn1::number(2)),
            &asn1::unsigned(self.serial),
            &self.algorithm.der(),
            self.issuer,
            &sequence(&[&asn1::time(self.not_before), &asn1::time(self.not_after)]),
            self.subject,
            self.spki,
            &tlv(context(3), &tlv(asn1::SEQUENCE, &extensions)),
        ])
    }
}

/// Joins what was signed with its signature: a certificate, a CRL or a basic OCSP response without certificates.
#[must_use]
pub fn signed(to_be_signed: &[u8], algorithm: SignatureAlgorithm, signature: &[u8]) -> Vec<u8> {
    sequence(&[to_be_signed, &algorithm.der(), &asn1::bits(signature)])
}

/// A certificate taken apart; all parts are raw bytes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Serial number: contents of the INTEGER, as they stand.
    pub serial: &'a [u8],
    /// Issuer, DER.
    pub issuer: &'a [u8],
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Subject, DER.
    pub subject: &'a [u8],
    /// SubjectPublicKeyInfo, DER.
    pub spki: &'a [u8],
    /// The key's bits: contents of the BIT STRING after the count of unused bits.
    pub key_bits: &'a [u8],
    /// Contents of the extensions' SEQUENCE; empty without extensions.
    extensions: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Takes a certificate apart. Serial numbers of any length are taken: some clients' self-signed ones are too long for RFC 5280.
    ///
    /// # Errors
    /// [`Malformed`] when it is no certificate in DER.
    pub fn parse(certificate: &'a [u8]) -> Result<Self, Malformed> {
        let mut tbs = asn1::only_sequence(certificate)?.reader().expect(asn1::SEQUENCE, "TBSCertificate")?.reader();
        tbs.optional(context(0))?;
        let serial = tbs.expect(asn1::INTEGER, "serial number")?.value;
        tbs.expect(asn1::SEQUENCE, "signature algorithm")?;
        let issuer = tbs.expect(asn1::SEQUENCE, "issuer")?.raw;
        let mut validity = tbs.expect(asn1::SEQUENCE, "validity")?.reader();
        let (not_before, not_after) = (validity.element()?.time()?, validity.element()?.time()?);
        let subject = tbs.expect(asn1::SEQUENCE, "subject")?.raw;
        let spki = tbs.expect(asn1::SEQUENCE, "public key")?;
        let key_bits = key_bits(&spki)?;
        tbs.optional(context_primitive(1))?;
        tbs.optional(context_primitive(2))?;
        let extensions = match tbs.optional(context(3))? {
            Some(outer) => asn1::only_sequence(outer.value)?.value,
            None => &[],
        };
        Ok(Self { serial, issuer, not_before, not_after, subject, spki: spki.raw, key_bits, extensions })
    }

    /// The DER inside the extension of this type.
    ///
    /// # Errors
    /// [`Malformed`] when the extensions do not parse.
    pub fn extension(&self, id: &ObjectIdentifier) -> Result<Option<&'a [u8]>, Malformed> {
        let mut reader = Reader::new(self.extensions);
        while !reader.is_empty() {
            let mut extension = reader.expect(asn1::SEQUENCE, "extension")?.reader();
            let found = extension.element()?.oid()?;
            extension.optional(asn1::BOOLEAN)?;
            let value = extension.expect(asn1::OCTET_STRING, "extension value")?.value;
            if found == *id {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The subject key identifier as the certificate states it, else the one that [`key_identifier`] makes.
    ///
    /// # Errors
    /// [`Malformed`] when the extension does not parse.
    pub fn subject_key_identifier(&self) -> Result<Vec<u8>, Malformed> {
        match self.extension(&SUBJECT_KEY_IDENTIFIER)? {
            Some(value) => Ok(Reader::new(value).expect(asn1::OCTET_STRING, "key identifier")?.value.to_vec()),
            None => Ok(key_identifier(self.key_bits)),
        }
    }

    /// Whether it may sign certificates: basicConstraints says CA.
    #[must_use]
    pub fn is_authority(&self) -> bool {
        let stated = self.extension(&BASIC_CONSTRAINTS).ok().flatten();
        stated.is_some_and(|value| asn1::only_sequence(value).is_ok_and(|s| s.value.starts_with(&asn1::TRUE)))
    }
}

fn key_bits<'a>(spki: &Element<'a>) -> Result<&'a [u8], Malformed> {
    let mut inner = spki.reader();
    inner.expect(asn1::SEQUENCE, "key algorithm")?;
    let bits = inner.expect(asn1::BIT_STRING, "key")?.value;
    match bits.split_first() {
        Some((0, key)) => Ok(key),
        _ => Err(Malformed::new("a key that is not whole bytes", "DER")),
    }
}

/// The bits of a SubjectPublicKeyInfo's key.
///
/// # Errors
/// [`Malformed`] when it is no SubjectPublicKeyInfo.
pub fn public_key_bits(spki: &[u8]) -> Result<&[u8], Malformed> {
    key_bits(&asn1::only_sequence(spki)?)
}

/// The key identifier that we give to a key: 160 bits of its SHA-256 (RFC 7093).
#[must_use]
pub fn key_identifier(key_bits: &[u8]) -> Vec<u8> {
    sha256(key_bits).get(..20).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Row 28 of the reference.
    #[test]
    fn the_sid_extension_has_the_proven_bytes() {
        let extension = Extension::sid("S-1-5-21-1-2-3-1001");
        let mut wanted = hex::decode("3025A023060A2B060104018237190201A0150413").unwrap();
        wanted.extend_from_slice(b"S-1-5-21-1-2-3-1001");
        assert_eq!(hex::encode(&extension.value), hex::encode(wanted));
        assert!(!extension.critical);
    }

    #[test]
    fn strings_get_the_type_that_their_characters_need() {
        let tag_of = |kind, value| directory_string(kind, value).unwrap()[0];
        assert_eq!(tag_of("2.5.4.3", "Device 7 (a)"), asn1::PRINTABLE_STRING);
        for value in ["ana@example.org", "a_b", "é", "a*b", "😀"] {
            assert_eq!(tag_of("2.5.4.3", value), asn1::UTF8_STRING, "{value}");
        }
        assert_eq!(tag_of(DOMAIN_COMPONENT, "contoso"), asn1::IA5_STRING);
        assert_eq!(tag_of(EMAIL, "a@b"), asn1::IA5_STRING);
        assert_eq!(tag_of(COUNTRY, "DE"), asn1::PRINTABLE_STRING);
        assert!(directory_string(COUNTRY, "DEU").is_err());
        assert!(directory_string(EMAIL, "é@b").is_err());
    }

    #[test]
    fn the_upn_is_an_other_name() {
        let wanted = format!("a01206 0a2b060104018237140203 a004 0c02{}", hex::encode("a@")).replace(' ', "");
        assert_eq!(hex::encode(GeneralName::Upn("a@").der()), wanted);
    }

    #[test]
    fn what_is_built_is_taken_apart_again() {
        let key = openssl::pkey::PKey::from_ec_key(
            openssl::ec::EcKey::generate(&openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap()).unwrap(),
        )
        .unwrap();
        let spki = key.public_key_to_der().unwrap();
        let subject = name(&[vec![("2.5.4.3", "a")], vec![("2.5.4.11", "b"), ("2.5.4.11", "a")]]).unwrap();
        let issuer = name(&[vec![(DOMAIN_COMPONENT, "com")], vec![(DOMAIN_COMPONENT, "contoso")]]).unwrap();
        let extensions = [Extension::end_entity(), Extension::subject_key_identifier(&[1, 2, 3])];
        let tbs = ToBeSigned {
            serial: &[0x40, 1],
            algorithm: SignatureAlgorithm::EcdsaSha256,
            issuer: &issuer,
            not_before: 0,
            not_after: 4_000_000_000,
            subject: &subject,
            spki: &spki,
            extensions: &extensions,
        };
        let whole = signed(&tbs.der(), tbs.algorithm, &[0; 8]);
        let parts = Parts::parse(&whole).unwrap();
        assert_eq!((parts.serial, parts.issuer, parts.subject, parts.spki), (&[0x40, 1][..], &issuer[..], &subject[..], &spki[..]));
        assert_eq!((parts.not_before, parts.not_after), (0, 4_000_000_000));
        assert_eq!(parts.subject_key_identifier().unwrap(), [1, 2, 3]);
        assert!(!parts.is_authority());
        assert!(openssl::x509::X509::from_der(&whole).is_ok());
        for cut in 0..whole.len() {
            assert!(Parts::parse(&whole[..cut]).is_err());
        }
    }

    proptest! {
        #[test]
        fn taking_apart_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(parts) = Parts::parse(&bytes) {
                let _ = (parts.subject_key_identifier(), parts.is_authority());
            }
        }

        #[test]
        fn any_name_is_encoded(value in ".{0,80}") {
            let der = name(&[vec![("2.5.4.3", &value)]]).unwrap();
            prop_assert!(asn1::only_sequence(&der).is_ok());
        }
    }
}
