//! Applications that call the API: who they are, how they prove it, where people are sent back to, and what they may do.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::access::Scope;
use crate::clock::{DAY, Time};
use crate::ids::{ApplicationId, CredentialId};

/// How many redirect URIs an application has at most.
pub const MOST_REDIRECTS: usize = 64;
/// How many secrets and certificates an application has at most.
pub const MOST_CREDENTIALS: usize = 20;
/// Longest redirect URI.
pub const LONGEST_REDIRECT: usize = 1024;
/// Longest life of a secret, in milliseconds.
pub const LONGEST_SECRET: i64 = 730 * DAY;

/// The command line on other machines: the application that comes with the product. This is its id and its client id, on every instance.
pub const COMMAND_LINE: &str = "0a5d1c52-0002-4000-8000-000000000001";

words! {
    /// What kind of program is behind a redirect URI.
    Client {
        /// One that keeps no secret: desktop, mobile, command line.
        Native = "native",
        /// One that runs in a browser.
        SinglePage = "spa",
        /// One on a server.
        Web = "web",
    }
}

/// Where people may be sent back to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Redirect {
    /// Of what kind of program.
    pub client: Client,
    /// The address.
    pub uri: String,
}

impl Redirect {
    /// A redirect URI, held against the rules: absolute, without a fragment, `https` but for loopback, and for native programs a scheme of
    /// their own (RFC 8252, sections 7 and 8.4).
    ///
    /// # Errors
    /// [`Refusal::RedirectUriInvalid`].
    pub fn new(client: Client, uri: &str) -> Result<Self, Refusal> {
        let clean = uri.len() <= LONGEST_REDIRECT && uri.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>\\`#*".contains(&b));
        let (scheme, rest) = uri.split_once(':').ok_or(Refusal::RedirectUriInvalid)?;
        let formed = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        let allowed = match scheme {
            "https" => authority(rest).is_some_and(|place| host(place).is_some()),
            "http" => authority(rest).is_some_and(is_loopback),
            "javascript" | "data" | "vbscript" | "file" | "blob" | "about" => false,
            _ => client == Client::Native && !rest.is_empty() && authority(rest).is_none_or(|place| !place.contains('@')),
        };
        if clean && formed && allowed { Ok(Self { client, uri: uri.to_owned() }) } else { Err(Refusal::RedirectUriInvalid) }
    }

    /// Whether people who ask to be sent to `asked` are sent there: the same text, but that a native program on this machine chooses its port
    /// when it starts (RFC 8252, section 7.3).
    #[must_use]
    pub fn admits(&self, asked: &str) -> bool {
        if self.uri == asked {
            return true;
        }
        let loopback = |uri: &str| -> Option<(String, String)> {
            let rest = uri.strip_prefix("http:")?;
            let place = authority(rest).filter(|place| is_loopback(place))?;
            let path = rest.strip_prefix("//")?.strip_prefix(place)?;
            Some((host(place)?.to_owned(), if path.is_empty() { "/".to_owned() } else { path.to_owned() }))
        };
        self.client == Client::Native && loopback(&self.uri).is_some_and(|own| loopback(asked).is_some_and(|other| other == own))
    }
}

/// The host and port of what follows a scheme.
fn authority(rest: &str) -> Option<&str> {
    rest.strip_prefix("//")?.split(['/', '?']).next()
}

/// The host of an authority that is a host and perhaps a port, and nothing else: before an `@` would be a person's name, and behind it the
/// place that browsers go to.
fn host(place: &str) -> Option<&str> {
    let end = if place.starts_with('[') { place.find(']')? + 1 } else { place.find(':').unwrap_or(place.len()) };
    let (host, port) = place.split_at_checked(end)?;
    let letters = |inner: &str, more: &[u8]| !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
    let named = match host.strip_prefix('[') {
        Some(inner) => letters(inner.strip_suffix(']')?, b":."),
        None => letters(host, b"-._"),
    };
    let numbered = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
        None => port.is_empty(),
    };
    (named && numbered).then_some(host)
}

fn is_loopback(place: &str) -> bool {
    matches!(host(place), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// What an application proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Identifier.
    pub id: CredentialId,
    /// Name for people.
    pub display_name: String,
    /// The secret's hash or the certificate.
    pub proof: Proof,
    /// From when it is good.
    pub starts_at: Time,
    /// Until when.
    pub ends_at: Time,
}

impl Credential {
    /// Whether it is good now.
    #[must_use]
    pub fn is_good(&self, now: Time) -> bool {
        self.starts_at <= now && now < self.ends_at
    }
}

/// The kinds of proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A random text, of which the hash is kept, and the first letters, for people.
    Secret {
        /// SHA-256 of the text.
        sha256: Vec<u8>,
        /// Its first letters.
        hint: String,
    },
    /// A random text that opens provisioning (SCIM) and nothing else, of which the hash is kept, and the first letters, for people.
    Token {
        /// SHA-256 of the text.
        sha256: Vec<u8>,
        /// Its first letters.
        hint: String,
    },
    /// A certificate whose key signs assertions (RFC 7523).
    Certificate {
        /// DER.
        der: Vec<u8>,
        /// Its SHA-1, in lower-case hex: how clients name it (`x5t`).
        sha1: String,
        /// Its SHA-256, in lower-case hex (`x5t#S256`).
        sha256: String,
    },
}

/// What an application may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// In its own name.
    pub own: BTreeSet<Scope>,
    /// In a person's name; an administrator has consented for everybody.
    pub delegated: BTreeSet<Scope>,
}

/// An application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Identifier of the object.
    pub id: ApplicationId,
    /// What it calls itself in the protocols (`client_id`, `appId`).
    pub client_id: String,
    /// Name for people.
    pub display_name: String,
    /// Whether it may get tokens.
    pub enabled: bool,
    /// Whether it is a program that keeps no secret, and may sign people in by a code on another device.
    pub public: bool,
    /// Where people may be sent back to.
    pub redirects: Vec<Redirect>,
    /// Where people may be sent after signing out.
    pub logout_redirects: Vec<String>,
    /// Counts its changes.
    pub version: i64,
}

impl Application {
    /// Whether it came with the product: it can be disabled, and not changed or deleted.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.id.as_str() == COMMAND_LINE
    }
}

impl Grants {
    /// What an application that came with the product may do: in a person's name all that the person's roles allow, in its own nothing.
    #[must_use]
    pub fn built_in(application: &ApplicationId) -> Option<Self> {
        let delegated = || Scope::ALL.iter().copied().collect();
        (application.as_str() == COMMAND_LINE).then(|| Self { own: BTreeSet::new(), delegated: delegated() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_that_are_safe_are_taken_and_no_others() {
        for (client, uri) in [
            (Client::Web, "https://app.example/cb?x=1"),
            (Client::Web, "https://app.example?x=a@b"),
            (Client::Web, "https://app.example:8443/@me"),
            (Client::Web, "https://[2001:db8::1]:8443/cb"),
            (Client::Web, "http://[::1]?x=1"),
            (Client::SinglePage, "http://localhost:3000/cb"),
            (Client::Native, "http://127.0.0.1"),
            (Client::Native, "http://[::1]:80/"),
            (Client::Native, "msauth.com.example.app://auth"),
            (Client::Native, "urn:ietf:wg:oauth:2.0:oob"),
        ] {
            assert!(Redirect::new(client, uri).is_ok(), "{uri}");
        }
        for (client, uri) in [
            (Client::Web, ""),
            (Client::Web, "/cb"),
            (Client::Web, "http://app.example/cb"),
            (Client::Web, "https://app.example/cb#x"),
            (Client::Web, "https://*.example/cb"),
            (Client::Web, "https://user@app.example/"),
            (Client::Web, "https:///cb"),
            (Client::Web, "myapp://cb"),
            (Client::Native, "javascript:alert(1)"),
            (Client::Native, "data:text/html,x"),
            (Client::Native, "http://localhost.evil.example/"),
            (Client::Native, "http://127.0.0.1.evil.example/"),
            (Client::Native, "http://localhost@evil.example/"),
            (Client::Web, "http://localhost:pw@evil.example/cb"),
            (Client::Web, "http://localhost:80@evil.example/cb"),
            (Client::Web, "http://localhost:80:80/cb"),
            (Client::Web, "http://localhost:80a/cb"),
            (Client::Web, "http://localhost%40evil.example/cb"),
            (Client::Web, "http://localhost%2eevil.example/cb"),
            (Client::Web, "http://localhost;.evil.example/cb"),
            (Client::Web, "http://localhost&evil.example/cb"),
            (Client::Web, "http://[::1]@evil.example/cb"),
            (Client::Web, "http://[::1]:pw@evil.example/cb"),
            (Client::Web, "http://[::1].evil.example/"),
            (Client::Web, "http://[::1]evil.example/"),
            (Client::Web, "http://[::1/cb"),
            (Client::Web, "http://[::1]]:80/cb"),
            (Client::Web, "http://@localhost/cb"),
            (Client::Web, "https://:443/cb"),
            (Client::Web, "https://user:pw@app.example/"),
            (Client::Web, "https://app.example:pw@evil.example/"),
            (Client::Web, "https://app.example:443x/"),
            (Client::Web, "https://[::1].evil.example/"),
            (Client::Web, "https://[]/"),
            (Client::Native, "myapp://user@evil.example/"),
            (Client::Native, "myapp:"),
            (Client::Native, "my app://cb"),
        ] {
            assert_eq!(Redirect::new(client, uri).map_err(Refusal::code), Err("OAU0001"), "{uri}");
        }
    }

    #[test]
    fn only_the_port_of_a_native_program_on_this_machine_may_differ() {
        let admits = |client, own: &str, asked: &str| Redirect::new(client, own).unwrap().admits(asked);
        assert!(admits(Client::Native, "http://localhost", "http://localhost:51004"));
        assert!(admits(Client::Native, "http://localhost", "http://localhost:51004/"));
        assert!(admits(Client::Native, "http://127.0.0.1/cb", "http://127.0.0.1:8/cb"));
        assert!(!admits(Client::Native, "http://127.0.0.1/cb", "http://127.0.0.1:8/cb2"));
        assert!(!admits(Client::Native, "http://127.0.0.1/cb", "http://localhost:8/cb"));
        assert!(admits(Client::Native, "http://[::1]/cb", "http://[::1]:8/cb"));
        assert!(!admits(Client::Native, "http://localhost", "http://localhost:8@evil.example/"));
        assert!(!admits(Client::Native, "http://[::1]", "http://[::1]@evil.example/"));
        assert!(!admits(Client::Native, "http://[::1]", "http://[::1].evil.example/"));
        assert!(!admits(Client::Native, "http://localhost", "http://localhost.evil.example/"));
        assert!(!admits(Client::Native, "http://localhost", "https://localhost"));
        assert!(!admits(Client::Web, "http://localhost/cb", "http://localhost:8/cb"));
        assert!(!admits(Client::Web, "https://app.example/cb", "https://app.example/cb/x"));
        assert!(!admits(Client::Web, "https://app.example/cb", "https://app.example/CB"));
    }
}
