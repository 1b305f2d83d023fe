//! `DeviceLock`. A Mac restarts into a lock that a PIN opens; an iPhone or iPad shows its lock screen.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::super::turn::Turn;
use super::{Body, ForUsers, Request, Subject, named, pin};
use crate::domain::device::Platform;
use crate::service::Result;
use crate::wire::apple::command::Answer;

pub(super) struct DeviceLock;

impl Request for DeviceLock {
    fn name(&self) -> &'static str {
        "DeviceLock"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::Phones
    }

    fn once(&self) -> bool {
        true
    }

    fn order(&self, values: &BTreeMap<String, String>, platform: Platform) -> std::result::Result<Map<String, Value>, String> {
        let mut keys = named(values, &[("message", "Message"), ("phone", "PhoneNumber")]);
        pin::choose(values, platform, &mut keys)?;
        Ok(keys)
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move { pin::told(turn, subject) }.boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, subject: Subject<'_>, _answer: &Answer) {
        pin::taken(turn, subject);
    }
}
