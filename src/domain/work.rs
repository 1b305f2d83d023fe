//! The names of pieces of work on their way to a device and back: what a key says is known without a look at anything else.

/// What a key stands for. On Windows settings, custom nodes and payloads are worked on one by one; on Apple devices whole profiles are,
/// and facts of one request are asked together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// `set|<record>`: give it to the device.
    Set(&'a str),
    /// `check|<record>`: read it back.
    Check(&'a str),
    /// `remove|<record>`: take it away.
    Remove(&'a str),
    /// `set-together|<record> <record>`: give all of them to the device, or none.
    SetTogether(&'a str),
    /// `remove-together|<record> <record>`: take all of them away, or none.
    RemoveTogether(&'a str),
    /// `part|<phase>|<record>`: a step of a payload with behaviour of its own.
    Part {
        /// The provider's name for the step.
        phase: &'a str,
        /// The record.
        record: &'a str,
    },
    /// `fact|<name>`: read a fact.
    Fact(&'a str),
    /// `ask|<request type>`: an inventory request of Apple devices.
    Ask(&'a str),
    /// `order|<command id>`: an administrator's order.
    Order(&'a str),
    /// `renew|identity`: give the device another identity.
    Renew,
    /// `release|setup`: let the device out of Setup Assistant.
    Release,
    /// `sync|declarations`: have the device look at its declarations.
    Sync,
}

const SYNC: &str = "declarations";
const RENEW: &str = "identity";
const RELEASE: &str = "setup";

impl<'a> Key<'a> {
    /// Reads a key back.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (kind, rest) = text.split_once('|')?;
        match kind {
            "set" => Some(Self::Set(rest)),
            "check" => Some(Self::Check(rest)),
            "remove" => Some(Self::Remove(rest)),
            "set-together" => Some(Self::SetTogether(rest)),
            "remove-together" => Some(Self::RemoveTogether(rest)),
            "part" => rest.split_once('|').map(|(phase, record)| Self::Part { phase, record }),
            "fact" => Some(Self::Fact(rest)),
            "ask" => Some(Self::Ask(rest)),
            "order" => Some(Self::Order(rest)),
            "renew" => (rest == RENEW).then_some(Self::Renew),
            "release" => (rest == RELEASE).then_some(Self::Release),
            "sync" => (rest == SYNC).then_some(Self::Sync),
            _ => None,
        }
    }

    /// The records that it is about, in the order of the operations.
    pub fn records(self) -> impl Iterator<Item = &'a str> {
        let (one, several) = match self {
            Self::Set(record) | Self::Check(record) | Self::Remove(record) | Self::Part { record, .. } => (Some(record), ""),
            // The names of settings have no spaces.
            Self::SetTogether(records) | Self::RemoveTogether(records) => (None, records),
            Self::Fact(_) | Self::Ask(_) | Self::Order(_) | Self::Renew | Self::Release | Self::Sync => (None, ""),
        };
        one.into_iter().chain(several.split_terminator(' '))
    }
}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set(record) => write!(f, "set|{record}"),
            Self::Check(record) => write!(f, "check|{record}"),
            Self::Remove(record) => write!(f, "remove|{record}"),
            Self::SetTogether(records) => write!(f, "set-together|{records}"),
            Self::RemoveTogether(records) => write!(f, "remove-together|{records}"),
            Self::Part { phase, record } => write!(f, "part|{phase}|{record}"),
            Self::Fact(name) => write!(f, "fact|{name}"),
            Self::Ask(request) => write!(f, "ask|{request}"),
            Self::Order(id) => write!(f, "order|{id}"),
            Self::Renew => write!(f, "renew|{RENEW}"),
            Self::Release => write!(f, "release|{RELEASE}"),
            Self::Sync => write!(f, "sync|{SYNC}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        for key in [
            Key::Set("setting:passport-for-work.use@device"),
            Key::Check("custom:./Device/Vendor/MSFT/X|Y"),
            Key::Remove("a"),
            Key::SetTogether("setting:a@device setting:b@device"),
            Key::RemoveTogether("setting:a@device"),
            Key::Part { phase: "enroll", record: "payload:p/n" },
            Key::Fact("bitlocker.status"),
            Key::Ask("SecurityInfo"),
            Key::Order("018f"),
            Key::Renew,
            Key::Release,
            Key::Sync,
        ] {
            assert_eq!(Key::parse(&key.to_string()), Some(key));
        }
        assert_eq!(Key::SetTogether("a b").records().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(Key::Check("custom:./Device/Vendor/MSFT/X Y").records().collect::<Vec<_>>(), ["custom:./Device/Vendor/MSFT/X Y"]);
        assert_eq!(Key::Sync.records().count(), 0);
        assert_eq!(Key::parse("nonsense"), None);
        assert_eq!(Key::parse("sync|nonsense"), None);
    }
}
