//! `EraseDevice`: everything goes, the enrolment with it. No `CheckOut` follows. An iPhone or iPad may come back by itself (return to service).

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::super::turn::Turn;
use super::{Body, Request, Subject, flag, pin};
use crate::domain::device::Platform;
use crate::service::Result;
use crate::wire::apple::command::Answer;
use crate::wire::plist;

pub(super) struct EraseDevice;

/// What a Mac does when it cannot erase itself in the quick way.
const BEHAVIOURS: [&str; 4] = ["Default", "DoNotObliterate", "ObliterateWithWarning", "Always"];
/// The key with how the device comes back.
pub(in crate::service) const RETURN: &str = "ReturnToService";
/// Among the keys of the order: the profile with the Wi-Fi for that.
const WIFI: &str = "wifi";

impl Request for EraseDevice {
    fn name(&self) -> &'static str {
        "EraseDevice"
    }

    fn once(&self) -> bool {
        true
    }

    /// A Mac that cannot erase itself in the quick way says so, and then destroys its volume.
    fn may_have_run(&self) -> bool {
        true
    }

    fn order(&self, values: &BTreeMap<String, String>, platform: Platform) -> std::result::Result<Map<String, Value>, String> {
        let mut keys = Map::new();
        // A Mac with an Intel processor and no T2 chip asks for the PIN afterwards; others leave it aside.
        pin::choose(values, platform, &mut keys)?;
        let mac = platform == Platform::MacOs;
        if let Some(behaviour) = values.get("obliteration") {
            if !mac {
                return Err("obliteration: only for Macs".into());
            }
            if !BEHAVIOURS.contains(&behaviour.as_str()) {
                return Err(format!("obliteration: {}", BEHAVIOURS.join(", ")));
            }
            keys.insert("ObliterationBehavior".into(), behaviour.as_str().into());
        }
        let phones = ["keep-data-plan", "no-proximity-setup", "return-to-service", WIFI];
        if let Some(name) = phones.iter().find(|name| mac && values.contains_key(**name)) {
            return Err(format!("{name}: only for iPhones and iPads"));
        }
        for (ours, theirs) in [("keep-data-plan", "PreserveDataPlan"), ("no-proximity-setup", "DisallowProximitySetup")] {
            keys.extend(flag(values, ours)?.map(|on| (theirs.to_owned(), on.into())));
        }
        match (flag(values, "return-to-service")?, values.get(WIFI)) {
            (Some(true), wifi) => {
                let how = wifi.map(|name| (WIFI.to_owned(), name.as_str().into())).into_iter().collect();
                keys.insert(RETURN.into(), Value::Object(how));
            }
            (_, Some(_)) => return Err("wifi: only with return-to-service=yes".into()),
            (_, None) => {}
        }
        Ok(keys)
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            let Body::Keys(mut keys) = pin::told(turn, subject)? else { return Ok(Body::Nothing("it has no keys".into())) };
            if let Some(plist::Value::Dict(how)) = keys.remove(RETURN) {
                match turn.comes_back(how.string(WIFI)).await? {
                    Ok(back) => keys.insert(RETURN, plist::to_value(&back)?),
                    Err(why) => return Ok(Body::Nothing(why)),
                }
            }
            Ok(Body::Keys(keys))
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, subject: Subject<'_>, _answer: &Answer) {
        pin::taken(turn, subject);
    }
}
