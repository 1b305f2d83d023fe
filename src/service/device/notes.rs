//! Where a device is, in words: that it is to leave or has left and how, that it is lost, that it put off what it was told.

use crate::catalogue::{CommandRow, catalogue};
use crate::domain::command::{Command, State as OrderState, UNENROLL};
use crate::domain::device::{Device, State};
use crate::domain::fact::Facts;
use crate::secret::Sealer;
use crate::store::{self, Conn, commands, enrollments};

/// The fact that an iPhone or iPad is in lost mode.
const LOST: &str = "ios.lost-mode";
/// What an order of an Apple device says that was put off.
pub(in crate::service) const NOT_NOW: &str = "not now";
/// Orders that are looked at, the newest.
const ORDERS: i64 = 100;

/// What a person should know of the device before all else.
///
/// # Errors
/// Only the database's own.
pub(super) fn about(conn: &mut Conn, sealer: &Sealer, device: &Device, facts: &Facts) -> store::Result<Vec<String>> {
    let newest = enrollments::list_enrollments(conn, &device.id, 1)?.into_iter().map(|enrollment| enrollment.id).collect::<Vec<_>>();
    Ok(say(device.state, facts, &commands::list_commands(conn, sealer, &newest, ORDERS)?))
}

/// The words; `orders`: those of the newest enrolment, newest first.
fn say(state: State, facts: &Facts, orders: &[Command]) -> Vec<String> {
    let mut notes = Vec::new();
    match state {
        State::Retired => notes.push(gone(orders).to_owned()),
        State::Retiring if orders.iter().any(|order| is_wipe(order) && order.state == OrderState::Done) => notes.push(
            "it was told to wipe itself and acknowledged that; its enrolment ends when it stays silent, or at once with \
             `muster device retire DEVICE --give-up`"
                .into(),
        ),
        State::Retiring => notes.push(
            "it was told to leave, and leaves when it next reports; `muster device retire DEVICE --give-up` ends it without its answer"
                .into(),
        ),
        State::Managed => {
            if orders.iter().any(|order| is_wipe(order) && matches!(order.state, OrderState::Sent | OrderState::Uncertain)) {
                notes.push("it was told to wipe itself and has not answered: it may be wiped".into());
            }
            if facts.get(LOST).is_some_and(|fact| fact.value.as_deref() == Some("true")) {
                notes.push(
                    "it is marked as lost: locked, with a message; `muster device command DEVICE disable-lost-mode` ends that".into(),
                );
            }
        }
    }
    let put_off = orders.iter().filter(|order| order.state == OrderState::Queued && order.result.is_some()).collect::<Vec<_>>();
    if let Some(newest) = put_off.first().filter(|_| state != State::Retired) {
        let (count, order) = (put_off.len(), if put_off.len() == 1 { "order waits" } else { "orders wait" });
        let said = newest.result.as_deref().unwrap_or_default();
        let until = if said == NOT_NOW { "is locked, naps or is busy, and does them when somebody uses it" } else { "is asked again" };
        notes.push(format!("{count} {order}: the device answered \"{said}\" and {until}; `muster device orders DEVICE` shows which"));
    }
    notes
}

/// How a device left that is not managed any more.
fn gone(orders: &[Command]) -> &'static str {
    let wipe = orders.iter().find(|order| is_wipe(order) && order.state != OrderState::Failed);
    let told = |state: OrderState| wipe.is_some_and(|order| order.state == state);
    if told(OrderState::Done) {
        "it was wiped: it answered that it erases itself; it has to enrol again to be managed"
    } else if told(OrderState::Sent) || told(OrderState::Uncertain) {
        "it was told to wipe itself and never answered: it may be wiped; it has to enrol again to be managed"
    } else if orders.iter().any(|order| order.kind == UNENROLL && order.state == OrderState::Done) {
        "it left, as it was told; it has to enrol again to be managed"
    } else {
        "it is not managed any more; it has to enrol again to be managed"
    }
}

/// Whether an order erases the device.
fn is_wipe(order: &Command) -> bool {
    let wipes = |row: &&CommandRow| row.ends_enrollment && row.id != UNENROLL;
    catalogue().commands().filter(wipes).any(|row| order.is_known_as(&row.id, &row.uri))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::domain::command::{NodeOperation, Operation, Request, Verb};
    use crate::domain::profile::Scope;
    use crate::ids::{CommandId, EnrollmentId};

    fn order(kind: &str, state: OrderState, result: Option<&str>) -> Command {
        Command {
            id: CommandId::new(),
            enrollment_id: EnrollmentId::new(),
            kind: kind.into(),
            scope: Scope::Device,
            operation: Operation::Request(Request {
                request: kind.into(),
                keys: serde_json::Map::new(),
                large: Vec::new(),
                once: true,
                user: None,
            }),
            state,
            attempts: 0,
            result: result.map(str::to_owned),
            not_before: Time(0),
            created_by: "cli:test".into(),
            version: 1,
        }
    }

    #[test]
    fn how_a_device_left_is_told_by_its_orders() {
        let says = |orders: &[Command]| say(State::Retired, &Facts::new(), orders).concat();
        assert!(says(&[order("wipe", OrderState::Done, None)]).starts_with("it was wiped"));
        assert!(says(&[order("wipe", OrderState::Uncertain, None)]).contains("may be wiped"));
        assert!(says(&[order("wipe", OrderState::Failed, None), order(UNENROLL, OrderState::Done, None)]).starts_with("it left, as"));
        assert!(says(&[]).starts_with("it is not managed"));
        let uri = "./Device/Vendor/MSFT/RemoteWipe/doWipe".to_owned();
        let node = Operation::Node(NodeOperation { verb: Verb::Exec, uri, format: None, data: None });
        assert!(says(&[Command { operation: node, ..order("custom", OrderState::Done, None) }]).starts_with("it was wiped"));
    }

    #[test]
    fn what_a_device_put_off_is_told_while_it_is_managed() {
        let orders = [order("restart", OrderState::Queued, Some("not now")), order("wipe", OrderState::Queued, None)];
        let says = |state| say(state, &Facts::new(), &orders);
        assert!(
            says(State::Managed).concat().starts_with("1 order waits: the device answered \"not now\" and is locked"),
            "{:?}",
            says(State::Managed)
        );
        assert!(says(State::Retiring)[0].starts_with("it was told to leave"));
        assert!(say(State::Retiring, &Facts::new(), &[order("wipe", OrderState::Done, None)])[0].contains("acknowledged"));
        assert_eq!(says(State::Retired).len(), 1);
        assert!(say(State::Managed, &Facts::new(), &[]).is_empty());
    }
}
