//! `SetAutoAdminPassword`: another password for the administrator account that Setup Assistant made. Made here, and kept sealed; the Mac
//! gets its hash.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::turn::Turn;
use super::{Body, Request, Subject, password};
use crate::domain::apple::escrow::Kind;
use crate::service::Result;
use crate::wire::apple::command::Answer;
use crate::wire::plist::Dict;

pub(super) struct SetAutoAdminPassword;

impl Request for SetAutoAdminPassword {
    fn name(&self) -> &'static str {
        "SetAutoAdminPassword"
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, _subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            let Some(account) = turn.fact("macos.administrator").map(str::to_owned) else {
                return Ok(Body::Nothing("the Mac knows no administrator account that Setup Assistant made".into()));
            };
            let hash = password::hashed(turn, Kind::NextAdmin, self.name()).await?;
            Ok(Body::Keys(Dict::new().with("GUID", account).with("passwordHash", hash)))
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _answer: &Answer) {
        turn.promote(Kind::NextAdmin, Kind::Admin);
    }
}
