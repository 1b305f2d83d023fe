//! What a device may expect of the server's messages: a server that breaks a rule is told so.

use std::collections::BTreeSet;

use crate::wire::Malformed;
use crate::wire::syncml::{Command, SyncMl};

/// Keeps an eye on the server's side of a session.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Commands of the device that no status has answered yet: message and command.
    owed: BTreeSet<(u32, String)>,
}

impl Watch {
    /// The device sent that.
    pub(super) fn sent(&mut self, message: u32, body: &[Command]) {
        let commands = body.iter().filter(|command| !matches!(command, Command::Status(_) | Command::Results(_)));
        self.owed.extend(commands.filter_map(|command| Some((message, command.id()?.to_owned()))));
    }

    /// Judges an answer; `limits` are the device's largest message and longest value.
    pub(super) fn judge(&mut self, bytes: &[u8], message: &SyncMl, limits: (Option<u64>, Option<u64>)) -> Result<(), Malformed> {
        let (limit, longest) = limits;
        let broken = |what: &'static str, place: &'static str| Err(Malformed::new(what, place));
        // One command goes out however large: a session would not move on otherwise.
        if limit.is_some_and(|limit| bytes.len() as u64 > limit) && message.body.len() > 1 {
            return broken("larger than MaxMsgSize", "SyncML");
        }
        if longest.is_some_and(|longest| message.body.iter().any(|command| is_longer(command, longest))) {
            return broken("longer than MaxObjSize", "Data");
        }
        let mut ids = BTreeSet::new();
        if !message.body.iter().all(|command| numbered(command, &mut ids)) {
            return broken("missing, zero or used twice", "CmdID");
        }
        if !challenges_in_order(&String::from_utf8_lossy(bytes)) {
            return broken("Data before Chal", "Status");
        }
        let Some(Command::Status(header)) = message.body.first().filter(|first| matches!(first, Command::Status(s) if s.cmd_ref == "0"))
        else {
            return broken("no status of the header", "SyncBody");
        };
        for command in &message.body {
            if let Command::Status(status) = command {
                self.owed.remove(&(status.msg_ref, status.cmd_ref.clone()));
            }
        }
        if !(200..300).contains(&header.code) {
            // A message that is refused is answered as a whole.
            self.owed.clear();
        }
        if message.last && !self.owed.is_empty() { broken("a command without its status", "SyncBody") } else { Ok(()) }
    }
}

/// Whether a command carries, or announces, a longer value.
fn is_longer(command: &Command, longest: u64) -> bool {
    match command {
        Command::Operation(operation) => operation.items.iter().any(|item| {
            let here = item.data.as_ref().map_or(0, |data| data.as_str().len() as u64);
            here.max(item.meta.size.unwrap_or_default()) > longest
        }),
        Command::Atomic(group) | Command::Sequence(group) => group.commands.iter().any(|inner| is_longer(inner, longest)),
        Command::Alert(_) | Command::Results(_) | Command::Status(_) | Command::Unsupported(..) => false,
    }
}

/// Whether a command and those inside it have numbers of their own.
fn numbered(command: &Command, ids: &mut BTreeSet<String>) -> bool {
    let own = command.id().is_some_and(|id| !id.is_empty() && id != "0" && ids.insert(id.to_owned()));
    own && match command {
        Command::Atomic(group) | Command::Sequence(group) => group.commands.iter().all(|inner| numbered(inner, ids)),
        _ => true,
    }
}

/// The order inside a status is binding, and decoding does not tell it.
fn challenges_in_order(text: &str) -> bool {
    let statuses = text.split("<Status>").skip(1).filter_map(|rest| rest.split("</Status>").next());
    statuses.filter_map(|status| status.split_once("<Chal")).all(|(before, _)| !before.contains("<Data"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::syncml::{Alert, Group, Status};

    fn header(code: u16) -> Command {
        Command::Status(Status { id: Some("1".into()), msg_ref: 1, cmd_ref: "0".into(), cmd: "SyncHdr".into(), code, ..Status::default() })
    }

    fn alert(id: Option<&str>) -> Command {
        Command::Alert(Alert { id: id.map(str::to_owned), code: 1222, ..Alert::default() })
    }

    fn judged(watch: &mut Watch, body: Vec<Command>, limit: Option<u64>) -> bool {
        let message = SyncMl { body, last: true, ..SyncMl::default() };
        watch.judge(&message.encode(), &message, (limit, Some(100))).is_ok()
    }

    #[test]
    fn bad_manners_are_noticed() {
        let fresh = |body, limit| judged(&mut Watch::default(), body, limit);
        assert!(fresh(vec![header(200), alert(Some("2"))], None));
        assert!(!fresh(vec![alert(Some("2"))], None), "no status of the header");
        assert!(!fresh(vec![header(200), alert(Some("1"))], None), "used twice");
        assert!(!fresh(vec![header(200), alert(Some("0"))], None));
        assert!(!fresh(vec![header(200), alert(None)], None));
        let group = |id| Command::Atomic(Group { id: Some("2".into()), commands: vec![alert(id)], ..Group::default() });
        assert!(fresh(vec![header(200), group(Some("3"))], None));
        assert!(!fresh(vec![header(200), group(None)], None) && !fresh(vec![header(200), group(Some("2"))], None));
        assert!(!fresh(vec![header(200), alert(Some("2"))], Some(100)));
        assert!(challenges_in_order("<Status><Chal><Meta/></Chal><Data>407</Data></Status>"));
        assert!(!challenges_in_order("<Status><Data>407</Data><Chal><Meta/></Chal></Status>"));
    }

    #[test]
    fn each_command_of_the_device_is_owed_a_status() {
        let mut watch = Watch::default();
        watch.sent(1, &[alert(Some("7"))]);
        assert!(!judged(&mut watch, vec![header(200)], None));
        let status = Status { id: Some("2".into()), msg_ref: 1, cmd_ref: "7".into(), cmd: "Alert".into(), code: 200, ..Status::default() };
        assert!(judged(&mut watch, vec![header(200), Command::Status(status)], None));
        watch.sent(2, &[alert(Some("7"))]);
        assert!(judged(&mut watch, vec![header(407)], None), "a challenge is the whole answer");
    }
}
