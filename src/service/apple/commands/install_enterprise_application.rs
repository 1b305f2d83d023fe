//! `InstallEnterpriseApplication`: has a Mac install a package, of ours with its hashes or from somebody else's manifest.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::apps;
use super::super::packages;
use super::super::turn::Turn;
use super::{Body, Request, Subject};
use crate::service::{Error, Result};
use crate::wire::apple::command::Answer;
use crate::wire::plist::{Data, Value};

pub(super) struct InstallEnterpriseApplication;

impl Request for InstallEnterpriseApplication {
    fn name(&self) -> &'static str {
        "InstallEnterpriseApplication"
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            let wanted = match apps::begin(turn, subject.record()).await? {
                Ok(wanted) => wanted,
                Err(why) => return Ok(Body::Nothing(why)),
            };
            let mut keys = wanted.keys();
            if let Some(package) = &wanted.package {
                let url = packages::link(turn.app, package, &turn.known.enrollment.id)?;
                keys.insert("Manifest", packages::manifest(turn.app, package, url).await?.to_dict());
            } else {
                keys.insert_some("ManifestURL", wanted.app.manifest_url.as_deref());
                let pins = wanted.app.pins().map_err(|why| Error::internal(anyhow::anyhow!(why)))?;
                if !pins.is_empty() {
                    let pins: Vec<Value> = pins.into_iter().map(|pin| Value::Data(Data(pin))).collect();
                    keys.insert("ManifestURLPinningCerts", pins);
                }
            }
            Ok(Body::Keys(keys))
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, subject: Subject<'_>, _answer: &Answer) {
        apps::taken(turn, subject.record());
    }

    fn failed(&self, turn: &mut Turn<'_>, subject: Subject<'_>, why: &str) {
        apps::refused(turn, subject.record(), why);
    }
}
