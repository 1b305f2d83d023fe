//! `LOMDeviceRequest`: has a Mac (the controller) switch another one on or off, or restart it. The other one said before at which addresses.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::super::plan::new_uuid;
use super::super::turn::Turn;
use super::lom_setup_request::{LISTS, PROTOCOL};
use super::{Body, Request, Subject, needed};
use crate::domain::device::Platform;
use crate::domain::inventory::Kind;
use crate::ids::DeviceId;
use crate::service::Result;
use crate::store::{Conn, devices, inventory};
use crate::wire::apple::command::Answer;
use crate::wire::plist::{self, Dict};

pub(super) struct LomDeviceRequest;

/// What can be done, as people and as the protocol say it.
const ACTIONS: [(&str, &str); 3] = [("on", "PowerON"), ("off", "PowerOFF"), ("reset", "Reset")];
/// The Mac that is switched, among the keys of the order.
const DEVICE: &str = "device";

impl Request for LomDeviceRequest {
    fn name(&self) -> &'static str {
        "LOMDeviceRequest"
    }

    fn once(&self) -> bool {
        true
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> std::result::Result<Map<String, Value>, String> {
        let device = DeviceId::parse(needed(values, "device")?).ok_or("device: the id of the Mac that is switched (muster device list)")?;
        let action = needed(values, "action")?;
        let action = ACTIONS.iter().find(|(word, _)| *word == action).ok_or("action: on, off or reset")?.1;
        let name = needed(values, "dns-name")?;
        Ok([(DEVICE, device.as_str()), ("DeviceRequestType", action), ("DeviceDNSName", name)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect())
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            let mut request = subject.keys();
            let Some(device) = request.remove(DEVICE).and_then(|id| DeviceId::parse(id.as_str()?)) else {
                return Ok(Body::Nothing("no device is named".into()));
            };
            let read = move |conn: &mut Conn| {
                Ok((devices::find_device(conn, &device)?.is_some(), inventory::find_list(conn, &device, Kind::LightsOut)?))
            };
            let (known, Some((list, _))) = turn.app.store.read(read).await? else {
                return Ok(Body::Nothing("the other Mac has not said its addresses: order lights-out-setup for it first".into()));
            };
            let protocol = list.entries.iter().find_map(|entry| entry.get(PROTOCOL)?.as_i64());
            let Some(protocol) = protocol.filter(|_| known) else {
                return Ok(Body::Nothing("the other Mac can be reached at no address".into()));
            };
            for (interface, key) in LISTS {
                let own = list.entries.iter().filter(|entry| entry.get("Interface").and_then(Value::as_str) == Some(interface));
                let addresses: Vec<plist::Value> = own.filter_map(|entry| Some(entry.get("Address")?.as_str()?.into())).collect();
                request.insert(key, addresses);
            }
            let request = request.with(PROTOCOL, protocol).with("DeviceRequestUUID", new_uuid());
            Ok(Body::Keys(Dict::new().with("RequestList", vec![request.into()])))
        }
        .boxed()
    }

    fn says(&self, answer: &Answer) -> std::result::Result<String, String> {
        let first = answer.body.array("ResponseList").and_then(|list| list.first()?.as_dict()).ok_or("no ResponseList in the answer")?;
        match first.boolean("DeviceRequestSuccess") {
            Some(true) => Ok("done".into()),
            _ => Err(first.string("DeviceRequestReturnError").unwrap_or("the other Mac was not reached").chars().take(200).collect()),
        }
    }
}
