//! `/users`: people, their groups, devices and authentication methods.

use serde_json::{Map, Value};

use super::managed_devices;
use crate::clock::Time;
use crate::domain::access::{Action, Need, Scope};
use crate::domain::subscription::Kind;
use crate::domain::user::{Details, User};
use crate::http::graph::answer::{Answer, base, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, DIRECTORY};
use crate::http::graph::route::{Call, routes};
use crate::ids::UserId;
use crate::service::{directory, role};
use crate::wire::odata::edm;
use crate::wire::odata::shape::Shape;

pub(super) const READ: Need = Kind::User.need();
pub(super) const WRITE: Need =
    Need { scopes: &[Scope::UserReadWriteAll, Scope::DirectoryReadWriteAll], action: Some(Action::DirectoryUpdate) };

/// The properties of a user.
pub(super) const SHAPE: Shape = Shape {
    usual: &[
        "businessPhones",
        "displayName",
        "givenName",
        "jobTitle",
        "mail",
        "mobilePhone",
        "officeLocation",
        "preferredLanguage",
        "surname",
        "userPrincipalName",
    ],
    more: &[
        "accountEnabled",
        "createdDateTime",
        "department",
        "employeeId",
        "mailNickname",
        "onPremisesDistinguishedName",
        "onPremisesSamAccountName",
        "onPremisesSecurityIdentifier",
        "onPremisesSyncEnabled",
        "usageLocation",
        "userType",
    ],
    beta: &[],
};

routes! {
    Get "users", READ => list_users;
    Post "users", WRITE => create;
    Get "users/$count", READ => count;
    Get "users/delta", READ => delta;
    Get "users/{id}", READ => show;
    Patch "users/{id}", WRITE => update, urgent;
    Delete "users/{id}", WRITE => delete, urgent;
    Get "users/{id}/memberOf", READ => member_of;
    Get "users/{id}/transitiveMemberOf", READ => member_of;
    Get "users/{id}/managedDevices", managed_devices::READ => managed;
}

/// A user as JSON, whole.
pub(super) fn json(user: &User, created: Time) -> Map<String, Value> {
    let nickname = user.upn.split('@').next().unwrap_or_default();
    let details = &user.details;
    object! {
        "id": user.id,
        "businessPhones": Value::Array(Vec::new()),
        "displayName": user.display_name,
        "givenName": details.given_name,
        "jobTitle": details.job_title,
        "mail": user.mail,
        "mobilePhone": details.mobile_phone,
        "officeLocation": details.office_location,
        "preferredLanguage": details.preferred_language,
        "surname": details.surname,
        "userPrincipalName": user.upn,
        "accountEnabled": user.enabled,
        "createdDateTime": edm::time(created.0),
        "department": details.department,
        "employeeId": details.employee_id,
        "mailNickname": nickname,
        "onPremisesDistinguishedName": user.distinguished_name,
        "onPremisesSamAccountName": user.sam_account_name,
        "onPremisesSecurityIdentifier": user.security_identifier,
        "onPremisesSyncEnabled": Value::Null,
        "usageLocation": details.usage_location,
        "userType": "Member",
    }
}

async fn list_users(call: Call<'_>) -> Result<Answer> {
    let find = async |query: &_, limit| directory::page_users(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&SHAPE, DIRECTORY, "users"), find, |(user, created)| json(user, *created)).await
}

async fn delta(call: Call<'_>) -> Result<Answer> {
    let follow = async |query: &_, limit| directory::follow::follow_users(call.app, query, limit).await;
    list::delta(&call, (&SHAPE, DIRECTORY, "users"), follow, |(user, created)| json(user, *created)).await
}

async fn count(call: Call<'_>) -> Result<Answer> {
    let query = list::query(call.request, &SHAPE)?;
    let counted = crate::wire::odata::query::Query { count: true, ..query };
    let found = directory::page_users(call.app, &counted, &call.reach, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

/// The user whom the address names, by id or user principal name.
pub(super) async fn named(call: &Call<'_>) -> Result<(User, Time)> {
    Ok(directory::find_user(call.app, call.key(0)?, &call.reach).await?)
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let (user, created) = named(&call).await?;
    Ok(Answer::ok(list::single(&call, &SHAPE, "users", json(&user, created))?))
}

/// Whoever is bound to groups makes nobody: who is made is in no group.
fn check_unbound(call: &Call<'_>) -> Result<()> {
    if call.reach.is_all() { Ok(()) } else { Err(GraphProblem::forbidden("Whoever is bound to groups makes and deletes no people.")) }
}

async fn create(call: Call<'_>) -> Result<Answer> {
    check_unbound(&call)?;
    let body: Map<String, Value> = call.request.json()?;
    let mut user = User {
        id: UserId::new(),
        upn: String::new(),
        display_name: String::new(),
        mail: None,
        sam_account_name: None,
        security_identifier: None,
        distinguished_name: None,
        enabled: true,
        details: Details::default(),
    };
    change(&mut user, &body)?;
    if user.upn.is_empty() || user.display_name.is_empty() {
        return Err(GraphProblem::new(
            actix_web::http::StatusCode::BAD_REQUEST,
            "Request_BadRequest",
            "A value is required for the properties displayName and userPrincipalName.",
        ));
    }
    let made = directory::create_user(call.app, user, &call.by()).await?;
    let (user, created) = directory::find_user(call.app, made.id.as_str(), &crate::domain::access::Reach::All).await?;
    let body = list::single(&call, &SHAPE, "users", json(&user, created))?;
    Ok(Answer::created(format!("{}/users/{}", base(&call.app.config, call.request.version), user.id), body))
}

async fn update(call: Call<'_>) -> Result<Answer> {
    let (user, created) = named(&call).await?;
    let (request, body) = (call.request.clone(), call.request.json()?);
    let changed = move |before: &User| {
        request.check_seen(&json(before, created))?;
        let mut after = before.clone();
        change(&mut after, &body)?;
        Ok::<_, GraphProblem>(after)
    };
    role::change_person(call.app, call.caller, &user.id, &call.by(), changed).await??;
    Ok(Answer::done())
}

async fn delete(call: Call<'_>) -> Result<Answer> {
    check_unbound(&call)?;
    let (user, _) = named(&call).await?;
    role::check_helper(call.app, call.caller, &user.id).await?;
    directory::delete_user(call.app, &user.id, &call.by()).await?;
    Ok(Answer::done())
}

async fn member_of(call: Call<'_>) -> Result<Answer> {
    let (user, _) = named(&call).await?;
    let groups = directory::groups_of_user(call.app, &user.id).await?;
    list::few(&call, &super::groups::SHAPE, "directoryObjects", groups.iter().map(super::groups::typed).collect())
}

async fn managed(call: Call<'_>) -> Result<Answer> {
    let (user, _) = named(&call).await?;
    managed_devices::list_of_user(&call, &user.id).await
}

/// Writes what the body has over a user. What comes from Active Directory is not written here, as in Graph: certificates carry it, and there it
/// says whose account it is. There are no passwords here: `passwordProfile`, which scripts send because Graph demands it, is
/// read over.
fn change(user: &mut User, body: &Map<String, Value>) -> Result<()> {
    for (name, value) in body {
        let invalid = |expected: &str| GraphProblem::invalid(format!("The value of '{name}' is not {expected}."));
        let text = || match value {
            Value::Null => Ok(None),
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(invalid("a text")),
        };
        let needed = || text()?.ok_or_else(|| invalid("a text"));
        let details = &mut user.details;
        match name.as_str() {
            "displayName" => user.display_name = needed()?,
            "userPrincipalName" => user.upn = needed()?,
            "accountEnabled" => user.enabled = value.as_bool().ok_or_else(|| invalid("true or false"))?,
            "mail" => user.mail = text()?,
            "givenName" => details.given_name = text()?,
            "surname" => details.surname = text()?,
            "jobTitle" => details.job_title = text()?,
            "department" => details.department = text()?,
            "officeLocation" => details.office_location = text()?,
            "mobilePhone" => details.mobile_phone = text()?,
            "employeeId" => details.employee_id = text()?,
            "usageLocation" => details.usage_location = text()?,
            "preferredLanguage" => details.preferred_language = text()?,
            "mailNickname" | "passwordProfile" | "businessPhones" | "userType" | "id" => {}
            _ if name.contains('@') => {}
            _ => {
                return Err(GraphProblem::bad(format!(
                    "The property '{}' does not exist, or cannot be written.",
                    name.chars().take(60).collect::<String>()
                )));
            }
        }
    }
    Ok(())
}
