//! `AccountConfiguration`: has Setup Assistant make an administrator account while it waits. Its password is made here and kept sealed;
//! the Mac gets its hash. By itself it is asked as the configuration says (`apple.automated.administrator`).

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::super::turn::Turn;
use super::{Body, Request, Subject, flag, needed, password};
use crate::domain::apple::account::{LONGEST, is_name};
use crate::domain::apple::escrow::Kind;
use crate::domain::device::Platform;
use crate::domain::work::Key;
use crate::service::Result;
use crate::wire::apple::command::Answer;
use crate::wire::plist::Dict;

pub(in crate::service::apple) struct AccountConfiguration;

impl Request for AccountConfiguration {
    fn name(&self) -> &'static str {
        "AccountConfiguration"
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> std::result::Result<Map<String, Value>, String> {
        let name = needed(values, "name")?;
        if !is_name(name) {
            return Err(format!("name: up to {LONGEST} small letters, digits, _, - and ., a letter first"));
        }
        let mut keys: Map<String, Value> = [("name".to_owned(), Value::from(name))].into_iter().collect();
        keys.extend(values.get("full-name").map(|full| ("full-name".to_owned(), full.as_str().into())));
        for name in ["hidden", "standard", "skip"] {
            keys.insert(name.into(), flag(values, name)?.unwrap_or(false).into());
        }
        Ok(keys)
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            if turn.channel.awaiting_since.is_none() {
                return Ok(Body::Nothing("the Mac does not wait in Setup Assistant any more".into()));
            }
            let wanted = turn.app.config.apple.automated.administrator.clone();
            let keys = match subject {
                Subject::Order(_) => subject.keys(),
                Subject::Nothing | Subject::Record(_) => Dict::new()
                    .with("name", wanted.name)
                    .with("full-name", wanted.full_name)
                    .with("hidden", wanted.hidden)
                    .with("standard", wanted.standard_users)
                    .with("skip", false),
            };
            let hash = password::hashed(turn, Kind::NextAdmin, self.name()).await?;
            let set = |name: &str| keys.boolean(name).unwrap_or(false);
            let mut account = Dict::new()
                .with("shortName", keys.string("name").unwrap_or_default())
                .with("passwordHash", hash)
                .with("hidden", set("hidden"));
            account.insert_some("fullName", keys.string("full-name").filter(|full| !full.is_empty()));
            Ok(Body::Keys(
                Dict::new()
                    .with("AutoSetupAdminAccounts", vec![account.into()])
                    .with("SetPrimarySetupAccountAsRegularUser", set("standard"))
                    .with("SkipPrimarySetupAccountCreation", set("skip")),
            ))
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _answer: &Answer) {
        turn.promote(Kind::NextAdmin, Kind::Admin);
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, why: &str) {
        tracing::warn!(device = %turn.device.id, why, "the Mac does not make the administrator account");
    }
}

impl Turn<'_> {
    /// Whether Setup Assistant is to be asked for the administrator account of the configuration, and was not yet.
    fn wants_administrator(&self) -> bool {
        let wanted = !self.app.config.apple.automated.administrator.name.is_empty();
        let mac = self.device.platform == Platform::MacOs;
        wanted && mac && self.channel.awaiting_since.is_some() && !self.keeps(Kind::Admin)
    }

    /// Whether the answer is still to come. Asked once in an exchange: a Mac that refuses is not kept in Setup Assistant by it.
    pub(in crate::service::apple) fn waits_for_administrator(&self) -> bool {
        self.wants_administrator() && (self.idle || self.channel.queue.holds(&Key::Ask(AccountConfiguration.name()).to_string()))
    }
}
