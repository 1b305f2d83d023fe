//! `VerifyFirmwarePassword`: which of the firmware passwords that are kept is in force.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::turn::Turn;
use super::password::Lock;
use super::set_firmware_password::LOCK;
use super::{Body, Request, Subject};
use crate::service::Result;
use crate::wire::apple::command::Answer;

pub(super) struct VerifyFirmwarePassword;

fn verified(answer: &Answer) -> Option<bool> {
    answer.body.dict("VerifyFirmwarePassword").and_then(|result| result.boolean("PasswordVerified"))
}

impl Request for VerifyFirmwarePassword {
    fn name(&self) -> &'static str {
        LOCK.verify
    }

    fn says(&self, answer: &Answer) -> std::result::Result<String, String> {
        Lock::says(verified(answer))
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move { LOCK.verify(turn, subject).await }.boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, subject: Subject<'_>, answer: &Answer) {
        LOCK.verified(turn, subject, verified(answer) == Some(true));
    }

    // Nothing is known then, and both passwords stay.
    fn failed(&self, _turn: &mut Turn<'_>, _subject: Subject<'_>, _why: &str) {}
}
