//! One message of a device on its command channel: its answer moves records, orders and facts, what is due is put into the queue, the next
//! command is made, and one transaction stores all of it. If somebody else stored first, the message is looked at again.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use serde_json::{Map, Value};

use super::apps;
use super::commands::device_configured::DeviceConfigured;
use super::commands::renew_identity::RenewIdentity;
use super::commands::user_configured::UserConfigured;
use super::commands::{self, Body, Request as _, Subject};
use super::plan::{new_uuid, planned};
use super::single_sign_on;
use crate::app::App;
use crate::clock::HOUR;
use crate::domain::Refusal;
use crate::domain::apple::app;
use crate::domain::apple::attestation::Nonce;
use crate::domain::apple::escrow::Kind;
use crate::domain::apple::package::Package;
use crate::domain::apple::profile::Names;
use crate::domain::apple::queue::{LONGEST, Outcome, Received, Verdict};
use crate::domain::certificate::Certificate;
use crate::domain::command::{Input as OrderInput, Operation, State as OrderState};
use crate::domain::desired::{self, Input, Record, Winner};
use crate::domain::enrollment::State as EnrollmentState;
use crate::domain::registration::Token;
use crate::domain::work::Key;
use crate::ids::{CommandId, EnrollmentId};
use crate::service::device::{self, Ending, Leaving, NOT_NOW};
use crate::service::push::apns::enqueue_wake;
use crate::service::round::{Known, Round};
use crate::service::{Error, Result};
use crate::store::apple::channels::{self, Channel, DEVICE};
use crate::store::apple::{packages, secrets};
use crate::store::targets::{self, take_turn};
use crate::store::{self, certificates, enrollments};
use crate::wire::apple::command::{Answer, Command};
use crate::wire::apple::ddm::Capabilities;

/// How often a message is looked at again when another node was faster.
const TRIES: usize = 5;
/// Where answers have the reason that counts before all errors.
const REASON: &str = "RejectionReason";
/// How many commands that cannot be made are passed over in one message.
const PASSED: usize = 50;

/// What is being done for one message of a channel: the device's, or one user's.
pub(in crate::service) struct Turn<'a> {
    round: Round<'a>,
    pub(super) channel: Channel,
    /// How profiles are named.
    pub(super) names: Names,
    /// Users who are managed, by their keys.
    pub(super) users: Vec<String>,
    /// Users whose channels are to be woken.
    pub(super) wake: Vec<String>,
    /// The certificate of the device's identity.
    pub(super) identity: Option<Certificate>,
    /// The device left, or is erased.
    pub(super) left: bool,
    /// Its list of profiles has to be looked at.
    pub(super) look: bool,
    /// Its list of applications has to be looked at.
    pub(super) look_at_apps: bool,
    /// The packages that its profiles name, by their names.
    pub(super) packages: BTreeMap<String, Package>,
    /// The declarations that it was told of.
    pub(super) told: Option<String>,
    /// The codes that this enrolment was given, when an attestation came.
    pub(super) nonces: Vec<Nonce>,
    /// The tokens for registering at the identity service that this enrolment was given and that are good still.
    pub(super) registrations: Vec<Token>,
    /// The device begins an exchange.
    pub(super) idle: bool,
    /// What is kept of the secrets that it entrusted to the server.
    pub(super) kept: Vec<Kind>,
    /// The records whose profiles could not be installed.
    pub(super) broken_off: Vec<String>,
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

/// The order that a key of the queue stands for.
fn order_of(key: Key<'_>) -> Option<CommandId> {
    match key {
        Key::Order(id) => CommandId::parse(id),
        _ => None,
    }
}

/// An answer in a few words: what it is, and the first error's number.
fn status_of(answer: &Answer) -> String {
    match answer.errors.first() {
        Some(cause) => format!("{:?} {} {}", answer.status, cause.error_domain.chars().take(100).collect::<String>(), cause.error_code),
        None => format!("{:?}", answer.status),
    }
}

/// Takes an answer in that came on a channel (`user`: [`DEVICE`], or the user's key) and makes the next command; an empty body ends the exchange.
///
/// # Errors
/// Only the database's own.
pub async fn receive(app: &App, enrollment: &EnrollmentId, user: &str, answer: &Answer, origin: &str) -> Result<Vec<u8>> {
    retried(async || {
        let Some(mut turn) = Turn::read(app, enrollment, user, origin).await? else { return Ok(Vec::new()) };
        turn.read_nonces(answer).await?;
        turn.read_order(answer).await?;
        turn.take(answer);
        turn.wait_for_approvals().await?;
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
        let Some(mut turn) = Turn::read(app, enrollment, DEVICE, origin).await? else { return Ok(Vec::new()) };
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
    pub(super) async fn read(app: &'a App, enrollment: &EnrollmentId, user: &str, origin: &'a str) -> Result<Option<Self>> {
        let (id, user, sealer, clock) = (enrollment.clone(), user.to_owned(), app.sealer(), app.clock());
        let found = app.store.snapshot(move |conn| {
            let now = clock.now();
            let all = channels::list_channels(conn, &id)?;
            let users: Vec<String> = all.iter().map(|channel| channel.user_key.clone()).filter(|user| user != DEVICE).collect();
            let capabilities = all.iter().find(|channel| channel.user_key == DEVICE).and_then(|channel| channel.capabilities.clone());
            let Some(channel) = all.into_iter().find(|channel| channel.user_key == user) else { return Ok(None) };
            let known = Known::read(conn, &sealer, &id, now)?;
            let identity = known.enrollment.certificate_id.as_ref().map(|id| certificates::load_certificate(conn, id)).transpose()?;
            let kept = secrets::list_kinds(conn, &id)?.into_iter().map(|(kind, _)| kind).collect();
            let named = apps::packages_named(&known.items);
            let packages = if named.is_empty() { Vec::new() } else { packages::list_named(conn, &named)? };
            let registrations = single_sign_on::list_registrations(conn, &known, now)?;
            Ok(Some((channel, users, capabilities, identity, known, kept, packages, registrations)))
        });
        let Some((channel, users, capabilities, identity, known, kept, packages, registrations)) = found.await? else { return Ok(None) };
        if known.enrollment.state == EnrollmentState::Ended {
            return Ok(None);
        }
        let capabilities: Option<Capabilities> = capabilities.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let round = Round::new(app, known, &users, capabilities.as_ref(), origin).await?;
        Ok(Some(Self {
            round,
            channel,
            names: super::names(app).await?,
            users,
            wake: Vec::new(),
            identity,
            left: false,
            look: false,
            look_at_apps: false,
            packages: packages.into_iter().map(|package| (package.name.clone(), package)).collect(),
            told: None,
            nonces: Vec::new(),
            registrations,
            idle: false,
            kept,
            broken_off: Vec::new(),
        }))
    }

    /// The work on the whole device.
    pub(super) fn round(&self) -> &Round<'a> {
        &self.round
    }

    /// The user whose channel it is; `None` on the device's own.
    pub(super) fn user(&self) -> Option<&str> {
        Some(self.channel.user_key.as_str()).filter(|user| *user != DEVICE)
    }

    /// Whether a record is this channel's.
    pub(super) fn is_mine(&self, key: &str) -> bool {
        desired::user_of(key) == self.user()
    }

    /// The records of this channel, with their keys.
    pub(super) fn records(&self) -> impl Iterator<Item = (&String, &Record)> {
        self.round.records().filter(|(key, _)| self.is_mine(key))
    }

    /// What this channel should have, by key.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (&String, &Winner)> {
        self.effective.winners.iter().filter(|(key, _)| self.is_mine(key))
    }

    /// Takes the device's answer in.
    fn take(&mut self, answer: &Answer) {
        let queue = std::mem::take(&mut self.channel.queue);
        let (queue, received) = queue.receive(answer.status, answer.command_uuid.as_deref(), self.now);
        self.channel.queue = queue;
        self.channel.last_seen_at = Some(self.now);
        match received {
            Received::Settled(outcome) => self.settle(&outcome, Some(answer)),
            Received::Deferred(key) => self.postpone(&key),
            Received::Idle => {
                self.idle = true;
                self.lose();
                let now = self.now;
                for outcome in self.channel.queue.expire(LONGEST, now) {
                    // Orders wait until they are taken back: they are put in anew.
                    if Key::parse(&outcome.key).and_then(order_of).is_none() {
                        self.settle(&outcome, None);
                    }
                }
            }
            Received::Unknown => self.take_late(answer),
        }
    }

    /// Reads the order that an answer is to, when it is none that waits: one that was taken back, or of which nobody knows whether it ran.
    async fn read_order(&mut self, answer: &Answer) -> Result<()> {
        let Some(uuid) = answer.command_uuid.as_deref() else { return Ok(()) };
        let other = self.channel.queue.key_of(uuid).is_some_and(|key| Key::parse(key).and_then(order_of).is_none());
        let Some(id) = CommandId::parse(uuid).filter(|id| !other && self.order(id).is_none()) else { return Ok(()) };
        let (enrollment, sealer) = (self.known.enrollment.id.clone(), self.app.sealer());
        let found = self.app.store.read(move |conn| store::commands::list_these(conn, &sealer, &enrollment, &[id])).await?;
        let found: Vec<_> = found.into_iter().filter(|order| order.operation.user() == self.user()).collect();
        self.known.orders.extend(found);
        Ok(())
    }

    /// The device begins anew. Of orders that must not be given twice nobody knows whether they ran; their answers count when they come late:
    /// devices keep what they could not send.
    fn lose(&mut self) {
        let user = self.user().map(str::to_owned);
        for id in self.lose_orders(user.as_deref()) {
            let (keys, key) = (self.keys_of(&id), Key::Order(id.as_str()));
            if let Some((request, record)) = self.request_of(key) {
                request.failed(self, Subject::of(Some(&keys), record), "sent once and never answered");
            }
        }
    }

    /// An answer to nothing that waits. When it is to an order that was lost, it counts.
    fn take_late(&mut self, answer: &Answer) {
        let mine = |order: &crate::domain::command::Command| order.state == OrderState::Uncertain && order.operation.user() == self.user();
        let lost = |id: &CommandId| self.order(id).is_some_and(mine);
        let Some(id) = answer.command_uuid.as_deref().and_then(CommandId::parse).filter(lost) else {
            tracing::info!(device = %self.device.id, "an answer to no command that waits");
            return;
        };
        let key = Key::Order(id.as_str()).to_string();
        match Verdict::of(answer.status) {
            Some(verdict) => self.settle(&Outcome { key, verdict }, Some(answer)),
            None => self.postpone(&key),
        }
    }

    /// Which request a key stands for, and what it is about: the record, where there is one.
    fn request_of<'k>(&self, key: Key<'k>) -> Option<(&'static dyn commands::Request, &'k str)> {
        let (name, record) = match key {
            Key::Set(record) if record.starts_with("update:") => ("ScheduleOSUpdate", record),
            Key::Set(record) if record.starts_with(app::RECORD) => (apps::request(self, record), record),
            Key::Set(record) => ("InstallProfile", record),
            Key::Remove(record) if record.starts_with(app::RECORD) => ("RemoveApplication", record),
            Key::Remove(record) => ("RemoveProfile", record),
            Key::Ask(request) => request.split_once(':').unwrap_or((request, "")),
            Key::Sync => ("DeclarativeManagement", ""),
            Key::Renew => return Some((&RenewIdentity, "")),
            Key::Release if self.user().is_some() => return Some((&UserConfigured, "")),
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
        let (said, verdict) = match (outcome.verdict, request, answer) {
            (Verdict::Failed, Some((request, _)), Some(answer)) if request.is_gone(answer) => {
                (Ok("it was not there any more".to_owned()), Verdict::Done)
            }
            (Verdict::Done, Some((request, _)), Some(answer)) => match request.says(answer) {
                Err(why) => (Err(why), Verdict::Failed),
                said => (said, Verdict::Done),
            },
            (verdict, ..) => (Ok("done".to_owned()), verdict),
        };
        let why = match (verdict, answer) {
            (Verdict::Done, _) => said.unwrap_or_default(),
            (Verdict::Failed, _) if said.is_err() => said.unwrap_or_else(|why| why),
            (Verdict::Failed, Some(answer)) if answer.body.string(REASON).is_some() => {
                answer.body.string(REASON).unwrap_or_default().chars().take(100).collect()
            }
            (_, Some(answer)) if !answer.errors.is_empty() => {
                answer.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ").chars().take(2000).collect()
            }
            (Verdict::Failed, _) => "the device refused".into(),
            (Verdict::Malformed, _) => "the device does not understand the command".into(),
            (Verdict::Expired, _) => "waited too long".into(),
        };
        let order = order_of(key);
        let keys = order.as_ref().map(|id| self.keys_of(id));
        if let Some(id) = &order {
            let status = answer.map_or(Value::Null, |answer| status_of(answer).into());
            let input = match verdict {
                Verdict::Done => OrderInput::Answered(why.clone()),
                Verdict::Failed if request.is_some_and(|(request, _)| request.may_have_run()) => OrderInput::Unclear(why.clone()),
                Verdict::Failed | Verdict::Malformed | Verdict::Expired => OrderInput::Refused(why.clone()),
            };
            self.left |= self.answer_order(id, input, &status).is_some();
        }
        let Some((request, record)) = request else { return };
        if self.overtaken(key, record, verdict) {
            return self.apply(record, Input::Outdated);
        }
        let subject = Subject::of(keys.as_ref(), record);
        match (verdict, answer) {
            (Verdict::Done, Some(answer)) => request.done(self, subject, answer),
            _ => request.failed(self, subject, &why),
        }
    }

    /// Whether something else is wanted of a record by now than what the answer is about.
    fn overtaken(&self, key: Key<'_>, record: &str, verdict: Verdict) -> bool {
        let Some((_, record)) = self.record(record) else { return false };
        match key {
            Key::Set(_) => record.outdated || record.state == desired::State::Removing,
            Key::Remove(_) => record.state != desired::State::Removing && verdict != Verdict::Done,
            _ => false,
        }
    }

    /// The keys that an order brings, without those that are kept apart.
    fn keys_of(&self, order: &CommandId) -> Map<String, Value> {
        match self.order(order).map(|order| &order.operation) {
            Some(Operation::Request(request)) => request.keys.clone(),
            Some(Operation::Node(_)) | None => Map::new(),
        }
    }

    /// Those of an order's keys that are kept apart.
    async fn large_keys_of(&self, order: &CommandId) -> Result<Map<String, Value>> {
        let large = |operation: &Operation| matches!(operation, Operation::Request(request) if !request.large.is_empty());
        if !self.order(order).is_some_and(|order| large(&order.operation)) {
            return Ok(Map::new());
        }
        let (id, sealer) = (order.clone(), self.app.sealer());
        Ok(self.app.store.read(move |conn| store::commands::find_large(conn, &sealer, &id)).await?)
    }

    /// Has the device asked something by itself.
    pub(super) fn ask(&mut self, request: &str) {
        let now = self.now;
        let _ = self.channel.queue.enqueue([planned(Key::Ask(request), false)], now);
    }

    fn postpone(&mut self, key: &str) {
        match Key::parse(key) {
            Some(Key::Set(record) | Key::Remove(record)) => {
                // The channel holds it: the next moment is one at which the device is woken for that in any case.
                let until = self.now.plus(6 * HOUR);
                self.apply(record, Input::Postponed { until });
            }
            Some(Key::Order(id)) => {
                if let Some(id) = CommandId::parse(id) {
                    // The channel holds it until the device begins anew.
                    let until = self.now;
                    self.answer_order(&id, OrderInput::NotNow { why: NOT_NOW.into(), until }, &"NotNow".into());
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

    /// The next command.
    async fn next(&mut self) -> Result<Option<Command>> {
        for _ in 0..PASSED {
            let (queue, next) = std::mem::take(&mut self.channel.queue).respond();
            self.channel.queue = queue;
            let Some(next) = next else {
                if self.channel.queue.is_over() {
                    tracing::warn!(device = %self.device.id, "an exchange does not end; the rest waits for the next");
                }
                return Ok(None);
            };
            let Some(key) = Key::parse(&next.key) else { continue };
            match self.make(key).await? {
                Ok((request_type, body)) => return Ok(Some(Command { uuid: next.uuid, request_type, body })),
                Err(why) => {
                    tracing::info!(device = %self.device.id, key = next.key, why, "a command that is not made");
                    self.channel.queue.undelivered(&next.key);
                    self.channel.queue.withdraw(&next.key);
                    if let Key::Order(id) = key
                        && let Some(id) = CommandId::parse(id)
                    {
                        self.deliver_order(&id);
                        self.move_order(&id, OrderInput::Refused(why));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn make(&mut self, key: Key<'_>) -> Result<std::result::Result<(String, crate::wire::plist::Dict), String>> {
        let Some((request, record)) = self.request_of(key) else { return Ok(Err("nothing stands behind it".into())) };
        let order = order_of(key);
        let mut keys = order.as_ref().map(|id| self.keys_of(id));
        if let (Some(id), Some(keys)) = (&order, &mut keys) {
            keys.extend(self.large_keys_of(id).await?);
        }
        let known = keys.clone().unwrap_or_default();
        if self.known.enrollment.is_user_enrollment() && !request.for_users().has(self.device.platform, &known) {
            return Ok(Err(Refusal::OrderNotForUserEnrollment.to_string()));
        }
        let subject = Subject::of(keys.as_ref(), record);
        match request.body(self, subject).await? {
            Body::Keys(body) => {
                if let Some(id) = &order {
                    self.deliver_order(id);
                }
                Ok(Ok((request.name().to_owned(), body)))
            }
            Body::Instead(name, body) => Ok(Ok((name.to_owned(), body))),
            Body::Nothing(why) => Ok(Err(why)),
        }
    }

    /// Stores everything.
    pub(super) async fn commit(mut self) -> Result<()> {
        if self.told.is_some() {
            self.channel.ddm_token = self.told.take();
        }
        let own = [self.renewal_at(), self.release_at()];
        let release_user = own[1].filter(|_| self.user().is_some());
        let (app, channel, left, users, wake) = (self.round.app, self.channel, self.left, self.users, self.wake);
        let (changes, sealer) = (self.round.changes()?, app.sealer());
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
                // Items are looked at by all channels; each stores what it has read nobody else store meanwhile.
                if !users.is_empty() {
                    changes.outdate(tx)?;
                }
                for user in &wake {
                    enqueue_wake(tx, id, user, now)?;
                }
                // A user who waits in Setup Assistant is woken for its end.
                if let Some(at) = release_user {
                    enqueue_wake(tx, id, &channel.user_key, at)?;
                }
                ring |= !wake.is_empty();
                // The row is held since `check`: what comes into being meanwhile waits and then puts the next moment forward.
                if channel.user_key == DEVICE {
                    // One that waits in Setup Assistant is not left there.
                    let waits = channel.queue.waits_since(now).map(|since| if channel.awaiting_since.is_some() { now } else { since });
                    // What is due and was put into the queue waits there.
                    let after = waits.map(|_| now);
                    let own = own.into_iter().flatten().filter(|at| after.is_none_or(|after| *at > after)).min();
                    let due = [changes.next_work(tx, after)?, own].into_iter().flatten().min();
                    enrollments::update_work_and_wait(tx, id, due, waits)?;
                }
                changes.record(tx)?;
                if left {
                    ring |= device::left_in(
                        tx,
                        id,
                        Leaving::ByOrder,
                        None,
                        &Ending { sealer: &sealer, rules: changes.rules, origin: &changes.origin, now },
                    )?;
                    channels::delete_channels(tx, id)?;
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
