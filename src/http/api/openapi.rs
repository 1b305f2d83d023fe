//! The document (OpenAPI 3.1), made of the route table: it says what is sent, because both come from the same lines.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::problem::{CODES, is_of_caller};
use super::resource::TABLE;
use super::route::Route;
use super::schema::Schemas;
use crate::http::table::Verb;

/// Longest variable segment of an address that is of use.
const LONGEST_KEY: usize = 200;

/// The document as it is sent, and its ETag.
#[must_use]
pub fn text() -> (&'static str, &'static str) {
    static TEXT: OnceLock<(String, String)> = OnceLock::new();
    let (text, etag) = TEXT.get_or_init(|| {
        let text = document(TABLE).to_string();
        let etag = format!("\"{}\"", hex::encode(openssl::sha::sha256(text.as_bytes()).get(..12).unwrap_or_default()));
        (text, etag)
    });
    (text, etag)
}

/// The document of a table.
#[must_use]
pub fn document(table: &[&[Route]]) -> Value {
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in table.iter().flat_map(|resource| resource.iter()) {
        let operation = operation(route, &mut schemas);
        paths.entry(format!("/{}", route.pattern)).or_default().insert(route.verb.as_str().to_ascii_lowercase(), operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Muster",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the server knows and does that Microsoft Graph has no shape for. Errors are application/problem+json \
                            (RFC 9457); `code` is stable.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": super::ROOT }],
        "security": [{ "bearer": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "An access token of this server: /TENANT/oauth2/v2.0/token, scope https://HOST[:PORT]/.default.",
                },
            },
            "schemas": schemas.into_inner(),
        },
    })
}

/// The words of an address as one name.
fn operation_id(route: &Route) -> String {
    let words = route.pattern.split('/').map(|part| part.trim_matches(['{', '}']));
    std::iter::once(route.verb.as_str().to_ascii_lowercase()).chain(words.map(str::to_owned)).collect::<Vec<_>>().join("-")
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let text = route.text.trim();
    let summary = text.split(['.', ';', ':']).next().unwrap_or_default();
    let scopes: Vec<&str> = route.need.scopes.iter().map(|scope| scope.as_str()).collect();
    let action = route.need.action.map(|action| action.as_str());
    let role = action.map(|action| format!(" A person's role has to allow `{action}`.")).unwrap_or_default();
    let mut operation = json!({
        "operationId": operation_id(route),
        "tags": [route.pattern.split('/').next().unwrap_or_default()],
        "summary": summary,
        "description": format!("{text}\n\nNeeds one of the permissions {}.{role}", scopes.join(", ")),
        "x-muster-permissions": scopes,
        "x-muster-action": action,
        "parameters": parameters(route, schemas),
        "responses": responses(route, schemas),
    });
    let body = (route.body)(schemas);
    if let (Some(members), false) = (operation.as_object_mut(), body.is_null()) {
        let body = json!({ "required": true, "content": { "application/json": { "schema": body } } });
        members.insert("requestBody".into(), body);
    }
    operation
}

fn parameters(route: &Route, schemas: &mut Schemas) -> Vec<Value> {
    let variable = |name| {
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": LONGEST_KEY });
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    };
    let mut all: Vec<Value> = route.variables().map(variable).collect();
    let query = (route.query)(schemas);
    let required: Vec<&str> = query.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, schema) in query.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let mut schema = not_null(schema);
        let text = schema.as_object_mut().and_then(|members| members.remove("description"));
        let needed = required.contains(&name.as_str());
        all.push(json!({ "name": name, "in": "query", "required": needed, "schema": schema, "description": text }));
    }
    all
}

/// A query has no null: a parameter is there or not.
fn not_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let Some(members) = schema.as_object_mut() else { return schema };
    let plain = members.get("type").and_then(Value::as_array).and_then(|kinds| kinds.first()).cloned();
    if let Some(plain) = plain {
        members.insert("type".into(), plain);
    }
    let inner = members.get("anyOf").and_then(Value::as_array).and_then(|all| all.first()).cloned();
    if let Some(Value::Object(inner)) = inner {
        members.remove("anyOf");
        members.extend(inner);
    }
    schema
}

/// What a route may answer: its own, and the errors with their codes.
fn responses(route: &Route, schemas: &mut Schemas) -> Map<String, Value> {
    let mut all = Map::new();
    let answer = (route.answer)(schemas);
    let mut success = json!({ "description": "Done." });
    if let (Some(members), true) = (success.as_object_mut(), route.status != 204) {
        members.insert("content".into(), json!({ "application/json": { "schema": answer } }));
    }
    all.insert(route.status.to_string(), success);
    if route.verb == Verb::Get {
        all.insert("304".into(), json!({ "description": "As it was when the caller read it (If-None-Match)." }));
    }
    for (status, codes) in CODES {
        let mut codes: Vec<&str> = codes.to_vec();
        let of_route = route.refusals.iter().filter(|refusal| match status {
            403 => is_of_caller(**refusal),
            422 => !is_of_caller(**refusal),
            _ => false,
        });
        codes.extend(of_route.map(|refusal| refusal.code()));
        // Only what changes something can be held up by how things stand.
        let possible = match status {
            409 | 412 => route.verb != Verb::Get,
            _ => !codes.is_empty(),
        };
        if possible {
            all.insert(status.to_string(), problem(*status, &codes, route));
        }
    }
    all
}

fn problem(status: u16, codes: &[&str], route: &Route) -> Value {
    let title = actix_web::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let refusals = route.refusals.iter().filter(|refusal| codes.contains(&refusal.code()));
    let told: Vec<String> = refusals.map(|refusal| format!("`{}`: {}", refusal.code(), refusal.text())).collect();
    let description = if told.is_empty() { title.to_owned() } else { format!("{title}. {}.", told.join(". ")) };
    let mut response = json!({
        "description": description,
        "content": { "application/problem+json": { "schema": {
            "type": "object",
            "required": ["type", "title", "status", "code", "detail", "trace_id"],
            "properties": {
                "type": { "type": "string", "format": "uri-reference" },
                "title": { "type": "string" },
                "status": { "const": status },
                "code": { "type": "string", "enum": codes },
                "detail": { "type": "string", "description": "What is wrong, and what to do about it." },
                "trace_id": { "type": "string", "description": "Finds the line in the server's log." },
            },
        } } },
    });
    let header = match status {
        401 => Some(("WWW-Authenticate", json!({ "type": "string" }))),
        429 | 503 => Some(("Retry-After", json!({ "type": "integer", "minimum": 1 }))),
        _ => None,
    };
    if let (Some(members), Some((name, schema))) = (response.as_object_mut(), header) {
        members.insert("headers".into(), json!({ name: { "schema": schema, "required": true } }));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let mut names: Vec<String> = TABLE.iter().flat_map(|resource| resource.iter()).map(operation_id).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_type_has_a_name_of_its_own() {
        let mut schemas = Schemas::default();
        for route in TABLE.iter().flat_map(|resource| resource.iter()) {
            operation(route, &mut schemas);
        }
        assert!(schemas.doubled().is_empty(), "{:?}", schemas.doubled());
    }

    #[test]
    fn a_parameter_is_never_null() {
        assert_eq!(not_null(&json!({ "type": ["string", "null"], "maxLength": 3 })), json!({ "type": "string", "maxLength": 3 }));
        let choice = json!({ "anyOf": [{ "type": "string", "enum": ["a"] }, { "type": "null" }], "description": "d" });
        assert_eq!(not_null(&choice), json!({ "type": "string", "enum": ["a"], "description": "d" }));
    }
}
