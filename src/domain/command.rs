//! An administrator's order to a device as a state machine.
//!
//! The orders as the store keeps them, moved by [`Command::step`], are the one queue of all platforms: whether an order may be given, is
//! with the device, was answered, has to be given again or is in the dark is said here only. A session of a Windows device
//! ([`super::dm_session`]) and the channel of an Apple device ([`super::apple::queue`]) are how orders get there and back: what is in
//! which message, beside what the server asks by itself.
//!
//! An order that only reads or sets may be sent again after a lost session. One that *does* something (wipe, reboot, unenrol) is sent
//! once: when its session dies before the device answered, nobody knows whether it ran, and it waits for a person as *uncertain*.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::profile::Scope;
use crate::clock::{MINUTE, Time};
use crate::ids::{CommandId, EnrollmentId};

/// How often an order is tried when the device answers "failed, for now".
pub const MAX_ATTEMPTS: i64 = 3;
/// The kind of the order to leave management.
pub const UNENROLL: &str = "unenroll";

words! {
    /// Where an order is.
    State {
        /// Waiting for the device's next contact.
        Queued = "queued",
        /// In a message to the device; no answer yet.
        Sent = "sent",
        /// The device did it.
        Done = "done",
        /// The device refused it for good.
        Failed = "failed",
        /// Sent once, never answered: it may or may not have run.
        Uncertain = "uncertain",
        /// Taken back before it was sent, or its enrolment ended.
        Cancelled = "cancelled",
    }
}

words! {
    /// What an order asks a node of the device to do.
    Verb {
        /// Create.
        Add = "add",
        /// Set.
        Replace = "replace",
        /// Remove.
        Delete = "delete",
        /// Read.
        Get = "get",
        /// Run.
        Exec = "exec",
    }
}

/// What an order makes the device do, in the words of its protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Operation {
    /// On a node of a Windows device.
    Node(NodeOperation),
    /// A request to an Apple device.
    Request(Request),
}

impl Operation {
    /// The keys of a request to an Apple device.
    #[must_use]
    pub fn keys(&self) -> Option<&Map<String, Value>> {
        match self {
            Self::Node(_) => None,
            Self::Request(request) => Some(&request.keys),
        }
    }

    /// The user of an Apple device who does it; `None`: the device itself.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Node(_) => None,
            Self::Request(request) => request.user.as_deref(),
        }
    }

    /// What is done, and to what, as people read it.
    #[must_use]
    pub fn says(&self) -> (&str, &str) {
        match self {
            Self::Node(node) => (node.verb.as_str(), &node.uri),
            Self::Request(request) => ("request", &request.request),
        }
    }
}

/// A request to an Apple device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Its type (`RestartDevice`).
    pub request: String,
    /// Its keys, as far as they are known when the order is given.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub keys: Map<String, Value>,
    /// The names of those that are too large to be read with each message of the device: they are kept apart until the order is sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub large: Vec<String>,
    /// Doing it twice does harm.
    pub once: bool,
    /// The user of the device who does it, by the key of their channel; `None`: the device itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl Request {
    /// The names of all keys.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.keys.keys().chain(&self.large).map(String::as_str).collect()
    }

    /// Takes the keys out that are longer than `most` bytes and have to be kept apart.
    pub fn set_apart(&mut self, most: usize) -> Map<String, Value> {
        let (large, small): (Map<_, _>, Map<_, _>) =
            std::mem::take(&mut self.keys).into_iter().partition(|(_, value)| value.to_string().len() > most);
        self.keys = small;
        self.large.extend(large.keys().cloned());
        large
    }
}

/// One node operation of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeOperation {
    /// What to do.
    pub verb: Verb,
    /// The node's address.
    pub uri: String,
    /// OMA-DM format word, when there is data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The data, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Identifier.
    pub id: CommandId,
    /// To whom.
    pub enrollment_id: EnrollmentId,
    /// What kind: the catalogue's command id (`reboot`), `unenroll`, or `custom`.
    pub kind: String,
    /// Which of the device's trees.
    pub scope: Scope,
    /// What the device is asked to do.
    pub operation: Operation,
    /// Where it is.
    pub state: State,
    /// How often it was sent and begun.
    pub attempts: i64,
    /// What the device said, as text: status and value or error.
    pub result: Option<String>,
    /// Not before this moment.
    pub not_before: Time,
    /// Who ordered it.
    pub created_by: String,
    /// Compare-and-set counter.
    pub version: i64,
}

/// What happens to an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// It goes into a message.
    Deliver,
    /// The device did it; its status and value.
    Answered(String),
    /// The device did not begin it (no user, busy, locked): no failure, however often, and however late it says so.
    NotNow {
        /// What it said.
        why: String,
        /// When to try again.
        until: Time,
    },
    /// The user of the device who is to do it is not there: they are woken again then, and find it due when they come before.
    Absent(Time),
    /// The device failed in a way that does not say whether it ran.
    Unclear(String),
    /// The device refused it.
    Refused(String),
    /// Its session died before an answer.
    SessionLost,
    /// Its session ended before it was put into a message.
    Unsent,
    /// An administrator, or the end of the enrolment, takes it back.
    Cancel,
}

impl Command {
    /// Whether it is that command of the catalogue: by its identifier, or as the Exec of its node (`uri`; empty: it has none) by hand.
    #[must_use]
    pub fn is_known_as(&self, id: &str, uri: &str) -> bool {
        let by_hand = |node: &NodeOperation| {
            node.verb == Verb::Exec && !uri.is_empty() && node.uri.to_ascii_lowercase().ends_with(&uri.to_ascii_lowercase())
        };
        self.kind == id || matches!(&self.operation, Operation::Node(node) if by_hand(node))
    }

    /// Whether sending it twice does no more than sending it once.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        // A device that comes back after it was told to leave has not left.
        let harmless = match &self.operation {
            Operation::Node(node) => node.verb != Verb::Exec,
            Operation::Request(request) => !request.once,
        };
        harmless || self.kind == UNENROLL
    }

    /// Whether it may be given to the device now.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.state == State::Queued && self.not_before <= now
    }

    /// Whether the device has it, or is to get it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Queued | State::Sent)
    }

    /// Whether nothing moves it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Failed | State::Cancelled)
    }

    /// Moves the order. `None` for an input that does not fit its state: a late or doubled answer, which changes nothing.
    #[must_use]
    pub fn step(mut self, input: Input, now: Time) -> Option<Self> {
        match (self.state, input) {
            (State::Queued, Input::Deliver) => {
                self.state = State::Sent;
                self.attempts += 1;
            }
            (State::Sent | State::Uncertain, Input::Answered(what)) => {
                self.state = State::Done;
                self.result = Some(what);
            }
            // It was sent before, and its session died: the answer is late, and counts.
            (State::Queued, Input::Answered(what)) if self.attempts > 0 => {
                self.state = State::Done;
                self.result = Some(what);
            }
            (State::Queued, Input::Refused(why)) if self.attempts > 0 => {
                self.state = State::Failed;
                self.result = Some(why);
            }
            // The same word once more is no news.
            (State::Uncertain, Input::Unclear(why)) if self.result.as_ref() == Some(&why) => return None,
            (State::Sent | State::Uncertain, Input::Unclear(why)) if !self.is_repeatable() => {
                self.state = State::Uncertain;
                self.result = Some(why);
            }
            (State::Sent | State::Uncertain, Input::NotNow { why, until }) => {
                self.state = State::Queued;
                self.attempts = self.attempts.saturating_sub(1);
                self.result = Some(why);
                self.not_before = until;
            }
            (State::Sent, Input::Unclear(why)) if self.attempts < MAX_ATTEMPTS || self.scope == Scope::User => {
                self.state = State::Queued;
                self.result = Some(why);
                // 2, 4, 8 … 64 minutes.
                self.not_before = now.plus(MINUTE << self.attempts.clamp(1, 6));
            }
            (State::Queued, Input::Absent(until)) => self.not_before = until,
            (State::Sent, Input::Unclear(why) | Input::Refused(why)) | (State::Uncertain, Input::Unclear(why) | Input::Refused(why)) => {
                self.state = State::Failed;
                self.result = Some(why);
            }
            (State::Sent, Input::SessionLost) if self.is_repeatable() => self.state = State::Queued,
            (State::Sent, Input::SessionLost) => {
                self.state = State::Uncertain;
                self.result = Some("the session ended before the device answered".into());
            }
            (State::Sent, Input::Unsent) => {
                self.state = State::Queued;
                self.attempts = self.attempts.saturating_sub(1);
            }
            (State::Queued | State::Sent | State::Uncertain, Input::Cancel) => self.state = State::Cancelled,
            (
                State::Queued,
                Input::Answered(_) | Input::NotNow { .. } | Input::Unclear(_) | Input::Refused(_) | Input::SessionLost | Input::Unsent,
            )
            | (State::Sent, Input::Deliver | Input::Absent(_))
            | (State::Uncertain, Input::Deliver | Input::Absent(_) | Input::SessionLost | Input::Unsent)
            | (
                State::Done | State::Failed | State::Cancelled,
                Input::Deliver
                | Input::Absent(_)
                | Input::Answered(_)
                | Input::NotNow { .. }
                | Input::Unclear(_)
                | Input::Refused(_)
                | Input::SessionLost
                | Input::Unsent
                | Input::Cancel,
            ) => return None,
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(verb: Verb, scope: Scope) -> Command {
        Command {
            id: CommandId::new(),
            enrollment_id: EnrollmentId::new(),
            kind: "custom".into(),
            scope,
            operation: Operation::Node(NodeOperation {
                verb,
                uri: "./Device/Vendor/MSFT/Reboot/RebootNow".into(),
                format: None,
                data: None,
            }),
            state: State::Queued,
            attempts: 0,
            result: None,
            not_before: Time(0),
            created_by: "test".into(),
            version: 1,
        }
    }

    #[test]
    fn an_exec_whose_session_died_is_never_sent_again_by_itself() {
        let sent = order(Verb::Exec, Scope::Device).step(Input::Deliver, Time(1)).unwrap();
        let lost = sent.step(Input::SessionLost, Time(2)).unwrap();
        assert_eq!(lost.state, State::Uncertain);
        assert!(lost.clone().step(Input::Deliver, Time(3)).is_none());
        let late = |input: Input| lost.clone().step(input, Time(3)).unwrap().state;
        assert_eq!(late(Input::Answered("200".into())), State::Done);
        assert_eq!(late(Input::Refused("500".into())), State::Failed);
        assert_eq!(late(Input::Unclear("500".into())), State::Uncertain);
        assert_eq!(late(not_now(3)), State::Queued, "it did not run");
    }

    fn not_now(until: i64) -> Input {
        Input::NotNow { why: "215".into(), until: Time(until) }
    }

    #[test]
    fn an_answer_to_an_order_that_waits_to_be_sent_again_counts_and_one_to_an_order_that_was_never_sent_does_not() {
        for answer in [Input::Answered("200".into()), Input::Refused("500".into())] {
            let waits = order(Verb::Replace, Scope::Device);
            assert!(waits.clone().step(answer.clone(), Time(1)).is_none());
            let lost = waits.step(Input::Deliver, Time(1)).unwrap().step(Input::SessionLost, Time(2)).unwrap();
            assert_eq!(lost.state, State::Queued);
            assert!(lost.step(answer, Time(3)).unwrap().is_over());
        }
    }

    #[test]
    fn an_exec_that_failed_in_the_dark_is_not_sent_again() {
        let sent = order(Verb::Exec, Scope::Device).step(Input::Deliver, Time(1)).unwrap();
        assert_eq!(sent.step(Input::Unclear("500".into()), Time(2)).unwrap().state, State::Uncertain);
    }

    #[test]
    fn a_replace_whose_session_died_waits_for_the_next() {
        let sent = order(Verb::Replace, Scope::Device).step(Input::Deliver, Time(1)).unwrap();
        assert_eq!(sent.step(Input::SessionLost, Time(2)).unwrap().state, State::Queued);
    }

    #[test]
    fn a_device_that_fails_three_times_is_left_alone() {
        let mut command = order(Verb::Replace, Scope::Device);
        for _ in 0..MAX_ATTEMPTS {
            command = command.step(Input::Deliver, Time(1)).unwrap().step(Input::Unclear("500".into()), Time(1)).unwrap();
        }
        assert_eq!(command.state, State::Failed);
    }

    #[test]
    fn an_order_that_the_device_did_not_begin_is_never_given_up_and_does_not_count() {
        for verb in [Verb::Replace, Verb::Exec] {
            let mut command = order(verb, Scope::Device);
            for at in 0..20 {
                command = command.step(Input::Deliver, Time(at)).unwrap().step(not_now(at + 15), Time(at)).unwrap();
            }
            assert_eq!((command.state, command.attempts, command.not_before), (State::Queued, 0, Time(34)));
        }
    }

    #[test]
    fn an_exec_that_was_not_put_into_a_message_waits_for_the_next_session() {
        let planned = order(Verb::Exec, Scope::Device).step(Input::Deliver, Time(1)).unwrap();
        let back = planned.step(Input::Unsent, Time(2)).unwrap();
        assert_eq!((back.state, back.attempts), (State::Queued, 0));
        assert!(back.step(Input::Unsent, Time(3)).is_none());
    }

    fn inputs() -> impl Strategy<Value = Input> {
        prop_oneof![
            Just(Input::Deliver),
            Just(Input::Answered("200".into())),
            Just(not_now(500)),
            Just(Input::Unclear("500".into())),
            Just(Input::Refused("403".into())),
            Just(Input::SessionLost),
            Just(Input::Unsent),
            Just(Input::Cancel),
        ]
    }

    proptest! {
        #[test]
        fn an_order_that_is_over_stays_over_and_an_exec_is_delivered_at_most_its_attempts(
            exec in any::<bool>(), steps in prop::collection::vec(inputs(), 0..60)
        ) {
            let mut command = order(if exec { Verb::Exec } else { Verb::Replace }, Scope::Device);
            let mut over = None;
            for (at, input) in steps.into_iter().enumerate() {
                let lost = input == Input::SessionLost && command.state == State::Sent;
                if let Some(next) = command.clone().step(input, Time(at as i64)) { command = next; }
                if let Some(state) = over { prop_assert_eq!(command.state, state); }
                if matches!(command.state, State::Done | State::Failed | State::Cancelled) { over = Some(command.state); }
                if lost && exec { prop_assert_eq!(command.state, State::Uncertain); }
                prop_assert!(!exec || command.attempts <= MAX_ATTEMPTS);
            }
        }
    }
}
