//! `LOMSetupRequest`: at which addresses a Mac can be switched on and off by another one. The addresses are kept.

use super::super::turn::Turn;
use super::{Request, Subject, keep_entries};
use crate::domain::inventory::Kind;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{Dict, Value};

pub(super) struct LomSetupRequest;

/// The lists of addresses in an answer, and in an order to the Mac that switches.
pub(super) const LISTS: [(&str, &str); 2] = [("primary", "PrimaryIPv6AddressList"), ("secondary", "SecondaryIPv6AddressList")];
/// The version of the protocol, in the same places.
pub(super) const PROTOCOL: &str = "LOMProtocolVersion";

fn list(answer: &Answer) -> Option<Vec<Value>> {
    let protocol = answer.body.integer(PROTOCOL)?;
    let mut all = Vec::new();
    for (interface, key) in LISTS {
        let addresses = answer.body.array(key).unwrap_or_default().iter().filter_map(Value::as_str);
        all.extend(addresses.map(|at| Value::Dict(Dict::new().with("Interface", interface).with("Address", at).with(PROTOCOL, protocol))));
    }
    Some(all)
}

impl Request for LomSetupRequest {
    fn name(&self) -> &'static str {
        "LOMSetupRequest"
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        let all = list(answer).ok_or("no LOMProtocolVersion in the answer")?;
        Ok(format!("{} addresses; muster device inventory shows them", all.len()))
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        keep_entries(turn, Kind::LightsOut, &list(answer).unwrap_or_default());
    }
}
