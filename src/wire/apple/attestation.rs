//! Managed Device Attestation: what Apple's attestation servers say of a device, in the extensions of a certificate, and the forms in which
//! devices send the chain (Apple, `information.device.yaml`; draft-ietf-acme-device-attest).

use openssl::x509::X509;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::super::asn1::Reader;
use super::super::{Malformed, cbor};

/// Most certificates of a chain, and the longest of them in bytes.
const CHAIN: usize = 6;
const LONGEST: usize = 8 * 1024;
/// Longest value of a property, in bytes.
const VALUE: usize = 256;

/// The object identifiers below `1.2.840.113635.100.8`.
pub mod oid {
    /// Serial number.
    pub const SERIAL: &str = "1.2.840.113635.100.8.9.1";
    /// UDID; on a Mac the provisioning UDID.
    pub const UDID: &str = "1.2.840.113635.100.8.9.2";
    /// Identifier of the model for software updates.
    pub const UPDATE_DEVICE: &str = "1.2.840.113635.100.8.9.4";
    /// Version of the system.
    pub const OS_VERSION: &str = "1.2.840.113635.100.8.10.1";
    /// Version of the Secure Enclave's system.
    pub const SEP_OS_VERSION: &str = "1.2.840.113635.100.8.10.2";
    /// Version of the boot loader.
    pub const LLB_VERSION: &str = "1.2.840.113635.100.8.10.3";
    /// Freshness code.
    pub const FRESHNESS: &str = "1.2.840.113635.100.8.11.1";
    /// System Integrity Protection: 0 is on, 1 is off.
    pub const SIP: &str = "1.2.840.113635.100.8.13.1";
    /// Level of secure boot.
    pub const SECURE_BOOT: &str = "1.2.840.113635.100.8.13.2";
    /// Kernel extensions of others: 0 is none.
    pub const KEXTS: &str = "1.2.840.113635.100.8.13.3";
}

/// What a chain's leaf says. What is blank or not there is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Serial number.
    pub serial: Option<String>,
    /// UDID; on a Mac the provisioning UDID, which is not the UDID of device management.
    pub udid: Option<String>,
    /// Identifier of the model for software updates.
    pub update_device: Option<String>,
    /// Version of the system.
    pub os_version: Option<String>,
    /// Version of the Secure Enclave's system.
    pub sep_os_version: Option<String>,
    /// Version of the boot loader.
    pub llb_version: Option<String>,
    /// The value of the freshness extension as it came; [`Self::is_fresh_for`] compares.
    pub freshness: Option<Vec<u8>>,
    /// System Integrity Protection is on: the extension says it the other way round.
    pub sip: Option<bool>,
    /// Level of secure boot, in lower case: `full security`.
    pub secure_boot: Option<String>,
    /// Whether kernel extensions of others may be loaded.
    pub kexts: Option<bool>,
}

impl Properties {
    /// Reads the extensions of a leaf.
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn read(leaf: &[u8]) -> Result<Self, Malformed> {
        let wrong = || Malformed::new("no certificate", "attestation");
        let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| wrong())?;
        if !rest.is_empty() {
            return Err(wrong());
        }
        let value = |wanted: &str| {
            let mut found = certificate.extensions().iter().filter(|extension| extension.oid.to_id_string() == wanted);
            // One that is there twice says nothing.
            match (found.next(), found.next()) {
                (Some(extension), None) => Some(extension.value).filter(|value| !value.is_empty() && value.len() <= VALUE),
                _ => None,
            }
        };
        Ok(Self {
            serial: value(oid::SERIAL).and_then(text),
            udid: value(oid::UDID).and_then(text),
            update_device: value(oid::UPDATE_DEVICE).and_then(text),
            os_version: value(oid::OS_VERSION).and_then(text),
            sep_os_version: value(oid::SEP_OS_VERSION).and_then(text),
            llb_version: value(oid::LLB_VERSION).and_then(text),
            freshness: value(oid::FRESHNESS).map(<[u8]>::to_vec),
            sip: value(oid::SIP).and_then(number).and_then(|number| match number {
                0 => Some(true),
                1 => Some(false),
                _ => None,
            }),
            secure_boot: value(oid::SECURE_BOOT).and_then(text).map(|level| level.to_ascii_lowercase()),
            kexts: value(oid::KEXTS).and_then(number).map(|number| number != 0),
        })
    }

    /// Whether the freshness code is that one, raw or as an OCTET STRING.
    #[must_use]
    pub fn is_fresh_for(&self, nonce: &[u8]) -> bool {
        let Some(value) = self.freshness.as_deref().filter(|_| !nonce.is_empty()) else { return false };
        crate::secret::same(value, nonce) || inner(value, 0x04).is_some_and(|value| crate::secret::same(value, nonce))
    }
}

/// The contents of the only element, if it has that tag.
fn inner(value: &[u8], tag: u8) -> Option<&[u8]> {
    let mut reader = Reader::new(value);
    let element = reader.element().ok()?;
    (element.tag == tag && reader.is_empty()).then_some(element.value)
}

/// A text: as a string of ASN.1, an OCTET STRING, or raw.
fn text(value: &[u8]) -> Option<String> {
    let wrapped = [0x0c, 0x13, 0x16, 0x04].into_iter().find_map(|tag| inner(value, tag));
    let text = std::str::from_utf8(wrapped.unwrap_or(value)).ok()?.trim();
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// A number: INTEGER or BOOLEAN, one of them in an OCTET STRING, or digits.
fn number(value: &[u8]) -> Option<u64> {
    let of = |value: &[u8]| {
        if let Some(integer) = inner(value, 0x02) {
            let positive = integer.first().is_some_and(|first| first & 0x80 == 0) && integer.len() <= 8;
            return positive.then(|| integer.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)));
        }
        inner(value, 0x01).map(|truth| u64::from(truth.iter().any(|byte| *byte != 0)))
    };
    let digits = |value: &[u8]| std::str::from_utf8(value).ok()?.parse().ok();
    let octets = inner(value, 0x04);
    of(value).or_else(|| octets.and_then(of)).or_else(|| octets.and_then(digits)).or_else(|| digits(value)).or(match value {
        [only] if *only < b'0' => Some(u64::from(*only)),
        _ => None,
    })
}

/// The chain of an attestation object (`attObj` of the challenge `device-attest-01`), the leaf first.
///
/// # Errors
/// When it is no such object, or of another format than Apple's.
pub fn chain_of(object: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let wrong = |what| Malformed::new(what, "attestation");
    let object = cbor::decode(object)?;
    if object.get("fmt") != Some(&cbor::Value::Text("apple".into())) {
        return Err(wrong("not Apple's format"));
    }
    let Some(cbor::Value::Array(x5c)) = object.get("attStmt").and_then(|statement| statement.get("x5c")) else {
        return Err(wrong("no chain"));
    };
    let certificate = |value: &cbor::Value| match value {
        cbor::Value::Bytes(der) => Ok(der.clone()),
        _ => Err(wrong("no chain")),
    };
    x5c.iter().map(certificate).collect()
}

/// The certificates of a chain, if it is not longer than any that Apple makes.
///
/// # Errors
/// When it is empty or too long, or one of them is no certificate.
pub fn certificates(chain: &[Vec<u8>]) -> Result<Vec<X509>, Malformed> {
    if chain.is_empty() || chain.len() > CHAIN || chain.iter().any(|der| der.len() > LONGEST) {
        return Err(Malformed::new("no chain of a usual length", "attestation"));
    }
    chain.iter().map(|der| X509::from_der(der).map_err(|_| Malformed::new("no certificate", "attestation"))).collect()
}

/// What a JWS signature by ECDSA may be meant as, each `2 * size` octets: Apple's client leaves out a leading zero octet of R or of S
/// (63 octets instead of 64). The signature is good when one of them is.
#[must_use]
pub fn padded(signature: &[u8], size: usize) -> Vec<Vec<u8>> {
    let joined = |r: &[u8], s: &[u8]| {
        let mut whole = vec![0; size.saturating_sub(r.len())];
        whole.extend_from_slice(r);
        whole.resize(whole.len() + size.saturating_sub(s.len()), 0);
        whole.extend_from_slice(s);
        whole
    };
    let at = |place: usize| signature.split_at_checked(place).map(|(r, s)| joined(r, s));
    let whole = size.saturating_mul(2);
    match whole.checked_sub(signature.len()) {
        Some(0) => vec![signature.to_vec()],
        Some(1) => [size.checked_sub(1).and_then(at), at(size)].into_iter().flatten().collect(),
        Some(2) => size.checked_sub(1).and_then(at).into_iter().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_that_lost_leading_zeros_is_meant_as_one_of_those() {
        let r = [0, 2, 3, 4];
        let s = [0, 6, 7, 8];
        let whole = [r, s].concat();
        assert_eq!(padded(&whole, 4), std::slice::from_ref(&whole));
        assert!(padded(&whole[1..], 4).contains(&whole), "R lost its zero");
        assert!(padded(&[&r[..], &s[1..]].concat(), 4).contains(&whole), "S lost its zero");
        assert!(padded(&[&r[1..], &s[1..]].concat(), 4).contains(&whole), "both");
        assert!(padded(&whole[3..], 4).is_empty() && padded(&[&whole[..], &[1]].concat(), 4).is_empty() && padded(&[], 0).len() == 1);
        assert!(padded(&whole[1..], 4).iter().chain(&padded(&whole[2..], 4)).all(|meant| meant.len() == 8));
    }

    #[test]
    fn a_real_signature_of_63_octets_is_accepted_after_padding() {
        use openssl::bn::BigNum;
        use openssl::ecdsa::EcdsaSig;
        let group = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
        let key = openssl::ec::EcKey::generate(&group).unwrap();
        let digest = [7u8; 32];
        let good = |bytes: &[u8]| {
            let number = |part: &[u8]| BigNum::from_slice(part).unwrap();
            EcdsaSig::from_private_components(number(&bytes[..32]), number(&bytes[32..])).unwrap().verify(&digest, &key).unwrap()
        };
        let mut shortened = std::collections::BTreeSet::new();
        while shortened.len() < 2 {
            let signature = EcdsaSig::sign(&digest, &key).unwrap();
            let (r, s) = (signature.r().to_vec(), signature.s().to_vec());
            if r.len() + s.len() != 63 {
                continue;
            }
            shortened.insert(r.len());
            let cut = [r, s].concat();
            assert_eq!(cut.len(), 63);
            assert!(padded(&cut, 32).iter().any(|meant| good(meant)));
        }
    }

    #[test]
    fn values_are_read_raw_and_encoded() {
        assert_eq!(text(b"C02XYZ").as_deref(), Some("C02XYZ"));
        assert_eq!(text(&[0x0c, 3, b'a', b'b', b'c']).as_deref(), Some("abc"));
        assert_eq!(text(&[0x04, 2, b'a', b'b']).as_deref(), Some("ab"));
        assert_eq!((text(b"  "), text(&[0xff, 1]), text(&[0])), (None, None, None));
        for (value, meant) in [
            (&[2, 1, 0][..], Some(0)),
            (&[2, 1, 1], Some(1)),
            (&[1, 1, 0xff], Some(1)),
            (&[4, 3, 2, 1, 0], Some(0)),
            (&[0], Some(0)),
            (&[1], Some(1)),
            (b"1", Some(1)),
            (&[2, 1, 0xff], None),
            (b"on", None),
        ] {
            assert_eq!(number(value), meant, "{value:?}");
        }
    }

    #[test]
    fn an_attestation_object_gives_its_chain() {
        let object = |fmt: &str| {
            let mut bytes = vec![0xa2, 0x63];
            bytes.extend_from_slice(b"fmt");
            bytes.push(0x60 | u8::try_from(fmt.len()).unwrap());
            bytes.extend_from_slice(fmt.as_bytes());
            bytes.push(0x67);
            bytes.extend_from_slice(b"attStmt");
            bytes.extend_from_slice(&[0xa1, 0x63]);
            bytes.extend_from_slice(b"x5c");
            bytes.extend_from_slice(&[0x82, 0x42, 1, 2, 0x41, 3]);
            bytes
        };
        assert_eq!(chain_of(&object("apple")).unwrap(), [vec![1, 2], vec![3]]);
        assert!(chain_of(&object("none")).is_err() && chain_of(&[0xa0]).is_err() && chain_of(b"").is_err());
        assert!(certificates(&[]).is_err() && certificates(&vec![vec![0]; 7]).is_err() && certificates(&[vec![0x30; 9000]]).is_err());
    }
}
