//! Secrets: bytes that never show in logs, and the master keys that seal them at rest.
//!
//! A sealed value is `key id (4 bytes) ‖ IV (12) ‖ tag (16) ‖ ciphertext`, AES-256-GCM, with the purpose as associated data, so that a
//! value sealed for one column never opens in another.

use std::fmt;
use std::path::Path;

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rand::rand_bytes;
use openssl::sign::Signer;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use zeroize::Zeroizing;

const IV: usize = 12;
const TAG: usize = 16;
const HEAD: usize = 4 + IV + TAG;

/// Bytes that are wiped when dropped and print as `[secret]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes: only where they are used.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// What can be wrong with a master key or a sealed value.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file is missing, readable by others, or not of the form `ID HEX`.
    #[error("master key: {0}")]
    KeyFile(String),
    /// The value was sealed under a key that this process does not have.
    #[error("sealed under key {0:08x}, which this server does not hold")]
    UnknownKey(u32),
    /// The value does not open: altered, truncated, or sealed for another purpose.
    #[error("sealed value does not open for purpose {0}")]
    Broken(&'static str),
    /// OpenSSL failed.
    #[error("crypto: {0}")]
    Crypto(#[from] openssl::error::ErrorStack),
}

/// One master key.
#[derive(Clone)]
struct MasterKey {
    id: u32,
    bytes: Zeroizing<[u8; 32]>,
    /// Made to seal next, once every node holds it.
    prepared: bool,
}

/// The master keys of a server: the first seals, all open.
pub struct Sealer {
    keys: Vec<MasterKey>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.key_ids()).finish()
    }
}

impl Sealer {
    /// The ids of the keys, the one that seals first: 8 hex digits each.
    #[must_use]
    pub fn key_ids(&self) -> Vec<String> {
        self.keys.iter().map(|key| format!("{:08x}", key.id)).collect()
    }

    /// A sealer with one fresh random key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0u8; 32]);
        rand_bytes(key.as_mut())?;
        let mut id = [0u8; 4];
        rand_bytes(&mut id)?;
        Ok(Self { keys: vec![MasterKey { id: u32::from_be_bytes(id), bytes: key, prepared: false }] })
    }

    /// Reads keys from text: a line each, `8 hex digits of id, space, 64 hex digits of key`; the first line seals, and a line that ends in
    /// ` next` is the key to seal with next. `#` starts a comment.
    ///
    /// # Errors
    /// [`SealError::KeyFile`] names the line that is wrong.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let mut keys: Vec<MasterKey> = Vec::new();
        for (at, line) in text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#')) {
            let wrong = || SealError::KeyFile(format!("line {}: expected an id of 8 and a key of 64 hex digits", at + 1));
            let (id, key) = line.split_once(' ').ok_or_else(wrong)?;
            let id = u32::from_str_radix(id, 16).map_err(|_| wrong())?;
            let (key, prepared) = key.strip_suffix(" next").map_or((key, false), |key| (key, true));
            if prepared && (keys.is_empty() || keys.iter().any(|key| key.prepared)) {
                return Err(SealError::KeyFile(format!("line {}: there is one next key at most, and it is not the first", at + 1)));
            }
            let mut bytes = Zeroizing::new([0u8; 32]);
            hex::decode_to_slice(key.trim(), bytes.as_mut()).map_err(|_| wrong())?;
            if keys.iter().any(|known| known.id == id) {
                return Err(SealError::KeyFile(format!("line {}: id {id:08x} appears twice", at + 1)));
            }
            keys.push(MasterKey { id, bytes, prepared });
        }
        if keys.is_empty() {
            return Err(SealError::KeyFile("no key in it".into()));
        }
        Ok(Self { keys })
    }

    /// The text form that [`Sealer::parse`] reads.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = String::new();
        for key in &self.keys {
            let digits = Zeroizing::new(hex::encode(key.bytes.as_ref()));
            text.push_str(&format!("{:08x} {}{}\n", key.id, digits.as_str(), if key.prepared { " next" } else { "" }));
        }
        Zeroizing::new(text)
    }

    /// Reads a key file, which must not be readable by group or others.
    ///
    /// # Errors
    /// [`SealError::KeyFile`] when it is missing, too open or malformed.
    pub fn read(path: &Path) -> Result<Self, SealError> {
        use std::os::unix::fs::PermissionsExt as _;
        let shown = path.display();
        let meta = std::fs::metadata(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => SealError::KeyFile(format!(
                "{shown} is not there: run `muster init` to make an instance, or bring the master key of one that exists back from its copy: what is \
                 sealed cannot be read without it"
            )),
            _ => SealError::KeyFile(format!("{shown}: {e}")),
        })?;
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(SealError::KeyFile(format!("{shown} is readable by others; run chmod 600 on it")));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| SealError::KeyFile(format!("{shown}: {e}")))?);
        Self::parse(&text)
    }

    /// Writes the key file with mode 0600, by way of a temporary file so that a crash leaves the old one whole.
    ///
    /// # Errors
    /// [`SealError::KeyFile`] with the file system's reason.
    pub fn write(&self, path: &Path) -> Result<(), SealError> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let fail = |e: std::io::Error| SealError::KeyFile(format!("{}: {e}", path.display()));
        let draft = path.with_extension("new");
        // A draft that a crash left behind would keep the mode it has: the file is always a new one.
        match std::fs::remove_file(&draft) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail(e)),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(fail)?;
        file.write_all(self.to_text().as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
        std::fs::rename(&draft, path).map_err(fail)?;
        // The new name survives a power cut only once its directory is on the disk.
        let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        std::fs::File::open(directory).and_then(|d| d.sync_all()).map_err(fail)
    }

    /// The same keys with the prepared one (else a fresh one) in front, which seals from now on.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn rotated(&self) -> Result<Self, SealError> {
        if let Some(sealer) = self.prepared().and_then(|id| self.promoted(id)) {
            return Ok(sealer);
        }
        let mut keys = Self::generate()?.keys;
        keys.extend(self.keys.iter().cloned());
        Ok(Self { keys })
    }

    /// The same keys with one more behind them that is to seal next; unchanged when there is one already.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn with_prepared(&self) -> Result<Self, SealError> {
        let mut keys = self.keys.clone();
        if self.prepared().is_none() {
            keys.extend(Self::generate()?.keys.into_iter().map(|key| MasterKey { prepared: true, ..key }));
        }
        Ok(Self { keys })
    }

    /// The id of the key that is to seal next.
    #[must_use]
    pub fn prepared(&self) -> Option<u32> {
        self.keys.iter().find(|key| key.prepared).map(|key| key.id)
    }

    /// The same keys with that one in front; `None` when it is not among them.
    #[must_use]
    pub fn promoted(&self, id: u32) -> Option<Self> {
        let first = self.keys.iter().find(|key| key.id == id)?;
        let mut keys = vec![MasterKey { prepared: false, ..first.clone() }];
        keys.extend(self.keys.iter().filter(|key| key.id != id).cloned());
        Some(Self { keys })
    }

    /// These keys, and behind them those of `other` that are not among them.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        let mut keys = self.keys.clone();
        keys.extend(other.keys.iter().filter(|key| self.keys.iter().all(|own| own.id != key.id)).cloned());
        Self { keys }
    }

    /// The same sealer without the old keys.
    #[must_use]
    pub fn only_current(&self) -> Self {
        Self { keys: self.keys.iter().enumerate().filter(|(at, key)| *at == 0 || key.prepared).map(|(_, key)| key.clone()).collect() }
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.keys.first().map_or(0, |key| key.id)
    }

    /// How many keys there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Whether a sealed value is already under the key that seals.
    #[must_use]
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        key_id(sealed) == Some(self.current())
    }

    /// Seals `plain` for `purpose` (a short constant such as `"authority.key"`).
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn seal(&self, purpose: &'static str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let MasterKey { id, bytes: key, .. } = self.keys.first().ok_or(SealError::UnknownKey(0))?;
        let mut iv = [0u8; IV];
        rand_bytes(&mut iv)?;
        let mut tag = [0u8; TAG];
        let cipher = encrypt_aead(Cipher::aes_256_gcm(), key.as_ref(), Some(&iv), purpose.as_bytes(), plain, &mut tag)?;
        let mut sealed = Vec::with_capacity(HEAD + cipher.len());
        sealed.extend_from_slice(&id.to_be_bytes());
        sealed.extend_from_slice(&iv);
        sealed.extend_from_slice(&tag);
        sealed.extend_from_slice(&cipher);
        Ok(sealed)
    }

    /// Opens what [`Sealer::seal`] made for the same purpose.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`] or [`SealError::Broken`].
    pub fn open(&self, purpose: &'static str, sealed: &[u8]) -> Result<Secret, SealError> {
        let broken = || SealError::Broken(purpose);
        let id = key_id(sealed).ok_or_else(broken)?;
        let MasterKey { bytes: key, .. } = self.keys.iter().find(|known| known.id == id).ok_or(SealError::UnknownKey(id))?;
        let iv = sealed.get(4..4 + IV).ok_or_else(broken)?;
        let tag = sealed.get(4 + IV..HEAD).ok_or_else(broken)?;
        let cipher = sealed.get(HEAD..).ok_or_else(broken)?;
        decrypt_aead(Cipher::aes_256_gcm(), key.as_ref(), Some(iv), purpose.as_bytes(), cipher, tag).map(Secret::new).map_err(|_| broken())
    }
}

/// The id of the key that a value is sealed under.
#[must_use]
pub fn key_id(sealed: &[u8]) -> Option<u32> {
    sealed.get(..4).and_then(|id| id.try_into().ok()).map(u32::from_be_bytes)
}

/// HMAC-SHA-256.
///
/// # Errors
/// When OpenSSL fails.
pub fn hmac_sha256(key: &[u8], data: &[u8]) -> Result<[u8; 32], openssl::error::ErrorStack> {
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    let mut mac = [0u8; 32];
    signer.sign_oneshot(&mut mac, data)?;
    Ok(mac)
}

/// Compares in time that depends on the length alone.
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && openssl::memcmp::eq(a, b)
}

/// `N` random bytes.
///
/// # Errors
/// When the system has no randomness.
pub fn random<const N: usize>() -> Result<[u8; N], openssl::error::ErrorStack> {
    let mut bytes = [0u8; N];
    rand_bytes(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_for_its_purpose_and_unaltered() {
        let sealer = Sealer::generate().unwrap();
        let sealed = sealer.seal("a", b"text").unwrap();
        assert_eq!(sealer.open("a", &sealed).unwrap().expose(), b"text");
        assert!(matches!(sealer.open("b", &sealed), Err(SealError::Broken("b"))));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(sealer.open("a", &bad).is_err(), "byte {at}");
        }
        assert!(sealer.open("a", &sealed[..HEAD - 1]).is_err());
    }

    #[test]
    fn a_key_file_is_private_even_over_a_draft_that_others_could_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let draft = path.with_extension("new");
        std::fs::write(&draft, "left by a crash").unwrap();
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o644)).unwrap();
        Sealer::generate().unwrap().write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!draft.exists());
    }

    #[test]
    fn a_rotated_sealer_opens_the_old_and_seals_with_the_new() {
        let old = Sealer::generate().unwrap();
        let new = old.rotated().unwrap();
        let sealed = old.seal("a", b"x").unwrap();
        assert_eq!(new.open("a", &sealed).unwrap().expose(), b"x");
        assert!(!new.is_current(&sealed));
        let again = new.seal("a", b"x").unwrap();
        assert!(new.is_current(&again));
        assert!(matches!(old.open("a", &again), Err(SealError::UnknownKey(_))));
    }

    #[test]
    fn a_prepared_key_opens_and_seals_only_after_the_rotation() {
        let old = Sealer::generate().unwrap();
        let ready = Sealer::parse(&old.with_prepared().unwrap().to_text()).unwrap();
        let next = ready.prepared().unwrap();
        assert_eq!((ready.current(), ready.count(), ready.with_prepared().unwrap().prepared()), (old.current(), 2, Some(next)));
        let new = Sealer::parse(&ready.rotated().unwrap().to_text()).unwrap();
        assert_eq!((new.current(), new.prepared(), new.count()), (next, None, 2));
        let sealed = new.seal("a", b"x").unwrap();
        assert_eq!(ready.open("a", &sealed).unwrap().expose(), b"x");
        assert_eq!(old.joined(&ready).promoted(next).unwrap().current(), next);
        assert!(old.promoted(next).is_none());
        assert_eq!(new.only_current().count(), 1);
        assert_eq!(ready.only_current().count(), 2, "a prepared key is no old one");
        let twice = format!("{}{}", ready.to_text().as_str(), Sealer::generate().unwrap().to_text().trim_end().to_owned() + " next");
        for bad in [twice, Sealer::generate().unwrap().to_text().trim_end().to_owned() + " next"] {
            assert!(Sealer::parse(&bad).unwrap_err().to_string().contains("next key"), "{bad}");
        }
    }

    #[test]
    fn key_text_round_trips_and_names_the_wrong_line() {
        let sealer = Sealer::generate().unwrap().rotated().unwrap();
        let read = Sealer::parse(&sealer.to_text()).unwrap();
        assert_eq!(read.current(), sealer.current());
        assert!(Sealer::parse("").is_err());
        let error = Sealer::parse("# key\nzz 00").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        Sealer::generate().unwrap().write(&path).unwrap();
        assert!(Sealer::read(&path).is_ok());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Sealer::read(&path).is_err());
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", Secret::new(b"hunter2".to_vec())), "[secret]");
    }
}
