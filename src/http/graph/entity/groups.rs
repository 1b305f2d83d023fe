//! `/groups`: groups and who belongs to them.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{devices, users};
use crate::clock::Time;
use crate::domain::access::{Action, Need, Reach, Scope};
use crate::domain::group::{Group, Member};
use crate::domain::subscription::Kind;
use crate::http::graph::answer::{Answer, base, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, DIRECTORY, Expandable, Sizes};
use crate::http::graph::route::{Call, routes};
use crate::ids::GroupId;
use crate::service::directory::{self, Belonging, provision};
use crate::service::page::Found;
use crate::service::role;
use crate::wire::odata::edm;
use crate::wire::odata::filter::Expr;
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;

pub(super) const READ: Need = Kind::Group.need();
pub(super) const WRITE: Need =
    Need { scopes: &[Scope::GroupReadWriteAll, Scope::DirectoryReadWriteAll], action: Some(Action::GroupsUpdate) };
const READ_MEMBERS: Need = Need {
    scopes: &[
        Scope::GroupMemberReadAll,
        Scope::GroupMemberReadWriteAll,
        Scope::GroupReadAll,
        Scope::GroupReadWriteAll,
        Scope::DirectoryReadAll,
        Scope::DirectoryReadWriteAll,
    ],
    action: Some(Action::DirectoryRead),
};
const WRITE_MEMBERS: Need = Need {
    scopes: &[Scope::GroupMemberReadWriteAll, Scope::GroupReadWriteAll, Scope::DirectoryReadWriteAll],
    action: Some(Action::GroupsUpdate),
};

const MEMBERS: &str = "members";

/// What is expanded of groups.
const EXPANDABLE: [Expandable; 1] = [(MEMBERS, &[])];
/// Pages of groups with their members.
const EXPANDED: Sizes = Sizes { usual: 100, most: 100 };
/// How many members are shown with a group, as in Graph.
const MOST_EXPANDED: i64 = 20;

/// How many members one change adds at most.
const MOST_BOUND: usize = 20;

/// The properties of a group.
pub(super) const SHAPE: Shape = Shape {
    usual: &[
        "createdDateTime",
        "description",
        "displayName",
        "groupTypes",
        "isAssignableToRole",
        "mailEnabled",
        "mailNickname",
        "membershipRule",
        "membershipRuleProcessingState",
        "securityEnabled",
    ],
    more: &[],
    beta: &[],
};

/// The same with those who belong to it, which only those select who follow changes.
const FOLLOWED: Shape = Shape { more: &["members"], ..SHAPE };

/// What members of groups have in common, whatever they are.
const MEMBER: Shape = Shape { usual: &["displayName", "userPrincipalName", "mail", "deviceId", "operatingSystem"], more: &[], beta: &[] };

routes! {
    Get "groups", READ => list_groups;
    Post "groups", WRITE => create;
    Get "groups/$count", READ => count;
    Get "groups/delta", READ => delta;
    Get "groups/{id}", READ => show;
    Patch "groups/{id}", WRITE => update;
    Delete "groups/{id}", WRITE => delete;
    Get "groups/{id}/members", READ_MEMBERS => members;
    Get "groups/{id}/members/$count", READ_MEMBERS => count_members;
    Get "groups/{id}/members/microsoft.graph.user", READ_MEMBERS => people;
    Get "groups/{id}/members/microsoft.graph.device", READ_MEMBERS => things;
    Get "groups/{id}/owners", READ_MEMBERS => owners;
    Get "groups/{id}/transitiveMembers", READ_MEMBERS => members;
    Get "groups/{id}/transitiveMembers/$count", READ_MEMBERS => count_members;
    Get "groups/{id}/transitiveMembers/microsoft.graph.user", READ_MEMBERS => people;
    Get "groups/{id}/transitiveMembers/microsoft.graph.device", READ_MEMBERS => things;
    Post "groups/{id}/members/$ref", WRITE_MEMBERS => add_member;
    Delete "groups/{id}/members/{member}/$ref", WRITE_MEMBERS => remove_member;
}

/// A group as JSON, whole.
pub(super) fn json(group: &Group, created: Option<Time>) -> Map<String, Value> {
    let nickname: String = group.display_name.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    object! {
        "id": group.id,
        "createdDateTime": edm::time_or_null(created.map(|at| at.0)),
        "description": Some(&group.description).filter(|text| !text.is_empty()),
        "displayName": group.display_name,
        "groupTypes": Value::Array(group.rule.iter().map(|_| "DynamicMembership".into()).collect()),
        "isAssignableToRole": false,
        "mailEnabled": false,
        "mailNickname": group.mail_nickname.clone().unwrap_or(if nickname.is_empty() { group.id.to_string() } else { nickname }),
        "membershipRule": group.rule,
        "membershipRuleProcessingState": group.rule.as_ref().map(|_| "On"),
        "securityEnabled": true,
    }
}

/// A group among other directory objects.
pub(super) fn typed(group: &Group) -> Map<String, Value> {
    let mut whole = Map::from_iter([("@odata.type".to_owned(), Value::from("#microsoft.graph.group"))]);
    whole.extend(json(group, None));
    whole
}

/// The query of a call for groups. Members are expanded of few groups at once.
fn query(call: &Call<'_>) -> Result<(Query, u32)> {
    let query = list::query_expanding(call.request, &SHAPE, &EXPANDABLE)?;
    match list::expanded(&query, MEMBERS) {
        Some(members) => {
            MEMBER.check(&members.query.select, call.is_beta())?;
            let limit = list::limit(&query, EXPANDED);
            Ok((query, limit))
        }
        None => {
            let limit = list::limit(&query, DIRECTORY);
            Ok((query, limit))
        }
    }
}

/// What is expanded of groups, by their ids.
async fn expansions(call: &Call<'_>, query: &Query, groups: Vec<GroupId>) -> Result<HashMap<GroupId, Map<String, Value>>> {
    let Some(expand) = list::expanded(query, MEMBERS) else { return Ok(HashMap::new()) };
    let found = directory::members::list_first(call.app, groups.clone(), MOST_EXPANDED).await?;
    let shown = |id: GroupId| {
        let own = found.get(&id).into_iter().flatten();
        let members = own.map(|member| Value::Object(show_member(call, member, &expand.query.select))).collect();
        (id, Map::from_iter([(MEMBERS.to_owned(), Value::Array(members))]))
    };
    Ok(groups.into_iter().map(shown).collect())
}

async fn list_groups(call: Call<'_>) -> Result<Answer> {
    let (query, limit) = query(&call)?;
    let found = directory::page_groups(call.app, &query, &call.reach, limit).await?;
    let more = expansions(&call, &query, found.objects.iter().map(|(group, _)| group.id.clone()).collect()).await?;
    let show = |(group, created): &(Group, Time)| (json(group, Some(*created)), more.get(&group.id).cloned().unwrap_or_default());
    list::page(&call, (&SHAPE, "groups"), &query, found, show)
}

/// Who belongs to the groups is told, too, unless the client selects other things.
async fn delta(call: Call<'_>) -> Result<Answer> {
    let follow = async |query: &Query, limit| {
        let members = query.select.is_empty() || query.select.iter().any(|name| name.eq_ignore_ascii_case("members"));
        directory::follow::follow_groups(call.app, query, members, limit).await
    };
    list::delta(&call, (&FOLLOWED, DIRECTORY, "groups"), follow, |(group, created)| json(group, Some(*created))).await
}

async fn count(call: Call<'_>) -> Result<Answer> {
    let counted = Query { count: true, ..list::query(call.request, &SHAPE)? };
    let found = directory::page_groups(call.app, &counted, &call.reach, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

async fn named(call: &Call<'_>) -> Result<(Group, Time)> {
    Ok(directory::find_group(call.app, call.key(0)?, &call.reach).await?)
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let (query, _) = query(&call)?;
    let (group, created) = named(&call).await?;
    let more = expansions(&call, &query, vec![group.id.clone()]).await?.remove(&group.id).unwrap_or_default();
    Ok(Answer::ok(list::single_expanded(&call, (&SHAPE, "groups"), &query, json(&group, Some(created)), more)?))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Given {
    display_name: Option<String>,
    description: Option<String>,
    #[serde(rename = "members@odata.bind")]
    members: Vec<String>,
    group_types: Option<Vec<String>>,
    membership_rule: Option<String>,
    membership_rule_processing_state: Option<String>,
    mail_enabled: bool,
    mail_nickname: Option<String>,
    is_assignable_to_role: bool,
}

impl Given {
    fn check(&self) -> Result<()> {
        if self.mail_enabled || self.group_types.iter().flatten().any(|kind| kind == "Unified") {
            return Err(GraphProblem::bad("Groups here are security groups without mail."));
        }
        if self.membership_rule_processing_state.as_ref().is_some_and(|state| state != "On") {
            return Err(GraphProblem::bad("Rules are always followed: membershipRuleProcessingState is On."));
        }
        if self.is_assignable_to_role {
            return Err(GraphProblem::bad(
                "isAssignableToRole is about roles that there are none of here; roles of device management are given to any group without a rule.",
            ));
        }
        // Graph's own rules for it.
        let plain = |c: char| c.is_ascii_graphic() && !"@()\\[]\";:<>,".contains(c);
        if self.mail_nickname.as_ref().is_some_and(|name| name.is_empty() || name.len() > 64 || !name.chars().all(plain)) {
            return Err(GraphProblem::invalid("Invalid value specified for property 'mailNickname'."));
        }
        if self.members.len() > MOST_BOUND {
            return Err(GraphProblem::bad(format!("At most {MOST_BOUND} members can be bound at once.")));
        }
        Ok(())
    }
}

/// Whether the kinds of a group say that it goes by a rule.
fn by_rule(kinds: &[String]) -> bool {
    kinds.iter().any(|kind| kind == "DynamicMembership")
}

/// Whoever is bound to groups does not say who belongs to them, or they would reach whom they like; and a group with a role is changed by
/// those only who may give the role away.
async fn check_writer(call: &Call<'_>, group: Option<&Group>) -> Result<()> {
    if !call.reach.is_all() {
        return Err(GraphProblem::forbidden("Whoever is bound to groups changes none."));
    }
    match group {
        Some(group) => Ok(role::check_group(call.app, call.caller, &group.id).await?),
        None => Ok(()),
    }
}

async fn create(call: Call<'_>) -> Result<Answer> {
    check_writer(&call, None).await?;
    let given: Given = call.request.json()?;
    given.check()?;
    let name = given.display_name.ok_or_else(|| GraphProblem::bad("A value is required for the property displayName."))?;
    if by_rule(given.group_types.as_deref().unwrap_or_default()) != given.membership_rule.is_some() {
        return Err(GraphProblem::bad("A membershipRule and 'DynamicMembership' in groupTypes go together."));
    }
    let description = given.description.unwrap_or_default();
    let (rule, mail_nickname) = (given.membership_rule, given.mail_nickname);
    let group = Group { id: GroupId::new(), display_name: name, description, rule, external_id: None, mail_nickname };
    let group = directory::insert_group(call.app, group, &call.by()).await?;
    if !given.members.is_empty() {
        let members = bound(&call, &given.members).await?;
        directory::add_members(call.app, &group.id, members, &call.by()).await?;
    }
    let (group, created) = directory::find_group(call.app, group.id.as_str(), &Reach::All).await?;
    let body = list::single(&call, &SHAPE, "groups", json(&group, Some(created)))?;
    Ok(Answer::created(format!("{}/groups/{}", base(&call.app.config, call.request.version), group.id), body))
}

async fn update(call: Call<'_>) -> Result<Answer> {
    let (mut group, created) = named(&call).await?;
    check_writer(&call, Some(&group)).await?;
    call.request.check_seen(&json(&group, Some(created)))?;
    let given: Given = call.request.json()?;
    given.check()?;
    let seen = group.clone();
    if let Some(name) = given.display_name {
        group.display_name = name;
    }
    if let Some(description) = given.description {
        group.description = description;
    }
    let rule = match &given.group_types {
        Some(kinds) if !by_rule(kinds) => None,
        _ => given.membership_rule.or_else(|| group.rule.clone()),
    };
    if given.group_types.as_deref().is_some_and(by_rule) && rule.is_none() {
        return Err(GraphProblem::bad("A membershipRule and 'DynamicMembership' in groupTypes go together."));
    }
    group.rule = rule;
    group.mail_nickname = given.mail_nickname.or(group.mail_nickname);
    let id = group.id.clone();
    directory::update_seen_group(call.app, Some(seen), group, &call.by()).await?;
    if !given.members.is_empty() {
        let members = bound(&call, &given.members).await?;
        directory::add_members(call.app, &id, members, &call.by()).await?;
    }
    Ok(Answer::done())
}

async fn delete(call: Call<'_>) -> Result<Answer> {
    let (group, _) = named(&call).await?;
    check_writer(&call, None).await?;
    provision::delete_team(call.app, &group.id, call.caller, &call.by(), |_, _| Ok::<(), GraphProblem>(())).await??;
    Ok(Answer::done())
}

/// A member with what was selected of it.
fn show_member(call: &Call<'_>, member: &Belonging, select: &[String]) -> Map<String, Value> {
    let (kind, shape, whole) = match member {
        Belonging::User(user, created) => ("#microsoft.graph.user", &users::SHAPE, users::json(user, *created)),
        Belonging::Device(found) => ("#microsoft.graph.device", &devices::SHAPE, devices::json(found)),
    };
    let mut shown = Map::from_iter([("@odata.type".to_owned(), Value::from(kind))]);
    shown.extend(shape.show(whole, select, call.is_beta()));
    shown
}

async fn members(call: Call<'_>) -> Result<Answer> {
    let (group, _) = named(&call).await?;
    let query = list::query(call.request, &MEMBER)?;
    list_members(&call, &group.id, &query, "directoryObjects").await
}

async fn list_members(call: &Call<'_>, group: &GroupId, query: &Query, context: &str) -> Result<Answer> {
    let found = directory::page_members(call.app, group, query, list::limit(query, DIRECTORY)).await?;
    let shown = found.objects.iter().map(|member| show_member(call, member, &query.select)).collect();
    let found = Found { objects: shown, next: found.next, count: found.count };
    Ok(list::collection(&call.app.config, call.request, context, query, found))
}

async fn count_members(call: Call<'_>) -> Result<Answer> {
    let (group, _) = named(&call).await?;
    let query = Query { count: true, ..list::query(call.request, &MEMBER)? };
    let found = directory::page_members(call.app, &group.id, &query, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

/// The members of one type.
async fn of_type(call: &Call<'_>, kind: &str, shape: &Shape, context: &str) -> Result<Answer> {
    let (group, _) = named(call).await?;
    let query = list::query(call.request, shape)?;
    let of_kind = Expr::IsOf(kind.to_owned());
    let filter = match query.filter.clone() {
        Some(filter) => Expr::And(Box::new(of_kind), Box::new(filter)),
        None => of_kind,
    };
    list_members(call, &group.id, &Query { filter: Some(filter), ..query }, context).await
}

async fn people(call: Call<'_>) -> Result<Answer> {
    of_type(&call, "user", &users::SHAPE, "users").await
}

async fn things(call: Call<'_>) -> Result<Answer> {
    of_type(&call, "device", &devices::SHAPE, "devices").await
}

/// Nobody owns a group here: who may change it is said by roles.
async fn owners(call: Call<'_>) -> Result<Answer> {
    named(&call).await?;
    list::few(&call, &MEMBER, "directoryObjects", Vec::new())
}

#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "@odata.id")]
    id: String,
}

/// The members that references name: `https://host/v1.0/directoryObjects/{id}`, or `users` or `devices` in the middle.
async fn bound(call: &Call<'_>, references: &[String]) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for reference in references {
        let clean = reference.trim_end_matches(['/', ')', '\'']);
        let id = clean.rsplit(['/', '(', '\'']).next().unwrap_or_default();
        members.push(directory::find_member(call.app, id).await?);
    }
    Ok(members)
}

async fn add_member(call: Call<'_>) -> Result<Answer> {
    let (group, _) = named(&call).await?;
    check_writer(&call, Some(&group)).await?;
    let reference: Reference = call.request.json()?;
    let members = bound(&call, &[reference.id]).await?;
    if directory::add_members(call.app, &group.id, members, &call.by()).await? == 0 {
        return Err(GraphProblem::new(
            StatusCode::BAD_REQUEST,
            "Request_BadRequest",
            "One or more added object references already exist for the following modified properties: 'members'.",
        ));
    }
    Ok(Answer::done())
}

async fn remove_member(call: Call<'_>) -> Result<Answer> {
    let (group, _) = named(&call).await?;
    check_writer(&call, Some(&group)).await?;
    let member = directory::find_member(call.app, call.key(1)?).await.map_err(|_| GraphProblem::not_found())?;
    match directory::remove_members(call.app, &group.id, vec![member], &call.by()).await? {
        0 => Err(GraphProblem::not_found()),
        _ => Ok(Answer::done()),
    }
}
