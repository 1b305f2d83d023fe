//! What a device's profiles come to together: one value for each setting.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::catalogue::{Catalogue, Scope};
use crate::domain::apple::app;
use crate::domain::apple::way::{self, Way};
use crate::domain::device::Platform;
use crate::domain::profile::{Custom, Document, Kind, LIMITS, Payload, split_scope};
use crate::ids::ProfileId;

/// One profile that a device should have.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The profile.
    pub profile: &'a ProfileId,
    /// Its kind.
    pub kind: Kind,
    /// Its content in the desired version.
    pub document: &'a Document,
}

/// What a device should have under one key.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A value of the catalogue's setting.
    Setting {
        /// The row.
        id: String,
        /// In which tree.
        scope: Scope,
        /// Our value.
        value: Value,
    },
    /// A node that the catalogue does not know.
    Custom(Custom),
    /// A part with behaviour of its own.
    Payload(Payload),
    /// The payloads of one configuration profile, which Apple devices take or refuse as a whole.
    Profile(Vec<Payload>),
    /// The declarations of one profile; of an application, the payload that becomes its declarations.
    Declarations(Vec<Payload>),
}

/// The value that a device gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Winner {
    /// Whose value it is.
    pub profile: ProfileId,
    /// The value.
    pub content: Content,
    /// Its hash, as in [`super::Record::value_hash`].
    pub value_hash: String,
    /// Place among the device's settings: lower goes first.
    pub order: i32,
    /// Profiles that ask for the same value.
    pub agreeing: Vec<ProfileId>,
    /// Profiles that ask for another value, and do not get it.
    pub beaten: Vec<Loser>,
}

/// A value that a device does not get.
#[derive(Clone, Debug, PartialEq)]
pub struct Loser {
    /// Whose value it is.
    pub profile: ProfileId,
    /// The value.
    pub content: Content,
    /// Its hash.
    pub value_hash: String,
}

/// A setting that cannot hold beside another one, which the device gets instead of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Excluded {
    /// Whose setting holds.
    pub winner: ProfileId,
    /// Who asked for this one, and the hash of what they asked for.
    pub asked: Vec<(ProfileId, String)>,
}

/// What a device should have, by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effective {
    /// By the keys of [`super::Detail::records`].
    pub winners: BTreeMap<String, Winner>,
    /// What it does not get at all.
    pub excluded: BTreeMap<String, Excluded>,
}

/// Whose a record of an Apple device is: a user's key, empty while no user is managed; `None`: the device's own.
#[must_use]
pub fn user_of(key: &str) -> Option<&str> {
    let (record, user) = key.split_once('@')?;
    (record.starts_with("profile:") || record.starts_with("declarations:")).then_some(user)
}

/// How the certificates of a payload are called that come with a record: by the payload's name, and those of a user of a Mac with the
/// user's key behind an `@`.
#[must_use]
pub fn label(key: &str, payload: &str) -> String {
    user_of(key).map_or_else(|| payload.to_owned(), |user| format!("{payload}@{user}"))
}

/// The profile of a record of an Apple device; `None` for other records.
#[must_use]
pub fn profile_of(key: &str) -> Option<ProfileId> {
    let rest = key.strip_prefix("profile:").or_else(|| key.strip_prefix("declarations:"))?;
    ProfileId::parse(rest.split('@').next()?)
}

/// Whether a certificate of a profile that is called so came with the record.
#[must_use]
pub fn brought(key: &str, profile: &ProfileId, label: &str) -> bool {
    profile_of(key).as_ref() == Some(profile) && user_of(key) == label.split_once('@').map(|(_, user)| user)
}

impl Effective {
    /// Gives what is for users to each of them. While there is none it waits under the key of nobody.
    pub fn give_to(&mut self, users: &[String]) {
        if users.is_empty() {
            return;
        }
        let waiting: Vec<String> = self.winners.keys().filter(|key| user_of(key) == Some("")).cloned().collect();
        for key in waiting {
            let Some(winner) = self.winners.remove(&key) else { continue };
            self.winners.extend(users.iter().map(|user| (format!("{key}{user}"), winner.clone())));
        }
    }

    /// The keys on which profiles disagree.
    pub fn conflicts(&self) -> impl Iterator<Item = (&String, &Winner)> {
        self.winners.iter().filter(|(_, winner)| !winner.beaten.is_empty())
    }
}

#[derive(Clone)]
struct Claim<'a> {
    profile: &'a ProfileId,
    kind: Kind,
    content: Content,
    value_hash: String,
    order: i32,
}

/// Merges the profiles of a device, given in the order of their creation.
///
/// Where profiles disagree on a setting, one rule decides: what a compliance policy enforces beats what a configuration profile sets; then
/// the stricter value wins, in the direction that the setting's row names; where the row names none, the profile that was created first.
/// Where a least value is above the greatest one of another profile, what a compliance policy enforces holds, then what was created first.
///
/// On Apple devices profiles are not merged here: each is one thing, and the devices themselves keep the strictest of what their profiles
/// say. Only an application that several ask for is one thing of all of them, and an enforced update that of the profile that was created
/// first.
#[must_use]
pub fn effective(candidates: &[Candidate<'_>], target: Target<'_>, catalogue: &Catalogue) -> Effective {
    let mut by_key: BTreeMap<String, Vec<Claim<'_>>> = BTreeMap::new();
    let enforcer = enforcer(candidates);
    for candidate in candidates {
        for (key, order, content) in claims(candidate, enforcer, target, catalogue) {
            let value_hash = hash(&content);
            let claim = Claim { profile: candidate.profile, kind: candidate.kind, content, value_hash, order };
            by_key.entry(key).or_default().push(claim);
        }
    }
    let winners = by_key.iter().filter_map(|(key, claims)| Some((key.clone(), settle(claims.clone(), catalogue)?))).collect();
    let mut effective = Effective { winners, ..Effective::default() };
    if matches!(target, Target::Apple(_)) {
        effective.excluded = outdone(candidates);
    }
    for (least, most) in LIMITS {
        for scope in [Scope::Device, Scope::User] {
            effective.hold_limits([least, most].map(|id| (id, format!("setting:{id}@{scope}"))), &by_key, candidates, catalogue);
        }
    }
    effective
}

/// A setting's value as a number.
fn number(id: &str, content: &Content, catalogue: &Catalogue) -> Option<i64> {
    let Content::Setting { value, .. } = content else { return None };
    catalogue.setting(id)?.encode(value).ok()?.parse().ok()
}

impl Effective {
    /// Lets go of a least or greatest value that cannot hold beside the other one: of the values that were asked for, the strictest that can
    /// takes its place, if there is one.
    fn hold_limits(
        &mut self,
        [(least, least_key), (most, most_key)]: [(&str, String); 2],
        by_key: &BTreeMap<String, Vec<Claim<'_>>>,
        candidates: &[Candidate<'_>],
        catalogue: &Catalogue,
    ) {
        let (Some(low), Some(high)) = (self.winners.get(&least_key), self.winners.get(&most_key)) else { return };
        let (Some(low_value), Some(high_value)) = (number(least, &low.content, catalogue), number(most, &high.content, catalogue)) else {
            return;
        };
        if low_value <= high_value {
            return;
        }
        let rank = |winner: &Winner| {
            let at = candidates.iter().position(|candidate| *candidate.profile == winner.profile);
            (at.and_then(|at| candidates.get(at)).map(|candidate| candidate.kind) != Some(Kind::Compliance), at)
        };
        let low_holds = rank(low) <= rank(high);
        let (holder, id, key) = if low_holds { (low.profile.clone(), most, most_key) } else { (high.profile.clone(), least, least_key) };
        let fits = |claim: &Claim<'_>| {
            number(id, &claim.content, catalogue).is_some_and(|value| if low_holds { value >= low_value } else { value <= high_value })
        };
        let (fitting, others): (Vec<_>, Vec<_>) = by_key.get(&key).cloned().unwrap_or_default().into_iter().partition(fits);
        match settle(fitting, catalogue) {
            Some(mut winner) => {
                winner.beaten.extend(others.into_iter().map(Claim::lost));
                self.winners.insert(key, winner);
            }
            None => {
                self.winners.remove(&key);
                let asked = others.into_iter().map(|claim| (claim.profile.clone(), claim.value_hash)).collect();
                self.excluded.insert(key, Excluded { winner: holder, asked });
            }
        }
    }
}

impl Claim<'_> {
    fn lost(self) -> Loser {
        Loser { profile: self.profile.clone(), content: self.content, value_hash: self.value_hash }
    }
}

/// For what a device's profiles are merged.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// An Apple device.
    Apple(way::Device<'a>),
    /// A device of that platform; of one of Apple's, only its policies, which give nothing to it.
    Of(Platform),
}

/// The whole profile, and the declarations of a profile, each as one thing; what goes by commands, one by one.
fn whole(
    candidate: &Candidate<'_>,
    enforcer: Option<&ProfileId>,
    device: way::Device<'_>,
    catalogue: &Catalogue,
) -> Vec<(String, i32, Content)> {
    let row = |payload: &Payload| catalogue.payload(&payload.kind);
    let (mut declarations, mut payloads, mut commands, mut claims) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for payload in &candidate.document.payloads {
        if payload.kind == way::UPDATE && enforcer != Some(candidate.profile) {
            continue;
        }
        match (device.way(payload, catalogue), app::record(payload).filter(|_| app::is_app(payload))) {
            // As by commands; its name in the profile is of no matter.
            (Way::Declaration, Some(key)) => {
                let named = Payload { name: key.strip_prefix(app::RECORD).unwrap_or_default().to_owned(), ..payload.clone() };
                claims.push((key, 20, Content::Declarations(vec![named])));
            }
            (Way::Declaration, None) => declarations.push(payload.clone()),
            (Way::Profile(payload), _) => payloads.push(payload),
            (Way::Commands, _) => commands.push(payload.clone()),
        }
    }
    // What others may need comes first: a profile goes with the first of its payloads.
    let order = payloads.iter().map(|payload| row(payload).map_or(10, |row| row.order)).min().unwrap_or(50);
    let whose = if candidate.document.scope == Some(Scope::User) { "@" } else { "" };
    if !payloads.is_empty() {
        claims.push((format!("profile:{}{whose}", candidate.profile), order, Content::Profile(payloads)));
    }
    if !declarations.is_empty() {
        claims.push((format!("declarations:{}{whose}", candidate.profile), 60, Content::Declarations(declarations)));
    }
    for payload in commands {
        let claim = match app::record(&payload).filter(|_| app::is_app(&payload)) {
            // Before the profiles that need it, after certificates.
            Some(key) => (key, 20, Content::Payload(payload)),
            None => (format!("update:{}/{}", candidate.profile, payload.name), 70, Content::Payload(payload)),
        };
        claims.push(claim);
    }
    claims
}

/// The profile whose enforced update holds where there are several: a device installs one.
fn enforcer<'a>(candidates: &[Candidate<'a>]) -> Option<&'a ProfileId> {
    candidates.iter().find(|candidate| candidate.document.payloads.iter().any(|payload| payload.kind == way::UPDATE)).map(|c| c.profile)
}

/// The enforced updates of the other profiles.
fn outdone(candidates: &[Candidate<'_>]) -> BTreeMap<String, Excluded> {
    let Some(winner) = enforcer(candidates) else { return BTreeMap::new() };
    let others = candidates.iter().filter(|candidate| candidate.profile != winner);
    let updates = others.flat_map(|candidate| {
        let own = candidate.document.payloads.iter().filter(|payload| payload.kind == way::UPDATE);
        own.map(|payload| {
            let asked = vec![(candidate.profile.clone(), hash(&Content::Payload(payload.clone())))];
            (format!("update:{}/{}", candidate.profile, payload.name), Excluded { winner: winner.clone(), asked })
        })
    });
    updates.collect()
}

fn claims(
    candidate: &Candidate<'_>,
    enforcer: Option<&ProfileId>,
    target: Target<'_>,
    catalogue: &Catalogue,
) -> Vec<(String, i32, Content)> {
    let platform = match target {
        Target::Apple(device) => return whole(candidate, enforcer, device, catalogue),
        Target::Of(platform) => platform,
    };
    if platform.is_apple() {
        return Vec::new();
    }
    let document = candidate.document;
    let mut claims = Vec::new();
    let mut setting = |id: &str, scope: Scope, value: Value, order: i32| {
        claims.push((format!("setting:{id}@{scope}"), order, Content::Setting { id: id.to_owned(), scope, value }));
    };
    for (name, value) in &document.settings {
        let (id, scope) = split_scope(name);
        // A row that a later version of the program does not know any more is left out: it cannot be sent.
        if let Some(row) = catalogue.setting(id) {
            let scope = scope.or_else(|| row.scopes.first().copied()).unwrap_or(Scope::Device);
            setting(id, scope, value.clone(), row.order);
        }
    }
    for (rule, wanted) in document.compliance.iter().flat_map(|policy| &policy.rules) {
        if let Some((row, value)) = catalogue.rule(platform.as_str(), rule).and_then(|rule| rule.enforced(catalogue, wanted)) {
            setting(&row.id, row.scopes.first().copied().unwrap_or(Scope::Device), value, row.order);
        }
    }
    for custom in &document.custom {
        claims.push((format!("custom:{}", custom.address()), 60, Content::Custom(custom.clone())));
    }
    for payload in &document.payloads {
        // Payloads of two profiles never meet: the profile is part of the key. Certificates come before the settings that use them.
        let key = format!("payload:{}/{}", candidate.profile, payload.name);
        claims.push((key, 10, Content::Payload(payload.clone())));
    }
    claims
}

fn settle(claims: Vec<Claim<'_>>, catalogue: &Catalogue) -> Option<Winner> {
    let mut claims = claims.into_iter();
    let mut best = claims.next()?;
    let mut others = Vec::new();
    for claim in claims {
        let loser = if beats(&claim, &best, catalogue) { std::mem::replace(&mut best, claim) } else { claim };
        others.push(loser);
    }
    let (mut agreeing, mut beaten) = (Vec::new(), Vec::new());
    for other in others.into_iter().filter(|other| other.profile != best.profile) {
        if other.value_hash == best.value_hash {
            agreeing.push(other.profile.clone());
        } else {
            beaten.push(other.lost());
        }
    }
    Some(Winner { profile: best.profile.clone(), content: best.content, value_hash: best.value_hash, order: best.order, agreeing, beaten })
}

/// Whether the later claim takes the place of the best so far.
fn beats(claim: &Claim<'_>, best: &Claim<'_>, catalogue: &Catalogue) -> bool {
    if claim.kind != best.kind {
        return claim.kind == Kind::Compliance;
    }
    match (&claim.content, &best.content) {
        (Content::Setting { id, value, .. }, Content::Setting { value: other, .. }) => {
            catalogue.setting(id).and_then(|row| row.rank(value, other)) == Some(Ordering::Greater)
        }
        _ => false,
    }
}

/// SHA-256 of the content, in hex, cut to 32 digits: it tells versions of one value apart and proves nothing.
fn hash(content: &Content) -> String {
    let text = match content {
        Content::Setting { value, .. } => value.to_string(),
        Content::Custom(custom) => json!([custom.format, custom.value]).to_string(),
        Content::Payload(payload) => json!([payload.kind, payload.body]).to_string(),
        Content::Profile(payloads) | Content::Declarations(payloads) => json!(payloads).to_string(),
    };
    let mut digest = hex::encode(openssl::sha::sha256(text.as_bytes()));
    digest.truncate(32);
    digest
}
