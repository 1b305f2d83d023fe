//! One message's work: answers move records, orders and facts; what is due is planned; all of it is stored in one transaction.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use serde_json::json;

use super::super::csp::{self, Part};
use super::super::plan;
use super::commit::Slot;
use super::{kept, manners};
use crate::app::App;
use crate::catalogue::Vars;
use crate::domain::command::Input as OrderInput;
use crate::domain::desired::{Content, Input, Record, State};
use crate::domain::dm_session::{Abandoned, Outcome, Phase, Planned, Received, Session, Verdict};
use crate::domain::enrollment::{Enrollment, State as EnrollmentState};
use crate::domain::work::Key;
use crate::ids::CommandId;
use crate::service::Result;
use crate::service::device::Leaving;
use crate::service::round::orders::Gone;
use crate::service::round::{Changes, Known, Round};

/// What is being done for one message: the work on the device, and what only a session has.
pub(super) struct Turn<'a> {
    round: Round<'a>,
    pub(super) followups: Vec<Planned>,
    /// Facts that what the device has just taken may have changed.
    pub(super) stale_facts: BTreeSet<&'static str>,
    pub(super) report_hash: Option<String>,
    /// The device has left with this message.
    pub(super) left: Option<Leaving>,
    /// Whether the session takes commands for the machine, and for the user.
    pub(super) takes: (bool, bool),
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

impl<'a> Turn<'a> {
    pub(super) async fn new(app: &'a App, known: Known, origin: &'a str) -> Result<Self> {
        let mut round = Round::new(app, known, &[], None, origin).await?;
        if round.enrollment.state == EnrollmentState::Provisioned {
            round.enrollment.state = EnrollmentState::Active;
        }
        Ok(Self { round, followups: Vec::new(), stale_facts: BTreeSet::new(), report_hash: None, left: None, takes: (true, false) })
    }

    /// What has to be stored of the work on the device.
    pub(super) fn changes(self) -> Result<(&'a App, Changes)> {
        Ok((self.round.app, self.round.changes()?))
    }

    /// Takes in what the message brought, plans, answers and stores.
    pub(super) async fn run(mut self, mut session: Session, lost: Option<Session>, received: Received, mut slot: Slot) -> Result<Vec<u8>> {
        let first = slot.first;
        if first {
            self.lose(lost);
        }
        self.withdraw(&mut session);
        self.take_reports(&received);
        self.take_notices(&received.notices);
        for command in &received.malformed {
            tracing::warn!(device = %self.device.id, command, "a device calls a command malformed");
        }
        for outcome in received.outcomes {
            self.take(&outcome)?;
        }
        if received.reread {
            self.reread();
        }
        self.note_system();
        if received.unenrolled {
            // An order to leave may have been obeyed without an answer.
            let told = self.known.enrollment.state == EnrollmentState::Unenrolling;
            self.left.get_or_insert(if told { Leaving::ByOrder } else { Leaving::ByUser });
        }
        if !received.aborted && self.left.is_none() && !received.keep_alive && session.phase() == Phase::Managing {
            self.plan(&mut session, first).await?;
        }
        let (mut session, answer, failed) = session.respond(&manners(self.app));
        for outcome in failed {
            self.take(&outcome)?;
        }
        if session.is_over() {
            // What the device would not take in this session waits for the next.
            let left = session.clone().abandon();
            self.leave_over(&left);
        }
        let (answer, sealer) = (answer.encode(), self.app.sealer());
        slot.keep_piece(&sealer, &mut session)?;
        let over = session.is_over();
        let goes_on = (!over && self.left.is_none()).then(|| kept::Kept::Open(Box::new(session)));
        slot.stored = kept::seal(&sealer, slot.stored, goes_on.as_ref(), &answer)?;
        self.commit(over, slot).await?;
        Ok(answer)
    }

    /// The session before this one died: what it had sent is looked at again, and what runs something is not repeated blindly.
    fn lose(&mut self, lost: Option<Session>) {
        if let Some(session) = lost {
            self.leave_over(&session.abandon());
        }
        // Whatever still says "sent" has no session that could answer it.
        self.apply_where(|record| record.state == State::Sent, &Input::Lost);
        self.lose_orders(None);
    }

    /// What a session leaves behind: of what was sent nobody knows what became of it; the rest just waits.
    fn leave_over(&mut self, left: &Abandoned) {
        for work in &left.unsent {
            self.left_work(&work.key, OrderInput::Unsent);
        }
        for work in left.resend.iter().chain(&left.uncertain) {
            self.left_work(&work.key, OrderInput::SessionLost);
        }
    }

    fn left_work(&mut self, key: &str, order: OrderInput) {
        let Some(key) = Key::parse(key) else { return };
        for record in key.records() {
            self.apply(record, Input::Lost);
        }
        if let Key::Order(id) = key
            && let Some(id) = CommandId::parse(id)
        {
            self.move_order(&id, order);
        }
    }

    /// Takes orders out of the session that are not open any more and that were in no message yet.
    fn withdraw(&self, session: &mut Session) {
        session.retain_unsent(|key| match Key::parse(key) {
            Some(Key::Order(id)) => self.is_open_order(id),
            _ => true,
        });
    }

    /// A rollback failed on the device: what was seen there before may not hold any more.
    fn reread(&mut self) {
        let seen = |record: &Record| matches!(record.state, State::Delivered | State::Verified) && record.winner.is_none();
        let until = self.now;
        self.apply_where(seen, &Input::Postponed { until });
    }

    /// What a device did not have, it may have after an upgrade.
    fn note_system(&mut self) {
        let (old, new) = (&self.known.device, &self.device);
        if old.os_version != new.os_version || old.os_edition != new.os_edition {
            self.apply_where(|record| record.winner.is_none(), &Input::Upgraded);
        }
    }

    /// Moves whatever the answer is about.
    pub(super) fn take(&mut self, outcome: &Outcome) -> Result<()> {
        let now = self.now;
        match Key::parse(&outcome.key) {
            Some(Key::Set(record)) => self.answer(record, plan::input(outcome.verdict, outcome, now), false),
            Some(key @ (Key::SetTogether(_) | Key::RemoveTogether(_))) => {
                let removal = matches!(key, Key::RemoveTogether(_));
                for (place, record) in key.records().enumerate() {
                    let done = removal && outcome.verdict == Verdict::Done;
                    self.answer(record, if done { Input::Removed } else { plan::member(outcome, place, now) }, removal);
                }
            }
            Some(Key::Check(record)) => self.take_check(record, outcome),
            Some(Key::Remove(record)) => {
                let input = match outcome.verdict {
                    Verdict::Done => Input::Removed,
                    verdict => plan::input(verdict, outcome, now),
                };
                self.answer(record, input, true);
            }
            Some(Key::Part { phase, record }) => self.take_part(phase, record, outcome)?,
            Some(Key::Fact(name)) => self.take_fact(name, outcome),
            Some(Key::Order(id)) => self.take_order(id, outcome),
            Some(Key::Ask(_) | Key::Sync | Key::Renew | Key::Release) | None => {
                tracing::warn!(key = outcome.key, "an outcome without a place")
            }
        }
        Ok(())
    }

    /// Moves the record of a setting by an answer to what was sent.
    fn answer(&mut self, record: &str, input: Input, removal: bool) {
        self.answered(record, input, removal);
        self.read_again_after(record);
    }

    /// A rule that waits for its setting is judged by what the device says after it has taken it.
    fn read_again_after(&mut self, key: &str) {
        let delivered = self.record(key).is_some_and(|(_, record)| record.state == State::Delivered);
        let round = &self.round;
        let Some(Content::Setting { id, .. }) = round.effective.winners.get(key).map(|winner| &winner.content).filter(|_| delivered) else {
            return;
        };
        let rules = round.catalogue.rules().filter(|rule| rule.enforce.as_ref().is_some_and(|enforce| enforce.setting == *id));
        self.stale_facts.extend(rules.flat_map(|rule| &rule.check).map(|check| check.fact.as_str()));
    }

    fn take_check(&mut self, key: &str, outcome: &Outcome) {
        let Some(winner) = self.effective.winners.get(key) else { return };
        // What was looked at was another value, if this one is still to be given.
        if self.record(key).is_some_and(|(_, record)| record.state == State::Pending) {
            return;
        }
        let input = match outcome.verdict {
            Verdict::Done => {
                let found = plan::value(outcome, 0);
                if plan::holds(winner, self.catalogue, found) {
                    Input::Matches
                } else {
                    if self.record(key).is_some_and(|(_, record)| record.state == State::Verified) {
                        let wanted = plan::shown(&winner.content, self.catalogue);
                        self.audit_device("setting.drift", &json!({ "setting": key, "wanted": wanted }));
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
        let about_given = ![csp::REMOVE, csp::CLEAN].contains(&phase);
        if about_given && record.outdated && record.state != State::Removing {
            // The provider begins anew with what is wanted; what it remembers of before it takes away then.
            self.apply(key, Input::Outdated);
            return Ok(());
        }
        let Some(kind) = self.kind_of(key, &record) else { return Ok(()) };
        let Some(csp) = csp::find(&kind) else { return Ok(()) };
        let payload = self.payload(key);
        let part = Part { profile: &profile, name: part_name(key), payload: payload.as_ref(), record: &record };
        let turn = csp::alone(csp.answered(&self.context(), &part, phase, outcome))?;
        self.turn(key, &kind, turn);
        Ok(())
    }

    pub(super) fn context(&self) -> csp::Context<'_> {
        csp::Context {
            app: self.app,
            now: self.now,
            device: &self.device,
            enrollment: &self.enrollment,
            user: self.known.user.as_ref(),
            certificates: &self.known.certificates,
            takes_device: self.takes.0,
            takes_user: self.takes.1,
            authority: &self.authority,
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
            self.remember(key, |known| *known = memory);
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
            Verdict::Deferred => OrderInput::NotNow { why: said, until: self.now.plus(plan::NOT_NOW) },
            Verdict::Retry => OrderInput::Unclear(said),
            Verdict::NotApplicable | Verdict::Failed => OrderInput::Refused(said),
        };
        if let Some(gone) = self.answer_order(&id, input, &status.into()) {
            self.left = Some(match gone {
                Gone::Left => Leaving::ByOrder,
                Gone::Wiped => Leaving::ByWipe,
            });
        }
    }
}

/// What the variables of addresses stand for on that enrolment's device.
pub(super) fn vars<'a>(app: &'a App, enrollment: &'a Enrollment) -> Vars<'a> {
    Vars { tenant: app.tenant.as_str(), provider: enrollment.provider(&app.config.windows.provider_id) }
}

/// The payload's name in its profile: what follows the profile's id in the key.
pub(super) fn part_name(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, name)| name)
}
