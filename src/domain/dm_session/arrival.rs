//! What to do with a message before it is read: a device that lost our answer sends the same bytes again.

use crate::clock::{HOUR, Time};
use crate::domain::Refusal;

/// How long an answer is given again to the same message, in milliseconds. Session ids repeat, and so may whole first messages: what comes
/// later than a device retries is another session.
const REPEAT: i64 = HOUR;

/// What the caller keeps of the last message that it processed for an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last<'l> {
    /// Its `SessionID`.
    pub session_id: &'l str,
    /// Its `MsgID`.
    pub msg_id: u32,
    /// SHA-256 of its body.
    pub body: &'l [u8],
    /// When it was answered.
    pub answered_at: Time,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Send the stored answer again and do nothing.
    Repeat,
    /// Abandon the session that may be stored and start a new one.
    Start,
    /// Go on with the stored session.
    Next,
    /// Answer with [`super::refuse`] and do nothing.
    Refuse(Refusal),
}

/// Compares a message with the last one of its enrolment. Session ids repeat over time, so a first message with another body, or with the
/// same an hour later, is always a new session.
#[must_use]
pub fn arrival(last: Option<&Last<'_>>, session_id: &str, msg_id: u32, body: &[u8], now: Time) -> Arrival {
    let Some(last) = last else {
        return if msg_id == 1 { Arrival::Start } else { Arrival::Refuse(Refusal::ManagementSessionUnknown) };
    };
    let same_session = last.session_id == session_id;
    if same_session && last.msg_id == msg_id && last.body == body {
        match (now.since(last.answered_at) <= REPEAT, msg_id) {
            (true, _) => Arrival::Repeat,
            (false, 1) => Arrival::Start,
            (false, _) => Arrival::Refuse(Refusal::ManagementSessionUnknown),
        }
    } else if msg_id == 1 {
        Arrival::Start
    } else if !same_session {
        Arrival::Refuse(Refusal::ManagementSessionUnknown)
    } else if last.msg_id.checked_add(1) == Some(msg_id) {
        Arrival::Next
    } else {
        Arrival::Refuse(Refusal::ManagementMessageOutOfOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_starts_and_gaps_are_told_apart() {
        let last = Last { session_id: "7", msg_id: 2, body: b"hash", answered_at: Time(0) };
        assert_eq!(arrival(None, "7", 1, b"hash", Time(5)), Arrival::Start);
        assert_eq!(arrival(None, "7", 2, b"hash", Time(5)), Arrival::Refuse(Refusal::ManagementSessionUnknown));
        assert_eq!(arrival(Some(&last), "7", 2, b"hash", Time(5)), Arrival::Repeat);
        assert_eq!(arrival(Some(&last), "7", 2, b"other", Time(5)), Arrival::Refuse(Refusal::ManagementMessageOutOfOrder));
        assert_eq!(arrival(Some(&last), "7", 3, b"other", Time(5)), Arrival::Next);
        assert_eq!(arrival(Some(&last), "7", 4, b"other", Time(5)), Arrival::Refuse(Refusal::ManagementMessageOutOfOrder));
        assert_eq!(arrival(Some(&last), "8", 3, b"other", Time(5)), Arrival::Refuse(Refusal::ManagementSessionUnknown));
        assert_eq!(arrival(Some(&last), "7", 1, b"other", Time(5)), Arrival::Start);
        assert_eq!(arrival(Some(&last), "8", 1, b"hash", Time(5)), Arrival::Start);
        let first = Last { msg_id: 1, ..last };
        assert_eq!(arrival(Some(&first), "7", 1, b"hash", Time(5)), Arrival::Repeat);
        assert_eq!(arrival(Some(&first), "7", 1, b"other", Time(5)), Arrival::Start);
    }
    #[test]
    fn a_repetition_is_one_for_an_hour() {
        let last = Last { session_id: "7", msg_id: 1, body: b"hash", answered_at: Time(0) };
        assert_eq!(arrival(Some(&last), "7", 1, b"hash", Time(REPEAT)), Arrival::Repeat);
        assert_eq!(arrival(Some(&last), "7", 1, b"hash", Time(REPEAT + 1)), Arrival::Start);
        let later = Last { msg_id: 3, ..last };
        assert_eq!(arrival(Some(&later), "7", 3, b"hash", Time(REPEAT)), Arrival::Repeat);
        let unknown = Arrival::Refuse(Refusal::ManagementSessionUnknown);
        assert_eq!(arrival(Some(&later), "7", 3, b"hash", Time(REPEAT + 1)), unknown);
    }
}
