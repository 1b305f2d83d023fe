//! An authenticator in the test process: it makes passkeys and signs with them, rightly or as the test wants it wrong.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use openssl::sign::Signer;
use openssl::x509::extension::{BasicConstraints, KeyUsage};
use openssl::x509::{X509, X509Extension, X509Name};
use serde_json::{Value, json};

/// The person was seen, and proved to be who they are.
const PRESENT_AND_VERIFIED: u8 = 0x05;
/// The person was seen only.
pub const PRESENT: u8 = 0x01;

/// An authenticator with one passkey.
#[derive(Clone)]
pub struct Authenticator {
    pub key: EcKey<Private>,
    pub id: Vec<u8>,
    pub user: Vec<u8>,
    pub aaguid: [u8; 16],
    pub counter: u32,
    pub origin: String,
    pub host: String,
    pub flags: u8,
    /// Vouches for it, where it is attested.
    pub voucher: Option<Voucher>,
}

/// An attestation certificate with its key.
#[derive(Clone)]
pub struct Voucher {
    certificate: X509,
    key: PKey<Private>,
}

/// Makes authenticators, and vouches for them.
pub struct Maker {
    root: X509,
    key: PKey<Private>,
}

fn pair() -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap()).unwrap()
}

/// A certificate in the time of the machine: attestations are judged by it.
fn certify(unit: &str, aaguid: Option<&[u8; 16]>, key: &PKey<Private>, maker: Option<&Maker>) -> X509 {
    let mut name = X509Name::builder().unwrap();
    for (field, value) in [("C", "SE"), ("O", "Maker"), ("OU", unit), ("CN", unit)] {
        name.append_entry_by_text(field, value).unwrap();
    }
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(if maker.is_some() { 2 } else { 1 }).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(maker.map_or(&*name, |maker| maker.root.subject_name())).unwrap();
    let now = muster::clock::Clock::now(&muster::clock::SystemClock).seconds();
    builder.set_not_before(&Asn1Time::from_unix(now - 86_400).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now + 86_400).unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    let mut constraints = BasicConstraints::new();
    constraints.critical();
    if maker.is_none() {
        constraints.ca();
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().build().unwrap()).unwrap();
    }
    builder.append_extension(constraints.build().unwrap()).unwrap();
    if let Some(aaguid) = aaguid {
        let model = Asn1OctetString::new_from_bytes(&[&[0x04, 0x10], aaguid.as_slice()].concat()).unwrap();
        let id = Asn1Object::from_str("1.3.6.1.4.1.45724.1.1.4").unwrap();
        builder.append_extension(X509Extension::new_from_der(&id, false, &model).unwrap()).unwrap();
    }
    builder.sign(maker.map_or(key, |maker| &maker.key), MessageDigest::sha256()).unwrap();
    builder.build()
}

impl Maker {
    pub fn new() -> Self {
        let key = pair();
        Self { root: certify("Root", None, &key, None), key }
    }

    pub fn root_pem(&self) -> String {
        String::from_utf8(self.root.to_pem().unwrap()).unwrap()
    }

    /// What authenticators of that model are made with.
    pub fn voucher(&self, aaguid: &[u8; 16]) -> Voucher {
        let key = pair();
        Voucher { certificate: certify("Authenticator Attestation", Some(aaguid), &key, Some(self)), key }
    }
}

impl Voucher {
    /// The statement (WebAuthn, section 8.2).
    fn statement(&self, data: &[u8], client: &[u8]) -> Vec<u8> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key).unwrap();
        signer.update(data).unwrap();
        signer.update(&sha256(client)).unwrap();
        let (signature, certificate) = (signer.sign_to_vec().unwrap(), self.certificate.to_der().unwrap());
        [b"\x66packed\x67attStmt\xa3\x63alg\x26\x63sig".to_vec(), bytes(&signature), b"\x63x5c\x81".to_vec(), bytes(&certificate)].concat()
    }
}

/// A byte string in CBOR.
fn bytes(content: &[u8]) -> Vec<u8> {
    let mut whole = vec![0x59];
    whole.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
    whole.extend_from_slice(content);
    whole
}

impl Authenticator {
    pub fn new(web: &str) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = EcKey::generate(&group).unwrap();
        let mut id = vec![0; 32];
        openssl::rand::rand_bytes(&mut id).unwrap();
        let origin = web.to_owned();
        let (host, flags) = ("localhost".into(), PRESENT_AND_VERIFIED);
        Self { key, id, user: Vec::new(), aaguid: [0; 16], counter: 0, origin, host, flags, voucher: None }
    }

    fn client_data(&self, kind: &str, options: &Value) -> Vec<u8> {
        json!({ "type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": false }).to_string().into_bytes()
    }

    fn data(&self, flags: u8) -> Vec<u8> {
        let mut data = sha256(self.host.as_bytes()).to_vec();
        data.push(flags);
        data.extend_from_slice(&self.counter.to_be_bytes());
        data
    }

    /// Makes the passkey that `options` ask for.
    pub fn create(&mut self, options: &Value) -> String {
        self.user = URL_SAFE_NO_PAD.decode(options["user"]["id"].as_str().unwrap()).unwrap();
        let mut context = BigNumContext::new().unwrap();
        let point = self.key.public_key();
        let raw = point.to_bytes(self.key.group(), openssl::ec::PointConversionForm::UNCOMPRESSED, &mut context).unwrap();
        let mut data = self.data(self.flags | 0x40);
        data.extend_from_slice(&self.aaguid);
        data.extend_from_slice(&u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend_from_slice(&self.id);
        data.extend_from_slice(b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20");
        data.extend_from_slice(&raw[1..33]);
        data.extend_from_slice(b"\x22\x58\x20");
        data.extend_from_slice(&raw[33..]);
        let client = self.client_data("webauthn.create", options);
        let none = || b"\x64none\x67attStmt\xa0".to_vec();
        let statement = self.voucher.as_ref().map_or_else(none, |voucher| voucher.statement(&data, &client));
        let object = [b"\xa3\x63fmt".to_vec(), statement, b"\x68authData".to_vec(), bytes(&data)].concat();
        let id = URL_SAFE_NO_PAD.encode(&self.id);
        json!({
            "id": id, "rawId": id, "type": "public-key", "extensions": { "credProps": { "rk": true } },
            "response": {
                "attestationObject": URL_SAFE_NO_PAD.encode(&object),
                "clientDataJSON": URL_SAFE_NO_PAD.encode(&client),
            },
        })
        .to_string()
    }

    /// Signs in as `options` ask.
    pub fn get(&mut self, options: &Value) -> String {
        self.counter += 1;
        let (data, client) = (self.data(self.flags), self.client_data("webauthn.get", options));
        let key = PKey::from_ec_key(self.key.clone()).unwrap();
        let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
        signer.update(&data).unwrap();
        signer.update(&sha256(&client)).unwrap();
        let id = URL_SAFE_NO_PAD.encode(&self.id);
        json!({
            "id": id, "rawId": id, "type": "public-key", "extensions": {},
            "response": {
                "authenticatorData": URL_SAFE_NO_PAD.encode(&data),
                "clientDataJSON": URL_SAFE_NO_PAD.encode(&client),
                "signature": URL_SAFE_NO_PAD.encode(signer.sign_to_vec().unwrap()),
                "userHandle": URL_SAFE_NO_PAD.encode(&self.user),
            },
        })
        .to_string()
    }
}
