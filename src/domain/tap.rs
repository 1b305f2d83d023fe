//! Temporary Access Passes: what one may look like, how long it lives, when it may be used.

use super::Refusal;
use crate::clock::{DAY, MINUTE, Time};
use crate::ids::{TapId, UserId};

/// The letters and digits of a pass: lower case, none that looks like another (no `i`, `l`, `o`, `0`, `1`).
pub const ALPHABET: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// Shortest and longest pass, in letters.
pub const LENGTH: std::ops::RangeInclusive<usize> = 8..=48;

/// Shortest and longest life, in milliseconds.
pub const LIFETIME: std::ops::RangeInclusive<i64> = 10 * MINUTE..=30 * DAY;

/// A pass as it is kept: never its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Identifier.
    pub id: TapId,
    /// Whose it is.
    pub user_id: UserId,
    /// HMAC of user and text under the instance's pepper.
    pub mac: Vec<u8>,
    /// Good for one sign-in only.
    pub one_time: bool,
    /// From when.
    pub starts_at: Time,
    /// Until when.
    pub expires_at: Time,
    /// When it was first used.
    pub used_at: Option<Time>,
}

impl Tap {
    /// Whether it may be used now.
    #[must_use]
    pub fn is_usable(&self, now: Time) -> bool {
        self.starts_at <= now && now < self.expires_at && !(self.one_time && self.used_at.is_some())
    }
}

/// What a new pass shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many letters.
    pub length: usize,
    /// How long it lives, in milliseconds.
    pub lifetime: i64,
    /// Good for one sign-in only.
    pub one_time: bool,
}

impl Default for Policy {
    /// Twelve letters (59 bits), an hour, one use.
    fn default() -> Self {
        Self { length: 12, lifetime: 60 * MINUTE, one_time: true }
    }
}

impl Policy {
    /// Holds the policy against the bounds.
    ///
    /// # Errors
    /// [`Refusal::TapLength`], [`Refusal::TapLifetime`].
    pub fn check(self) -> Result<Self, Refusal> {
        if !LENGTH.contains(&self.length) {
            return Err(Refusal::TapLength);
        }
        if !LIFETIME.contains(&self.lifetime) {
            return Err(Refusal::TapLifetime);
        }
        Ok(self)
    }
}

/// What the organisation says about passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Rules {
    /// Whether passes are taken. Those of people who are to use them once this is on again are made all the same.
    pub enabled: bool,
    /// Life of a pass when nothing else is asked for.
    pub default_lifetime_in_minutes: i64,
    /// Shortest life.
    pub minimum_lifetime_in_minutes: i64,
    /// Longest life.
    pub maximum_lifetime_in_minutes: i64,
    /// Letters of a pass when nothing else is asked for.
    pub default_length: usize,
    /// All passes are for one sign-in.
    pub is_usable_once: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            enabled: true,
            default_lifetime_in_minutes: 60,
            minimum_lifetime_in_minutes: LIFETIME.start() / MINUTE,
            maximum_lifetime_in_minutes: LIFETIME.end() / MINUTE,
            default_length: 12,
            is_usable_once: false,
        }
    }
}

impl Rules {
    /// Holds the rules against the bounds and themselves.
    ///
    /// # Errors
    /// [`Refusal::TapPolicyInvalid`].
    pub fn check(self) -> Result<Self, Refusal> {
        let within = |minutes: i64| minutes.checked_mul(MINUTE).is_some_and(|life| LIFETIME.contains(&life));
        let (least, usual, most) = (self.minimum_lifetime_in_minutes, self.default_lifetime_in_minutes, self.maximum_lifetime_in_minutes);
        let formed = within(least) && within(most) && least <= usual && usual <= most && LENGTH.contains(&self.default_length);
        if formed { Ok(self) } else { Err(Refusal::TapPolicyInvalid) }
    }

    /// What a new pass is to be when this is asked for.
    ///
    /// # Errors
    /// [`Refusal::TapLength`], [`Refusal::TapLifetime`], [`Refusal::TapLifetimeForbidden`].
    pub fn apply(self, asked: Policy) -> Result<Policy, Refusal> {
        let asked = asked.check()?;
        let allowed = self.minimum_lifetime_in_minutes * MINUTE..=self.maximum_lifetime_in_minutes * MINUTE;
        if !allowed.contains(&asked.lifetime) {
            return Err(Refusal::TapLifetimeForbidden);
        }
        Ok(Policy { one_time: asked.one_time || self.is_usable_once, ..asked })
    }

    /// What a new pass is when nothing is asked for.
    #[must_use]
    pub fn usual(self) -> Policy {
        Policy { length: self.default_length, lifetime: self.default_lifetime_in_minutes * MINUTE, one_time: true }
    }
}

/// What a person typed, as it counts: lower case, without blanks and hyphens. `None` when it cannot be a pass.
#[must_use]
pub fn normalize(typed: &str) -> Option<String> {
    if typed.len() > 256 {
        return None;
    }
    let text: String = typed.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    LENGTH.contains(&text.len()).then_some(text).filter(|t| t.bytes().all(|b| ALPHABET.contains(&b)))
}

/// Turns random bytes into letters; bytes that would favour some letters are passed over. `None` when too few are left.
#[must_use]
pub fn spell(random: &[u8], length: usize) -> Option<String> {
    let fair = 256 - 256 % ALPHABET.len();
    let letters = random.iter().map(|b| usize::from(*b)).filter(|b| *b < fair).filter_map(|b| ALPHABET.get(b % ALPHABET.len()));
    let text: String = letters.take(length).map(|b| char::from(*b)).collect();
    (text.len() == length).then_some(text)
}

/// The pass in groups of four, for people.
#[must_use]
pub fn grouped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for (at, letter) in text.chars().enumerate() {
        if at > 0 && at % 4 == 0 {
            out.push('-');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tap(one_time: bool, used_at: Option<Time>) -> Tap {
        Tap { id: TapId::new(), user_id: UserId::new(), mac: vec![1; 32], one_time, starts_at: Time(10), expires_at: Time(20), used_at }
    }

    #[test]
    fn a_pass_is_good_inside_its_life_and_once_when_it_says_so() {
        assert!(!tap(true, None).is_usable(Time(9)));
        assert!(tap(true, None).is_usable(Time(10)));
        assert!(!tap(true, None).is_usable(Time(20)));
        assert!(!tap(true, Some(Time(11))).is_usable(Time(12)));
        assert!(tap(false, Some(Time(11))).is_usable(Time(12)));
    }

    #[test]
    fn a_policy_out_of_bounds_is_refused() {
        assert!(Policy::default().check().is_ok());
        assert_eq!(Policy { length: 7, ..Policy::default() }.check().unwrap_err().code(), "AUT0004");
        assert_eq!(Policy { lifetime: 31 * DAY, ..Policy::default() }.check().unwrap_err().code(), "AUT0005");
    }

    #[test]
    fn the_organisation_bounds_lifetimes_and_may_force_one_use() {
        let rules = Rules { minimum_lifetime_in_minutes: 30, maximum_lifetime_in_minutes: 120, is_usable_once: true, ..Rules::default() };
        let asked = |minutes: i64| Policy { lifetime: minutes * MINUTE, one_time: false, ..Policy::default() };
        assert_eq!(rules.check().unwrap().apply(asked(29)).unwrap_err().code(), "AUT0019");
        assert_eq!(rules.apply(asked(121)).unwrap_err().code(), "AUT0019");
        assert_eq!(rules.apply(asked(9)).unwrap_err().code(), "AUT0005");
        assert!(rules.apply(asked(30)).unwrap().one_time);
        for bad in [
            Rules { minimum_lifetime_in_minutes: 9, ..rules },
            Rules { maximum_lifetime_in_minutes: 43_201, ..rules },
            Rules { default_lifetime_in_minutes: 121, ..rules },
            Rules { default_lifetime_in_minutes: 29, ..rules },
            Rules { maximum_lifetime_in_minutes: i64::MAX, ..rules },
            Rules { default_length: 7, ..rules },
        ] {
            assert_eq!(bad.check().unwrap_err().code(), "AUT0020", "{bad:?}");
        }
    }

    #[test]
    fn a_pass_may_be_typed_with_blanks_hyphens_and_capitals() {
        assert_eq!(normalize(" ABCD-efgh jk23 ").as_deref(), Some("abcdefghjk23"));
        assert_eq!(normalize("abc"), None);
        assert_eq!(normalize("abcdefg0"), None, "0 is not a letter of ours");
        assert_eq!(normalize(&"a".repeat(300)), None);
    }

    proptest! {
        #[test]
        fn spelling_uses_the_alphabet_and_the_length(random in proptest::collection::vec(any::<u8>(), 128), length in 8usize..=48) {
            let text = spell(&random, length);
            prop_assume!(text.is_some());
            let text = text.unwrap();
            prop_assert_eq!(text.len(), length);
            prop_assert_eq!(normalize(&grouped(&text)), Some(text));
        }

        #[test]
        fn reading_never_panics(typed in any::<String>()) {
            let _ = normalize(&typed);
        }
    }
}
