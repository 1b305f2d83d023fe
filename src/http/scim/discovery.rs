//! What clients learn of this server (RFC 7644, section 4).

use serde_json::{Value, json};

use super::error::{Result, ScimProblem};
use super::route::{Answer, Call};
use crate::wire::scim::list;
use crate::wire::scim::query::MOST;
use crate::wire::scim::schema::{RESOURCES, Schema};

pub(super) async fn config(call: Call<'_>) -> Result<Answer> {
    let base = call.base();
    Ok(Answer::ok(json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": { "supported": true },
        "bulk": { "supported": false, "maxOperations": 0, "maxPayloadSize": 0 },
        "filter": { "supported": true, "maxResults": MOST },
        "changePassword": { "supported": false },
        "sort": { "supported": false },
        "etag": { "supported": true },
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "OAuth Bearer Token",
                "description": "A token of `muster app scim-token`, or an access token of this server.",
                "specUri": "https://www.rfc-editor.org/info/rfc6750",
                "primary": true,
            },
        ],
        "meta": { "resourceType": "ServiceProviderConfig", "location": format!("{base}/ServiceProviderConfig") },
    })))
}

fn whole(resources: &[Value]) -> Answer {
    Answer::ok(list(i64::try_from(resources.len()).unwrap_or_default(), 1, resources))
}

pub(super) async fn types(call: Call<'_>) -> Result<Answer> {
    let base = call.base();
    Ok(whole(&RESOURCES.iter().map(|resource| resource.json(&base)).collect::<Vec<_>>()))
}

pub(super) async fn one_type(call: Call<'_>) -> Result<Answer> {
    let found = RESOURCES.iter().find(|resource| resource.name.eq_ignore_ascii_case(call.key));
    found.map(|resource| Answer::ok(resource.json(&call.base()))).ok_or_else(ScimProblem::not_found)
}

fn all() -> impl Iterator<Item = &'static Schema> {
    RESOURCES.iter().flat_map(|resource| resource.schemas())
}

pub(super) async fn schemas(call: Call<'_>) -> Result<Answer> {
    let base = call.base();
    Ok(whole(&all().map(|schema| schema.json(&base)).collect::<Vec<_>>()))
}

pub(super) async fn schema(call: Call<'_>) -> Result<Answer> {
    let found = all().find(|schema| schema.urn.eq_ignore_ascii_case(call.key));
    found.map(|schema| Answer::ok(schema.json(&call.base()))).ok_or_else(ScimProblem::not_found)
}
