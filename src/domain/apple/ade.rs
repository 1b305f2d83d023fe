//! The organisation's list of its own Apple devices, as Apple Business Manager keeps it: what is kept of it here, and how it is read.

use crate::clock::Time;
use crate::ids::AdeServerId;

/// This server as Apple Business Manager knows it. An organisation may have several, each with devices of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Identifier.
    pub id: AdeServerId,
    /// Name, ours.
    pub name: String,
    /// The private key that opens the next token, sealed.
    pub sealed_key: Vec<u8>,
    /// The certificate for which Apple encrypts it, DER.
    pub certificate: Vec<u8>,
    /// What the token gave.
    pub link: Option<Link>,
    /// How far the list was read.
    pub progress: Progress,
    /// The profile that devices are told, and the hash of what is in it.
    pub profile: Option<(String, String)>,
    /// When the list was last read to its end.
    pub synced_at: Option<Time>,
    /// Apple asked to be left alone until then.
    pub wait_until: Option<Time>,
    /// What an administrator has to see to, and since when.
    pub alarm: Option<(String, Time)>,
    /// When it was made.
    pub created_at: Time,
    /// The Apple Account that the token was downloaded with, as far as it was said.
    pub account: Option<String>,
}

/// The connection with Apple that a token gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The token, sealed.
    pub sealed_token: Vec<u8>,
    /// Its end.
    pub ends_at: Time,
    /// The last warning of its end that was given: that many days before it.
    pub warned_days: Option<i64>,
    /// The server as Apple names it; the same in every token for it.
    pub server_uuid: String,
    /// The organisation as Apple names it.
    pub organisation: String,
}

/// A device of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Serial number.
    pub serial: String,
    /// Model.
    pub model: Option<String>,
    /// More about it.
    pub description: Option<String>,
    /// Colour.
    pub color: Option<String>,
    /// The organisation's inventory number.
    pub asset_tag: Option<String>,
    /// Operating system, as Apple spells it.
    pub os: Option<String>,
    /// Family, such as `Mac`.
    pub family: Option<String>,
    /// `empty`, `assigned`, `pushed`, `removed`.
    pub profile_status: Option<String>,
    /// The profile that it is told.
    pub profile_uuid: Option<String>,
    /// Since when it belongs to this server.
    pub assigned_at: Option<Time>,
    /// Until when it has to enrol here, when it comes from another server.
    pub migration_deadline: Option<Time>,
}

/// What is read: the whole list, or what changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The whole list.
    Full,
    /// Changes.
    Changes,
}

/// How far the list was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is read.
    pub phase: Phase,
    /// Where the last answer ended.
    pub cursor: Option<String>,
    /// Which reading of the whole list this is: devices that the last whole one did not name are gone.
    pub generation: i64,
}

impl Default for Progress {
    fn default() -> Self {
        Self { phase: Phase::Full, cursor: None, generation: 1 }
    }
}

/// What Apple answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Devices, where the next answer begins, and whether it can be had at once.
    Page {
        /// The cursor.
        cursor: &'a str,
        /// More can be had.
        more: bool,
    },
    /// The list has been read to its end.
    Exhausted,
    /// The cursor is not good any more.
    Lost,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask again.
    Ask,
    /// All is read.
    Done,
}

impl Progress {
    /// Moves on by an answer. The middle says whether the whole list has been read to its end by it.
    #[must_use]
    pub fn step(self, heard: Heard<'_>) -> (Self, bool, Next) {
        let full = self.phase == Phase::Full;
        match heard {
            Heard::Page { cursor, more } => {
                // Apple is known to repeat a cursor and to promise more for ever.
                let stuck = self.cursor.as_deref() == Some(cursor) || cursor.is_empty();
                let over = !more || stuck;
                let cursor = if cursor.is_empty() { self.cursor } else { Some(cursor.to_owned()) };
                let phase = if over { Phase::Changes } else { self.phase };
                (Self { phase, cursor, ..self }, full && over, if over { Next::Done } else { Next::Ask })
            }
            Heard::Exhausted => (Self { phase: Phase::Changes, ..self }, full, if full { Next::Ask } else { Next::Done }),
            Heard::Lost => (Self { phase: Phase::Full, cursor: None, generation: self.generation.saturating_add(1) }, false, Next::Ask),
        }
    }
}

/// What became of a device that was to be told a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is.
    Done,
    /// It does not belong to this server.
    Gone,
    /// Not this time; the next reading tries again.
    Later,
}

impl Told {
    /// Of Apple's word.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "SUCCESS" => Self::Done,
            "NOT_ACCESSIBLE" => Self::Gone,
            _ => Self::Later,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(cursor: &str, more: bool) -> Heard<'_> {
        Heard::Page { cursor, more }
    }

    #[test]
    fn the_whole_list_is_read_and_then_its_changes() {
        let (progress, whole, next) = Progress::default().step(page("a", true));
        assert_eq!((progress.phase, whole, next), (Phase::Full, false, Next::Ask));
        let (progress, whole, next) = progress.step(page("b", false));
        assert_eq!((progress.phase, progress.cursor.as_deref(), whole, next), (Phase::Changes, Some("b"), true, Next::Done));
        let (progress, whole, next) = progress.step(page("c", true));
        assert_eq!((progress.cursor.as_deref(), whole, next), (Some("c"), false, Next::Ask));
        let (_, whole, next) = progress.step(page("d", false));
        assert_eq!((whole, next), (false, Next::Done));
    }

    #[test]
    fn a_list_that_is_exhausted_goes_on_with_changes_at_once() {
        let (progress, ..) = Progress::default().step(page("a", true));
        let (progress, whole, next) = progress.step(Heard::Exhausted);
        assert_eq!((progress.phase, progress.cursor.as_deref(), whole, next), (Phase::Changes, Some("a"), true, Next::Ask));
        assert_eq!(progress.step(Heard::Exhausted).2, Next::Done);
    }

    #[test]
    fn a_lost_cursor_begins_another_reading() {
        let lost = Progress { phase: Phase::Changes, cursor: Some("old".into()), generation: 3 };
        assert_eq!(lost.step(Heard::Lost), (Progress { phase: Phase::Full, cursor: None, generation: 4 }, false, Next::Ask));
    }

    #[test]
    fn a_cursor_that_repeats_or_is_missing_ends_the_reading() {
        let at = |cursor: &str| Progress { phase: Phase::Full, cursor: Some(cursor.into()), generation: 1 };
        for heard in [page("a", true), page("", true)] {
            let (progress, whole, next) = at("a").step(heard);
            assert_eq!((progress.cursor.as_deref(), whole, next), (Some("a"), true, Next::Done));
        }
    }

    #[test]
    fn words_about_devices_are_known() {
        for (word, told) in [("SUCCESS", Told::Done), ("NOT_ACCESSIBLE", Told::Gone), ("FAILED", Told::Later), ("THROTTLED", Told::Later)] {
            assert_eq!(Told::parse(word), told);
        }
    }
}
