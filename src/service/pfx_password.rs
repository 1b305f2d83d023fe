//! Passwords of files that come over the API are encrypted for a key of this server, so that nothing on the way holds file and password.

use openssl::encrypt::Decrypter;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{self, Rsa};
use openssl::sha::sha256;
use zeroize::Zeroizing;

use super::Result;
use super::identity::instance_secret;
use crate::app::App;
use crate::domain::Refusal;
use crate::domain::pfx::{Padding, Sent};
use crate::secret::Secret;
use crate::store::sealed::PFX_PASSWORD_KEY;

/// Whose key it is.
pub const PROVIDER: &str = "Muster";
const BITS: u32 = 3072;

/// What a program has to know that sends a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// Names the key.
    pub key_name: String,
    /// The key (SubjectPublicKeyInfo), PEM.
    pub pem: String,
}

async fn key(app: &App) -> Result<PKey<Private>> {
    let make = || Ok(Secret::new(PKey::from_rsa(Rsa::generate(BITS)?)?.private_key_to_pkcs8()?));
    let stored = instance_secret(app, PFX_PASSWORD_KEY, make).await?;
    Ok(PKey::private_key_from_pkcs8(stored.expose())?)
}

fn name(key: &PKey<Private>) -> Result<String> {
    Ok(hex::encode(sha256(&key.public_key_to_der()?).get(..8).unwrap_or_default()))
}

/// The key for which passwords are encrypted.
///
/// # Errors
/// When the database or OpenSSL fails.
pub async fn public(app: &App) -> Result<Public> {
    let key = key(app).await?;
    let pem = String::from_utf8(key.public_key_to_pem()?).map_err(super::Error::internal)?;
    Ok(Public { key_name: name(&key)?, pem })
}

/// Opens a password: UTF-8, or UTF-16 as Windows has it.
///
/// # Errors
/// [`Refusal::PfxPasswordLocked`] when it is for another key, or does not open.
pub(super) async fn open(app: &App, sent: &Sent, encrypted: &[u8]) -> Result<Secret> {
    let key = key(app).await?;
    let own = sent.provider_name.eq_ignore_ascii_case(PROVIDER) && sent.key_name.eq_ignore_ascii_case(&name(&key)?);
    if !own {
        return Err(Refusal::PfxPasswordLocked.into());
    }
    let digest = match sent.padding {
        Padding::OaepSha256 => MessageDigest::sha256(),
        Padding::OaepSha384 => MessageDigest::sha384(),
        Padding::OaepSha512 => MessageDigest::sha512(),
    };
    let mut decrypter = Decrypter::new(&key)?;
    decrypter.set_rsa_padding(rsa::Padding::PKCS1_OAEP)?;
    decrypter.set_rsa_oaep_md(digest)?;
    decrypter.set_rsa_mgf1_md(digest)?;
    let mut plain = Zeroizing::new(vec![0; decrypter.decrypt_len(encrypted).map_err(|_| Refusal::PfxPasswordLocked)?]);
    let length = decrypter.decrypt(encrypted, &mut plain).map_err(|_| Refusal::PfxPasswordLocked)?;
    plain.truncate(length);
    text(&plain).ok_or_else(|| Refusal::PfxPasswordLocked.into())
}

/// The letters of a password. Only UTF-16 has zeros between them.
fn text(bytes: &[u8]) -> Option<Secret> {
    if !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok() {
        return Some(Secret::new(bytes.to_vec()));
    }
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    let letters: Zeroizing<String> = Zeroizing::new(char::decode_utf16(units).collect::<std::result::Result<_, _>>().ok()?);
    rest.is_empty().then(|| Secret::new(letters.trim_end_matches('\0').as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_utf_8_or_utf_16() {
        let shown = |bytes: &[u8]| text(bytes).map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap());
        assert_eq!(shown("pässword".as_bytes()).as_deref(), Some("pässword"));
        assert_eq!(shown(b"p\0w\0").as_deref(), Some("pw"));
        assert_eq!(shown(b"p\0w\0\0\0").as_deref(), Some("pw"));
        assert_eq!(shown(b"p\0w").as_deref(), None);
        assert_eq!(shown(b"").as_deref(), Some(""));
        assert_eq!(shown(&[0xff, 0xd8, 0x00, 0x00]), None, "half of a letter");
    }
}
