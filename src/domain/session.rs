//! Sessions of people at a browser: how long they last, and what they may do.

use crate::clock::{DAY, HOUR, MINUTE, Time};
use crate::ids::UserId;

/// How long a session lasts that nobody uses.
pub const IDLE: i64 = 24 * HOUR;
/// How long a session lasts at most.
pub const LONGEST: i64 = 30 * DAY;
/// How long after a sign-in methods may be changed.
pub const FRESH: i64 = 15 * MINUTE;
/// The same after a one-time pass: the next method must be registered by then.
pub const FRESH_ONE_TIME: i64 = 10 * MINUTE;

words! {
    /// How a person signed in.
    Method {
        /// By a Temporary Access Pass.
        Tap = "tap",
        /// By a passkey.
        Passkey = "passkey",
    }
}

impl Method {
    /// What tokens say of it (`amr`).
    #[must_use]
    pub fn amr(self) -> &'static [&'static str] {
        match self {
            Self::Tap => &["otp", "mfa", "ngcmfa"],
            Self::Passkey => &["fido", "mfa", "ngcmfa"],
        }
    }
}

/// A person who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of the token in the cookie, in hex.
    pub hash: String,
    /// Who.
    pub user_id: UserId,
    /// How.
    pub method: Method,
    /// With which pass or passkey.
    pub method_id: String,
    /// When.
    pub authenticated_at: Time,
    /// When it was last used, to some minutes.
    pub last_seen_at: Time,
    /// Until when methods may be changed.
    pub fresh_until: Time,
    /// When it ends in any case.
    pub ends_at: Time,
}

impl Session {
    /// Whether it is good.
    #[must_use]
    pub fn is_good(&self, now: Time) -> bool {
        now < self.ends_at && now.since(self.last_seen_at) < IDLE
    }

    /// Whether the sign-in is recent enough to change methods.
    #[must_use]
    pub fn is_fresh(&self, now: Time) -> bool {
        now < self.fresh_until
    }
}

/// Longest path with its query that a page goes on to.
const LONGEST_PATH: usize = 6144;

/// The path that a page goes on to: one of ours, and nothing that a browser takes for another host. Ours is `otherwise` else.
#[must_use]
pub fn next_path<'a>(asked: &'a str, otherwise: &'a str) -> &'a str {
    let formed =
        asked.starts_with('/') && asked.len() <= LONGEST_PATH && asked.bytes().all(|b| b.is_ascii_graphic() && !b"\\\"'<>`".contains(&b));
    // `//host` is another host; so is what browsers make of `/\host`, which is not formed.
    if formed && !asked.starts_with("//") { asked } else { otherwise }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_one_of_ours() {
        for good in ["/", "/account/security", "/t/oauth2/v2.0/authorize?client_id=x&redirect_uri=https%3A%2F%2Fapp.example%2Fcb"] {
            assert_eq!(next_path(good, "/else"), good);
        }
        let long = format!("/{}", "x".repeat(LONGEST_PATH));
        for bad in [
            "",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil",
            "/\t/evil.example",
            "/ /evil",
            "/x\r\nSet-Cookie: a=b",
            "javascript:alert(1)",
            "evil",
            "/\"onclick=",
            &long,
        ] {
            assert_eq!(next_path(bad, "/else"), "/else", "{bad:?}");
        }
    }

    #[test]
    fn a_session_ends_when_nobody_uses_it_and_at_its_end() {
        let session = Session {
            hash: String::new(),
            user_id: UserId::new(),
            method: Method::Passkey,
            method_id: String::new(),
            authenticated_at: Time(0),
            last_seen_at: Time(0),
            fresh_until: Time(FRESH),
            ends_at: Time(LONGEST),
        };
        assert!(session.is_good(Time(IDLE - 1)) && !session.is_good(Time(IDLE)));
        let used = Session { last_seen_at: Time(LONGEST - 1), ..session.clone() };
        assert!(used.is_good(Time(LONGEST - 1)) && !used.is_good(Time(LONGEST)));
        assert!(session.is_fresh(Time(FRESH - 1)) && !session.is_fresh(Time(FRESH)));
    }
}
