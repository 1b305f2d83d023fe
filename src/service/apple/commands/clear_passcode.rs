//! `ClearPasscode`: needs the unlock token that the device gave when it enrolled.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::super::turn::Turn;
use super::{Body, Request, Subject};
use crate::domain::apple::escrow;
use crate::service::Result;
use crate::store::apple::secrets;
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
            let id = turn.known.enrollment.id.clone();
            let of = id.clone();
            let kind = escrow::Kind::Unlock;
            let Some(found) = turn.app.store.read(move |conn| secrets::find_secret(conn, &of, kind)).await? else {
                return Ok(Body::Nothing("the device gave no unlock token".into()));
            };
            let token = turn.app.sealer().open(crate::store::sealed::APPLE_SECRET, &found.sealed)?;
            turn.audit("escrow.read", format!("enrollment:{id}"), &json!({ "kind": kind, "for": "ClearPasscode" }));
            Ok(Body::Keys(Dict::new().with("UnlockToken", Data(token.expose().to_vec()))))
        }
        .boxed()
    }
}
