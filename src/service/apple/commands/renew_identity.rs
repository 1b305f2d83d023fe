//! `InstallProfile` with the enrolment profile: gives a device whose identity nears its end, or has run out, another one.
//!
//! The device makes a key, has it certified and introduces itself with the new identity; from then on the old one is good for nothing.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::super::turn::Turn;
use super::{Body, ForUsers, Request, Subject};
use crate::service::apple::enroll;
use crate::service::effect::Effect;
use crate::service::{Error, Result};
use crate::wire::plist::{Data, Dict};

pub(in crate::service) struct RenewIdentity;

impl Request for RenewIdentity {
    fn name(&self) -> &'static str {
        "InstallProfile"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, _subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            turn.channel.renewal_asked_at = Some(turn.now);
            let renewal = match enroll::renewal_profile(turn.app, &turn.known.enrollment, &turn.channel.topic).await {
                Err(Error::Refused(refusal)) => return Ok(Body::Nothing(refusal.to_string())),
                other => other?,
            };
            turn.effects.push(Effect::Challenge(Box::new(renewal.challenge)));
            let (object, ends) = (format!("enrollment:{}", turn.known.enrollment.id), turn.identity_ends());
            turn.audit("enrollment.renew", object, &json!({ "identity_ends": ends.map(|at| at.to_string()) }));
            Ok(Body::Keys(Dict::new().with("Payload", Data(renewal.profile))))
        }
        .boxed()
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, why: &str) {
        tracing::warn!(device = %turn.device.id, why, "the device does not renew its identity");
    }
}
