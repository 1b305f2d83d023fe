//! A small CA made with OpenSSL: what strangers and proxies hold certificates of.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private, Public};
use openssl::x509::extension::{AuthorityKeyIdentifier, BasicConstraints, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier};
use openssl::x509::{X509, X509Name, X509NameRef};

/// A CA with one level.
pub struct Ca {
    /// The root.
    pub root: X509,
    key: PKey<Private>,
}

/// A certificate and its key.
pub struct Leaf {
    /// The certificate.
    pub certificate: X509,
    /// Its key.
    pub key: PKey<Private>,
}

impl Leaf {
    /// For reqwest.
    pub fn identity(&self) -> reqwest::Identity {
        reqwest::Identity::from_pkcs8_pem(&self.certificate.to_pem().unwrap(), &self.key.private_key_to_pem_pkcs8().unwrap()).unwrap()
    }
}

impl Ca {
    /// A fresh CA.
    pub fn new(name: &str) -> Self {
        let key = key();
        let root = build(name, &[], &key, None);
        Self { root, key }
    }

    /// A fresh certificate for these host names or addresses.
    pub fn leaf(&self, name: &str, hosts: &[String]) -> Leaf {
        let key = key();
        let certificate = build(name, hosts, &key, Some(self));
        Leaf { certificate, key }
    }
}

impl Ca {
    /// A fresh root with all that authorities below it need.
    pub fn authority(name: &str) -> Self {
        let key = key();
        let public = PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap();
        let root = tier(name, &public, &key, None);
        Self { root, key }
    }

    /// The certificate of an authority below this one, for that key.
    pub fn sign_authority(&self, key: &PKey<Public>, name: &str) -> X509 {
        tier(name, key, &self.key, Some(&self.root))
    }

    /// A push certificate as Apple makes them: for a topic, for that key, from and to (seconds since 1970).
    pub fn push_certificate(&self, key: &PKey<Public>, topic: &str, from: i64, to: i64) -> X509 {
        muster::sim::apns::push_certificate((&self.root, &self.key), key, topic, from, to).unwrap()
    }
}

fn tier(name: &str, key: &PKey<Public>, signer: &PKey<Private>, issuer: Option<&X509>) -> X509 {
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let own: &X509NameRef = &subject;
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(if issuer.is_some() { 2 } else { 1 }).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(own).unwrap();
    builder.set_issuer_name(issuer.map_or(own, |above| above.subject_name())).unwrap();
    // The servers of tests stand still at the moment of their start.
    let now = muster::clock::Clock::now(&muster::clock::SystemClock).seconds();
    builder.set_not_before(&Asn1Time::from_unix(now - 3_600).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now + 1_000 * 86_400).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build().unwrap()).unwrap();
    let context = builder.x509v3_context(issuer.map(|above| &**above), None);
    let mut extensions = vec![SubjectKeyIdentifier::new().build(&context).unwrap()];
    if issuer.is_some() {
        extensions.push(AuthorityKeyIdentifier::new().keyid(true).build(&context).unwrap());
    }
    for extension in extensions {
        builder.append_extension(extension).unwrap();
    }
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    builder.build()
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn build(name: &str, hosts: &[String], key: &PKey<Private>, issuer: Option<&Ca>) -> X509 {
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", name).unwrap();
    let subject = subject.build();
    let mut serial = BigNum::new().unwrap();
    serial.rand(120, MsbOption::MAYBE_ZERO, false).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(issuer.map_or(&*subject, |ca| ca.root.subject_name())).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    if issuer.is_none() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    if !hosts.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for host in hosts {
            if host.parse::<std::net::IpAddr>().is_ok() {
                names.ip(host);
            } else {
                names.dns(host);
            }
        }
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder.sign(issuer.map_or(key, |ca| &ca.key), MessageDigest::sha256()).unwrap();
    builder.build()
}
