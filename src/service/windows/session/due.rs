//! What is due on a device: facts, settings, payloads and orders become work of the session.

use std::collections::{BTreeMap, BTreeSet};

use super::super::csp::{self, Part};
use super::super::plan;
use super::apply::{Turn, part_name, vars};
use crate::catalogue::{FactRow, Vars};
use crate::domain::command::{Input as OrderInput, Operation, State as OrderState, Verb as OrderVerb};
use crate::domain::desired::{self, Content, Input, Plan, State};
use crate::domain::dm_session::{Op, Planned, Session};
use crate::domain::fact::{self, Cadence};
use crate::domain::work::Key;
use crate::ids::CommandId;
use crate::service::Result;
use crate::wire::syncml::{Format, Verb};

/// How often handling answers may make new work that is answered at once (a user who is not there, nothing to send).
const ROUNDS: usize = 4;

impl Turn<'_> {
    /// Puts what is due into the session.
    pub(super) async fn plan(&mut self, session: &mut Session, first: bool) -> Result<()> {
        self.takes = (session.takes_device_commands(), session.takes_user_commands());
        let mut facts = first;
        for _ in 0..ROUNDS {
            let mut work = std::mem::take(&mut self.followups);
            let busy: BTreeSet<String> = session.pending().map(str::to_owned).collect();
            if facts {
                self.plan_facts(&mut work);
            }
            facts = false;
            self.plan_items(&busy, &mut work).await?;
            // After the looks at what was taken: they are the moment from which on a reading counts.
            self.plan_stale_facts(&busy, &mut work);
            self.plan_orders(&busy, &mut work);
            work.append(&mut self.followups);
            if work.is_empty() {
                break;
            }
            for outcome in session.enqueue(work) {
                self.take(&outcome)?;
            }
        }
        Ok(())
    }

    fn plan_facts(&self, work: &mut Vec<Planned>) {
        let version = self.device.os_version.as_deref().unwrap_or_default();
        let vars = vars(self.app);
        let rows: BTreeMap<&str, &FactRow> = self
            .catalogue
            .facts()
            .filter(|row| row.is_of("windows") && !row.volunteered && (version.is_empty() || row.supports(version)))
            .map(|row| (row.name.as_str(), row))
            .collect();
        let cadences: Vec<Cadence<'_>> = rows.values().map(|row| Cadence { name: &row.name, every_hours: row.every_hours }).collect();
        for name in fact::due(&cadences, &self.loaded.facts, self.now) {
            if let Some(row) = rows.get(name) {
                work.push(plan::fact(row, &vars));
            }
        }
    }

    fn plan_stale_facts(&mut self, busy: &BTreeSet<String>, work: &mut Vec<Planned>) {
        let version = self.device.os_version.as_deref().unwrap_or_default();
        for name in std::mem::take(&mut self.stale_facts) {
            let row = self.catalogue.fact(name).filter(|row| row.supports(version));
            let planned = row.map(|row| plan::fact(row, &vars(self.app)));
            work.extend(planned.filter(|planned| !busy.contains(&planned.key) && work.iter().all(|other| other.key != planned.key)));
        }
    }

    async fn plan_items(&mut self, busy: &BTreeSet<String>, work: &mut Vec<Planned>) -> Result<()> {
        let records: BTreeSet<String> = busy
            .iter()
            .chain(work.iter().map(|planned| &planned.key))
            .filter_map(|key| match Key::parse(key)? {
                Key::Set(record) | Key::Check(record) | Key::Remove(record) | Key::Part { record, .. } => Some(record.to_owned()),
                Key::Fact(_) | Key::Order(_) | Key::Ask(_) | Key::Sync | Key::Renew => None,
            })
            .collect();
        let effective = self.effective.clone();
        let due: Plan<'_> = desired::plan(&self.items, &effective, self.now);
        let vars_owned = self.app.tenant.to_string();
        let vars = Vars { tenant: &vars_owned, provider: &self.app.config.windows.provider_id };
        for removal in due.remove.iter().filter(|removal| !records.contains(&removal.key)) {
            if removal.key.starts_with("payload:") {
                self.begin_part(&removal.key).await?;
            } else if let Some(planned) = plan::remove(removal, self.catalogue) {
                self.apply(&removal.key, Input::Sent);
                work.push(planned);
            } else {
                self.apply(&removal.key, Input::Removed);
            }
        }
        for planned in due.set.iter().filter(|planned| !records.contains(&planned.key)) {
            if matches!(planned.winner.content, Content::Payload(_)) {
                self.begin_part(&planned.key).await?;
                work.append(&mut self.followups);
                continue;
            }
            if !self.has(&planned.winner.content) {
                self.apply(&planned.key, Input::NotApplicable { status: 0 });
                continue;
            }
            match plan::set(&planned.key, planned.winner, self.catalogue, &vars) {
                Ok((address, command)) => {
                    self.remember_address(&planned.key, address);
                    self.apply(&planned.key, Input::Sent);
                    work.push(command);
                }
                Err(why) => self.apply(&planned.key, Input::Refused { status: 0, original_error: Some(why) }),
            }
        }
        for planned in due.check.iter().filter(|planned| !records.contains(&planned.key)) {
            if matches!(planned.winner.content, Content::Payload(_)) {
                self.begin_part(&planned.key).await?;
                work.append(&mut self.followups);
            } else if let Some(command) = plan::check(&planned.key, planned.winner, self.catalogue, &vars) {
                work.push(command);
            }
        }
        Ok(())
    }

    /// Whether the device's build has the setting; what is not known of either is tried.
    fn has(&self, content: &Content) -> bool {
        let Content::Setting { id, .. } = content else { return true };
        let version = self.device.os_version.as_deref().unwrap_or_default();
        version.is_empty() || self.catalogue.setting(id).is_none_or(|row| row.supports(version))
    }

    fn remember_address(&mut self, key: &str, address: String) {
        for item in &mut self.items {
            if let Some(record) = item.detail.records.get_mut(key).filter(|record| record.winner.is_none()) {
                record.address = Some(address);
                return;
            }
        }
    }

    async fn begin_part(&mut self, key: &str) -> Result<()> {
        let Some((profile, record)) = self.record(key).map(|(profile, record)| (profile.clone(), record.clone())) else { return Ok(()) };
        let Some(kind) = self.kind_of(key, &record) else {
            // Never begun: nothing is on the device.
            self.apply(key, Input::Removed);
            return Ok(());
        };
        let Some(csp) = csp::find(&kind) else {
            self.apply(key, Input::Refused { status: 0, original_error: Some(format!("no provider for {kind}")) });
            return Ok(());
        };
        let payload = if record.state == State::Removing { None } else { self.payload(key) };
        let part = Part { profile: &profile, name: part_name(key), payload: payload.as_ref(), record: &record };
        let turn = csp.begin(&self.context(), &part).await?;
        self.turn(key, &kind, turn);
        Ok(())
    }

    fn plan_orders(&mut self, busy: &BTreeSet<String>, work: &mut Vec<Planned>) {
        let due: Vec<CommandId> = self
            .loaded
            .orders
            .iter()
            // As this message left it: an order that a lost session held is sent again at once.
            .filter_map(|order| self.order(&order.id))
            .filter(|order| order.state == OrderState::Queued && order.not_before <= self.now)
            .map(|order| order.id.clone())
            .collect();
        for id in due {
            let key = Key::Order(id.as_str());
            if busy.contains(&key.to_string()) {
                continue;
            }
            let Some(Operation::Node(operation)) = self.order(&id).map(|order| &order.operation) else { continue };
            let op = Op {
                verb: match operation.verb {
                    OrderVerb::Add => Verb::Add,
                    OrderVerb::Replace => Verb::Replace,
                    OrderVerb::Delete => Verb::Delete,
                    OrderVerb::Get => Verb::Get,
                    OrderVerb::Exec => Verb::Exec,
                },
                uri: operation.uri.clone(),
                format: operation.format.as_deref().and_then(Format::parse),
                mime: None,
                data: operation.data.clone(),
            };
            work.push(plan::work(key, vec![op]));
            self.move_order(&id, OrderInput::Deliver);
        }
    }
}
