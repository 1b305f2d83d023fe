//! `SetRecoveryLock`: a password in front of recoveryOS, made here. Until the Mac has said that it took it, the old one and the new one are
//! both kept, because nobody knows which is in force.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::super::turn::Turn;
use super::{Body, Request, Subject, only};
use crate::domain::apple::escrow::Kind;
use crate::domain::device::Platform;
use crate::secret::{Secret, random};
use crate::service::Result;
use crate::service::effect::Effect;
use crate::wire::apple::command::Answer;
use crate::wire::plist::Dict;

/// Letters that nobody takes for another: what people type at a black screen.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567890";
/// A hundred bits.
const LENGTH: usize = 20;
const NEW: &str = "NewPassword";

pub(super) struct SetRecoveryLock;

impl Request for SetRecoveryLock {
    fn name(&self) -> &'static str {
        "SetRecoveryLock"
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> std::result::Result<Map<String, Value>, String> {
        only(values, &["clear"])?;
        match values.get("clear").map(String::as_str) {
            None | Some("no") => Ok(Map::new()),
            Some("yes") => Ok([(NEW.to_owned(), Value::from(""))].into_iter().collect()),
            Some(_) => Err("clear: yes or no".into()),
        }
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            let clear = subject.keys().string(NEW).is_some();
            let current = turn.secret(Kind::RecoveryLock, self.name()).await?;
            let text = |secret: &Secret| String::from_utf8_lossy(secret.expose()).into_owned();
            let new = if clear {
                if current.is_none() {
                    return Ok(Body::Nothing("no recovery lock of the Mac is kept".into()));
                }
                // It may be the one in force.
                if turn.secret(Kind::NextRecoveryLock, self.name()).await?.is_some() {
                    return Ok(Body::Nothing("the Mac was told another password and did not confirm it: set the lock once more first".into()));
                }
                String::new()
            } else {
                // Delivered again, it is the same.
                let next = match turn.secret(Kind::NextRecoveryLock, self.name()).await? {
                    Some(next) => next,
                    None => {
                        let next = password()?;
                        turn.keep(Kind::NextRecoveryLock, &next, None)?;
                        next
                    }
                };
                text(&next)
            };
            let mut keys = Dict::new().with(NEW, new);
            keys.insert_some("CurrentPassword", current.as_ref().map(text));
            Ok(Body::Keys(keys))
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, _record: &str, _answer: &Answer) {
        let enrollment = turn.known.enrollment.id.clone();
        turn.effects.push(Effect::Promote { enrollment, from: Kind::NextRecoveryLock, to: Kind::RecoveryLock });
    }
}

fn password() -> Result<Secret> {
    let random = zeroize::Zeroizing::new(random::<LENGTH>()?);
    Ok(Secret::new(random.iter().map(|byte| LETTERS.get(usize::from(byte % 32)).copied().unwrap_or(b'a')).collect()))
}
