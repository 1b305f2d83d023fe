//! `DeviceConfigured`: Setup Assistant waits no longer, because everything is installed or the time for it is over.

use serde_json::json;

use super::super::turn::Turn;
use super::{Request, Subject};
use crate::clock::{MINUTE, Time};
use crate::domain::desired::{Note, Record, State};
use crate::wire::apple::command::Answer;

pub(in crate::service) struct DeviceConfigured;

impl Request for DeviceConfigured {
    fn name(&self) -> &'static str {
        "DeviceConfigured"
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _answer: &Answer) {
        let waited = turn.channel.awaiting_since.take().map(|since| turn.now.since(since) / 1000);
        let object = format!("enrollment:{}", turn.known.enrollment.id);
        let state = json!({ "seconds": waited, "complete": turn.is_installed() });
        turn.audit("enrollment.release", object, &state);
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, why: &str) {
        // A device that refuses does not wait.
        tracing::warn!(device = %turn.device.id, why, "the device is not let out of Setup Assistant");
        turn.channel.awaiting_since = None;
    }
}

impl Turn<'_> {
    /// When the device, or the user whose channel it is, is to be let out of Setup Assistant, if they wait there: once everything is
    /// installed, and in any case after a time.
    pub(in crate::service::apple) fn release_at(&self) -> Option<Time> {
        let since = self.channel.awaiting_since?;
        let longest = since.plus(i64::from(self.app.config.apple.automated.await_minutes).saturating_mul(MINUTE));
        Some(if self.is_installed() && !self.waits_for_administrator() { self.now } else { longest })
    }

    /// Whether the device has everything that it should have, but for what it does not take and what an administrator has to agree to.
    pub(super) fn is_installed(&self) -> bool {
        let open = |state: State| matches!(state, State::Assigned | State::Pending | State::Sent | State::Delivered | State::Removing);
        let held_up = |record: &Record| record.note == Some(Note::WaitsForApproval);
        self.device.os_version.is_some() && !self.records().any(|(_, record)| open(record.state) && !held_up(record))
    }
}
