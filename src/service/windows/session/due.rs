//! What is due on a device: facts, settings, payloads and orders become work of the session.

use std::collections::{BTreeMap, BTreeSet};

use super::super::csp::{self, Part};
use super::super::plan;
use super::apply::{Turn, part_name, vars};
use crate::catalogue::{FactRow, Vars};
use crate::domain::command::{Operation, Verb as OrderVerb};
use crate::domain::desired::{self, Content, Effective, Input, Lack, Plan, State, Winner};
use crate::domain::dm_session::{Op, Planned, Session};
use crate::domain::fact::{self, Cadence};
use crate::domain::work::Key;
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
        let vars = vars(self.app, &self.enrollment);
        let rows: BTreeMap<&str, &FactRow> = self
            .catalogue
            .facts()
            .filter(|row| row.is_of("windows") && !row.volunteered && self.has_node(row))
            .map(|row| (row.name.as_str(), row))
            .collect();
        let cadences: Vec<Cadence<'_>> = rows.values().map(|row| Cadence { name: &row.name, every_hours: row.every_hours }).collect();
        for name in fact::due(&cadences, &self.known.facts, self.now) {
            if let Some(row) = rows.get(name) {
                work.push(plan::fact(row, &vars));
            }
        }
    }

    /// Whether the device's version and edition have what a fact is read from; what is not known of either is tried.
    fn has_node(&self, row: &FactRow) -> bool {
        let (version, edition) = (self.device.os_version.as_deref(), self.device.os_edition.as_deref());
        version.is_none_or(|version| row.supports(version)) && edition.is_none_or(|edition| row.has_edition(edition))
    }

    fn plan_stale_facts(&mut self, busy: &BTreeSet<String>, work: &mut Vec<Planned>) {
        for name in std::mem::take(&mut self.stale_facts) {
            let row = self.catalogue.fact(name).filter(|row| self.has_node(row));
            let planned = row.map(|row| plan::fact(row, &vars(self.app, &self.enrollment)));
            work.extend(planned.filter(|planned| !busy.contains(&planned.key) && work.iter().all(|other| other.key != planned.key)));
        }
    }

    async fn plan_items(&mut self, busy: &BTreeSet<String>, work: &mut Vec<Planned>) -> Result<()> {
        let records: BTreeSet<String> = busy
            .iter()
            .chain(work.iter().map(|planned| &planned.key))
            .filter_map(|key| Key::parse(key))
            .flat_map(|key| key.records().map(str::to_owned))
            .collect();
        let effective = self.effective.clone();
        let due: Plan<'_> = desired::plan(&self.items, &effective, self.now);
        let enrollment = self.enrollment.clone();
        let vars = vars(self.app, &enrollment);
        let mut together: BTreeMap<(&str, &str), Vec<(String, Op)>> = BTreeMap::new();
        for removal in due.remove.iter().filter(|removal| !records.contains(&removal.key)) {
            if removal.key.starts_with("payload:") {
                self.begin_part(&removal.key).await?;
            } else if let Some(op) = plan::remove(removal, self.catalogue) {
                self.apply(&removal.key, Input::Sent);
                match plan::group(&removal.key, self.catalogue) {
                    Some(group) => together.entry(group).or_default().push((removal.key.clone(), op)),
                    None => work.push(plan::work(Key::Remove(&removal.key), vec![op])),
                }
            } else {
                self.apply(&removal.key, Input::Removed);
            }
        }
        for members in together.into_values() {
            let (keys, ops): (Vec<String>, Vec<Op>) = members.into_iter().unzip();
            work.push(Planned { atomic: true, ..plan::work(Key::RemoveTogether(&keys.join(" ")), ops) });
        }
        let mut begun = BTreeSet::new();
        for planned in due.set.iter().filter(|planned| !records.contains(&planned.key)) {
            if matches!(planned.winner.content, Content::Payload(_)) {
                self.begin_part(&planned.key).await?;
                work.append(&mut self.followups);
                continue;
            }
            if let Some(group) = plan::group(&planned.key, self.catalogue) {
                if begun.insert(group) {
                    work.extend(self.set_together(group, &effective, &records, &vars));
                }
                continue;
            }
            if let Some(op) = self.set(&planned.key, planned.winner, &vars) {
                work.push(plan::work(Key::Set(&planned.key), vec![op]));
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

    /// What gives a setting or a custom node to the device; `None` when it cannot be given.
    fn set(&mut self, key: &str, winner: &Winner, vars: &Vars<'_>) -> Option<Op> {
        if let Some(lack) = self.lack(&winner.content) {
            self.apply(key, Input::Lacks(lack));
            return None;
        }
        match plan::set(winner, self.catalogue, vars) {
            Ok(op) => {
                self.remember_address(key, op.uri.clone());
                self.apply(key, Input::Sent);
                Some(op)
            }
            Err(why) => {
                self.apply(key, Input::Unmet { why });
                None
            }
        }
    }

    /// All settings of a group that its provider takes only together, whichever of them is due: what they say is valid as a whole only.
    /// `None` while some of them are on their way, and when the device has none of them.
    fn set_together(&mut self, group: (&str, &str), effective: &Effective, busy: &BTreeSet<String>, vars: &Vars<'_>) -> Option<Planned> {
        let of_group = effective.winners.iter().filter(|(key, _)| plan::group(key, self.catalogue) == Some(group));
        let mut members: Vec<(&String, &Winner)> = of_group.collect();
        members.sort_by_key(|(key, winner)| (winner.order, *key));
        if members.iter().any(|(key, _)| busy.contains(*key)) {
            return None;
        }
        let (mut keys, mut ops) = (Vec::new(), Vec::new());
        for (key, winner) in members {
            let Some(before) = self.record(key).map(|(_, record)| record.clone()) else { continue };
            if before.state == State::NotApplicable {
                continue;
            }
            let Some(mut op) = self.set(key, winner, vars) else { continue };
            // One that is not there makes all of them fall: those that no device has taken yet are added.
            let may_add = || plan::access(&winner.content, self.catalogue).allows(Verb::Add);
            if !before.may_be_on_device() && may_add() {
                op.verb = Verb::Add;
            }
            keys.push(key.as_str());
            ops.push(op);
        }
        let key = keys.join(" ");
        (!ops.is_empty()).then(|| Planned { atomic: true, ..plan::work(Key::SetTogether(&key), ops) })
    }

    /// What the device lacks of what the setting needs; what is not known of either is tried.
    fn lack(&self, content: &Content) -> Option<Lack> {
        let Content::Setting { id, .. } = content else { return None };
        let row = self.catalogue.setting(id)?;
        let (version, edition) = (self.device.os_version.as_deref(), self.device.os_edition.as_deref());
        if !version.is_none_or(|version| row.supports(version)) {
            Some(Lack::Version)
        } else if !edition.is_none_or(|edition| row.has_edition(edition)) {
            Some(Lack::Edition)
        } else {
            None
        }
    }

    fn remember_address(&mut self, key: &str, address: String) {
        if let Some(record) = self.record_mut(key) {
            record.address = Some(address);
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
            self.apply(key, Input::Unmet { why: format!("no provider for {kind}") });
            return Ok(());
        };
        let payload = if record.state == State::Removing { None } else { self.payload(key) };
        let part = Part { profile: &profile, name: part_name(key), payload: payload.as_ref(), record: &record };
        let turn = csp::alone(csp.begin(&self.context(), &part).await)?;
        self.turn(key, &kind, turn);
        Ok(())
    }

    fn plan_orders(&mut self, busy: &BTreeSet<String>, work: &mut Vec<Planned>) {
        for id in self.due_orders() {
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
            self.deliver_order(&id);
        }
    }
}
