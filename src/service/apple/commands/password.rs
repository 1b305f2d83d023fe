//! Passwords that the server makes for a Mac. Until the Mac has said that it took one, the old one and the new one are both kept, because
//! nobody knows which is in force; when an answer was lost, the Mac is asked.

use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use serde_json::{Map, Value, json};

use super::super::turn::Turn;
use super::{Body, Subject};
use crate::domain::apple::escrow::Kind;
use crate::secret::{Secret, random};
use crate::service::{Error, Result};
use crate::wire::plist::{self, Data, Dict};

/// Letters that nobody takes for another: what people type at a black screen.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567890";
/// A hundred bits.
const LENGTH: usize = 20;
/// The key of a new password.
pub(super) const NEW: &str = "NewPassword";
/// Rounds of PBKDF2 for a password's hash.
const ROUNDS: usize = 60_000;

fn text(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.expose()).into_owned()
}

fn password() -> Result<Secret> {
    let random = zeroize::Zeroizing::new(random::<LENGTH>()?);
    Ok(Secret::new(random.iter().map(|byte| LETTERS.get(usize::from(byte % 32)).copied().unwrap_or(b'a')).collect()))
}

/// The password that is told to the Mac: a new one, or, when it is delivered again, the same.
async fn next(turn: &mut Turn<'_>, kind: Kind, request: &str) -> Result<Secret> {
    if let Some(next) = turn.secret(kind, request).await? {
        return Ok(next);
    }
    let next = password()?;
    turn.keep(kind, &next, None)?;
    Ok(next)
}

/// A password in front of starting the Mac in another way.
pub(super) struct Lock {
    /// What is kept of the one in force.
    pub(super) current: Kind,
    /// What is kept of one that the Mac has not confirmed.
    pub(super) next: Kind,
    /// The request that finds out whether one is in force.
    pub(super) verify: &'static str,
}

impl Lock {
    /// The keys that set it, or take it away when the order's are those of [`clearing`].
    pub(super) async fn set(&self, turn: &mut Turn<'_>, subject: Subject<'_>, request: &str) -> Result<Body> {
        let clear = subject.keys().string(NEW).is_some();
        let current = turn.secret(self.current, request).await?;
        let new = if clear {
            if turn.keeps(self.next) {
                // It may be the one in force.
                self.ask(turn, None);
                return Ok(Body::Nothing(
                    "the Mac was told another password and did not confirm it: it is being verified; order it again then".into(),
                ));
            }
            if current.is_none() {
                return Ok(Body::Nothing("no password of the Mac is kept".into()));
            }
            String::new()
        } else {
            text(&next(turn, self.next, request).await?)
        };
        let mut keys = subject.keys().with(NEW, new);
        keys.insert_some("CurrentPassword", current.as_ref().map(text));
        Ok(Body::Keys(keys))
    }

    /// The Mac took the password that it was told.
    pub(super) fn taken(&self, turn: &mut Turn<'_>) {
        turn.promote(self.next, self.current);
    }

    /// The Mac did not take it, or its answer to an earlier delivery was lost: it is asked which one is in force.
    pub(super) fn refused(&self, turn: &mut Turn<'_>) {
        if turn.keeps(self.next) {
            self.ask(turn, None);
        }
    }

    /// Asks whether a password is in force: the one after `tried`.
    fn ask(&self, turn: &mut Turn<'_>, tried: Option<Kind>) -> bool {
        let Some(kind) = self.kinds(turn).find(|kind| tried.is_none_or(|tried| tried == self.current && *kind == self.next)) else {
            return false;
        };
        turn.ask(&format!("{}:{kind}", self.verify));
        true
    }

    fn kinds(&self, turn: &Turn<'_>) -> impl Iterator<Item = Kind> + use<> {
        let (current, next) = (turn.keeps(self.current).then_some(self.current), turn.keeps(self.next).then_some(self.next));
        current.into_iter().chain(next)
    }

    /// The keys that ask whether a password is in force: the one that the record names, or the first that is kept.
    pub(super) async fn verify(&self, turn: &mut Turn<'_>, subject: Subject<'_>) -> Result<Body> {
        let kind = Kind::parse(subject.record()).or_else(|| self.kinds(turn).next());
        let secret = match kind {
            Some(kind) => turn.secret(kind, self.verify).await?,
            None => None,
        };
        Ok(match secret {
            Some(secret) => Body::Keys(Dict::new().with("Password", text(&secret))),
            None => Body::Nothing("no password of the Mac is kept".into()),
        })
    }

    /// The answer to that for people.
    ///
    /// # Errors
    /// When the Mac did not say it: then nothing is known, and both passwords stay.
    pub(super) fn says(verified: Option<bool>) -> std::result::Result<String, String> {
        match verified {
            Some(true) => Ok("the password is in force".into()),
            Some(false) => Ok("the password is not in force".into()),
            None => Err("the Mac did not say whether the password is in force".into()),
        }
    }

    /// The Mac said whether a password is in force.
    pub(super) fn verified(&self, turn: &mut Turn<'_>, subject: Subject<'_>, holds: bool) {
        let Some(tried) = Kind::parse(subject.record()) else {
            // An administrator's question: which one it was about is certain only where the record says so.
            if !holds || turn.keeps(self.next) {
                self.ask(turn, None);
            }
            return;
        };
        if holds && tried == self.next {
            turn.promote(self.next, self.current);
        } else if holds {
            // The other one was never taken.
            turn.forget(self.next);
        } else if !self.ask(turn, Some(tried)) {
            let object = format!("device:{}", turn.device.id);
            turn.audit("escrow.lost", object, &json!({ "kind": self.current }));
        }
    }
}

/// The keys of an order that takes a password away; none for one that sets it.
///
/// # Errors
/// What is wrong with the value.
pub(super) fn clearing(clear: Option<bool>) -> Map<String, Value> {
    if clear == Some(true) { [(NEW.to_owned(), Value::from(""))].into_iter().collect() } else { Map::new() }
}

/// What a Mac needs to give an account the next password that is kept for it: its salted hash.
pub(super) async fn hashed(turn: &mut Turn<'_>, kind: Kind, request: &str) -> Result<Data> {
    let password = next(turn, kind, request).await?;
    let hash = move || hash(password.expose(), &random::<32>()?);
    tokio::task::spawn_blocking(hash).await.map_err(Error::internal)?
}

fn hash(password: &[u8], salt: &[u8]) -> Result<Data> {
    let mut entropy = vec![0u8; 128];
    pbkdf2_hmac(password, salt, ROUNDS, MessageDigest::sha512(), &mut entropy).map_err(Error::internal)?;
    let rounds = i64::try_from(ROUNDS).map_err(Error::internal)?;
    let inner = Dict::new().with("entropy", Data(entropy)).with("iterations", rounds).with("salt", Data(salt.to_vec()));
    Ok(Data(plist::encode(&Dict::new().with("SALTED-SHA512-PBKDF2", inner).into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::plist::Limits;

    #[test]
    fn a_hash_is_what_macs_read_and_depends_on_the_salt() {
        let read = |salt: &[u8]| {
            let hash = hash(b"correct horse", salt).unwrap();
            let outer = plist::decode_dict(&hash.0, Limits::MESSAGE).unwrap();
            let inner = outer.dict("SALTED-SHA512-PBKDF2").unwrap();
            assert_eq!((inner.integer("iterations"), inner.data("salt")), (Some(60_000), Some(salt)));
            inner.data("entropy").unwrap().to_vec()
        };
        let entropy = read(&[7; 32]);
        // From another implementation: hashlib.pbkdf2_hmac("sha512", b"correct horse", bytes([7]) * 32, 60000, 128).
        assert_eq!((entropy.len(), hex::encode(&entropy[..8])), (128, "a8e9ecd88418f60c".to_owned()));
        assert_ne!(entropy, read(&[8; 32]));
    }
}
