//! Identities with keys that did not come into being on the device: made here, or brought as a file, and handed out as PKCS#12 (RFC 7292).
//!
//! What protects a PKCS#12 on its way is the channel that it goes by, not its password: each delivery has a fresh one all the same.

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::X509;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::domain::Refusal;
use crate::secret::{Secret, random};
use crate::service::{Error, Result};

/// Rounds of key derivation, for the contents and for the check value. More slow a device down and do not help a random password.
const ROUNDS: u32 = 2048;
/// Letters of a password.
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Longest password: 24 letters hold 142 bits.
const LENGTH: usize = 24;
/// Most certificates of a chain.
const CHAIN: usize = 8;

/// How the contents are encrypted and what the check value is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// pbeWithSHA1And3-KeyTripleDES-CBC and HMAC-SHA-1: systems that know nothing else.
    TripleDes,
    /// PBES2 with AES-256-CBC and HMAC-SHA-256.
    Aes,
}

/// A private key with its certificate and those above it, but for the root.
#[derive(Clone)]
pub struct Identity {
    key: PKey<Private>,
    certificate: X509,
    chain: Vec<X509>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity([secret])")
    }
}

/// A PKCS#12 and what opens it.
#[derive(Clone, Debug)]
pub struct File {
    /// The file, DER.
    pub content: Secret,
    /// The password: letters and digits.
    pub password: Secret,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    certificate: String,
    chain: Vec<String>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Identity {
    /// A key and its certificate, with the certificates above it; roots among them are left out.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn new(key: PKey<Private>, certificate: &[u8], chain: &[Vec<u8>]) -> Result<Self> {
        let chain = chain.iter().map(|der| X509::from_der(der)).collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Self { key, certificate: X509::from_der(certificate)?, chain: without_roots(chain)? })
    }

    /// Opens a file that somebody brought.
    ///
    /// # Errors
    /// [`Refusal::PfxUnreadable`] when it does not open; [`Refusal::PfxNotOneIdentity`] when it does not hold one key with its certificate.
    pub fn open(file: &[u8], password: &str) -> Result<Self> {
        let opened = Pkcs12::from_der(file).and_then(|file| file.parse2(password)).map_err(|_| Refusal::PfxUnreadable)?;
        let (Some(key), Some(certificate)) = (opened.pkey, opened.cert) else { return Err(Refusal::PfxNotOneIdentity.into()) };
        let is_its = certificate.public_key().is_ok_and(|public| public.public_eq(&key));
        let chain: Vec<X509> = opened.ca.into_iter().flatten().collect();
        if !is_its || chain.len() > CHAIN {
            return Err(Refusal::PfxNotOneIdentity.into());
        }
        Ok(Self { key, certificate, chain: without_roots(chain)? })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &X509 {
        &self.certificate
    }

    /// The form in which it is sealed.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn to_bytes(&self) -> Result<Secret> {
        let chain = self.chain.iter().map(|c| Ok(hex::encode(c.to_der()?))).collect::<Result<Vec<_>>>()?;
        let key = hex::encode(Zeroizing::new(self.key.private_key_to_pkcs8()?));
        let stored = Stored { key, certificate: hex::encode(self.certificate.to_der()?), chain };
        Ok(Secret::new(serde_json::to_vec(&stored).map_err(Error::internal)?))
    }

    /// Reads what [`Self::to_bytes`] made.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_bytes(bytes: &Secret) -> Result<Self> {
        let stored: Stored = serde_json::from_slice(bytes.expose()).map_err(Error::internal)?;
        let key = Zeroizing::new(hex::decode(&stored.key).map_err(Error::internal)?);
        let chain = stored.chain.iter().map(hex::decode).collect::<std::result::Result<Vec<_>, _>>().map_err(Error::internal)?;
        Self::new(PKey::private_key_from_pkcs8(&key)?, &hex::decode(&stored.certificate).map_err(Error::internal)?, &chain)
    }

    /// The identity as a file with a fresh password.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn to_file(&self, form: Form, name: &str) -> Result<File> {
        let password = password()?;
        let text = std::str::from_utf8(password.expose()).map_err(Error::internal)?;
        let mut chain = Stack::new()?;
        for certificate in &self.chain {
            chain.push(certificate.clone())?;
        }
        let (cipher, digest) = match form {
            Form::TripleDes => (Nid::PBE_WITHSHA1AND3_KEY_TRIPLEDES_CBC, MessageDigest::sha1()),
            Form::Aes => (Nid::AES_256_CBC, MessageDigest::sha256()),
        };
        let mut builder = Pkcs12::builder();
        builder.name(name).pkey(&self.key).cert(&self.certificate).key_algorithm(cipher).cert_algorithm(cipher);
        builder.key_iter(ROUNDS).mac_iter(ROUNDS).mac_md(digest);
        if !self.chain.is_empty() {
            builder.ca(chain);
        }
        let content = Secret::new(builder.build2(text)?.to_der()?);
        Ok(File { content, password })
    }
}

fn without_roots(chain: Vec<X509>) -> Result<Vec<X509>> {
    let mut above = Vec::new();
    for certificate in chain {
        if !certificate.subject_name().try_cmp(certificate.issuer_name())?.is_eq() {
            above.push(certificate);
        }
    }
    Ok(above)
}

/// A random password; letters are drawn so that each is equally likely.
fn password() -> Result<Secret> {
    let mut letters = Vec::with_capacity(LENGTH);
    while letters.len() < LENGTH {
        let drawn = Zeroizing::new(random::<32>()?);
        letters.extend(drawn.iter().filter_map(|byte| LETTERS.get(usize::from(byte & 63))).take(LENGTH - letters.len()));
    }
    Ok(Secret::new(letters))
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Time;
    use openssl::bn::BigNum;
    use openssl::rsa::Rsa;
    use openssl::x509::{X509Builder, X509NameBuilder};

    use super::*;

    fn certificate(name: &str, issuer: &str, key: &PKey<Private>, signer: &PKey<Private>) -> X509 {
        let named = |text: &str| {
            let mut name = X509NameBuilder::new().unwrap();
            name.append_entry_by_text("CN", text).unwrap();
            name.build()
        };
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&named(name)).unwrap();
        builder.set_issuer_name(&named(issuer)).unwrap();
        builder.set_pubkey(key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(10).unwrap()).unwrap();
        builder.sign(signer, MessageDigest::sha256()).unwrap();
        builder.build()
    }

    fn identity() -> Identity {
        let new = || PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let (key, issuing, root) = (new(), new(), new());
        let leaf = certificate("leaf", "issuing", &key, &issuing).to_der().unwrap();
        let chain = [certificate("issuing", "root", &issuing, &root), certificate("root", "root", &root, &root)];
        Identity::new(key, &leaf, &chain.map(|c| c.to_der().unwrap())).unwrap()
    }

    #[test]
    fn an_identity_survives_its_stored_form_and_loses_the_root() {
        let identity = identity();
        let again = Identity::from_bytes(&identity.to_bytes().unwrap()).unwrap();
        assert!(again.key.public_eq(&identity.key));
        assert_eq!(again.certificate.to_der().unwrap(), identity.certificate.to_der().unwrap());
        assert_eq!(again.chain.len(), 1);
        assert_eq!(format!("{again:?}"), "Identity([secret])");
    }

    #[test]
    fn a_file_opens_with_its_password_only_and_each_has_another() {
        let identity = identity();
        let (one, two) = (identity.to_file(Form::Aes, "x").unwrap(), identity.to_file(Form::TripleDes, "x").unwrap());
        assert_ne!(one.password, two.password);
        let text = |file: &File| String::from_utf8(file.password.expose().to_vec()).unwrap();
        assert!(text(&one).len() == LENGTH && text(&one).bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(Identity::open(one.content.expose(), &text(&one)).unwrap().key.public_eq(&identity.key));
        let code = |result: Result<Identity>| match result {
            Err(Error::Refused(refusal)) => refusal.code(),
            other => panic!("{other:?}"),
        };
        assert_eq!(code(Identity::open(one.content.expose(), &text(&two))), "PFX0001");
        assert_eq!(code(Identity::open(b"no file", "")), "PFX0001");
        let other = Identity { key: PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(), ..identity };
        // OpenSSL itself makes no file of a key with a stranger's certificate.
        assert!(other.to_file(Form::Aes, "x").is_err());
        let mut bare = Pkcs12::builder();
        bare.cert(&other.certificate);
        assert_eq!(code(Identity::open(&bare.build2("p").unwrap().to_der().unwrap(), "p")), "PFX0002");
    }
}
