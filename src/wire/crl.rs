//! Certificate revocation lists, version 2 (RFC 5280 section 5).

use der::asn1::ObjectIdentifier;

use super::Malformed;
use super::asn1::{self, Reader, context, sequence, tlv};
use super::x509::{Extension, SignatureAlgorithm};

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const REASON_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");

/// One revoked certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Serial number, big-endian.
    pub serial: Vec<u8>,
    /// Seconds since 1970.
    pub at: i64,
    /// CRLReason code; 0 (unspecified) is left out.
    pub reason: u8,
}

/// What the authority signs.
#[derive(Clone, Debug)]
pub struct ToBeSigned<'a> {
    /// How the authority signs.
    pub algorithm: SignatureAlgorithm,
    /// The authority's name, byte for byte as its certificate has it.
    pub issuer: &'a [u8],
    /// The authority's subject key identifier.
    pub issuer_key: &'a [u8],
    /// cRLNumber: grows with each list.
    pub number: u64,
    /// Seconds since 1970.
    pub this_update: i64,
    /// Seconds since 1970.
    pub next_update: i64,
    /// The revoked certificates.
    pub revoked: &'a [Revoked],
}

impl ToBeSigned<'_> {
    /// The TBSCertList.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        let mut entries = Vec::with_capacity(self.revoked.len() * 48);
        for entry in self.revoked {
            let reason = if entry.reason == 0 {
                Vec::new()
            } else {
                let value = tlv(asn1::ENUMERATED, &[entry.reason]);
                sequence(&[&Extension { id: REASON_CODE, critical: false, value }.der()])
            };
            entries.extend(sequence(&[&asn1::unsigned(&entry.serial), &asn1::time(entry.at), &reason]));
        }
        // An empty list is left out: RFC 5280 5.1.2.6 forbids an empty SEQUENCE.
        let entries = if entries.is_empty() { entries } else { tlv(asn1::SEQUENCE, &entries) };
        let number = Extension { id: CRL_NUMBER, critical: false, value: asn1::number(self.number) };
        let extensions = sequence(&[&Extension::authority_key_identifier(self.issuer_key).der(), &number.der()]);
        sequence(&[
            &asn1::number(1),
            &self.algorithm.der(),
            self.issuer,
            &asn1::time(self.this_update),
            &asn1::time(self.next_update),
            &entries,
            &tlv(context(0), &extensions),
        ])
    }
}

/// A list as it was read; the signature is not judged here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The issuer's name, DER.
    pub issuer: Vec<u8>,
    /// Seconds since 1970.
    pub this_update: i64,
    /// Seconds since 1970.
    pub next_update: Option<i64>,
    /// cRLNumber, big-endian contents.
    pub number: Option<Vec<u8>>,
    /// The revoked certificates.
    pub revoked: Vec<Revoked>,
}

impl List {
    /// Reads a list.
    ///
    /// # Errors
    /// [`Malformed`] when it is none in DER.
    pub fn parse(der: &[u8]) -> Result<Self, Malformed> {
        let mut tbs = asn1::only_sequence(der)?.reader().expect(asn1::SEQUENCE, "TBSCertList")?.reader();
        tbs.optional(asn1::INTEGER)?;
        tbs.expect(asn1::SEQUENCE, "signature algorithm")?;
        let issuer = tbs.expect(asn1::SEQUENCE, "issuer")?.raw.to_vec();
        let this_update = tbs.element()?.time()?;
        let next_update = match tbs.peek() {
            Some(asn1::UTC_TIME | asn1::GENERALIZED_TIME) => Some(tbs.element()?.time()?),
            _ => None,
        };
        let mut revoked = Vec::new();
        if let Some(entries) = tbs.optional(asn1::SEQUENCE)? {
            let mut reader = entries.reader();
            while !reader.is_empty() {
                let mut entry = reader.expect(asn1::SEQUENCE, "entry")?.reader();
                let serial = entry.expect(asn1::INTEGER, "serial number")?.value;
                let at = entry.element()?.time()?;
                let reason = match entry.optional(asn1::SEQUENCE)? {
                    Some(extensions) => find(extensions.value, &REASON_CODE)?.and_then(|v| v.get(2).copied()).unwrap_or(0),
                    None => 0,
                };
                revoked.push(Revoked { serial: unsigned(serial), at, reason });
            }
        }
        let number = match tbs.optional(context(0))? {
            Some(outer) => match find(asn1::only_sequence(outer.value)?.value, &CRL_NUMBER)? {
                Some(value) => Some(unsigned(Reader::new(value).expect(asn1::INTEGER, "CRL number")?.value)),
                None => None,
            },
            None => None,
        };
        Ok(Self { issuer, this_update, next_update, number, revoked })
    }
}

fn unsigned(contents: &[u8]) -> Vec<u8> {
    contents.iter().copied().skip_while(|b| *b == 0).collect()
}

fn find<'a>(extensions: &'a [u8], id: &ObjectIdentifier) -> Result<Option<&'a [u8]>, Malformed> {
    let mut reader = Reader::new(extensions);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::x509;
    use proptest::prelude::*;

    fn list(revoked: &[Revoked]) -> Vec<u8> {
        let issuer = x509::name(&[vec![("2.5.4.3", "CA")]]).unwrap();
        let tbs = ToBeSigned {
            algorithm: SignatureAlgorithm::EcdsaSha256,
            issuer: &issuer,
            issuer_key: &[7; 20],
            number: 300,
            this_update: 1_800_000_000,
            next_update: 1_800_600_000,
            revoked,
        };
        x509::signed(&tbs.der(), tbs.algorithm, &[1])
    }

    #[test]
    fn an_empty_list_has_no_entries_element() {
        let der = list(&[]);
        let read = List::parse(&der).unwrap();
        assert_eq!((read.number.as_deref(), read.revoked.len()), (Some(&[1, 44][..]), 0));
        let crl = openssl::x509::X509Crl::from_der(&der).unwrap();
        assert!(crl.get_revoked().is_none());
    }

    proptest! {
        #[test]
        fn a_list_reads_back(entries in proptest::collection::vec((any::<[u8; 16]>(), 0i64..4_000_000_000, 0u8..10), 0..20)) {
            let revoked: Vec<_> = entries
                .into_iter()
                .map(|(mut serial, at, reason)| {
                    serial[0] |= 0x40;
                    Revoked { serial: serial.to_vec(), at, reason }
                })
                .collect();
            prop_assert_eq!(List::parse(&list(&revoked)).unwrap().revoked, revoked);
        }

        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = List::parse(&bytes);
        }
    }
}
