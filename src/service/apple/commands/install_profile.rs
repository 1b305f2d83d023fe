//! `InstallProfile`: gives a profile to the device, or puts a new content in the place of the old.
//!
//! The names of the profile and of its payloads stay, so that the device updates what it has. A payload that brings an identity gets a
//! fresh challenge with each delivery; it gets another UUID, and with it the device another identity, only when that is wanted: near the
//! end of the certificate's life, or when it is gone.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::super::turn::Turn;
use super::{Body, ForUsers, Request, Subject};
use crate::clock::DAY;
use crate::domain::apple::content::{self, Built, identity, single_sign_on};
use crate::domain::apple::profile::About;
use crate::domain::apple::{sso, vpn};
use crate::domain::desired::{Content, Input, Lack};
use crate::domain::device::Platform;
use crate::domain::pfx::Pfx;
use crate::domain::profile::Payload;
use crate::ids::ProfileId;
use crate::service::apple::approval::{self, Standing};
use crate::service::apple::ground::Ground;
use crate::service::apple::identities::{IMPORTED, STALE};
use crate::service::round::ISSUES_AGAIN;
use crate::service::{Error, Result};
use crate::wire::apple::command::Answer;
use crate::wire::apple::profile::{Profile, Scope};
use crate::wire::plist::{Data, Dict};

pub(super) struct InstallProfile;

/// Where a record remembers for which version of the system its profile was made.
const MADE_FOR: &str = "made_for";
/// Where a record remembers that its profile is taken back: nothing is left to put into it.
const WITHDRAWN: &str = "withdrawn";
const NONE_IMPORTED: &str = "the device's user has no imported identity (any more)";

/// The payloads of a record's profile, and the profile's id.
pub(in crate::service::apple) fn payloads(turn: &Turn<'_>, record: &str) -> Option<(ProfileId, Vec<Payload>)> {
    let winner = turn.effective.winners.get(record)?;
    match &winner.content {
        Content::Profile(payloads) => Some((winner.profile.clone(), payloads.clone())),
        Content::Setting { .. } | Content::Custom(_) | Content::Payload(_) | Content::Declarations(_) => None,
    }
}

impl Request for InstallProfile {
    fn name(&self) -> &'static str {
        "InstallProfile"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            let key = subject.record();
            let why = match body(turn, key).await {
                Err(Error::Refused(refusal)) => refusal.to_string(),
                Err(Error::Invalid(refusal, detail)) => format!("{detail}: {refusal}"),
                other => return other,
            };
            // A rule keeps this profile from the device, and nothing else.
            turn.apply(key, Input::Unmet { why: why.clone() });
            Ok(Body::Nothing(why))
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, subject: Subject<'_>, _answer: &Answer) {
        let record = subject.record();
        if turn.record(record).is_some_and(|(_, record)| record.memory.contains_key(WITHDRAWN)) {
            turn.remember(record, |memory| memory.retain(|name, _| name == IMPORTED));
            return turn.apply(record, Input::Refused { status: 0, original_error: Some(NONE_IMPORTED.into()) });
        }
        turn.forget_decisions(record);
        turn.apply(record, Input::Taken { status: 200 });
    }

    fn failed(&self, turn: &mut Turn<'_>, subject: Subject<'_>, why: &str) {
        let record = subject.record();
        turn.apply(record, Input::Retry { status: 0, original_error: Some(why.to_owned()) });
        turn.broken_off.push(record.to_owned());
    }
}

/// What is sent when the user has nothing to put into the profile: what the device has of it is taken back.
fn without_imported(turn: &mut Turn<'_>, key: &str) -> Body {
    let memory = turn.record(key).map(|(_, record)| record.memory.clone()).unwrap_or_default();
    let Some(identifier) = memory.get("identifier").and_then(Value::as_str) else {
        turn.apply(key, Input::Refused { status: 0, original_error: Some(NONE_IMPORTED.into()) });
        return Body::Nothing(NONE_IMPORTED.into());
    };
    turn.remember(key, |memory| {
        memory.insert(WITHDRAWN.into(), true.into());
        memory.remove(STALE);
    });
    turn.apply(key, Input::Sent);
    Body::Instead("RemoveProfile", Dict::new().with("Identifier", identifier))
}

/// A profile with a certificate of ours waits for an authority that issues.
fn without_authority(turn: &mut Turn<'_>, key: &str) -> Body {
    let until = turn.now.plus(ISSUES_AGAIN);
    turn.apply(key, Input::Postponed { until });
    Body::Nothing("no authority issues at the moment".into())
}

/// Why a profile cannot be there beside another one of the device that was created before it: one address, two extensions.
fn answered_already(turn: &Turn<'_>, id: &ProfileId, payloads: &[Payload], ground: &Ground) -> Option<String> {
    let apples = |payloads: &[Payload]| single_sign_on::expanded(payloads, ground.identity_service(), ground.system()).unwrap_or_default();
    let own = apples(payloads);
    let own: Vec<_> = sso::extensions(&own).collect();
    if own.is_empty() {
        return None;
    }
    for before in turn.known.items.iter().take_while(|loaded| loaded.item.profile_id != *id) {
        let winners = turn.effective.winners.values().filter(|winner| winner.profile == before.item.profile_id);
        for winner in winners {
            let others = match &winner.content {
                Content::Profile(others) => apples(others),
                Content::Declarations(others) => others.clone(),
                Content::Setting { .. } | Content::Custom(_) | Content::Payload(_) => continue,
            };
            if let Some(address) = sso::doubled(own.iter().copied().chain(sso::extensions(&others))) {
                return Some(format!("{}: the profile {} answers for {address} already", sso::PAYLOAD, before.name));
            }
        }
    }
    None
}

/// The profile as it is for the device now, but for what each delivery fills in.
fn assemble(
    turn: &Turn<'_>,
    ground: &Ground,
    key: &str,
    (id, payloads): (&ProfileId, &[Payload]),
    imported: &[Pfx],
) -> Result<(Profile, Built), (String, String)> {
    let memory = turn.record(key).map(|(_, record)| &record.memory);
    let generation = |name: &str| {
        let known = memory.and_then(|memory| memory.get("generation")?.get(name)?.as_str());
        known.unwrap_or_default().to_owned()
    };
    let identifier = ground.names().profile(id);
    let mut built = content::build(payloads, &ground.target(&identifier, &generation, imported), turn.catalogue)?;
    let name = turn.known.items.iter().find(|item| item.item.profile_id == *id).map_or_else(|| id.to_string(), |item| item.name.clone());
    let whose = if turn.user().is_some() { Scope::User } else { Scope::System };
    let scope = (turn.device.platform == Platform::MacOs).then_some(whose);
    let about = About { display_name: name, scope, ..About::default() };
    let profile = ground.names().assemble(&identifier, &about, std::mem::take(&mut built.parts));
    Ok((profile, built))
}

/// Whether the device has another version by now than its profile was made for, and with it other keys.
pub(in crate::service::apple) fn is_outgrown(turn: &mut Turn<'_>, key: &str) -> bool {
    let (Some(ground), Some((id, payloads))) = (Ground::of(turn), payloads(turn, key)) else { return false };
    let Some((_, record)) = turn.record(key) else { return false };
    let of = |name: &str| record.memory.get(name).and_then(Value::as_str);
    let version = ground.version().to_string();
    // What was imported is made anew by itself when it changes.
    if of(MADE_FOR).is_none_or(|made_for| made_for == version) || identity::imports(&payloads) {
        return false;
    }
    let Ok((profile, _)) = assemble(turn, &ground, key, (&id, &payloads), &[]) else { return false };
    let same = of("uuid") == Some(profile.uuid.as_str());
    if same {
        turn.remember(key, |memory| {
            memory.insert(MADE_FOR.into(), version.into());
        });
    }
    !same
}

async fn body(turn: &mut Turn<'_>, key: &str) -> Result<Body> {
    let Some((id, payloads)) = payloads(turn, key) else { return Ok(Body::Nothing("the profile is not wanted any more".into())) };
    // Facts come first; until the version is known nothing that depends on it can be made.
    let Some(ground) = Ground::of(turn) else { return Ok(Body::Nothing("the version of the device is not known yet".into())) };
    let (system, version) = (ground.system(), ground.version());
    if !content::supports(&payloads, system, version, turn.catalogue) {
        turn.apply(key, Input::Lacks(Lack::Version));
        return Ok(Body::Nothing(format!("{version} does not have all of the payloads")));
    }
    if payloads.iter().any(vpn::is_always_on) && turn.fact("apple.supervised") == Some("false") {
        let why = "a VPN that is always on is for supervised devices".to_owned();
        turn.apply(key, Input::Unmet { why: why.clone() });
        return Ok(Body::Nothing(why));
    }
    if let Some(why) = answered_already(turn, &id, &payloads, &ground) {
        turn.apply(key, Input::Unmet { why: why.clone() });
        return Ok(Body::Nothing(why));
    }
    let imported = if identity::imports(&payloads) { turn.imported().await? } else { Vec::new() };
    if identity::imports(&payloads) {
        if turn.known.user.as_ref().is_some_and(|user| !user.enabled) {
            let until = turn.now.plus(DAY);
            turn.apply(key, Input::Postponed { until });
            return Ok(Body::Nothing("the user is disabled".into()));
        }
        turn.remember(key, |memory| {
            memory.insert(IMPORTED.into(), true.into());
        });
        if !identity::has_imported(&payloads, &imported, turn.now) {
            return Ok(without_imported(turn, key));
        }
    }
    let issues = turn.authority.issues(turn.now);
    let made = match identity::wanted(&payloads, ground.variables()) {
        Ok(wanted) if !issues && !wanted.is_empty() => return Ok(without_authority(turn, key)),
        Ok(wanted) => turn.made_identities(key, &id, wanted).await?,
        Err((at, why)) => {
            turn.apply(key, Input::Unmet { why: format!("{at}: {why}") });
            return Ok(Body::Nothing(why));
        }
    };
    let (mut profile, built) = match assemble(turn, &ground, key, (&id, &payloads), &imported) {
        Ok(assembled) => assembled,
        Err((at, why)) => {
            turn.apply(key, Input::Unmet { why: format!("{at}: {why}") });
            return Ok(Body::Nothing(why));
        }
    };
    if !issues && !built.certificates.is_empty() {
        return Ok(without_authority(turn, key));
    }
    match turn.standing(key, &id, &built.certificates).await? {
        Standing::Free => {}
        Standing::Waits => {
            let until = turn.now.plus(approval::LOOK);
            turn.apply(key, Input::AwaitsApproval { until, asks: false });
            return Ok(Body::Nothing("an administrator has to agree to its certificate first".into()));
        }
        Standing::Refused => {
            let why = "an administrator refused its certificate".to_owned();
            turn.apply(key, Input::Unmet { why: why.clone() });
            return Ok(Body::Nothing(why));
        }
    }
    for asked in built.clients {
        let payload = asked.payload.clone();
        let identifier = turn.new_client(key, &id, asked)?;
        content::acme::fill_client(&mut profile, &payload, &identifier);
    }
    turn.note_registrations(key, !built.registrations.is_empty());
    for payload in built.registrations {
        let token = turn.registration_token(key, &id, &payload).await?;
        single_sign_on::fill_token(&mut profile, &payload, &token);
    }
    turn.fill_identities(&mut profile, made, built.imported, (system, version)).await?;
    for asked in built.certificates {
        let payload = asked.payload.clone();
        let challenge = turn.new_challenge(key, &id, asked).await?;
        content::fill_challenge(&mut profile, &payload, &challenge);
    }
    let (uuid, shown) = (profile.uuid.clone(), profile.identifier.clone());
    turn.remember(key, |memory| {
        memory.insert("uuid".into(), json!(uuid));
        memory.insert("identifier".into(), json!(shown));
        memory.insert(MADE_FOR.into(), version.to_string().into());
        memory.remove(STALE);
        memory.remove(WITHDRAWN);
    });
    turn.apply(key, Input::Sent);
    Ok(Body::Keys(Dict::new().with("Payload", Data(profile.encode()))))
}
