//! `SetRecoveryLock`: a password in front of recoveryOS, made here.

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

/// The password of recoveryOS.
pub(super) const LOCK: Lock = Lock { current: Kind::RecoveryLock, next: Kind::NextRecoveryLock, verify: "VerifyRecoveryLock" };

pub(super) struct SetRecoveryLock;

impl Request for SetRecoveryLock {
    fn name(&self) -> &'static str {
        "SetRecoveryLock"
    }

    /// A Mac that took the password, and whose answer was lost, refuses it when it comes again. It is asked which one is in force, and the
    /// order is tried again after that.
    fn may_have_run(&self) -> bool {
        true
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> std::result::Result<Map<String, Value>, String> {
        Ok(password::clearing(flag(values, "clear")?))
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
