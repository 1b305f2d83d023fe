//! `/Users`: people.

use actix_web::http::StatusCode;
use serde_json::{Map, Value, json};

use super::error::{Result, ScimProblem};
use super::route::{Answer, Call, check_match, version};
use super::search::wanted;
use crate::domain::user::{Details, User};
use crate::ids::UserId;
use crate::service::directory::provision::{self, Person, Wanted};
use crate::service::{directory, role};
use crate::wire::odata::edm;
use crate::wire::scim::document::Document;
use crate::wire::scim::patch::Changes;
use crate::wire::scim::query::Query;
use crate::wire::scim::schema::{ENTERPRISE_URN, USER, USER_URN};
use crate::wire::scim::{Kind, Wrong, list as list_of};

/// What a client says of a person, and may change.
fn document(user: &User) -> Document {
    let mut document = Document::new();
    let details = &user.details;
    let mut put = |name: &str, value: Option<Value>| document.extend(value.map(|value| (name.to_owned(), value)));
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let object = |pairs: [(&str, &Option<String>); 2]| {
        let known = pairs.into_iter().filter_map(|(name, value)| value.as_deref().map(|value| (name.to_owned(), Value::from(value))));
        Some(Map::from_iter(known)).filter(|object| !object.is_empty()).map(Value::Object)
    };
    put("userName", Some(user.upn.as_str().into()));
    put("externalId", text(&details.external_id));
    put("name", object([("givenName", &details.given_name), ("familyName", &details.surname)]));
    put("displayName", Some(user.display_name.as_str().into()));
    put("title", text(&details.job_title));
    put("preferredLanguage", text(&details.preferred_language));
    put("active", Some(user.enabled.into()));
    put("emails", user.mail.as_ref().map(|mail| json!([{ "value": mail, "type": "work", "primary": true }])));
    put("phoneNumbers", details.mobile_phone.as_ref().map(|number| json!([{ "value": number, "type": "mobile" }])));
    put("addresses", details.office_location.as_ref().map(|office| json!([{ "formatted": office, "type": "work" }])));
    put(ENTERPRISE_URN, object([("employeeNumber", &details.employee_id), ("department", &details.department)]));
    document
}

/// The value of a list that is kept: the one of that type, or of none.
fn of_type<'a>(document: &'a Document, list: &str, kind: &str, part: &str) -> Option<&'a str> {
    let all = document.get(list).and_then(Value::as_array)?;
    let is = |value: &&Value, wanted: Option<&str>| value.get("type").and_then(Value::as_str) == wanted;
    let found = all.iter().find(|value| is(value, Some(kind))).or_else(|| all.iter().find(|value| is(value, None)))?;
    found.get(part).and_then(Value::as_str)
}

/// Writes what a document says over a person.
fn write(user: &mut User, document: &Document) -> std::result::Result<(), Wrong> {
    let text = |place: Option<&Value>| place.and_then(Value::as_str).map(str::to_owned);
    let part = |outer: &str, name: &str| text(document.get(outer).and_then(|object| object.get(name)));
    let name = text(document.get("userName")).ok_or_else(|| Wrong::new(Kind::InvalidValue, "A user has a userName."))?;
    let details = &mut user.details;
    details.external_id = text(document.get("externalId"));
    details.given_name = part("name", "givenName");
    details.surname = part("name", "familyName");
    details.job_title = text(document.get("title"));
    details.preferred_language = text(document.get("preferredLanguage"));
    details.mobile_phone = of_type(document, "phoneNumbers", "mobile", "value").map(str::to_owned);
    details.office_location = of_type(document, "addresses", "work", "formatted").map(str::to_owned);
    details.employee_id = part(ENTERPRISE_URN, "employeeNumber");
    details.department = part(ENTERPRISE_URN, "department");
    let mail = of_type(document, "emails", "work", "value");
    // Mail of another kind is better than none.
    let any = document.get("emails").and_then(Value::as_array).and_then(|all| all.first()).and_then(|one| one.get("value"));
    user.mail = mail.or(any.and_then(Value::as_str)).map(str::to_owned);
    if let Some(shown) = text(document.get("displayName")) {
        user.display_name = shown;
    }
    if user.display_name.is_empty() {
        let whole =
            [&user.details.given_name, &user.details.surname].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ");
        user.display_name = if whole.is_empty() { name.clone() } else { whole };
    }
    user.enabled = document.get("active").and_then(Value::as_bool).unwrap_or(user.enabled);
    user.upn = name;
    Ok(())
}

fn version_of(user: &User) -> String {
    version(&document(user), user.id.as_str())
}

/// A person as clients see them.
fn whole(base: &str, person: &Person) -> Document {
    let user = &person.user;
    let mut whole = document(user);
    let mut schemas = vec![USER_URN];
    schemas.extend(whole.contains_key(ENTERPRISE_URN).then_some(ENTERPRISE_URN));
    whole.insert("schemas".into(), json!(schemas));
    whole.insert("id".into(), user.id.as_str().into());
    if let Some(groups) = &person.groups {
        let shown = groups.iter().map(|(id, name)| json!({ "value": id, "$ref": format!("{base}/Groups/{id}"), "display": name }));
        whole.insert("groups".into(), shown.collect());
    }
    whole.insert(
        "meta".into(),
        json!({
            "resourceType": USER.name,
            "created": edm::time(person.created.0),
            "lastModified": edm::time(person.changed.0),
            "location": format!("{base}/Users/{}", user.id),
            "version": version_of(user),
        }),
    );
    whole
}

/// A page of people, and how many there are in all.
pub(super) async fn page(call: &Call<'_>, query: &Query, wanted: Wanted) -> Result<(Vec<Value>, i64)> {
    let found = provision::page_people(call.app, wanted, query.shows(&USER, "groups", false)).await??;
    let base = call.base();
    let shown = found.objects.iter().map(|person| Value::Object(query.show(&USER, whole(&base, person)))).collect();
    Ok((shown, found.count.unwrap_or_default()))
}

async fn find(call: &Call<'_>, query: &Query) -> Result<Answer> {
    let (shown, total) = page(call, query, wanted(&USER, query)?).await?;
    Ok(Answer::ok(list_of(total, query.start(), &shown)))
}

pub(super) async fn list(call: Call<'_>) -> Result<Answer> {
    find(&call, &call.query()?).await
}

pub(super) async fn search(call: Call<'_>) -> Result<Answer> {
    find(&call, &Query::of_search(&call.body()?)?).await
}

async fn answer(call: &Call<'_>, status: StatusCode, id: &str) -> Result<Answer> {
    let query = call.query()?;
    let person = provision::find_person(call.app, id, query.shows(&USER, "groups", false)).await??;
    Ok(call.show(status, &USER, &query, whole(&call.base(), &person)))
}

pub(super) async fn show(call: Call<'_>) -> Result<Answer> {
    answer(&call, StatusCode::OK, call.key).await
}

pub(super) async fn create(call: Call<'_>) -> Result<Answer> {
    call.query()?;
    let (document, _) = Changes::of_whole(&USER, &call.body()?)?;
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
    write(&mut user, &document)?;
    let made = directory::create_user(call.app, user, &call.by()).await?;
    answer(&call, StatusCode::CREATED, made.id.as_str()).await
}

/// Changes the person whom the address names.
async fn update<F>(call: Call<'_>, change: F) -> Result<Answer>
where
    F: Fn(&User, &mut User) -> std::result::Result<(), Wrong> + Send + 'static,
{
    call.query()?;
    let id = UserId::parse(call.key).ok_or_else(ScimProblem::not_found)?;
    let if_match = call.request.if_match.clone();
    let changed = move |before: &User| {
        check_match(if_match.as_deref(), &version_of(before))?;
        let mut after = before.clone();
        change(before, &mut after)?;
        Ok::<User, ScimProblem>(after)
    };
    provision::change_person(call.app, &id, call.caller, &call.by(), changed).await??;
    answer(&call, StatusCode::OK, id.as_str()).await
}

pub(super) async fn replace(call: Call<'_>) -> Result<Answer> {
    let (given, _) = Changes::of_whole(&USER, &call.body()?)?;
    update(call, move |_, user| write(user, &given)).await
}

pub(super) async fn change(call: Call<'_>) -> Result<Answer> {
    let changes = Changes::parse(&USER, &call.body()?)?;
    update(call, move |before, user| {
        let mut document = document(before);
        changes.apply(&mut document)?;
        write(user, &document)
    })
    .await
}

pub(super) async fn delete(call: Call<'_>) -> Result<Answer> {
    let id = UserId::parse(call.key).ok_or_else(ScimProblem::not_found)?;
    if call.request.if_match.is_some() {
        let person = provision::find_person(call.app, id.as_str(), false).await??;
        check_match(call.request.if_match.as_deref(), &version_of(&person.user))?;
    }
    // Roles do not come back with whom is restored: only who may give them takes them away.
    role::check_helper(call.app, call.caller, &id).await?;
    directory::delete_user(call.app, &id, &call.by()).await?;
    Ok(Answer::done())
}
