//! A maker of Apple devices: a CA whose dates are past, as Apple's are, and devices with an identity of it that describe themselves.

use muster::wire::apple::machine_info::MachineInfo;
use muster::wire::cms::{self, Digest, Signer};
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509, X509Name};

use super::windows::key;

/// A certificate and its key.
#[derive(Clone)]
pub struct Made {
    pub certificate: X509,
    pub key: PKey<Private>,
}

/// A CA of devices.
pub struct Factory {
    pub ca: Made,
    file: tempfile::NamedTempFile,
}

impl Factory {
    pub fn new() -> Self {
        let ca = make("Test device CA", None, true);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), ca.certificate.to_pem().unwrap()).unwrap();
        Self { ca, file }
    }

    /// A factory of somebody else. Keys come from a few, so that the next one may have this one's.
    pub fn another(&self) -> Self {
        let others = std::iter::repeat_with(Self::new);
        others.take(100).find(|other| !other.ca.key.public_eq(&self.ca.key)).unwrap()
    }

    /// The CA's certificate as a file.
    pub fn path(&self) -> std::path::PathBuf {
        self.file.path().to_owned()
    }

    pub fn pem(&self) -> String {
        String::from_utf8(self.ca.certificate.to_pem().unwrap()).unwrap()
    }

    /// A device's identity.
    pub fn device(&self) -> Made {
        make("A device", Some(&self.ca), false)
    }

    /// What a new device says of itself, signed.
    pub fn signed(&self, info: &MachineInfo) -> Vec<u8> {
        sign(&self.device(), &info.encode().unwrap(), Digest::Sha1, &[])
    }
}

/// A certificate of which the dates are past.
pub fn make(name: &str, issuer: Option<&Made>, authority: bool) -> Made {
    let key = key();
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut serial = BigNum::new().unwrap();
    serial.rand(120, MsbOption::MAYBE_ZERO, false).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name())).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(1_176_764_086).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(1_397_688_886).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    if authority {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha1()).unwrap();
    Made { certificate: builder.build(), key }
}

/// Content signed by a device, with more certificates beside its own.
pub fn sign(by: &Made, content: &[u8], digest: Digest, others: &[&Made]) -> Vec<u8> {
    let certificate = by.certificate.to_der().unwrap();
    let signer = Signer { certificate: &certificate, key: &by.key, digest };
    let others: Vec<Vec<u8>> = others.iter().map(|other| other.certificate.to_der().unwrap()).collect();
    let others: Vec<&[u8]> = others.iter().map(Vec::as_slice).collect();
    cms::sign_with_chain(content, &signer, &others).unwrap()
}
