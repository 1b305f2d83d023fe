//! One message of a device on its command channel: its answer moves records, orders and facts, what is due is put into the queue, the next
//! command is made, and one transaction stores all of it. If somebody else stored first, the message is looked at again.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use serde_json::Map;

use super::commands::device_configured::DeviceConfigured;
use super::commands::renew_identity::RenewIdentity;
use super::commands::{self, Body, Request as _, Subject, certificate_list, profile_list};
use super::declarations;
use crate::app::App;
use crate::clock::{DAY, HOUR, Time};
use crate::domain::apple::content;
use crate::domain::apple::queue::{Outcome, Planned, Received, Verdict};
use crate::domain::certificate::{Certificate, CertificateStatus};
use crate::domain::command::{Input as OrderInput, Operation, State as OrderState, UNENROLL};
use crate::domain::desired::{self, Input, Lack, State};
use crate::domain::enrollment::State as EnrollmentState;
use crate::domain::fact::{self, Cadence};
use crate::domain::work::Key;
use crate::ids::{CommandId, EnrollmentId};
use crate::service::device::{self, Leaving};
use crate::service::round::{Known, Round};
use crate::service::{Error, Result};
use crate::store::apple::channels::{self, Channel, DEVICE};
use crate::store::targets::{self, take_turn};
use crate::store::{certificates, enrollments};
use crate::wire::apple::command::{Answer, Command};

/// How long a command waits for a device that does not come, or never can.
const LONGEST: i64 = 60 * DAY;
/// How often a message is looked at again when another node was faster.
const TRIES: usize = 5;
/// How many commands that cannot be made are passed over in one message.
const PASSED: usize = 50;
/// How long a device has time to renew its identity until it is told to once more.
const RENEW_AGAIN: i64 = 4 * HOUR;

/// What is being done for one message of the device channel.
pub(in crate::service) struct Turn<'a> {
    round: Round<'a>,
    pub(super) channel: Channel,
    /// The certificate of the device's identity.
    identity: Option<Certificate>,
    /// The device left, or is erased.
    pub(super) left: bool,
    /// Its list of profiles has to be looked at.
    pub(super) look: bool,
    /// The declarations that it was told of.
    pub(super) told: Option<String>,
}

impl<'a> Deref for Turn<'a> {
    type Target = Round<'a>;

    fn deref(&self) -> &Self::Target {
        &self.round
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.round
    }
}

/// Does something again when somebody else stored first.
pub(super) async fn retried<T>(mut once: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        match once().await {
            Err(Error::Unavailable(_) | Error::Conflict(_)) => {}
            other => return other,
        }
    }
    once().await
}

/// Takes an answer of the device in and makes the next command; an empty body ends the exchange.
///
/// # Errors
/// Only the database's own.
pub async fn receive(app: &App, enrollment: &EnrollmentId, answer: &Answer, origin: &str) -> Result<Vec<u8>> {
    retried(async || {
        let Some(mut turn) = Turn::read(app, enrollment, origin).await? else { return Ok(Vec::new()) };
        turn.take(answer);
        if !turn.left {
            turn.plan();
        }
        let command = if turn.left { None } else { turn.next().await? };
        turn.commit().await?;
        Ok(command.map(|command| command.encode()).unwrap_or_default())
    })
    .await
}

/// What a device is told whose identity has run out: to renew it. Nothing else is given to it or taken from it.
///
/// # Errors
/// Only the database's own.
pub(super) async fn renew(app: &App, enrollment: &EnrollmentId, origin: &str) -> Result<Vec<u8>> {
    retried(async || {
        let Some(mut turn) = Turn::read(app, enrollment, origin).await? else { return Ok(Vec::new()) };
        if turn.renewal_at().is_none_or(|at| turn.now < at) {
            return Ok(Vec::new());
        }
        let Body::Keys(body) = RenewIdentity.body(&mut turn, Subject::Nothing).await? else { return Ok(Vec::new()) };
        turn.commit().await?;
        Ok(Command { uuid: new_uuid(), request_type: RenewIdentity.name().to_owned(), body }.encode())
    })
    .await
}

impl<'a> Turn<'a> {
    /// Reads the device; `None` when its channel does not exist (any more).
    pub(super) async fn read(app: &'a App, enrollment: &EnrollmentId, origin: &'a str) -> Result<Option<Self>> {
        let (id, sealer, now) = (enrollment.clone(), app.sealer(), app.now());
        let found = app.store.snapshot(move |conn| {
            let Some(channel) = channels::find_channel(conn, &id, DEVICE)? else { return Ok(None) };
            let known = Known::read(conn, &sealer, &id, now)?;
            let identity = known.enrollment.certificate_id.as_ref().map(|id| certificates::load_certificate(conn, id)).transpose()?;
            Ok(Some((channel, identity, known)))
        });
        let Some((channel, identity, known)) = found.await? else { return Ok(None) };
        if known.enrollment.state == EnrollmentState::Ended {
            return Ok(None);
        }
        Ok(Some(Self { round: Round::new(app, known, origin).await?, channel, identity, left: false, look: false, told: None }))
    }

    /// Takes the device's answer in.
    fn take(&mut self, answer: &Answer) {
        let queue = std::mem::take(&mut self.channel.queue);
        let (queue, received, lost) = queue.receive(answer.status, answer.command_uuid.as_deref());
        self.channel.queue = queue;
        self.channel.last_seen_at = Some(self.now);
        for outcome in lost {
            self.settle(&outcome, None);
        }
        match received {
            Received::Settled(outcome) => self.settle(&outcome, Some(answer)),
            Received::Deferred(key) => self.postpone(&key),
            Received::Idle => {
                let now = self.now;
                for outcome in self.channel.queue.expire(LONGEST, now) {
                    self.settle(&outcome, None);
                }
            }
            Received::Unknown => tracing::info!(device = %self.device.id, "an answer to no command that waits"),
        }
    }

    /// Which request a key stands for, and what it is about: the record, where there is one.
    fn request_of<'k>(&self, key: Key<'k>) -> Option<(&'static dyn commands::Request, &'k str)> {
        let (name, record) = match key {
            Key::Set(record) => ("InstallProfile", record),
            Key::Remove(record) => ("RemoveProfile", record),
            Key::Ask(request) => (request, ""),
            Key::Sync => ("DeclarativeManagement", ""),
            Key::Renew => return Some((&RenewIdentity, "")),
            Key::Release => return Some((&DeviceConfigured, "")),
            Key::Order(id) => match &self.order(&CommandId::parse(id)?)?.operation {
                Operation::Request(request) => return Some((commands::find(&request.request)?, "")),
                Operation::Node(_) => return None,
            },
            Key::Check(_) | Key::SetTogether(_) | Key::RemoveTogether(_) | Key::Part { .. } | Key::Fact(_) => return None,
        };
        Some((commands::find(name)?, record))
    }

    fn settle(&mut self, outcome: &Outcome, answer: Option<&Answer>) {
        let Some(key) = Key::parse(&outcome.key) else { return };
        let request = self.request_of(key);
        let why = match (outcome.verdict, answer) {
            (Verdict::Done, _) => "done".to_owned(),
            (_, Some(answer)) if !answer.errors.is_empty() => {
                answer.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ").chars().take(2000).collect()
            }
            (Verdict::Failed, _) => "the device refused".into(),
            (Verdict::Malformed, _) => "the device does not understand the command".into(),
            (Verdict::Uncertain, _) => "sent once and never answered".into(),
            (Verdict::Expired, _) => "waited too long".into(),
            (Verdict::Cancelled, _) => "taken back".into(),
        };
        if let Key::Order(id) = key
            && let Some(id) = CommandId::parse(id)
        {
            self.left |= outcome.verdict == Verdict::Done && self.order(&id).is_some_and(|order| order.kind == UNENROLL);
            self.move_order(
                &id,
                match outcome.verdict {
                    Verdict::Done => OrderInput::Answered(why.clone()),
                    Verdict::Uncertain => OrderInput::SessionLost,
                    Verdict::Failed if request.is_some_and(|(request, _)| request.may_have_run()) => OrderInput::Unclear(why.clone()),
                    Verdict::Cancelled => OrderInput::Cancel,
                    Verdict::Failed | Verdict::Malformed | Verdict::Expired => OrderInput::Refused(why.clone()),
                },
            );
        }
        match (request, outcome.verdict, answer) {
            (Some((request, record)), Verdict::Done, Some(answer)) => request.done(self, record, answer),
            (Some((request, record)), ..) => request.failed(self, record, &why),
            (None, ..) => {}
        }
    }

    fn postpone(&mut self, key: &str) {
        match Key::parse(key) {
            Some(Key::Set(record) | Key::Remove(record)) => {
                let until = self.now.plus(HOUR);
                self.apply(record, Input::Postponed { until });
            }
            Some(Key::Order(id)) => {
                if let Some(id) = CommandId::parse(id) {
                    self.move_order(&id, OrderInput::Postponed("not now".into()));
                }
            }
            Some(
                Key::Ask(_)
                | Key::Sync
                | Key::Renew
                | Key::Release
                | Key::Check(_)
                | Key::SetTogether(_)
                | Key::RemoveTogether(_)
                | Key::Part { .. }
                | Key::Fact(_),
            )
            | None => {}
        }
    }

    /// Puts what is due into the queue.
    pub(super) fn plan(&mut self) {
        self.withdraw();
        let mut due: Vec<Planned> = Vec::new();
        if self.renewal_at().is_some_and(|at| self.now >= at) {
            due.push(planned(Key::Renew, false));
        }
        self.plan_facts(&mut due);
        // What depends on the version waits for it.
        if self.device.os_version.is_some() {
            self.plan_items(&mut due);
        }
        self.plan_orders(&mut due);
        if self.release_at().is_some_and(|at| self.now >= at) {
            due.push(planned(Key::Release, false));
        }
        let now = self.now;
        // A key that waits already is left out.
        let _ = self.channel.queue.enqueue(due, now);
    }

    /// Takes back what was put in and is not wanted any more.
    fn withdraw(&mut self) {
        let stale: Vec<String> = self
            .channel
            .queue
            .pending()
            .filter(|key| match Key::parse(key) {
                Some(Key::Order(id)) => CommandId::parse(id).is_none_or(|id| self.order(&id).is_none()),
                Some(Key::Set(record)) => self.record(record).is_none_or(|(_, record)| record.state == State::Removing),
                Some(Key::Remove(record)) => self.record(record).is_none_or(|(_, record)| record.state != State::Removing),
                Some(Key::Ask(_) | Key::Sync) => false,
                Some(Key::Release) => self.channel.awaiting_since.is_none(),
                Some(Key::Renew) => self.renews_from().is_none_or(|from| self.now < from),
                Some(Key::Check(_) | Key::SetTogether(_) | Key::RemoveTogether(_) | Key::Part { .. } | Key::Fact(_)) | None => true,
            })
            .map(str::to_owned)
            .collect();
        for key in stale {
            let _ = self.channel.queue.withdraw(&key);
        }
    }

    /// When the identity ends.
    pub(super) fn identity_ends(&self) -> Option<Time> {
        self.identity.as_ref().map(|identity| identity.not_after)
    }

    /// From when on the identity is to be renewed: a time before its end, but not in the first third of its life, or one that an authority
    /// cuts short would be renewed again and again.
    fn renews_from(&self) -> Option<Time> {
        let identity = self.identity.as_ref().filter(|_| self.known.enrollment.state == EnrollmentState::Active)?;
        let before = identity.not_after.plus(-i64::from(self.app.config.apple.renewal_days).saturating_mul(DAY));
        let third = identity.not_after.since(identity.not_before).checked_div(3).unwrap_or(0);
        Some(before.max(identity.not_before.plus(third)))
    }

    /// When the device is to be told to renew its identity, for the first time or once more.
    fn renewal_at(&self) -> Option<Time> {
        let from = self.renews_from()?;
        Some(self.channel.renewal_asked_at.map_or(from, |at| from.max(at.plus(RENEW_AGAIN))))
    }

    fn plan_facts(&self, due: &mut Vec<Planned>) {
        let platform = self.device.platform.as_str();
        let mut known = self.known.facts.clone();
        known.extend(self.reported.clone());
        let rows: Vec<_> = self.catalogue.facts().filter(|row| row.is_of(platform)).collect();
        let cadences: Vec<Cadence<'_>> = rows.iter().map(|row| Cadence { name: &row.name, every_hours: row.every_hours }).collect();
        let names: BTreeSet<&str> = fact::due(&cadences, &known, self.now).into_iter().collect();
        let requests: BTreeSet<&str> = rows
            .iter()
            .filter(|row| names.contains(row.name.as_str()))
            .filter_map(|row| Some(row.asked.as_ref()?.request.as_str()))
            .collect();
        due.extend(requests.into_iter().map(|request| planned(Key::Ask(request), false)));
    }

    fn plan_items(&mut self, due: &mut Vec<Planned>) {
        let effective = self.effective.clone();
        let plan = desired::plan(&self.items, &effective, self.now);
        let mut look = std::mem::take(&mut self.look);
        for removal in &plan.remove {
            if removal.key.starts_with("declarations:") {
                continue;
            }
            if removal.record.memory.contains_key("identifier") {
                due.push(planned(Key::Remove(&removal.key), false));
            } else {
                self.apply(&removal.key, Input::Removed);
            }
        }
        for wanted in plan.set.iter().filter(|wanted| wanted.key.starts_with("profile:")) {
            due.push(planned(Key::Set(&wanted.key), false));
        }
        let mut sync = false;
        for wanted in &plan.check {
            if wanted.key.starts_with("profile:") {
                if self.renews(&wanted.key) {
                    due.push(planned(Key::Set(&wanted.key), false));
                } else {
                    look = true;
                }
            } else if wanted.record.state == State::Verified {
                // The device tells by itself when that changes.
                self.apply(&wanted.key, Input::Matches);
            } else {
                sync = true;
            }
        }
        if look {
            let keys: Vec<&String> = self.records().map(|(key, _)| key).collect();
            if keys.into_iter().any(|key| certificate_list::brings(self, key)) {
                due.push(planned(Key::Ask("CertificateList"), false));
            }
            due.push(planned(Key::Ask("ProfileList"), false));
        }
        if let Some(set) = declarations::set(self) {
            let token = set.token();
            if self.channel.ddm_token.as_deref() != Some(token.as_str()) {
                self.channel.ddm_token = Some(token);
                self.channel.ddm_changed_at = Some(self.now);
                sync = true;
            }
            let open = |record: &desired::Record| matches!(record.state, State::Pending | State::Sent | State::Removing);
            sync |= self.records().any(|(key, r)| key.starts_with("declarations:") && open(r) && r.due_at.is_some_and(|at| at <= self.now));
            if sync {
                due.push(planned(Key::Sync, false));
            }
        } else {
            let keys: Vec<String> = self.records().map(|(key, _)| key.clone()).filter(|key| key.starts_with("declarations:")).collect();
            for key in keys {
                self.apply(&key, Input::Lacks(Lack::Version));
            }
        }
    }

    /// Whether a profile has to be installed again because a certificate of it nears its end.
    fn renews(&mut self, key: &str) -> bool {
        let Some((profile, payloads)) = commands::install_profile::payloads(self, key) else { return false };
        let mut old = Vec::new();
        for payload in &payloads {
            let Some(percent) = content::renewal(payload) else { continue };
            let newest = self
                .known
                .certificates
                .iter()
                .find(|c| c.grant.profile_id.as_ref() == Some(&profile) && c.grant.payload.as_deref() == Some(payload.name.as_str()));
            if newest.is_some_and(|c| c.status == CertificateStatus::Active && self.now >= c.renews_from(percent)) {
                old.push(payload.name.clone());
            }
        }
        for payload in &old {
            profile_list::next_generation(self, key, payload);
        }
        !old.is_empty()
    }

    fn plan_orders(&self, due: &mut Vec<Planned>) {
        let open = self.known.orders.iter().filter_map(|order| self.order(&order.id));
        for order in open.filter(|order| order.state == OrderState::Queued && order.not_before <= self.now) {
            due.push(planned(Key::Order(order.id.as_str()), !order.is_repeatable()));
        }
    }

    /// The next command.
    async fn next(&mut self) -> Result<Option<Command>> {
        for _ in 0..PASSED {
            let (queue, next) = std::mem::take(&mut self.channel.queue).respond();
            self.channel.queue = queue;
            let Some(next) = next else { return Ok(None) };
            let Some(key) = Key::parse(&next.key) else { continue };
            match self.make(key).await? {
                Ok((request_type, body)) => return Ok(Some(Command { uuid: next.uuid, request_type, body })),
                Err(why) => {
                    tracing::info!(device = %self.device.id, key = next.key, why, "a command that is not made");
                    self.channel.queue.undelivered(&next.key);
                    let _ = self.channel.queue.withdraw(&next.key);
                    if let Key::Order(id) = key
                        && let Some(id) = CommandId::parse(id)
                    {
                        self.move_order(&id, OrderInput::Deliver);
                        self.move_order(&id, OrderInput::Refused(why));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn make(&mut self, key: Key<'_>) -> Result<std::result::Result<(String, crate::wire::plist::Dict), String>> {
        let Some((request, record)) = self.request_of(key) else { return Ok(Err("nothing stands behind it".into())) };
        let mut keys = Map::new();
        let order = match key {
            Key::Order(id) => CommandId::parse(id),
            _ => None,
        };
        if let Some(Operation::Request(request)) = order.as_ref().and_then(|id| self.order(id)).map(|order| &order.operation) {
            keys.clone_from(&request.keys);
        }
        let subject = match (&order, record) {
            (Some(_), _) => Subject::Order(&keys),
            (None, "") => Subject::Nothing,
            (None, record) => Subject::Record(record),
        };
        match request.body(self, subject).await? {
            Body::Keys(body) => {
                if let Some(id) = &order {
                    self.move_order(id, OrderInput::Deliver);
                }
                Ok(Ok((request.name().to_owned(), body)))
            }
            Body::Nothing(why) => Ok(Err(why)),
        }
    }

    /// Stores everything.
    pub(super) async fn commit(mut self) -> Result<()> {
        if self.told.is_some() {
            self.channel.ddm_token = self.told.take();
        }
        let own = [self.renewal_at(), self.release_at()];
        let (app, channel, left) = (self.round.app, self.channel, self.left);
        let changes = self.round.changes()?;
        let ring = app
            .store
            .write(move |tx| {
                let (id, now) = (&channel.enrollment_id, changes.now);
                if left {
                    take_turn(tx, targets::Turn::Device)?;
                }
                changes.check(tx)?;
                channels::claim_update(tx, &channel)?;
                let mut ring = changes.store(tx)?;
                // The row is taken before the next moment is worked out: what comes into being meanwhile waits and then puts it forward.
                enrollments::update_work_at(tx, id, Some(now))?;
                if channel.queue.is_empty() {
                    let next = [changes.next_work(tx)?].into_iter().chain(own).flatten().min();
                    enrollments::update_work_at(tx, id, next)?;
                }
                changes.record(tx)?;
                if left {
                    ring |= device::left_in(tx, id, Leaving::ByOrder, None, changes.rules, &changes.origin, now)?;
                    channels::abandon(tx, id)?;
                }
                Ok(ring)
            })
            .await?;
        if ring {
            app.outbox.notify_waiters();
        }
        Ok(())
    }
}

fn planned(key: Key<'_>, once: bool) -> Planned {
    Planned { key: key.to_string(), uuid: new_uuid(), once }
}

fn new_uuid() -> String {
    uuid::Uuid::now_v7().to_string().to_ascii_uppercase()
}
