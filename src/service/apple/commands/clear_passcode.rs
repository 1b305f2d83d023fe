//! `ClearPasscode`: needs the unlock token that the device gave when it enrolled.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::turn::Turn;
use super::{Body, Request, Subject};
use crate::domain::apple::escrow::Kind;
use crate::service::Result;
use crate::wire::plist::{Data, Dict};

pub(super) struct ClearPasscode;

impl Request for ClearPasscode {
    fn name(&self) -> &'static str {
        "ClearPasscode"
    }

    fn once(&self) -> bool {
        true
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, _subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            Ok(match turn.secret(Kind::Unlock, self.name()).await? {
                Some(token) => Body::Keys(Dict::new().with("UnlockToken", Data(token.expose().to_vec()))),
                None => Body::Nothing("the device gave no unlock token".into()),
            })
        }
        .boxed()
    }
}
