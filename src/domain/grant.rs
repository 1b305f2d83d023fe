//! What a person gives an application: a code that is exchanged once, and refresh tokens after it.

use std::collections::BTreeSet;

use super::access::Scope;
use super::application::Client;
use super::session::Method;
use crate::clock::{DAY, HOUR, MINUTE, SECOND, Time};
use crate::ids::{ApplicationId, GrantId, UserId};

/// How long a code is good (RFC 6749, section 4.1.2, advises ten minutes at most).
pub const CODE: i64 = 10 * MINUTE;
/// How long a grant lasts that nobody uses.
pub const IDLE: i64 = 90 * DAY;
/// How long one lasts whose refresh tokens lie in a browser, used or not.
pub const IN_BROWSER: i64 = DAY;
/// How long one lasts without refresh tokens: longer than the access token that was made with it.
pub const ONCE: i64 = 2 * HOUR;
/// For how long the refresh token before the newest gives that one once more: the answer may have been lost, or two of a program's processes
/// asked at once.
pub const AGAIN: i64 = 30 * SECOND;
/// How long a code for another device is good (RFC 8628, section 3.2).
pub const DEVICE_CODE: i64 = 15 * MINUTE;
/// How many seconds a device waits between its questions at first (RFC 8628, section 3.2).
pub const INTERVAL: i64 = 5;
/// Letters of the code that people type: no vowels, so that it spells nothing, and none that look alike (RFC 8628, section 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// How many there are: 20^9 codes, of which few are open and few can be tried.
const TYPED: usize = 9;

/// What was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Identifier.
    pub id: GrantId,
    /// To whom.
    pub application: ApplicationId,
    /// By whom.
    pub user: UserId,
    /// Of what kind the redirect URI is; native when the code was on another device.
    pub client: Client,
    /// Where the code was sent; `None` when it was on another device.
    pub redirect_uri: Option<String>,
    /// What was asked for.
    pub asked: Asked,
    /// What the verifier has to hash to (RFC 7636).
    pub challenge: Option<String>,
    /// What the identity token has to repeat.
    pub nonce: Option<String>,
    /// How the person had signed in.
    pub method: Method,
    /// With which pass or passkey: the grant ends with it.
    pub method_id: String,
    /// When.
    pub signed_in_at: Time,
    /// When the pass ends, and all that began with it.
    pub method_ends_at: Option<Time>,
    /// Counts the refresh tokens: the newest one has this number. 0 before the code was exchanged.
    pub generation: i64,
    /// When the newest was made.
    pub rotated_at: Time,
    /// When it was made.
    pub created_at: Time,
    /// Until when the code is good.
    pub code_ends_at: Time,
    /// When the grant is over, unless it is used.
    pub ends_at: Time,
}

/// What a refresh token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is the newest: it gives the next.
    Newest,
    /// It is the one before, and was exchanged a moment ago: it gives the newest once more.
    Again,
    /// It was exchanged long ago: one of two who have it has no right to it (RFC 9700, section 4.14.2).
    Stale,
}

impl Grant {
    /// What the refresh token of that number is worth.
    #[must_use]
    pub fn worth(&self, number: i64, now: Time) -> Worth {
        if number == self.generation {
            Worth::Newest
        } else if number == self.generation - 1 && number > 0 && now.since(self.rotated_at) < AGAIN {
            Worth::Again
        } else {
            Worth::Stale
        }
    }

    /// When the grant ends, after it was used at `now`.
    #[must_use]
    pub fn end_after(&self, now: Time) -> Time {
        let end = match self.client {
            _ if !self.asked.offline => now.plus(ONCE),
            Client::SinglePage => self.created_at.plus(IN_BROWSER),
            Client::Native | Client::Web => now.plus(IDLE),
        };
        self.method_ends_at.map_or(end, |method| method.min(end))
    }
}

/// What an application asks for (RFC 6749, section 3.3; OpenID Connect Core, section 5.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// An identity token.
    pub openid: bool,
    /// Names in it.
    pub profile: bool,
    /// The mail address in it.
    pub email: bool,
    /// Refresh tokens.
    pub offline: bool,
    /// All that was consented to (`.default`).
    pub all: bool,
    /// Permissions by name.
    pub scopes: BTreeSet<Scope>,
}

impl Asked {
    /// Reads words; the first that is none comes back.
    ///
    /// # Errors
    /// The word.
    pub fn read<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, &'a str> {
        let mut asked = Self::default();
        for word in words {
            match word {
                "openid" => asked.openid = true,
                "profile" => asked.profile = true,
                "email" => asked.email = true,
                "offline_access" => asked.offline = true,
                ".default" => asked.all = true,
                _ => {
                    asked.scopes.insert(Scope::parse(word).ok_or(word)?);
                }
            }
        }
        Ok(asked)
    }

    /// The same in words, which [`Asked::read`] reads.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = self.standing();
        if self.offline {
            words.push("offline_access");
        }
        if self.all {
            words.push(".default");
        }
        words.extend(self.scopes.iter().map(|scope| scope.as_str()));
        words.join(" ")
    }

    /// What needs nobody's consent.
    #[must_use]
    pub fn standing(&self) -> Vec<&'static str> {
        [(self.openid, "openid"), (self.profile, "profile"), (self.email, "email")]
            .into_iter()
            .filter_map(|(wanted, word)| wanted.then_some(word))
            .collect()
    }

    /// What is asked for and not consented to.
    #[must_use]
    pub fn missing(&self, consented: &BTreeSet<Scope>) -> BTreeSet<Scope> {
        self.scopes.iter().copied().filter(|scope| !consented.contains(scope) && !scope.needs_no_consent()).collect()
    }

    /// What the access token allows.
    #[must_use]
    pub fn allowed(&self, consented: &BTreeSet<Scope>) -> Vec<&'static str> {
        let mut words = self.standing();
        let allowed = |scope: &&Scope| consented.contains(scope) || scope.needs_no_consent();
        let scopes = if self.all { consented } else { &self.scopes };
        words.extend(scopes.iter().filter(allowed).map(|scope| scope.as_str()));
        words
    }
}

/// Spells a code that people type, `BCDF-GHJKL`, from random bytes; `None` when they do not suffice, which is rare.
#[must_use]
pub fn spell_user_code(random: &[u8]) -> Option<String> {
    // Of 256 values 240 are twelve times the letters; the others would favour the first ones.
    let letters = random.iter().filter(|byte| **byte < 240).filter_map(|byte| LETTERS.get(usize::from(byte % 20)));
    let mut code: String = letters.take(TYPED).map(|letter| char::from(*letter)).collect();
    if code.len() < TYPED {
        return None;
    }
    code.insert(4, '-');
    Some(code)
}

/// A code as somebody typed it, in the form in which it was spelled; `None` when it is none.
#[must_use]
pub fn read_user_code(typed: &str) -> Option<String> {
    let mut code = String::new();
    for letter in typed.chars().filter(|c| !matches!(c, '-' | ' ')) {
        let letter = letter.to_ascii_uppercase();
        if code.len() >= TYPED || !u8::try_from(letter).is_ok_and(|byte| LETTERS.contains(&byte)) {
            return None;
        }
        code.push(letter);
    }
    (code.len() == TYPED).then(|| {
        code.insert(4, '-');
        code
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(client: Client, words: &str) -> Grant {
        Grant {
            id: GrantId::new(),
            application: ApplicationId::new(),
            user: UserId::new(),
            client,
            redirect_uri: None,
            asked: Asked::read(words.split(' ')).unwrap(),
            challenge: None,
            nonce: None,
            method: Method::Passkey,
            method_id: String::new(),
            signed_in_at: Time(0),
            method_ends_at: None,
            generation: 3,
            rotated_at: Time(0),
            created_at: Time(0),
            code_ends_at: Time(CODE),
            ends_at: Time(CODE),
        }
    }

    #[test]
    fn a_refresh_token_is_good_once_and_the_one_before_for_a_moment() {
        let mut grant = grant(Client::Native, "offline_access");
        assert_eq!(grant.worth(3, Time(IDLE)), Worth::Newest);
        assert_eq!((grant.worth(2, Time(AGAIN - 1)), grant.worth(2, Time(AGAIN))), (Worth::Again, Worth::Stale));
        assert_eq!((grant.worth(1, Time(0)), grant.worth(4, Time(0))), (Worth::Stale, Worth::Stale));
        grant.generation = 1;
        assert_eq!(grant.worth(0, Time(0)), Worth::Stale, "there is no token of number 0");
    }

    #[test]
    fn grants_end_by_kind_and_with_the_pass() {
        let now = Time(HOUR);
        assert_eq!(grant(Client::Native, "offline_access").end_after(now), now.plus(IDLE));
        assert_eq!(grant(Client::SinglePage, "offline_access").end_after(now), Time(IN_BROWSER));
        assert_eq!(grant(Client::Web, "openid").end_after(now), now.plus(ONCE));
        let passing = Grant { method_ends_at: Some(now.plus(MINUTE)), ..grant(Client::Web, "offline_access") };
        assert_eq!(passing.end_after(now), now.plus(MINUTE));
    }

    #[test]
    fn scopes_are_read_written_and_held_against_consent() {
        let asked = Asked::read("openid profile offline_access User.Read Device.Read.All".split(' ')).unwrap();
        assert_eq!(Asked::read(asked.words().split(' ')).unwrap(), asked);
        let consented = BTreeSet::from([Scope::GroupReadAll]);
        assert_eq!(asked.missing(&consented), BTreeSet::from([Scope::DeviceReadAll]));
        assert_eq!(asked.allowed(&consented), ["openid", "profile", "User.Read"]);
        let all = Asked::read([".default"].into_iter()).unwrap();
        assert!(all.missing(&consented).is_empty());
        assert_eq!(all.allowed(&consented), ["Group.Read.All"]);
        assert_eq!(Asked::read("openid Nope".split(' ')), Err("Nope"));
    }

    #[test]
    fn codes_for_people_are_read_as_they_are_typed() {
        let code = spell_user_code(&[0, 255, 1, 2, 3, 4, 5, 6, 7, 250, 8]).unwrap();
        assert_eq!(code, "BCDF-GHJKL");
        for typed in ["bcdf-ghjkl", " BCDFGHJKL", "bcdf ghj kl"] {
            assert_eq!(read_user_code(typed).as_deref(), Some("BCDF-GHJKL"), "{typed}");
        }
        for typed in ["", "BCDF-GHJK", "BCDF-GHJKLM", "ACDF-GHJKL", "BCDF-GHJK1", "ſCDFGHJKL"] {
            assert_eq!(read_user_code(typed), None, "{typed}");
        }
        assert_eq!(spell_user_code(&[255; 64]), None);
    }
}
