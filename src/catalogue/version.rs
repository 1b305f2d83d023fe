//! Windows versions, and which builds have a node.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// A Windows version, `10.0.<build>.<revision>`; missing parts are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OsVersion {
    /// 10 for Windows 10 and 11.
    pub major: u32,
    /// 0 for Windows 10 and 11.
    pub minor: u32,
    /// The build: which release.
    pub build: u32,
    /// The revision: which monthly update of it.
    pub revision: u32,
}

impl OsVersion {
    /// Reads up to four numbers with dots between them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = [0u32; 4];
        let mut given = text.trim().split('.');
        for part in &mut parts {
            match given.next() {
                Some(number) if number.bytes().all(|b| b.is_ascii_digit()) => *part = number.parse().ok()?,
                Some(_) => return None,
                None => break,
            }
        }
        let [major, minor, build, revision] = parts;
        given.next().is_none().then_some(Self { major, minor, build, revision })
    }

    /// The build whose monthly updates this one shares: releases that are switched on by a small package on top of an older one count
    /// their revisions together with it.
    fn branch(self) -> u32 {
        match self.build {
            19041..=19045 => 19041,
            22621 | 22631 => 22621,
            26100 | 26200 => 26100,
            other => other,
        }
    }

    /// Whether this version has what `since` says: the list names the first version of each branch that has it; branches in between and
    /// after are taken to have it.
    #[must_use]
    pub fn has(self, since: &[Self]) -> bool {
        if since.is_empty() {
            return true;
        }
        let near = since.iter().filter(|first| first.major == self.major && first.build <= self.build).max();
        near.is_some_and(|first| first.branch() != self.branch() || first.revision <= self.revision)
    }
}

impl fmt::Display for OsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.major, self.minor, self.build, self.revision)
    }
}

impl<'de> Deserialize<'de> for OsVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text} is not a version")))
    }
}
