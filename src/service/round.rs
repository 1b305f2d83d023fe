//! One message's work on a device, whatever its platform: records, orders and facts move, and all of it is stored in one transaction.

pub(in crate::service) mod orders;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::effect::Effect;
use super::pki::authority::{self, Authority};
use super::{Result, compliance};
use crate::app::App;
use crate::catalogue::{Catalogue, Inventory, OsVersion, catalogue};
use crate::clock::{HOUR, Time};
use crate::domain::apple::{content, way};
use crate::domain::audit::Entry;
use crate::domain::certificate::Certificate;
use crate::domain::command::Command;
use crate::domain::compliance::Rules;
use crate::domain::desired::{self, Candidate, Effective, Input, Item, Record, State, Timing};
use crate::domain::device::{Device, Platform};
use crate::domain::enrollment::{Enrollment, State as EnrollmentState};
use crate::domain::fact::{self, Fact, Facts};
use crate::domain::user::User;
use crate::ids::{CommandId, EnrollmentId, ProfileId};
use crate::secret::Sealer;
use crate::store::{self, Conn, Tx, audit, certificates, commands, desired_items, devices, enrollments, facts, users};
use crate::wire::apple::ddm::Capabilities;

/// Milliseconds until it is looked again whether an authority issues.
pub(in crate::service) const ISSUES_AGAIN: i64 = HOUR;
/// Orders that are looked at together.
const ORDERS: i64 = 1000;
/// Good certificates of one device that are looked at, the newest first.
const CERTIFICATES: i64 = 200;

/// A device as the store knows it when a message begins.
pub(in crate::service) struct Known {
    pub(in crate::service) enrollment: Enrollment,
    pub(in crate::service) device: Device,
    pub(in crate::service) user: Option<User>,
    pub(in crate::service) items: Vec<desired::Loaded>,
    pub(in crate::service) facts: Facts,
    pub(in crate::service) orders: Vec<Command>,
    /// Orders that nobody can read any more.
    pub(in crate::service) corrupt_orders: Vec<CommandId>,
    /// Its certificates, where its work has to do with any.
    pub(in crate::service) certificates: Vec<Certificate>,
}

impl Known {
    pub(in crate::service) fn read(conn: &mut Conn, sealer: &Sealer, id: &EnrollmentId, now: Time) -> store::Result<Self> {
        let enrollment = enrollments::load_enrollment(conn, id)?;
        let items = desired_items::list_for_device(conn, sealer, &enrollment.device_id)?;
        // Certificates of a Windows device are those of its payloads.
        let with_payload = |item: &desired::Loaded| item.item.detail.records.keys().any(|key| key.starts_with("payload:"));
        let certificates = if enrollment.platform != Platform::Windows || items.iter().any(with_payload) {
            certificates::list_newest(conn, &enrollment.device_id, now, CERTIFICATES)?
        } else {
            Vec::new()
        };
        let orders = commands::list_open(conn, sealer, id, ORDERS)?;
        Ok(Self {
            device: devices::load_device(conn, &enrollment.device_id)?,
            user: enrollment.user_id.as_ref().map(|user| users::load_user(conn, user)).transpose()?,
            facts: facts::list_for_device(conn, &enrollment.device_id)?,
            orders: orders.readable,
            corrupt_orders: orders.corrupt,
            enrollment,
            items,
            certificates,
        })
    }
}

/// What is being done for one message.
pub(in crate::service) struct Round<'a> {
    pub(in crate::service) app: &'a App,
    pub(in crate::service) origin: &'a str,
    pub(in crate::service) now: Time,
    pub(in crate::service) timing: Timing,
    pub(in crate::service) catalogue: &'static Catalogue,
    pub(in crate::service) authority: Arc<Authority>,
    pub(in crate::service) known: Known,
    pub(in crate::service) items: Vec<Item>,
    pub(in crate::service) effective: Effective,
    /// As the message leaves them; [`Known`] has them as they were.
    pub(in crate::service) device: Device,
    pub(in crate::service) enrollment: Enrollment,
    pub(in crate::service) reported: BTreeMap<String, Fact>,
    pub(in crate::service) moved_orders: BTreeMap<CommandId, Command>,
    pub(in crate::service) effects: Vec<Effect>,
    pub(in crate::service) entries: Vec<Entry>,
}

impl<'a> Round<'a> {
    /// `users`: those of the device that are managed; `capabilities`: what its own channel says that it can do with declarations.
    pub(in crate::service) async fn new(
        app: &'a App,
        known: Known,
        users: &[String],
        capabilities: Option<&Capabilities>,
        origin: &'a str,
    ) -> Result<Self> {
        let (now, catalogue) = (app.now(), catalogue());
        let windows = known.device.platform == Platform::Windows;
        let timing = Timing::hours(if windows { app.config.windows.drift_hours } else { app.config.apple.drift_hours });
        let candidates: Vec<Candidate<'_>> = known
            .items
            .iter()
            .filter_map(|l| Some(Candidate { profile: &l.item.profile_id, kind: l.item.kind, document: l.desired.as_ref()? }))
            .collect();
        let target = match content::system(known.device.platform) {
            Some(system) => {
                let version = known.device.os_version.as_deref().and_then(OsVersion::parse);
                desired::Target::Apple(way::Device { system, version, capabilities })
            }
            None => desired::Target::Of(known.device.platform),
        };
        let mut effective = desired::effective(&candidates, target, catalogue);
        effective.give_to(users);
        let mut items: Vec<Item> = known.items.iter().map(|l| l.item.clone()).collect();
        desired::reconcile(&mut items, &effective, timing, now);
        Ok(Self {
            app,
            origin,
            now,
            timing,
            catalogue,
            authority: authority::told_of(app).await?,
            items,
            effective,
            device: known.device.clone(),
            enrollment: known.enrollment.clone(),
            reported: BTreeMap::new(),
            moved_orders: BTreeMap::new(),
            effects: Vec::new(),
            entries: Vec::new(),
            known,
        })
    }

    pub(in crate::service) fn apply(&mut self, record: &str, input: Input) {
        desired::apply(&mut self.items, record, input, self.timing, self.now);
    }

    /// Moves every record that is `wanted`.
    pub(in crate::service) fn apply_where(&mut self, wanted: impl Fn(&Record) -> bool, input: &Input) {
        let records = self.items.iter().flat_map(|item| &item.detail.records);
        let keys: Vec<String> = records.filter(|(_, record)| wanted(record)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.apply(&key, input.clone());
        }
    }

    /// Moves a record by what the device answered to what it was given, or told to remove. An answer to something that is not wanted any
    /// more settles nothing of what is.
    pub(in crate::service) fn answered(&mut self, key: &str, input: Input, removal: bool) {
        let Some((_, record)) = self.record(key) else { return };
        let gone = input == Input::Removed;
        let other = if removal { record.state != State::Removing && !gone } else { record.outdated || record.state == State::Removing };
        self.apply(key, if other { Input::Outdated } else { input });
    }

    /// The record of a key and whose it is.
    pub(in crate::service) fn record(&self, key: &str) -> Option<(&ProfileId, &Record)> {
        let mut holders = self.items.iter().filter_map(|item| Some((&item.profile_id, item.detail.records.get(key)?)));
        holders.find(|(_, record)| record.winner.is_none())
    }

    /// All records that the device knows about, with their keys.
    pub(in crate::service) fn records(&self) -> impl Iterator<Item = (&String, &Record)> {
        self.items.iter().flat_map(|item| &item.detail.records).filter(|(_, record)| record.winner.is_none())
    }

    /// The record of a key, to note something in it.
    pub(in crate::service) fn record_mut(&mut self, key: &str) -> Option<&mut Record> {
        let mut records = self.items.iter_mut().filter_map(|item| item.detail.records.get_mut(key));
        records.find(|record| record.winner.is_none())
    }

    pub(in crate::service) fn remember(&mut self, key: &str, change: impl FnOnce(&mut Map<String, Value>)) {
        if let Some(record) = self.record_mut(key) {
            change(&mut record.memory);
        }
    }

    pub(in crate::service) fn audit(&mut self, action: &'static str, object: String, after: &Value) {
        self.entries.push(Entry::new(format!("device:{}", self.device.id), action, object, self.origin).after(after));
    }

    /// Notes something about the device itself.
    pub(in crate::service) fn audit_device(&mut self, action: &'static str, after: &Value) {
        self.audit(action, format!("device:{}", self.device.id), after);
    }

    /// Takes a fact in. It is asked again after that many hours (zero: soon); with `None` the next report is waited for, however long that
    /// takes.
    pub(in crate::service) fn report(&mut self, name: &str, value: Option<String>, status: i64, source: &str, every_hours: Option<u32>) {
        let (value, status) = fact::bounded(value, status);
        if let (Some(column), Some(value)) = (self.catalogue.fact(name).and_then(|row| row.inventory), &value) {
            // Said once for each other number, not each time.
            let again = self.known.facts.get(name).is_some_and(|known| known.value.as_ref() == Some(value));
            if column == Inventory::SerialNumber && self.device.contradicts_serial(value) && !again {
                tracing::warn!(device = %self.device.id, "a device says that it has another serial number than it enrolled with");
                let after = json!({
                    "serial_number": self.device.serial_number, "says": value,
                    "advice": "look at the device: it says that it is another one; retire it when nobody can tell why",
                });
                self.audit_device("device.serial-contested", &after);
            }
            self.device.take_inventory(column, value);
        }
        let next_at = every_hours.map(|hours| fact::next_read(hours, self.now));
        let fact = Fact { name: name.to_owned(), value, status, source: source.to_owned(), observed_at: self.now, next_at };
        self.reported.insert(fact.name.clone(), fact);
    }

    /// Takes back what its source said of a fact. Where there is somebody else to ask, they are asked at once.
    pub(in crate::service) fn retract(&mut self, name: &str, source: &str, asked: bool) {
        let next_at = asked.then_some(self.now);
        let fact = Fact { name: name.to_owned(), value: None, status: 204, source: source.to_owned(), observed_at: self.now, next_at };
        self.reported.insert(fact.name.clone(), fact);
    }

    /// What has to be stored.
    pub(in crate::service) fn changes(mut self) -> Result<Changes> {
        // What is gone from the device may have been asked for in vain: its profile says so from now on.
        desired::reconcile(&mut self.items, &self.effective, self.timing, self.now);
        let (items, over) = desired::settle(self.items);
        let before: BTreeMap<&ProfileId, &Item> = self.known.items.iter().map(|l| (&l.item.profile_id, &l.item)).collect();
        let items = items.into_iter().filter(|item| before.get(&item.profile_id).is_none_or(|old| **old != *item)).collect();
        let sealer = self.app.sealer();
        let mut orders = Vec::new();
        for order in self.moved_orders.into_values() {
            let result = commands::seal_result(&sealer, &order)?;
            orders.push((order, result));
        }
        for id in &self.known.corrupt_orders {
            self.entries.push(Entry::new("system", "command.unreadable", format!("command:{id}"), self.origin));
        }
        Ok(Changes {
            read_state: self.known.enrollment.state,
            device: (self.device != self.known.device).then_some(self.device),
            stale: self.enrollment != self.known.enrollment,
            enrollment: self.enrollment,
            items,
            over,
            reported: self.reported.into_values().collect(),
            orders,
            corrupt: self.known.corrupt_orders,
            effects: self.effects,
            entries: self.entries,
            rules: compliance::rules(&self.app.config),
            origin: self.origin.to_owned(),
            now: self.now,
        })
    }
}

/// What a message changed.
pub(in crate::service) struct Changes {
    enrollment: Enrollment,
    read_state: EnrollmentState,
    /// The enrolment is another than it was.
    stale: bool,
    device: Option<Device>,
    items: Vec<Item>,
    over: Vec<ProfileId>,
    reported: Vec<Fact>,
    orders: Vec<(Command, Option<Vec<u8>>)>,
    corrupt: Vec<CommandId>,
    effects: Vec<Effect>,
    entries: Vec<Entry>,
    pub(in crate::service) rules: Rules,
    pub(in crate::service) origin: String,
    pub(in crate::service) now: Time,
}

impl Changes {
    /// Refuses to go on when somebody retired or re-enrolled the device meanwhile: then the message is looked at again.
    ///
    /// # Errors
    /// [`store::Error::Busy`].
    pub(in crate::service) fn check(&self, tx: &mut Tx<'_>) -> store::Result<()> {
        // The row is taken before it is looked at: nobody changes it, or the device, between the look and the writing.
        enrollments::lock_enrollment(tx, &self.enrollment.id)?;
        let current = enrollments::load_enrollment(tx.conn(), &self.enrollment.id)?;
        let same = current.version == self.enrollment.version && current.state == self.read_state;
        if same { Ok(()) } else { Err(store::Error::Busy) }
    }

    /// Has other channels of the device look again that have read the items.
    ///
    /// # Errors
    /// [`store::Error::Busy`].
    pub(in crate::service) fn outdate(&self, tx: &mut Tx<'_>) -> store::Result<()> {
        // A changed enrolment has them look again in any case.
        let same = self.stale || (self.items.is_empty() && self.over.is_empty());
        if same { Ok(()) } else { enrollments::claim_update(tx, &self.enrollment) }
    }

    /// Stores everything but the audit rows, and judges the device when it said something new; whether the outbox has to be rung.
    ///
    /// # Errors
    /// Only the database's own.
    pub(in crate::service) fn store(&self, tx: &mut Tx<'_>) -> store::Result<bool> {
        let (device, now) = (&self.enrollment.device_id, self.now);
        for item in &self.items {
            desired_items::update_item(tx, item, now)?;
        }
        for profile in &self.over {
            desired_items::delete_item(tx, device, profile)?;
        }
        let news = facts::upsert_facts(tx, device, &self.reported)?;
        for (order, result) in &self.orders {
            commands::update_command(tx, order, result.as_deref(), now)?;
        }
        for id in &self.corrupt {
            commands::delete_command(tx, id)?;
        }
        if let Some(device) = &self.device {
            devices::update_inventory(tx, device, now)?;
        }
        if self.stale {
            enrollments::claim_update(tx, &self.enrollment)?;
        }
        for effect in &self.effects {
            effect.store(tx, device, &self.origin, now)?;
        }
        compliance::checked_in(tx, device, !news.is_empty(), self.rules, now)
    }

    /// Writes the audit rows.
    ///
    /// # Errors
    /// Only the database's own.
    pub(in crate::service) fn record(&self, tx: &mut Tx<'_>) -> store::Result<()> {
        self.entries.iter().try_for_each(|entry| audit::append(tx, entry, self.now))
    }

    /// When something is due next, of what is due later than `after`.
    ///
    /// # Errors
    /// Only the database's own.
    pub(in crate::service) fn next_work(&self, tx: &mut Tx<'_>, after: Option<Time>) -> store::Result<Option<Time>> {
        let after = after.unwrap_or(Time(i64::MIN));
        let items = desired_items::find_next_work(tx.conn(), &self.enrollment.device_id, after)?;
        let orders = commands::find_next_due(tx.conn(), &self.enrollment.id, after)?;
        Ok([items, orders].into_iter().flatten().min())
    }
}
