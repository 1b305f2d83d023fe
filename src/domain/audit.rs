//! Audit rows and their hash chain: each row's hash covers the row and the hash before it, so that a row cannot be altered, removed or
//! moved without breaking every hash after it.

use openssl::sha::sha256;

use crate::clock::Time;

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
}
