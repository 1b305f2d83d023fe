//! Orders in one message's work, whatever the platform: which are due, which are lost, and what an answer does to them. The table of orders
//! is the queue ([`crate::domain::command`]); sessions and channels take from it and bring back.

use serde_json::{Value, json};

use super::Round;
use crate::domain::command::{Command, Input, State, UNENROLL};
use crate::ids::CommandId;

/// A device that is not managed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Gone {
    /// It left.
    Left,
    /// It was told to wipe itself, and has taken that on.
    Wiped,
}

impl Round<'_> {
    /// An order as this message left it.
    pub(in crate::service) fn order(&self, id: &CommandId) -> Option<&Command> {
        self.moved_orders.get(id).or_else(|| self.known.orders.iter().find(|order| order.id == *id))
    }

    /// The orders that may be given to the device now, the oldest first: what a lost session held, too.
    pub(in crate::service) fn due_orders(&self) -> Vec<CommandId> {
        let orders = self.known.orders.iter().filter_map(|order| self.order(&order.id));
        orders.filter(|order| order.is_due(self.now)).map(|order| order.id.clone()).collect()
    }

    /// Whether an order that a session or channel holds is the device's still.
    pub(in crate::service) fn is_open_order(&self, id: &str) -> bool {
        CommandId::parse(id).and_then(|id| self.order(&id)).is_some_and(Command::is_open)
    }

    /// An order goes into a message.
    pub(in crate::service) fn deliver_order(&mut self, id: &CommandId) {
        self.move_order(id, Input::Deliver);
    }

    /// The device, or the user of it who speaks, begins anew: what they were given before and did not answer is lost. Returns the orders of
    /// which nobody knows whether they ran.
    pub(in crate::service) fn lose_orders(&mut self, user: Option<&str>) -> Vec<CommandId> {
        let sent = self.known.orders.iter().filter(|order| order.state == State::Sent && order.operation.user() == user);
        let sent: Vec<CommandId> = sent.map(|order| order.id.clone()).collect();
        for id in &sent {
            self.move_order(id, Input::SessionLost);
        }
        let unclear = |id: &CommandId| self.order(id).is_some_and(|order| order.state == State::Uncertain);
        sent.into_iter().filter(unclear).collect()
    }

    /// Moves an order without a word of the device.
    pub(in crate::service) fn move_order(&mut self, id: &CommandId, input: Input) {
        self.step_order(id, input, &Value::Null);
    }

    /// Moves an order by what the device answered to what it was given; whether it is managed no more, since it obeyed. `status` is the
    /// answer in a word or number, for the audit log: what else the device said may be a secret, and is the administrator's who asked.
    pub(in crate::service) fn answer_order(&mut self, id: &CommandId, input: Input, status: &Value) -> Option<Gone> {
        let gone = if matches!(input, Input::Answered(_)) { self.order(id).and_then(|order| self.gone_by(order)) } else { None };
        if self.order(id).is_none_or(|order| order.state == State::Cancelled) {
            // Taken back after it was sent: whether it ran is worth knowing.
            let verdict = match input {
                Input::Answered(_) => "done",
                Input::NotNow { .. } => "deferred",
                Input::Unclear(_) => "retry",
                Input::Refused(_) | Input::Deliver | Input::Absent(_) | Input::SessionLost | Input::Unsent | Input::Cancel => "failed",
            };
            self.audit("command.answered-late", format!("command:{id}"), &json!({ "status": status, "verdict": verdict }));
        } else {
            self.step_order(id, input, status);
        }
        gone
    }

    /// What a device is that obeys an order after which it is not managed any more.
    fn gone_by(&self, order: &Command) -> Option<Gone> {
        let row = self.catalogue.commands().find(|row| row.ends_enrollment && order.is_known_as(&row.id, &row.uri))?;
        Some(if row.id == UNENROLL { Gone::Left } else { Gone::Wiped })
    }

    fn step_order(&mut self, id: &CommandId, input: Input, status: &Value) {
        let Some(next) = self.order(id).cloned().and_then(|order| order.step(input, self.now)) else { return };
        if matches!(next.state, State::Done | State::Failed | State::Uncertain) {
            let after = json!({ "kind": next.kind, "state": next.state, "status": status });
            self.audit("command.ended", format!("command:{id}"), &after);
        }
        self.moved_orders.insert(id.clone(), next);
    }
}
