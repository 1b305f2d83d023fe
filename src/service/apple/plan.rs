//! What is due on a channel: put into its queue, and taken out again when it is not wanted any more.

use std::collections::BTreeSet;

use super::apps::{self, declared};
use super::commands::account_configuration::AccountConfiguration;
use super::commands::certificate_list::{self, CertificateList};
use super::commands::profile_list::{self, ProfileList};
use super::commands::{self, Request as _};
use super::declarations;
use super::turn::Turn;
use crate::catalogue::payload::System;
use crate::clock::{DAY, HOUR, Time};
use crate::domain::apple::app;
use crate::domain::apple::content;
use crate::domain::apple::declarations::Set;
use crate::domain::apple::queue::Planned;
use crate::domain::certificate::CertificateStatus;
use crate::domain::command::{Command, Input as OrderInput, State as OrderState};
use crate::domain::desired::{self, Content, Input, Lack, State};
use crate::domain::enrollment::State as EnrollmentState;
use crate::domain::fact::{self, Cadence};
use crate::domain::work::Key;
use crate::ids::CommandId;
use crate::service::round::ISSUES_AGAIN;

/// How long a device has time to renew its identity until it is told to once more.
const RENEW_AGAIN: i64 = 4 * HOUR;
/// How long a user has time to come until it is woken once more.
const WAKE_AGAIN: i64 = 6 * HOUR;

impl Turn<'_> {
    /// Puts what is due into the queue.
    pub(super) fn plan(&mut self) {
        self.withdraw();
        let mut due: Vec<Planned> = Vec::new();
        self.drop_departed();
        if self.user().is_some() {
            if self.device.os_version.is_some() {
                self.plan_items(&mut due);
            }
            self.plan_orders(&mut due);
            self.plan_release(&mut due);
            let now = self.now;
            let _ = self.channel.queue.enqueue(due, now);
            return;
        }
        self.wake_users();
        if self.waits_for_administrator() {
            due.push(planned(Key::Ask(AccountConfiguration.name()), false));
        }
        if self.renewal_at().is_some_and(|at| self.now >= at) {
            due.push(planned(Key::Renew, false));
        }
        self.plan_facts(&mut due);
        // What depends on the version waits for it.
        if self.device.os_version.is_some() {
            self.plan_items(&mut due);
        }
        self.plan_orders(&mut due);
        self.plan_release(&mut due);
        let now = self.now;
        // A key that waits already is left out.
        let _ = self.channel.queue.enqueue(due, now);
    }

    fn plan_release(&self, due: &mut Vec<Planned>) {
        if self.release_at().is_some_and(|at| self.now >= at) {
            due.push(planned(Key::Release, false));
        }
    }

    /// What users had who are not managed any more went with their channels; what nobody is there for waits, but for orders to one of them.
    fn drop_departed(&mut self) {
        let gone = |order: &&Command| order.operation.user().is_some_and(|user| !self.users.iter().any(|known| known == user));
        let gone: Vec<CommandId> = self.known.orders.iter().filter(gone).map(|order| order.id.clone()).collect();
        for order in gone {
            self.move_order(&order, OrderInput::Cancel);
        }
        let of_users = |(key, record): (&String, &desired::Record)| {
            let user = desired::user_of(key)?;
            let (gone, open) = (!self.users.iter().any(|known| known == user), record.state != State::NotApplicable);
            (gone && open).then(|| (key.clone(), record.state))
        };
        let departed: Vec<(String, State)> = self.round().records().filter_map(of_users).collect();
        for (key, state) in departed {
            self.end_certificates(&key);
            self.apply(&key, if state == State::Removing { Input::Removed } else { Input::Lacks(Lack::User) });
        }
    }

    /// Wakes the users for whom something is due. A user who does not come is woken again; one who comes finds it due.
    fn wake_users(&mut self) {
        let due = |(key, record): (&String, &desired::Record)| {
            let user = desired::user_of(key).filter(|user| !user.is_empty())?;
            record.due_at.is_some_and(|at| at <= self.now).then(|| (key.clone(), user.to_owned()))
        };
        let due: Vec<(String, String)> = self.round().records().filter_map(due).collect();
        let until = self.now.plus(WAKE_AGAIN);
        let open = |order: &&Command| order.state == OrderState::Queued && order.not_before <= self.now;
        let orders = self.known.orders.iter().filter_map(|order| self.order(&order.id)).filter(open);
        let orders: Vec<(CommandId, String)> =
            orders.filter_map(|order| Some((order.id.clone(), order.operation.user()?.to_owned()))).collect();
        for (order, user) in orders {
            self.move_order(&order, OrderInput::Absent(until));
            if !self.wake.contains(&user) {
                self.wake.push(user);
            }
        }
        for (key, user) in due {
            self.apply(&key, Input::Postponed { until });
            if !self.wake.contains(&user) {
                self.wake.push(user);
            }
        }
    }

    /// Takes back what was put in and is not wanted any more.
    fn withdraw(&mut self) {
        let stale: Vec<String> = self
            .channel
            .queue
            .pending()
            .filter(|key| match Key::parse(key) {
                Some(Key::Order(id)) => !self.is_open_order(id),
                Some(Key::Set(record)) => {
                    declared::is(self, record) || self.record(record).is_none_or(|(_, record)| record.state == State::Removing)
                }
                Some(Key::Remove(record)) => self.record(record).is_none_or(|(_, record)| record.state != State::Removing),
                Some(Key::Ask(_) | Key::Sync) => false,
                Some(Key::Release) => self.channel.awaiting_since.is_none(),
                Some(Key::Renew) => self.renews_from().is_none_or(|from| self.now < from),
                Some(Key::Check(_) | Key::SetTogether(_) | Key::RemoveTogether(_) | Key::Part { .. } | Key::Fact(_)) | None => true,
            })
            .map(str::to_owned)
            .collect();
        for key in stale {
            self.channel.queue.withdraw(&key);
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

    /// When the device is to be told to renew its identity, for the first time or once more; while no authority issues, when to look again.
    pub(super) fn renewal_at(&self) -> Option<Time> {
        let from = self.renews_from()?;
        let at = self.channel.renewal_asked_at.map_or(from, |at| from.max(at.plus(RENEW_AGAIN)));
        Some(if self.authority.issues(self.now) { at } else { at.max(self.now.plus(ISSUES_AGAIN)) })
    }

    fn plan_facts(&self, due: &mut Vec<Planned>) {
        let mut known = self.known.facts.clone();
        known.extend(self.reported.clone());
        let rows: Vec<_> = self.facts().collect();
        let cadences: Vec<Cadence<'_>> = rows.iter().map(|row| Cadence { name: &row.name, every_hours: row.every_hours }).collect();
        let names: BTreeSet<&str> = fact::due(&cadences, &known, self.now).into_iter().collect();
        let requests: BTreeSet<&str> = rows
            .iter()
            .filter(|row| names.contains(row.name.as_str()))
            .filter_map(|row| Some(row.asked.as_ref()?.request.as_str()))
            .filter(|request| commands::find(request).is_none_or(|known| known.fits(self)))
            .collect();
        due.extend(requests.into_iter().map(|request| planned(Key::Ask(request), false)));
    }

    /// Says of what a device that is its user's own never takes that it is not for it.
    fn leave_out(&mut self) {
        let Some(system) = content::system(self.device.platform).filter(|_| self.known.enrollment.is_user_enrollment()) else { return };
        let app_of_mac = |key: &str| system == System::Mac && key.starts_with(app::RECORD);
        let refused = |content: &Content| match content {
            Content::Profile(payloads) | Content::Declarations(payloads) => !content::is_for_users(payloads, system, self.catalogue),
            Content::Setting { .. } | Content::Custom(_) | Content::Payload(_) => false,
        };
        let winners = self.wanted().filter(|(key, winner)| app_of_mac(key) || refused(&winner.content));
        let open = winners.map(|(key, _)| key).filter(|key| self.record(key).is_some_and(|(_, r)| r.state != State::NotApplicable));
        for key in open.cloned().collect::<Vec<_>>() {
            self.apply(&key, Input::Lacks(Lack::Enrollment));
        }
    }

    fn plan_items(&mut self, due: &mut Vec<Planned>) {
        apps::renew(self);
        self.leave_out();
        declarations::leave_out(self);
        let effective = self.effective.clone();
        // A user who comes gets what waits for that, too.
        let at = if self.idle && self.user().is_some() { self.now.plus(WAKE_AGAIN) } else { self.now };
        let mut plan = desired::plan(&self.items, &effective, at);
        plan.remove.retain(|removal| self.is_mine(&removal.key));
        plan.set.retain(|wanted| self.is_mine(&wanted.key));
        plan.check.retain(|wanted| self.is_mine(&wanted.key));
        let mut look = std::mem::take(&mut self.look);
        let mut look_at_apps = std::mem::take(&mut self.look_at_apps);
        let mut sync = false;
        for removal in &plan.remove {
            if removal.key.starts_with("declarations:") {
                continue;
            }
            if declared::was(self, &removal.key) {
                sync = true;
            } else if removal.record.memory.contains_key("identifier") {
                due.push(planned(Key::Remove(&removal.key), false));
            } else if removal.key.starts_with(app::RECORD) {
                apps::left_alone(self, &removal.key);
            } else {
                self.apply(&removal.key, Input::Removed);
            }
        }
        let by_command = |key: &str| ["profile:", "update:", app::RECORD].iter().any(|kind| key.starts_with(kind));
        for wanted in plan.set.iter().filter(|wanted| by_command(&wanted.key)) {
            if declared::is(self, &wanted.key) {
                sync = true;
            } else if !declared::undeclare(self, &wanted.key) {
                due.push(planned(Key::Set(&wanted.key), false));
            }
        }
        let mut look_at_declared = false;
        for wanted in &plan.check {
            if wanted.key.starts_with("profile:") {
                if self.renews(&wanted.key) {
                    due.push(planned(Key::Set(&wanted.key), false));
                } else {
                    look = true;
                }
            } else if declared::is(self, &wanted.key) {
                look_at_declared = true;
            } else if wanted.key.starts_with(app::RECORD) {
                look_at_apps = true;
            } else if wanted.key.starts_with("update:") {
                // Its version says whether the update is there; until then it is told again.
                due.push(planned(Key::Set(&wanted.key), false));
            } else if declarations::renew(self, &wanted.key) {
                // Its asset is another one from now on.
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
                self.plan_look(&[CertificateList.name(), ProfileList.name()], due);
            } else {
                self.plan_look(&[ProfileList.name()], due);
            }
        }
        if look_at_declared {
            declarations::judge(self);
        }
        if look_at_apps {
            self.plan_look(apps::questions(self.device.platform), due);
        }
        // A user to whom nothing is declared, and never was, is not asked to look.
        let nothing = |set: &Set| self.user().is_some() && set.is_empty() && self.channel.ddm_token.is_none();
        if let Some(set) = declarations::set(self).filter(|set| !nothing(set)) {
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

    /// Asks questions of which the last one judges by what the others said. While the device puts one of them off the others are not asked:
    /// what they are about stays due, and there would be no end. When the device begins anew all of them are, in their order.
    fn plan_look(&mut self, questions: &[&str], due: &mut Vec<Planned>) {
        let keys: Vec<String> = questions.iter().map(|question| Key::Ask(question).to_string()).collect();
        if !self.idle && keys.iter().any(|key| self.channel.queue.holds(key)) {
            return;
        }
        let now = self.now;
        for (place, question) in questions.iter().enumerate() {
            let question = planned(Key::Ask(question), false);
            match keys.iter().skip(place + 1).find(|later| self.channel.queue.holds(later)) {
                Some(later) => self.channel.queue.enqueue_before(later, question, now),
                None => due.push(question),
            }
        }
    }

    /// Whether a profile has to be installed again because a certificate or token of it nears its end or is used,
    /// or the device learnt keys with another version of its system.
    fn renews(&mut self, key: &str) -> bool {
        let Some((_, payloads)) = commands::install_profile::payloads(self, key) else { return false };
        let mut old = Vec::new();
        for payload in &payloads {
            let Some(percent) = content::renewal(payload) else { continue };
            let newest = self.certificates_of(key, &payload.name).into_iter().next();
            if newest.is_some_and(|c| c.status == CertificateStatus::Active && self.now >= c.renews_from(percent)) {
                old.push(payload.name.clone());
            }
        }
        for payload in &old {
            profile_list::next_generation(self, key, payload);
        }
        let lacks = payloads.iter().any(|payload| self.lacks_registration(key, payload));
        !old.is_empty() || lacks || commands::install_profile::is_outgrown(self, key)
    }

    fn plan_orders(&self, due: &mut Vec<Planned>) {
        let all = self.known.orders.iter().filter_map(|order| self.order(&order.id));
        let mine = all.filter(|order| order.operation.user() == self.user());
        // A user who comes gets what waits for that, too.
        for order in mine.filter(|order| order.is_due(self.now) || self.user().is_some() && order.state == OrderState::Queued) {
            due.push(planned(Key::Order(order.id.as_str()), !order.is_repeatable()));
        }
    }
}

pub(super) fn planned(key: Key<'_>, once: bool) -> Planned {
    // An order is itself on the wire: its answer finds it, whatever became of the channel meanwhile.
    let uuid = match key {
        Key::Order(id) => id.to_ascii_uppercase(),
        _ => new_uuid(),
    };
    Planned { key: key.to_string(), uuid, once }
}

pub(super) fn new_uuid() -> String {
    uuid::Uuid::now_v7().to_string().to_ascii_uppercase()
}
