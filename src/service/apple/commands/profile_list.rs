//! `ProfileList`: shows which profiles are on the device, and in which content. Asked after each change, and from time to time.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::super::turn::Turn;
use super::remove_profile::removed;
use super::certificate_list::{self, CertificateList};
use super::{Body, ForUsers, Request, Subject, install_profile};
use crate::clock::HOUR;
use crate::domain::apple::content;
use crate::domain::desired::{Input, State};
use crate::domain::work::Key;
use crate::service::Result;
use crate::service::apple::identities::STALE;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{Dict, Value};

pub(in crate::service::apple) struct ProfileList;

impl Request for ProfileList {
    fn name(&self) -> &'static str {
        "ProfileList"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn body<'t>(&'t self, _turn: &'t mut Turn<'_>, _subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move { Ok(Body::Keys(Dict::new().with("ManagedOnly", true))) }.boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        let Some(listed) = answer.body.array("ProfileList") else { return self.failed(turn, Subject::Nothing, "no list in the answer") };
        let listed: Vec<(String, String)> = listed
            .iter()
            .filter_map(Value::as_dict)
            .filter_map(|entry| Some((entry.string("PayloadIdentifier")?.to_owned(), entry.string("PayloadUUID")?.to_owned())))
            .collect();
        // While the device puts the list of certificates off, nothing can be said of what brings some.
        let unseen = turn.channel.queue.holds(&Key::Ask(CertificateList.name()).to_string());
        for key in profiles(turn) {
            if !unseen || !certificate_list::brings(turn, &key) {
                judge(turn, &key, &listed);
            }
        }
    }

    fn failed(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, _why: &str) {
        let until = turn.now.plus(HOUR);
        for key in profiles(turn) {
            turn.apply(&key, Input::Postponed { until });
        }
    }
}

/// The records that the list says something about.
fn profiles(turn: &Turn<'_>) -> Vec<String> {
    let shows = |state| matches!(state, State::Delivered | State::Verified | State::Removing);
    turn.records().filter(|(key, record)| key.starts_with("profile:") && shows(record.state)).map(|(key, _)| key.clone()).collect()
}

fn judge(turn: &mut Turn<'_>, key: &str, listed: &[(String, String)]) {
    let Some((state, memory)) = turn.record(key).map(|(_, record)| (record.state, record.memory.clone())) else { return };
    let text = |name: &str| memory.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let found = listed.iter().find(|(identifier, _)| identifier == text("identifier"));
    if state == State::Removing {
        if found.is_none() {
            removed(turn, key);
        }
        return;
    }
    let holds = found.is_some_and(|(_, uuid)| uuid.eq_ignore_ascii_case(text("uuid")));
    let missing = certificates(turn, key, &memory);
    if memory.contains_key(STALE) {
        return turn.apply(key, Input::Changed);
    }
    let input = match (holds, missing) {
        (true, None) => Input::Matches,
        (true, Some(payload)) => {
            // The device has the profile and not its certificate: it shall make another one.
            next_generation(turn, key, &payload);
            Input::Differs { found: Some(format!("no certificate of {payload}")) }
        }
        (false, _) => Input::Differs { found: found.map(|(_, uuid)| uuid.clone()) },
    };
    if state == State::Verified && !matches!(input, Input::Matches) {
        let object = format!("device:{}", turn.device.id);
        turn.audit("setting.drift", object, &json!({ "setting": key }));
    }
    if state != State::Verified && matches!(input, Input::Matches) {
        turn.expect_recovery_key();
    }
    turn.apply(key, input);
}

/// Compares what the device's certificates were with what the profile brings: the payload whose certificate is missing. Of those that are
/// there, older ones end.
fn certificates(turn: &mut Turn<'_>, key: &str, memory: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
    let (_, payloads) = install_profile::payloads(turn, key)?;
    let on_device: Vec<&str> = memory.get("certificates").and_then(|list| list.as_array()).into_iter().flatten().filter_map(|c| c.as_str()).collect();
    let mut missing = None;
    for payload in payloads.iter().filter(|payload| content::renewal(payload).is_some()) {
        let own = turn.certificates_of(key, &payload.name);
        match own.into_iter().find(|c| on_device.contains(&c.sha256.as_str())).cloned() {
            None => missing = Some(payload.name.clone()),
            Some(held) => turn.supersede(key, &payload.name, &held),
        }
    }
    missing
}

/// The next time the profile is installed, the payload brings another identity.
pub(in crate::service::apple) fn next_generation(turn: &mut Turn<'_>, key: &str, payload: &str) {
    let next = uuid::Uuid::now_v7().to_string();
    turn.remember(key, |memory| {
        let all = memory.entry("generation").or_insert_with(|| json!({}));
        if let Some(all) = all.as_object_mut() {
            all.insert(payload.to_owned(), next.into());
        }
    });
}
