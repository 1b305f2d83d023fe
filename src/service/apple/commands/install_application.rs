//! `InstallApplication`: has a device install an application of the App Store, or an iPhone or iPad one by a manifest, ours or somebody
//! else's.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::apps;
use super::super::turn::Turn;
use super::{Body, ForUsers, Request, Subject};
use crate::service::Result;
use crate::wire::apple::command::Answer;
use crate::wire::plist::Dict;

pub(super) struct InstallApplication;

impl Request for InstallApplication {
    fn name(&self) -> &'static str {
        "InstallApplication"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::Phones
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            let wanted = match apps::begin(turn, subject.record()).await? {
                Ok(wanted) => wanted,
                Err(why) => return Ok(Body::Nothing(why)),
            };
            let mut keys = wanted.keys();
            if let Some(store_id) = wanted.app.store_id {
                keys.insert("iTunesStoreID", store_id);
                keys.insert("Options", Dict::new().with("PurchaseMethod", i64::from(wanted.app.licence)));
                return Ok(Body::Keys(keys));
            }
            keys.insert_some("ManifestURL", wanted.manifest(turn).await?);
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
