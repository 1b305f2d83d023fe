//! `RotateFileVaultKey`: another recovery key in the place of the one that was escrowed, or read by somebody.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::super::turn::Turn;
use super::{Body, Request, Subject};
use crate::domain::apple::escrow::Kind;
use crate::service::Result;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{Data, Dict};

pub(super) struct RotateFileVaultKey;

impl Request for RotateFileVaultKey {
    fn name(&self) -> &'static str {
        "RotateFileVaultKey"
    }

    fn once(&self) -> bool {
        true
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, _subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            let Some(current) = turn.secret(Kind::FileVault, self.name()).await? else {
                return Ok(Body::Nothing("no recovery key of the Mac is kept: it needs a profile with FileVault and the escrow of its key".into()));
            };
            let Ok(password) = std::str::from_utf8(current.expose()) else { return Ok(Body::Nothing("the recovery key is no text".into())) };
            let keys = Dict::new()
                .with("KeyType", "personal")
                .with("FileVaultUnlock", Dict::new().with("Password", password))
                .with("ReplyEncryptionCertificate", Data(turn.escrow_certificate()?));
            Ok(Body::Keys(keys))
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        let sealed = answer.body.dict("RotateResult").and_then(|result| result.data("EncryptedNewRecoveryKey"));
        let taken = sealed.is_some_and(|message| turn.take_recovery_key(message).unwrap_or(false));
        if !taken {
            // The Mac has another key now, and the one that is kept opens nothing any more: the next security report brings the new one.
            let object = format!("device:{}", turn.device.id);
            turn.audit("escrow.lost", object, &json!({ "kind": Kind::FileVault }));
            turn.ask("SecurityInfo");
        }
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _why: &str) {
        // It may have another key nevertheless, which is in its security report.
        turn.ask("SecurityInfo");
    }
}
