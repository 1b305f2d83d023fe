//! Judging digest credentials, for devices whose certificate cannot reach us.

use crate::clock::{MINUTE, Time};
use crate::secret;
use crate::wire::syncml::Cred;
use crate::wire::syncml::auth::{AUTH_MD5, md5_digest};

/// How long a nonce may be used, in milliseconds.
pub const NONCE_LIFE: i64 = 5 * MINUTE;

/// A nonce that we gave out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// Its bytes.
    pub value: Vec<u8>,
    /// When it was given out.
    pub issued_at: Time,
    /// Whether credentials were made with it before.
    pub spent: bool,
}

/// What credentials are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Right: mark the nonce as spent.
    Accepted,
    /// None came: challenge with 407.
    Missing,
    /// Wrong, stale or repeated: challenge with 401.
    Wrong,
}

/// Judges the credentials of a message. For an unknown device pass any `ha1` and no nonce: the answer is the same and takes as long.
#[must_use]
pub fn judge(cred: Option<&Cred>, ha1: &str, nonce: Option<&Nonce>, now: Time) -> Judgement {
    let Some(cred) = cred else { return Judgement::Missing };
    let usable = nonce.filter(|nonce| !nonce.spent && (0..=NONCE_LIFE).contains(&now.since(nonce.issued_at)));
    let bytes = usable.map_or(&[][..], |nonce| nonce.value.as_slice());
    let right = md5_digest(ha1, bytes).is_ok_and(|expected| secret::same(expected.as_bytes(), cred.data.as_bytes()));
    if right && usable.is_some() && cred.meta.kind.as_deref() == Some(AUTH_MD5) { Judgement::Accepted } else { Judgement::Wrong }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::syncml::auth::{md5_cred, md5_ha1};

    #[test]
    fn a_nonce_works_once_and_for_five_minutes() {
        let ha1 = md5_ha1("user", "secret").unwrap();
        let nonce = Nonce { value: b"nonce".to_vec(), issued_at: Time(1_000), spent: false };
        let cred = md5_cred(&ha1, b"nonce").unwrap();
        let at = |millis| judge(Some(&cred), &ha1, Some(&nonce), Time(millis));
        assert_eq!(at(1_000), Judgement::Accepted);
        assert_eq!(at(1_000 + NONCE_LIFE), Judgement::Accepted);
        assert_eq!(at(1_001 + NONCE_LIFE), Judgement::Wrong);
        assert_eq!(at(999), Judgement::Wrong);
        let now = Time(1_000);
        assert_eq!(judge(None, &ha1, Some(&nonce), now), Judgement::Missing);
        assert_eq!(judge(Some(&cred), &ha1, Some(&Nonce { spent: true, ..nonce.clone() }), now), Judgement::Wrong);
        assert_eq!(judge(Some(&cred), &md5_ha1("user", "other").unwrap(), Some(&nonce), now), Judgement::Wrong);
        assert_eq!(judge(Some(&md5_cred(&ha1, b"").unwrap()), &ha1, None, now), Judgement::Wrong);
    }
}
