//! Attestations of simulated devices: a chain of P-384 keys below a root of one's own, with the extensions that Apple's servers write.

use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, PKey, PKeyRef, Private};
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509, X509Extension, X509Name};

use super::machine::{Machine, Settings};
use crate::catalogue::payload::System;
use crate::clock::{DAY, Time};
use crate::wire::apple::attestation::oid;

/// How long a device sends the attestation that it has, whatever code it is asked for.
pub const CACHED: i64 = 7 * DAY;

/// The extensions of an attestation, by object identifier.
pub type Claims = Vec<(&'static str, Vec<u8>)>;

/// Stands in for Apple's attestation servers.
pub struct Attestor {
    root: X509,
    issuing: (X509, PKey<Private>),
}

impl std::fmt::Debug for Attestor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attestor")
    }
}

fn new_key() -> Result<PKey<Private>, ErrorStack> {
    PKey::from_ec_key(EcKey::generate(EcGroup::from_curve_name(Nid::SECP384R1)?.as_ref())?)
}

fn named(text: &str) -> Result<X509Name, ErrorStack> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", text)?;
    Ok(name.build())
}

/// Signs a certificate; without `above` it is its own.
fn certificate<T: HasPublic>(
    name: &str,
    key: &PKeyRef<T>,
    above: Option<&X509>,
    signer: &PKey<Private>,
    claims: Option<&Claims>,
    (from, to): (Time, Time),
) -> Result<X509, ErrorStack> {
    let subject = named(name)?;
    let mut serial = BigNum::new()?;
    serial.rand(120, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(serial.to_asn1_integer()?.as_ref())?;
    builder.set_subject_name(&subject)?;
    builder.set_issuer_name(above.map_or(subject.as_ref(), |above| above.subject_name()))?;
    builder.set_not_before(Asn1Time::from_unix(from.seconds())?.as_ref())?;
    builder.set_not_after(Asn1Time::from_unix(to.seconds())?.as_ref())?;
    builder.set_pubkey(key)?;
    match claims {
        None => builder.append_extension(BasicConstraints::new().critical().ca().build()?)?,
        Some(claims) => {
            for (oid, value) in claims {
                let value = Asn1OctetString::new_from_bytes(value)?;
                builder.append_extension(X509Extension::new_from_der(Asn1Object::from_str(oid)?.as_ref(), false, &value)?)?;
            }
        }
    }
    builder.sign(signer, MessageDigest::sha384())?;
    Ok(builder.build())
}

impl Attestor {
    /// A root and an issuing authority, good for years around that time.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn new(now: Time) -> Result<Self, ErrorStack> {
        let (root_key, key) = (new_key()?, new_key()?);
        let life = (now.plus(-DAY), now.plus(3000 * DAY));
        let root = certificate("Simulated Attestation Root", &root_key, None, &root_key, None, life)?;
        let issuing = certificate("Simulated Attestation CA", &key, Some(&root), &root_key, None, life)?;
        Ok(Self { root, issuing: (issuing, key) })
    }

    /// The root, as PEM.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn root_pem(&self) -> Result<Vec<u8>, ErrorStack> {
        self.root.to_pem()
    }

    /// A chain, the leaf first, that says those things of a key.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn attest<T: HasPublic>(&self, key: &PKeyRef<T>, claims: &Claims, from: Time, to: Time) -> Result<Vec<Vec<u8>>, ErrorStack> {
        let leaf = certificate("Attested device", key, Some(&self.issuing.0), &self.issuing.1, Some(claims), (from, to))?;
        Ok(vec![leaf.to_der()?, self.issuing.0.to_der()?])
    }

    /// The attestation of a device with a code.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn attest_device(&self, claims: &Claims, now: Time) -> Result<Vec<Vec<u8>>, ErrorStack> {
        let key = new_key()?;
        self.attest(&key, claims, now.plus(-DAY), now.plus(365 * DAY))
    }
}

/// The UDID that attestations of a machine have.
#[must_use]
pub fn udid(machine: &Machine) -> String {
    match machine.system {
        System::Mac => format!("00008112-{}", machine.udid.replace('-', "").get(..16).unwrap_or_default()),
        System::Ios => machine.udid.clone(),
    }
}

/// What Apple's servers say of a machine.
#[must_use]
pub fn claims(machine: &Machine, settings: &Settings, nonce: &[u8]) -> Claims {
    let text = |text: &str| text.as_bytes().to_vec();
    let mut claims = vec![
        (oid::SERIAL, text(&machine.serial)),
        (oid::UDID, text(&udid(machine))),
        (oid::OS_VERSION, text(&machine.os_version)),
        (oid::SEP_OS_VERSION, text(&machine.os_version)),
        (oid::FRESHNESS, nonce.to_vec()),
    ];
    if machine.system == System::Mac {
        claims.push((oid::SIP, vec![2, 1, u8::from(!settings.integrity)]));
        claims.push((oid::SECURE_BOOT, text("Full Security")));
        claims.push((oid::KEXTS, vec![2, 1, 0]));
    }
    claims
}
