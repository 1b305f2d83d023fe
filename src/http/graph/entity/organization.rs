//! `/organization`, `/domains`, `/subscribedSkus`: what scripts look at first.

use serde_json::{Value, json};

use crate::domain::access::{Action, Need, Scope};
use crate::http::graph::answer::Answer;
use crate::http::graph::error::Result;
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};

const READ: Need = Need {
    scopes: &[Scope::OrganizationReadAll, Scope::DirectoryReadAll, Scope::DirectoryReadWriteAll, Scope::UserReadAll, Scope::UserRead],
    action: Some(Action::OrganizationRead),
};

routes! {
    Get "organization", READ => organization;
    Get "domains", READ => domains;
    Get "subscribedSkus", READ => skus;
}

async fn organization(call: Call<'_>) -> Result<Answer> {
    let config = &call.app.config;
    let domain =
        |(number, name): (usize, &String)| json!({ "name": name, "isDefault": number == 0, "isInitial": number == 0, "type": "Managed" });
    let whole = json!({
        "id": call.app.tenant,
        "displayName": config.organisation,
        "tenantType": "AAD",
        "verifiedDomains": config.domains.iter().enumerate().map(domain).collect::<Vec<Value>>(),
        "assignedPlans": [],
    });
    Ok(list::whole(config, call.request, "organization", &[whole]))
}

async fn domains(call: Call<'_>) -> Result<Answer> {
    let config = &call.app.config;
    let show = |(number, name): (usize, &String)| json!({ "id": name, "authenticationType": "Managed", "isDefault": number == 0, "isInitial": number == 0, "isVerified": true });
    Ok(list::whole(config, call.request, "domains", &config.domains.iter().enumerate().map(show).collect::<Vec<_>>()))
}

/// There are no licences; scripts ask.
async fn skus(call: Call<'_>) -> Result<Answer> {
    Ok(list::whole(&call.app.config, call.request, "subscribedSkus", &[]))
}
