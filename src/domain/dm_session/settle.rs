//! Deciding what became of work, once a message has been taken in.

use crate::wire::syncml::Verb;

use super::inbound::Received;
use super::plan::{Answer, OpState, Ref, Stage, Unit, Verdict};
use super::verdict::{Judged, judge};
use super::{Login, Session, Turn};

impl Session {
    /// Decides what can be decided.
    pub(super) fn settle(&mut self, received: &mut Received) {
        let last = self.complete && !self.keep_alive;
        let open = self.upload.as_ref().and_then(|upload| upload.subject.of);
        let mut kept = Vec::with_capacity(self.units.len());
        for mut unit in std::mem::take(&mut self.units) {
            unit.absent = self.login != Some(Login::User);
            if unit.settle(last, open, received) {
                self.phase = self.phase.step(Turn::Stop);
            }
            match unit.outcome() {
                Some(outcome) => received.outcomes.push(outcome),
                None => kept.push(unit),
            }
        }
        self.units = kept;
    }
}

impl OpState {
    pub(super) fn fail(&mut self, code: u16, verdict: Verdict) {
        self.value = None;
        self.answer = Some(Answer { code, original_error: None });
        self.stage = Stage::Settled(verdict);
    }
}

impl Unit {
    pub(super) fn is_waiting(&self) -> bool {
        self.ops.iter().any(|op| matches!(op.stage, Stage::Sent { .. }))
    }

    /// Decides what can be decided; true when the device processes nothing more in this session.
    fn settle(&mut self, last: bool, open: Option<Ref>, received: &mut Received) -> bool {
        let mut stop = false;
        if self.atomic.is_some() {
            let inside = |op: &&OpState| self.is_inside(op);
            let all = self.ops.iter().filter(inside).all(|op| op.answer.is_some());
            let any = self.atomic_answer.is_some() || self.ops.iter().filter(inside).any(|op| op.answer.is_some());
            if (all && self.atomic_answer.is_some()) || (last && any) {
                stop |= self.settle_atomic(received);
            }
        }
        let (scope, absent, atomic) = (self.scope, self.absent, self.planned.atomic);
        for (op, planned) in self.ops.iter_mut().zip(&self.planned.ops) {
            let Stage::Sent { at, until } = op.stage else { continue };
            if atomic && op.verb != Verb::Get {
                continue;
            }
            let code = match &op.answer {
                Some(answer) => answer.code,
                None if last && op.value.is_some() => {
                    op.answer = Some(Answer { code: 200, original_error: None });
                    200
                }
                None => continue,
            };
            received.reread |= code == 516;
            if code == 400 {
                received.malformed.push(format!("{planned:?}"));
            }
            let partial = until < planned.data.as_ref().map_or(0, String::len);
            match judge(op.verb, planned.format, scope, absent, op.switched, code) {
                Judged::Settled(Verdict::Done) | Judged::Chunk if partial => {
                    op.offset = until;
                    op.stage = Stage::Queued;
                    op.answer = None;
                }
                // Results may come after the status, and in chunks.
                Judged::Settled(Verdict::Done)
                    if code < 300 && op.verb == Verb::Get && op.value.is_none() && (!last || open == Some(at)) => {}
                Judged::Settled(verdict) => op.stage = Stage::Settled(verdict),
                Judged::Chunk => op.answer = None,
                Judged::DoneAndStop => {
                    op.stage = Stage::Settled(Verdict::Done);
                    stop = true;
                }
                Judged::Switch(verb) => op.switch(verb),
            }
        }
        stop
    }

    fn settle_atomic(&mut self, received: &mut Received) -> bool {
        let scope = self.scope;
        let inside = |op: &OpState| op.verb != Verb::Get && !matches!(op.stage, Stage::Settled(_));
        let mut children = self.ops.iter().zip(&self.planned.ops).enumerate().filter(|(_, (op, _))| inside(op));
        let culprit = children.find_map(|(place, (op, planned))| Some((place, self.guilt(op, planned)?)));
        let fell = self.ops.iter().any(|op| op.answer.as_ref().is_some_and(|answer| matches!(answer.code, 215 | 216)));
        // All or nothing: of a child that the device said nothing about nobody knows, whatever it said about the others or the whole.
        let silent = self.ops.iter().any(|op| inside(op) && op.answer.is_none());
        let broken =
            self.ops.iter().zip(&self.planned.ops).filter(|(op, _)| inside(op) && op.answer.as_ref().is_some_and(|a| a.code == 400));
        received.malformed.extend(broken.map(|(_, planned)| format!("{planned:?}")));
        let own = self.atomic_answer.as_ref().map_or(if culprit.is_some() || fell { 507 } else { 200 }, |answer| answer.code);
        received.reread |= own == 516;
        // What shall go is gone already: the rest goes without it.
        let gone = |op: &OpState| inside(op) && op.verb == Verb::Delete && op.answer.as_ref().is_some_and(|answer| answer.code == 404);
        if culprit.is_none() && own >= 300 && own != 516 && self.ops.iter().any(gone) {
            for op in self.ops.iter_mut().filter(|op| inside(op)) {
                if gone(op) {
                    op.stage = Stage::Settled(Verdict::Done);
                } else {
                    op.stage = Stage::Queued;
                    op.answer = None;
                }
            }
            self.atomic = None;
            self.atomic_answer = None;
            return false;
        }
        let verdict = match (culprit, own) {
            (None, 200..=214) if silent => Verdict::Retry,
            (None, 200..=214) => Verdict::Done,
            // It was rolled back as a whole, so that it can be sent again with the right verb.
            (Some((place, Judged::Switch(verb))), _) if own != 516 => {
                for op in self.ops.iter_mut().filter(|op| inside(op)) {
                    op.stage = Stage::Queued;
                    op.answer = None;
                }
                if let Some(op) = self.ops.get_mut(place) {
                    op.switch(verb);
                }
                self.atomic = None;
                self.atomic_answer = None;
                return false;
            }
            (Some((_, Judged::Settled(verdict))), _) if own != 516 => verdict,
            (Some(_), _) => Verdict::Failed,
            (None, code) => match judge(Verb::Exec, None, scope, self.absent, true, code) {
                Judged::Settled(Verdict::Done) | Judged::Switch(_) | Judged::Chunk | Judged::DoneAndStop => Verdict::Failed,
                Judged::Settled(verdict) => verdict,
            },
        };
        for op in self.ops.iter_mut().filter(|op| inside(op)) {
            op.stage = Stage::Settled(verdict);
        }
        self.atomic = None;
        own == 214
    }
}

impl OpState {
    fn switch(&mut self, verb: Verb) {
        self.verb = verb;
        self.switched = true;
        self.stage = Stage::Queued;
        self.offset = 0;
        self.answer = None;
    }
}
