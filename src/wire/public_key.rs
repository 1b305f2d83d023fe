//! Public keys as certificates and requests carry them (SubjectPublicKeyInfo, RFC 5280 4.1.2.7).
//!
//! OpenSSL 3 looks for a decoder among all that its providers offer whenever it reads a key, which costs as much as verifying a signature
//! several times over; the keys that we take, RSA and named curves, are read here and put together from their numbers.

use der::asn1::{ObjectIdentifier, UintRef};
use der::{Decode as _, Sequence};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Public};
use openssl::rsa::{Rsa, RsaRef};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::asn1;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const CURVES: [(ObjectIdentifier, Nid); 3] = [
    (ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"), Nid::X9_62_PRIME256V1),
    (ObjectIdentifier::new_unwrap("1.3.132.0.34"), Nid::SECP384R1),
    (ObjectIdentifier::new_unwrap("1.3.132.0.35"), Nid::SECP521R1),
];
/// OpenSSL verifies nothing with longer moduli.
const MAX_RSA_OCTETS: usize = 2048;

/// RFC 8017 A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// Reads a SubjectPublicKeyInfo; `None` when it is no usable key.
#[must_use]
pub fn read(spki: &[u8]) -> Option<PKey<Public>> {
    // What is spelt in an unusual way is for OpenSSL to read.
    read_common(spki).or_else(|| PKey::public_key_from_der(spki).ok())
}

fn read_common(spki: &[u8]) -> Option<PKey<Public>> {
    let info = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
    let bits = info.subject_public_key.as_bytes()?;
    if info.algorithm.oid == RSA_ENCRYPTION {
        let key = RsaPublicKey::from_der(bits).ok()?;
        if key.modulus.as_bytes().len() > MAX_RSA_OCTETS {
            return None;
        }
        let number = |number: &UintRef<'_>| BigNum::from_slice(number.as_bytes()).ok();
        let rsa = Rsa::from_public_components(number(&key.modulus)?, number(&key.exponent)?).ok()?;
        return PKey::from_rsa(rsa).ok();
    }
    if info.algorithm.oid != EC_PUBLIC_KEY {
        return None;
    }
    let named = info.algorithm.parameters_oid().ok()?;
    let (_, curve) = CURVES.iter().find(|(oid, _)| *oid == named)?;
    let group = EcGroup::from_curve_name(*curve).ok()?;
    let point = EcPoint::from_bytes(&group, bits, &mut *BigNumContext::new().ok()?).ok()?;
    let key = EcKey::from_public_key(&group, &point).ok()?;
    key.check_key().ok()?;
    PKey::from_ec_key(key).ok()
}

/// The SubjectPublicKeyInfo of an RSA key.
#[must_use]
pub fn rsa(key: &RsaRef<Public>) -> Vec<u8> {
    let numbers = asn1::sequence(&[&asn1::unsigned(&key.n().to_vec()), &asn1::unsigned(&key.e().to_vec())]);
    let algorithm = asn1::sequence(&[&asn1::oid(&RSA_ENCRYPTION), &asn1::tlv(asn1::NULL, &[])]);
    asn1::sequence(&[&algorithm, &asn1::bits(&numbers)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_as_those_that_openssl_reads() {
        let mut keys = vec![PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap().public_key_to_der().unwrap()];
        for (_, curve) in CURVES {
            let group = EcGroup::from_curve_name(curve).unwrap();
            keys.push(PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap().public_key_to_der().unwrap());
        }
        for spki in keys {
            let ours = read_common(&spki).unwrap();
            assert!(ours.public_eq(&PKey::public_key_from_der(&spki).unwrap()));
            assert_eq!(ours.public_key_to_der().unwrap(), spki);
            if let Ok(key) = ours.rsa() {
                assert_eq!(rsa(&key), spki);
            }
        }
    }

    #[test]
    fn a_point_off_the_curve_is_no_key() {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let mut spki = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap().public_key_to_der().unwrap();
        let last = spki.last_mut().unwrap();
        *last ^= 1;
        assert!(read(&spki).is_none());
        assert!(read(b"").is_none() && read(&[0x30, 0]).is_none());
    }

    #[test]
    fn unusual_spellings_are_left_to_openssl() {
        let ed = PKey::generate_ed25519().unwrap().public_key_to_der().unwrap();
        assert!(read_common(&ed).is_none() && read(&ed).is_some());
    }
}
