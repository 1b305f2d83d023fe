//! Identities that an administrator brought as a file for a person: what is known of them, and which of them a device gets.

use crate::clock::Time;
use crate::ids::{PfxId, UserId};

/// Most of one person.
pub const MOST: usize = 50;

words! {
    /// What an imported identity is for.
    Purpose {
        /// Reading encrypted mail: devices get the old ones, too, or old mail could not be read any more.
        SmimeEncryption = "smime-encryption",
        /// Signing mail.
        SmimeSigning = "smime-signing",
        /// Signing in to a VPN.
        Vpn = "vpn",
        /// Signing in to a wireless network.
        Wifi = "wifi",
    }
}

words! {
    /// How a password is encrypted for a key of this server (RSA-OAEP, RFC 8017), as Graph calls it.
    Padding {
        /// With SHA-256.
        OaepSha256 = "oaepSha256",
        /// With SHA-384.
        OaepSha384 = "oaepSha384",
        /// With SHA-512.
        OaepSha512 = "oaepSha512",
    }
}

/// How the password of a file came over the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The key that it was encrypted for.
    pub key_name: String,
    /// Whose key that is.
    pub provider_name: String,
    /// And how.
    pub padding: Padding,
}

/// An imported identity, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pfx {
    /// Identifier.
    pub id: PfxId,
    /// Whose it is.
    pub user_id: UserId,
    /// What it is for.
    pub purpose: Purpose,
    /// SHA-256 of the certificate, lower-case hex.
    pub sha256: String,
    /// SHA-1 of it, lower-case hex: what Windows and Graph call the thumbprint.
    pub thumbprint: String,
    /// The certificate's subject, for people.
    pub subject: String,
    /// First moment of validity.
    pub not_before: Time,
    /// Last moment of validity.
    pub not_after: Time,
    /// How it came, when it came over the API.
    pub sent: Option<Sent>,
    /// When it was brought.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Time,
}

/// Which of a person's identities their devices get, the one that counts first: to read mail all of them, else the one that ends last,
/// while it is good.
#[must_use]
pub fn chosen(all: &[Pfx], purpose: Purpose, now: Time) -> Vec<&Pfx> {
    let mut found: Vec<&Pfx> = all.iter().filter(|pfx| pfx.purpose == purpose).collect();
    found.sort_by_key(|pfx| std::cmp::Reverse((pfx.not_after, pfx.created_at, pfx.id.clone())));
    if purpose != Purpose::SmimeEncryption {
        found.retain(|pfx| pfx.not_after >= now);
        found.truncate(1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_is_read_with_all_and_everything_else_done_with_the_newest_that_is_good() {
        let pfx = |purpose, ends: i64| Pfx {
            id: PfxId::new(),
            user_id: UserId::new(),
            purpose,
            sha256: ends.to_string(),
            thumbprint: String::new(),
            subject: String::new(),
            not_before: Time(0),
            not_after: Time(ends),
            sent: None,
            created_at: Time(0),
            updated_at: Time(0),
        };
        let all = [
            pfx(Purpose::SmimeEncryption, 5),
            pfx(Purpose::Vpn, 20),
            pfx(Purpose::SmimeEncryption, 30),
            pfx(Purpose::Vpn, 25),
            pfx(Purpose::Wifi, 5),
        ];
        let ends = |purpose| chosen(&all, purpose, Time(10)).into_iter().map(|pfx| pfx.not_after.0).collect::<Vec<_>>();
        assert_eq!(ends(Purpose::SmimeEncryption), [30, 5]);
        assert_eq!(ends(Purpose::Vpn), [25]);
        assert!(ends(Purpose::Wifi).is_empty() && ends(Purpose::SmimeSigning).is_empty());
    }
}
