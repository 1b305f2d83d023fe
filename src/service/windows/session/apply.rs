//! One message's work: answers move records, orders and facts; what is due is planned; all of it is stored in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::super::csp::{self, Effect, Part};
use super::super::plan;
use super::commit::Slot;
use super::load::Loaded;
use super::{kept, manners};
use crate::app::App;
use crate::catalogue::{Catalogue, Inventory, Vars, catalogue};
use crate::clock::Time;
use crate::domain::audit::Entry;
use crate::domain::command::{Command, Input as OrderInput, State as OrderState, UNENROLL};
use crate::domain::desired::{self, Candidate, Content, Effective, Input, Item, Record, State, Timing};
use crate::domain::device::Device;
use crate::domain::dm_session::{Notice, Outcome, Phase, Planned, Received, Session, Verdict};
use crate::domain::enrollment;
use crate::domain::fact::{self, Fact};
use crate::domain::work::Key;
use crate::ids::{CommandId, ProfileId};
use crate::service::Result;
use crate::service::push::wns;

/// What is being done for one message.
pub(super) struct Turn<'a> {
    pub(super) app: &'a App,
    pub(super) origin: &'a str,
    pub(super) now: Time,
    pub(super) timing: Timing,
    pub(super) catalogue: &'static Catalogue,
    pub(super) loaded: Loaded,
    pub(super) before: enrollment::Enrollment,
    pub(super) items: Vec<Item>,
    pub(super) effective: Effective,
    pub(super) device: Device,
    pub(super) reported: BTreeMap<String, Fact>,
    pub(super) moved_orders: BTreeMap<CommandId, Command>,
    pub(super) effects: Vec<Effect>,
    pub(super) entries: Vec<Entry>,
    pub(super) followups: Vec<Planned>,
    pub(super) report_hash: Option<String>,
    /// The device obeyed the order to leave.
    pub(super) left: bool,
    /// Whether the session takes commands for the machine, and for the user.
    pub(super) takes: (bool, bool),
}

impl<'a> Turn<'a> {
    pub(super) fn new(app: &'a App, loaded: Loaded, origin: &'a str) -> Self {
        let now = app.now();
        let catalogue = catalogue();
        let timing = Timing::hours(app.config.windows.drift_hours);
        let candidates: Vec<Candidate<'_>> = loaded
            .items
            .iter()
            .filter_map(|l| Some(Candidate { profile: &l.item.profile_id, kind: l.item.kind, document: l.desired.as_ref()? }))
            .collect();
        let effective = desired::effective(&candidates, loaded.device.platform, catalogue);
        let mut items: Vec<Item> = loaded.items.iter().map(|l| l.item.clone()).collect();
        desired::reconcile(&mut items, &effective, timing, now);
        Self {
            app,
            origin,
            now,
            timing,
            catalogue,
            items,
            effective,
            device: loaded.device.clone(),
            reported: BTreeMap::new(),
            moved_orders: BTreeMap::new(),
            effects: Vec::new(),
            entries: Vec::new(),
            followups: Vec::new(),
            report_hash: None,
            left: false,
            takes: (true, false),
            before: loaded.enrollment.clone(),
            loaded,
        }
    }

    /// Takes in what the message brought, plans, answers and stores.
    pub(super) async fn run(mut self, mut session: Session, lost: Option<Session>, received: Received, mut slot: Slot) -> Result<Vec<u8>> {
        let first = slot.first;
        if first {
            self.lose(lost);
        }
        self.take_reports(&received);
        self.take_notices(&received.notices);
        for outcome in received.outcomes {
            self.take(&outcome)?;
        }
        if !received.aborted && !self.left && !received.keep_alive && session.phase() == Phase::Managing {
            self.plan(&mut session, first).await?;
        }
        let (mut session, answer, failed) = session.respond(&manners(self.app));
        for outcome in failed {
            self.take(&outcome)?;
        }
        if session.is_over() {
            // What the device would not take in this session waits for the next.
            let left = session.clone().abandon();
            for work in left.unsent.iter().chain(&left.resend).chain(&left.uncertain) {
                self.lost_work(&work.key);
            }
        }
        let (answer, sealer) = (answer.encode(), self.app.sealer());
        slot.keep_piece(&sealer, &mut session)?;
        let over = session.is_over();
        let goes_on = (!over).then(|| kept::Kept::Open(Box::new(session)));
        slot.stored = kept::seal(&sealer, slot.stored, goes_on.as_ref(), &answer)?;
        self.commit(over, slot).await?;
        Ok(answer)
    }

    /// The session before this one died: what it had sent is looked at again, and what runs something is not repeated blindly.
    fn lose(&mut self, lost: Option<Session>) {
        let mut keys = BTreeSet::new();
        if let Some(session) = lost {
            let left = session.abandon();
            for work in left.uncertain.iter().chain(&left.resend).chain(&left.unsent) {
                keys.insert(work.key.clone());
            }
        }
        for key in keys {
            self.lost_work(&key);
        }
        // Whatever still says "sent" has no session that could answer it.
        let sent: Vec<String> = self
            .items
            .iter()
            .flat_map(|item| &item.detail.records)
            .filter(|(_, record)| record.state == State::Sent)
            .map(|(key, _)| key.clone())
            .collect();
        for key in sent {
            desired::apply(&mut self.items, &key, Input::Lost, self.timing, self.now);
        }
        let orders: Vec<CommandId> = self.loaded.orders.iter().filter(|o| o.state == OrderState::Sent).map(|o| o.id.clone()).collect();
        for id in orders {
            self.move_order(&id, OrderInput::SessionLost);
        }
    }

    fn lost_work(&mut self, key: &str) {
        match Key::parse(key) {
            Some(Key::Set(record) | Key::Check(record) | Key::Remove(record) | Key::Part { record, .. }) => {
                desired::apply(&mut self.items, record, Input::Lost, self.timing, self.now);
            }
            Some(Key::Order(id)) => {
                if let Some(id) = CommandId::parse(id) {
                    self.move_order(&id, OrderInput::SessionLost);
                }
            }
            Some(Key::Fact(_) | Key::Ask(_) | Key::Sync) | None => {}
        }
    }

    pub(super) fn order(&self, id: &CommandId) -> Option<&Command> {
        self.moved_orders.get(id).or_else(|| self.loaded.orders.iter().find(|order| order.id == *id))
    }

    pub(super) fn move_order(&mut self, id: &CommandId, input: OrderInput) {
        let Some(order) = self.order(id).cloned() else { return };
        if let Some(next) = order.step(input, self.now) {
            if matches!(next.state, OrderState::Done | OrderState::Failed | OrderState::Uncertain) {
                self.entries.push(
                    Entry::new(format!("device:{}", self.device.id), "command.ended", format!("command:{id}"), self.origin)
                        .after(&json!({ "kind": next.kind, "state": next.state, "status": status_of(&next) })),
                );
            }
            self.moved_orders.insert(id.clone(), next);
        }
    }

    /// Values that the device sends by itself, in every first message.
    fn take_reports(&mut self, received: &Received) {
        if received.reports.is_empty() {
            return;
        }
        self.report_hash = Some(super::report_hash(&received.reports));
        let info = received.dev_info().unwrap_or_default();
        for (name, value) in [
            ("dev-info.manufacturer", info.manufacturer),
            ("dev-info.model", info.model),
            ("dev-info.dm-version", info.dm_version),
            ("dev-info.language", info.language),
        ] {
            if let Some(value) = value {
                self.report(name, Some(value), 200, "DevInfo", None);
            }
        }
    }

    /// Alerts that tell of an end: what waits for it is looked at in this session.
    fn take_notices(&mut self, notices: &[Notice]) {
        let ended: BTreeSet<&str> = notices.iter().filter_map(|notice| notice.kind.as_deref()).collect();
        let waiting = |record: &Record| {
            let kind = record.memory.get("type").and_then(serde_json::Value::as_str);
            let alert = kind.and_then(csp::find).and_then(csp::Csp::alert);
            record.state == State::Delivered && alert.is_some_and(|alert| ended.contains(alert))
        };
        let keys: Vec<String> = self
            .items
            .iter()
            .flat_map(|item| &item.detail.records)
            .filter(|(_, record)| waiting(record))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.apply(&key, Input::Deferred { until: self.now });
        }
    }

    fn report(&mut self, name: &str, value: Option<String>, status: i64, source: &str, every_hours: Option<u32>) {
        let next_at = every_hours.map(|hours| fact::next_read(hours, self.now));
        let inventory = self.catalogue.fact(name).and_then(|row| row.inventory);
        if let (Some(inventory), Some(value)) = (inventory, &value) {
            self.inventory(inventory, value);
        }
        let fact = Fact { name: name.to_owned(), value, status, source: source.to_owned(), observed_at: self.now, next_at };
        self.reported.insert(fact.name.clone(), fact);
    }

    fn inventory(&mut self, column: Inventory, value: &str) {
        let text = value.trim();
        if text.is_empty() {
            return;
        }
        let text = text.chars().take(256).collect::<String>();
        match column {
            Inventory::DisplayName => self.device.display_name = text,
            Inventory::SerialNumber => self.device.serial_number = Some(text),
            Inventory::Manufacturer => self.device.manufacturer = Some(text),
            Inventory::Model => self.device.model = Some(text),
            Inventory::OsVersion => self.device.os_version = Some(text),
            Inventory::OsEdition => self.device.os_edition = Some(text),
            Inventory::EntraDeviceId => self.device.entra_device_id = Some(text),
            // Known from the enrolment, which finds the device by it.
            Inventory::HardwareId | Inventory::ChannelUri => {}
        }
    }

    /// Moves whatever the answer is about.
    pub(super) fn take(&mut self, outcome: &Outcome) -> Result<()> {
        match Key::parse(&outcome.key) {
            Some(Key::Set(record)) => self.apply(record, plan::input(outcome.verdict, outcome, self.now)),
            Some(Key::Check(record)) => self.take_check(record, outcome),
            Some(Key::Remove(record)) => {
                let input = match outcome.verdict {
                    Verdict::Done => Input::Removed,
                    verdict => plan::input(verdict, outcome, self.now),
                };
                self.apply(record, input);
            }
            Some(Key::Part { phase, record }) => self.take_part(phase, record, outcome)?,
            Some(Key::Fact(name)) => self.take_fact(name, outcome),
            Some(Key::Order(id)) => self.take_order(id, outcome),
            Some(Key::Ask(_) | Key::Sync) | None => tracing::warn!(key = outcome.key, "an outcome without a place"),
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, record: &str, input: Input) {
        desired::apply(&mut self.items, record, input, self.timing, self.now);
    }

    pub(super) fn record(&self, key: &str) -> Option<(&ProfileId, &Record)> {
        let holders = self.items.iter().filter_map(|item| Some((&item.profile_id, item.detail.records.get(key)?)));
        holders.into_iter().find(|(_, record)| record.winner.is_none())
    }

    fn take_check(&mut self, key: &str, outcome: &Outcome) {
        let Some(winner) = self.effective.winners.get(key) else { return };
        let input = match outcome.verdict {
            Verdict::Done => {
                let found = plan::value(outcome, 0);
                if plan::holds(winner, self.catalogue, found) {
                    Input::Matches
                } else {
                    if self.record(key).is_some_and(|(_, record)| record.state == State::Verified) {
                        let wanted = plan::shown(&winner.content, self.catalogue);
                        self.entries.push(
                            Entry::new(
                                format!("device:{}", self.device.id),
                                "setting.drift",
                                format!("device:{}", self.device.id),
                                self.origin,
                            )
                            .after(&json!({ "setting": key, "wanted": wanted })),
                        );
                    }
                    Input::Differs { found: found.map(str::to_owned) }
                }
            }
            // A node that may be written but not read cannot be verified: the device's word has to do.
            Verdict::Failed if plan::status(outcome) == 405 => Input::Matches,
            verdict => plan::input(verdict, outcome, self.now),
        };
        self.apply(key, input);
    }

    fn take_part(&mut self, phase: &str, key: &str, outcome: &Outcome) -> Result<()> {
        let Some((profile, record)) = self.record(key).map(|(profile, record)| (profile.clone(), record.clone())) else { return Ok(()) };
        let Some(kind) = self.kind_of(key, &record) else { return Ok(()) };
        let Some(csp) = csp::find(&kind) else { return Ok(()) };
        let payload = self.payload(key);
        let part = Part { profile: &profile, name: part_name(key), payload: payload.as_ref(), record: &record };
        let turn = csp.answered(&self.context(), &part, phase, outcome)?;
        self.turn(key, &kind, turn);
        Ok(())
    }

    pub(super) fn context(&self) -> csp::Context<'_> {
        csp::Context {
            app: self.app,
            now: self.now,
            device: &self.device,
            enrollment: &self.loaded.enrollment,
            user: self.loaded.user.as_ref(),
            certificates: &self.loaded.certificates,
            takes_device: self.takes.0,
            takes_user: self.takes.1,
            authority: &self.loaded.authority,
        }
    }

    pub(super) fn payload(&self, key: &str) -> Option<crate::domain::profile::Payload> {
        match &self.effective.winners.get(key)?.content {
            Content::Payload(payload) => Some(payload.clone()),
            Content::Setting { .. } | Content::Custom(_) | Content::Profile(_) | Content::Declarations(_) => None,
        }
    }

    /// Which provider serves a part: of one that is not wanted any more only the record knows.
    pub(super) fn kind_of(&self, key: &str, record: &Record) -> Option<String> {
        self.payload(key).map(|payload| payload.kind).or_else(|| record.memory.get("type")?.as_str().map(str::to_owned))
    }

    /// Does what a provider wants.
    pub(super) fn turn(&mut self, key: &str, kind: &str, turn: csp::Turn) {
        if let Some(mut memory) = turn.memory {
            memory.insert("type".into(), kind.into());
            for item in &mut self.items {
                if let Some(record) = item.detail.records.get_mut(key).filter(|record| record.winner.is_none()) {
                    record.memory = memory;
                    break;
                }
            }
        }
        for input in turn.inputs {
            self.apply(key, input);
        }
        self.effects.extend(turn.effects);
        for step in turn.steps {
            let work = plan::work(Key::Part { phase: step.phase, record: key }, step.ops);
            self.followups.push(Planned { atomic: step.atomic, ..work });
        }
    }

    fn take_fact(&mut self, name: &str, outcome: &Outcome) {
        let Some(row) = self.catalogue.fact(name) else { return };
        // A device that stopped has not said anything about it.
        if outcome.verdict == Verdict::Deferred {
            return;
        }
        let value = plan::value(outcome, 0).map(str::to_owned);
        if row.inventory == Some(Inventory::ChannelUri) {
            self.take_channel(value.as_deref());
        }
        let status = plan::status(outcome);
        let source = row.locuri(&vars(self.app));
        self.report(name, value, status, &source, Some(row.every_hours));
    }

    /// Where the device can be woken: only where Microsoft's push service is.
    fn take_channel(&mut self, uri: Option<&str>) {
        let channel = uri.map(str::trim).filter(|uri| !uri.is_empty());
        let accepted = channel.filter(|uri| wns::check_channel(&self.app.config, uri).is_ok());
        if channel.is_some() && accepted.is_none() {
            let refusal = crate::domain::Refusal::ChannelNotAllowed;
            self.entries.push(
                Entry::new(format!("device:{}", self.device.id), "channel.refused", format!("device:{}", self.device.id), self.origin)
                    .after(&json!({ "code": refusal.code() })),
            );
        }
        self.loaded.enrollment.channel_uri = accepted.map(str::to_owned);
    }

    fn take_order(&mut self, id: &str, outcome: &Outcome) {
        let Some(id) = CommandId::parse(id) else { return };
        let status = plan::status(outcome);
        let said = match (plan::value(outcome, 0), outcome.culprit.and_then(|at| outcome.ops.get(at)?.original_error.as_deref())) {
            (Some(value), _) => format!("{status} {}", value.chars().take(4000).collect::<String>()),
            (None, Some(error)) => format!("{status} {error}"),
            (None, None) => status.to_string(),
        };
        let input = match outcome.verdict {
            Verdict::Done => OrderInput::Answered(said),
            Verdict::Deferred => OrderInput::NotNow(said),
            Verdict::Retry => OrderInput::Unclear(said),
            Verdict::NotApplicable | Verdict::Failed => OrderInput::Refused(said),
        };
        self.left |= matches!(input, OrderInput::Answered(_)) && self.order(&id).is_some_and(|order| order.kind == UNENROLL);
        self.move_order(&id, input);
    }
}

pub(super) fn vars(app: &App) -> Vars<'_> {
    Vars { tenant: app.tenant.as_str(), provider: &app.config.windows.provider_id }
}

/// The status code in what the device said; the value that may follow it is nobody's but the administrator's who asked.
fn status_of(order: &Command) -> Option<u16> {
    order.result.as_deref()?.split(' ').next()?.parse().ok()
}

/// The payload's name in its profile: what follows the profile's id in the key.
pub(super) fn part_name(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, name)| name)
}
