//! Audit rows and their hash chain: each row's hash covers the row and the hash before it, so that a row cannot be altered, removed or
//! moved without breaking every hash after it. The chain's head carries a mark under a key of the instance, so that who can write the
//! database and has no master key cannot make the chain anew; and a head that was noted elsewhere shows what was cut off since.

use openssl::sha::sha256;

use crate::clock::Time;
use crate::domain::Refusal;
use crate::secret::{Secret, hmac_sha256, same};

/// What happened: who did what to what, from where, and how it was before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `user:<id>`, `device:<id>`, `cli:<name>`, `job:<name>`, `system`, or `anonymous` for refused strangers.
    pub actor: String,
    /// Dotted verb, such as `certificate.issue` or `enrollment.refused`.
    pub action: &'static str,
    /// `kind:id` of what it was done to.
    pub target: String,
    /// Where the request came from: an address, `local`, or a job.
    pub origin: String,
    /// The state before, as JSON; never a secret.
    pub before: Option<String>,
    /// The state after, as JSON; never a secret.
    pub after: Option<String>,
}

impl Entry {
    /// An entry without states.
    pub fn new(actor: impl Into<String>, action: &'static str, target: impl Into<String>, origin: impl Into<String>) -> Self {
        Self { actor: actor.into(), action, target: target.into(), origin: origin.into(), before: None, after: None }
    }

    /// With the state before.
    #[must_use]
    pub fn before(mut self, value: &serde_json::Value) -> Self {
        self.before = Some(value.to_string());
        self
    }

    /// With the state after.
    #[must_use]
    pub fn after(mut self, value: &serde_json::Value) -> Self {
        self.after = Some(value.to_string());
        self
    }
}

/// The fields of a row, as the hash covers them.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// Position in the chain, from 1.
    pub seq: i64,
    /// When.
    pub at: Time,
    /// Who.
    pub actor: &'a str,
    /// Did what.
    pub action: &'a str,
    /// To what.
    pub target: &'a str,
    /// From where.
    pub origin: &'a str,
    /// State before.
    pub before: Option<&'a str>,
    /// State after.
    pub after: Option<&'a str>,
    /// The hash of the row before; empty for the first.
    pub previous_hash: &'a str,
}

impl Link<'_> {
    /// The row's hash: SHA-256 over the length-prefixed fields, in lower-case hex.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.at.0.to_be_bytes());
        for field in [self.actor, self.action, self.target, self.origin, self.previous_hash] {
            put(&mut bytes, Some(field));
        }
        put(&mut bytes, self.before);
        put(&mut bytes, self.after);
        hex::encode(sha256(&bytes))
    }
}

/// Where the chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Position of the newest row; 0 before the first.
    pub seq: i64,
    /// The hash of that row; empty before the first.
    pub hash: String,
    /// The mark that [`HeadKey::mark`] makes; empty when the head before it was not ours.
    pub mark: String,
}

/// The key that marks the chain's head; only the master key opens it.
#[derive(Clone, Debug)]
pub struct HeadKey(Secret);

impl HeadKey {
    /// Takes the key.
    #[must_use]
    pub fn new(key: Secret) -> Self {
        Self(key)
    }

    /// The mark of a head: HMAC-SHA-256 over position and hash, in lower-case hex.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn mark(&self, seq: i64, hash: &str) -> Result<String, openssl::error::ErrorStack> {
        let mut bytes = b"muster audit head".to_vec();
        bytes.extend_from_slice(&seq.to_be_bytes());
        put(&mut bytes, Some(hash));
        Ok(hex::encode(hmac_sha256(self.0.expose(), &bytes)?))
    }

    /// Whether the head was written by a holder of the key.
    ///
    /// # Errors
    /// When OpenSSL fails.
    pub fn fits(&self, head: &Head) -> Result<bool, openssl::error::ErrorStack> {
        Ok(same(self.mark(head.seq, &head.hash)?.as_bytes(), head.mark.as_bytes()))
    }
}

/// A place in the chain as people note it: `SEQ:HASH`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    /// Position of a row, from 1.
    pub seq: i64,
    /// Its hash.
    pub hash: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl TryFrom<String> for Place {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        text.parse()
    }
}

impl std::str::FromStr for Place {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let wrong = Refusal::AuditNoteInvalid;
        let (seq, hash) = text.trim().split_once(':').ok_or(wrong)?;
        let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or(wrong)?;
        let hash = hash.to_ascii_lowercase();
        if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) { Ok(Self { seq, hash }) } else { Err(wrong) }
    }
}

fn put(bytes: &mut Vec<u8>, field: Option<&str>) {
    bytes.push(u8::from(field.is_some()));
    let text = field.unwrap_or_default();
    bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_letter_between_fields_changes_the_hash() {
        let link = |actor, action| Link {
            seq: 1,
            at: Time(5),
            actor,
            action,
            target: "t",
            origin: "o",
            before: None,
            after: Some(""),
            previous_hash: "",
        };
        assert_ne!(link("ab", "c").hash(), link("a", "bc").hash());
        assert_ne!(Link { after: None, ..link("a", "b") }.hash(), link("a", "b").hash());
    }

    #[test]
    fn a_mark_fits_one_head_under_one_key() {
        let key = HeadKey::new(Secret::new(vec![1; 32]));
        let head = |seq, hash: &str| Head { seq, hash: hash.into(), mark: key.mark(7, "aa").unwrap() };
        assert!(key.fits(&head(7, "aa")).unwrap());
        assert!(!key.fits(&head(8, "aa")).unwrap() && !key.fits(&head(7, "ab")).unwrap());
        assert!(!HeadKey::new(Secret::new(vec![2; 32])).fits(&head(7, "aa")).unwrap());
        assert!(!key.fits(&Head { mark: String::new(), ..head(7, "aa") }).unwrap());
    }

    #[test]
    fn a_noted_place_reads_back() {
        let place = Place { seq: 12, hash: "0a".repeat(32) };
        assert_eq!(place.to_string().parse(), Ok(place.clone()));
        assert_eq!(format!(" 12:{}\n", "0A".repeat(32)).parse(), Ok(place));
        for bad in ["", "12", "0:00", "-1:00", "12:00", &format!("12:{}", "zz".repeat(32)), &format!("12:{}", "é".repeat(32))] {
            assert_eq!(bad.parse::<Place>().unwrap_err().code(), "AUD0010", "{bad}");
            assert!(serde_json::from_value::<Place>(bad.into()).unwrap_err().to_string().contains("AUD0010"), "{bad}");
        }
    }
}
