//! `SetFirmwarePassword`: a password in front of other start disks of Macs with an Intel processor, made here. In force after a restart.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::super::turn::Turn;
use super::password::{self, Lock};
use super::{Body, Request, Subject, flag};
use crate::domain::apple::escrow::Kind;
use crate::domain::device::Platform;
use crate::service::Result;
use crate::wire::apple::command::Answer;

/// The firmware password.
pub(super) const LOCK: Lock = Lock { current: Kind::Firmware, next: Kind::NextFirmware, verify: "VerifyFirmwarePassword" };

pub(super) struct SetFirmwarePassword;

impl Request for SetFirmwarePassword {
    fn name(&self) -> &'static str {
        "SetFirmwarePassword"
    }

    /// As for the recovery lock.
    fn may_have_run(&self) -> bool {
        true
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> std::result::Result<Map<String, Value>, String> {
        let mut keys = password::clearing(flag(values, "clear")?);
        keys.extend(flag(values, "allow-oroms")?.map(|allow| ("AllowOroms".to_owned(), allow.into())));
        Ok(keys)
    }

    fn says(&self, answer: &Answer) -> std::result::Result<String, String> {
        match answer.body.dict(self.name()).and_then(|result| result.boolean("PasswordChanged")) {
            Some(true) => Ok("in force after a restart".into()),
            _ => Err("the Mac did not change the password".into()),
        }
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move { LOCK.set(turn, subject, self.name()).await }.boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _answer: &Answer) {
        LOCK.taken(turn);
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _why: &str) {
        LOCK.refused(turn);
    }
}
