//! What a device says of itself: reports, facts and alerts become rows.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::csp;
use super::super::plan;
use super::apply::{Turn, vars};
use crate::catalogue::Inventory;
use crate::domain::desired::{Input, Record, State};
use crate::domain::dm_session::{Notice, Outcome, Received, UNENROLLED, Verdict};
use crate::domain::fact::{self, Fact};
use crate::service::push::wns;

/// How many alerts of one message are kept that mean nothing to us, and how many characters of each of their parts.
const ALERTS: usize = 8;
const ALERT: usize = 256;

impl Turn<'_> {
    /// Values that the device sends by itself, in every first message.
    pub(super) fn take_reports(&mut self, received: &Received) {
        if received.reports.is_empty() {
            return;
        }
        self.report_hash = Some(super::report_hash(&received.reports));
        let info = received.dev_info().unwrap_or_default();
        for (name, value) in [
            ("dev-info.manufacturer", info.manufacturer),
            ("dev-info.model", info.model),
            ("dev-info.client-version", info.dm_version),
            ("dev-info.language", info.language),
        ] {
            if let Some(value) = value {
                self.report(name, Some(value), 200, "DevInfo", None);
            }
        }
    }

    /// Alerts that tell of an end: what waits for it is looked at in this session.
    pub(super) fn take_notices(&mut self, notices: &[Notice]) {
        let ended: BTreeSet<&str> = notices.iter().filter_map(|notice| notice.kind.as_deref()).collect();
        let waiting = |record: &Record| {
            let kind = record.memory.get("type").and_then(serde_json::Value::as_str);
            let alert = kind.and_then(csp::find).and_then(csp::Csp::alert);
            record.state == State::Delivered && alert.is_some_and(|alert| ended.contains(alert))
        };
        let until = self.now;
        self.apply_where(waiting, &Input::Deferred { until });
        self.note_alerts(notices);
    }

    /// Generic alerts (1226) that mean nothing to us are kept, a few of them and cut.
    fn note_alerts(&mut self, notices: &[Notice]) {
        let known = |kind: &str| kind.eq_ignore_ascii_case(UNENROLLED) || csp::has_alert(kind);
        let unknown = notices.iter().filter(|notice| notice.code == 1226 && !notice.kind.as_deref().is_some_and(known));
        for notice in unknown.take(ALERTS) {
            let cut = |text: &Option<String>| text.as_deref().map(|text| text.chars().take(ALERT).collect::<String>());
            let after =
                json!({ "type": cut(&notice.kind), "source": cut(&notice.source), "mark": cut(&notice.mark), "data": cut(&notice.data) });
            self.audit_device("device.alert", &after);
        }
    }

    pub(super) fn take_fact(&mut self, name: &str, outcome: &Outcome) {
        let Some(row) = self.catalogue.fact(name) else { return };
        // A device that stopped has not said anything about it.
        if outcome.verdict == Verdict::Deferred {
            return;
        }
        // A failure that may pass takes nothing back; it is asked again soon.
        let known = self.known.facts.get(name).filter(|fact| fact::outlives_failure(fact, row.every_hours, self.now));
        if let (Verdict::Retry, Some(known)) = (outcome.verdict, known) {
            let fact = Fact { next_at: Some(fact::next_read(0, self.now)), ..known.clone() };
            self.reported.insert(fact.name.clone(), fact);
            return;
        }
        let value = plan::value(outcome, 0).map(str::to_owned);
        if row.inventory == Some(Inventory::ChannelUri) && outcome.verdict != Verdict::Retry {
            self.take_channel(value.as_deref());
        }
        let status = plan::status(outcome);
        let source = row.locuri(&vars(self.app, &self.enrollment));
        let every_hours = if outcome.verdict == Verdict::Retry { 0 } else { row.every_hours };
        self.report(name, value, status, &source, Some(every_hours));
    }

    /// Where the device can be woken: only where Microsoft's push service is.
    fn take_channel(&mut self, uri: Option<&str>) {
        let channel = uri.map(str::trim).filter(|uri| !uri.is_empty());
        let accepted = channel.filter(|uri| wns::check_channel(&self.app.config, uri).is_ok());
        if channel.is_some() && accepted.is_none() {
            let refusal = crate::domain::Refusal::ChannelNotAllowed;
            self.audit_device("channel.refused", &json!({ "code": refusal.code() }));
        }
        self.enrollment.channel_uri = accepted.map(str::to_owned);
    }
}
