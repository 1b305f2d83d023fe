//! `/organization`, `/domains`, `/subscribedSkus`: what scripts look at first.

use serde_json::{Map, Value, json};

use crate::domain::access::{Action, Need, Scope};
use crate::http::graph::answer::{Answer, object};
use crate::http::graph::error::Result;
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::wire::odata::shape::Shape;

const READ: Need = Need {
    scopes: &[Scope::OrganizationReadAll, Scope::DirectoryReadAll, Scope::DirectoryReadWriteAll, Scope::UserReadAll, Scope::UserRead],
    action: Some(Action::OrganizationRead),
};

routes! {
    Get "organization", READ => organization;
    Get "domains", READ => domains;
    Get "subscribedSkus", READ => skus;
}

const ORGANIZATION: Shape = Shape { usual: &["assignedPlans", "displayName", "tenantType", "verifiedDomains"], more: &[], beta: &[] };
const DOMAIN: Shape = Shape { usual: &["authenticationType", "isDefault", "isInitial", "isVerified"], more: &[], beta: &[] };
const SKU: Shape = Shape {
    usual: &[
        "accountId",
        "accountName",
        "appliesTo",
        "capabilityStatus",
        "consumedUnits",
        "prepaidUnits",
        "servicePlans",
        "skuId",
        "skuPartNumber",
    ],
    more: &[],
    beta: &[],
};

async fn organization(call: Call<'_>) -> Result<Answer> {
    let config = &call.app.config;
    let domain =
        |(number, name): (usize, &String)| json!({ "name": name, "isDefault": number == 0, "isInitial": number == 0, "type": "Managed" });
    let whole = object! {
        "id": call.app.tenant,
        "displayName": config.organisation,
        "tenantType": "AAD",
        "verifiedDomains": config.domains.iter().enumerate().map(domain).collect::<Vec<Value>>(),
        "assignedPlans": json!([]),
    };
    list::few(&call, &ORGANIZATION, "organization", vec![whole])
}

async fn domains(call: Call<'_>) -> Result<Answer> {
    let config = &call.app.config;
    let show = |(number, name): (usize, &String)| -> Map<String, Value> {
        object! {
            "id": name, "authenticationType": "Managed", "isDefault": number == 0, "isInitial": number == 0, "isVerified": true,
        }
    };
    list::few(&call, &DOMAIN, "domains", config.domains.iter().enumerate().map(show).collect())
}

/// There are no licences; scripts ask.
async fn skus(call: Call<'_>) -> Result<Answer> {
    list::few(&call, &SKU, "subscribedSkus", Vec::new())
}
