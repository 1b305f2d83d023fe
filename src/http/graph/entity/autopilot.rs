//! `/deviceManagement/windowsAutopilotDeviceIdentities`: PCs that are registered; and `importedWindowsAutopilotDeviceIdentities`: what came
//! of registering them. A hardware hash is taken and never shown.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::apple_push::{READ, WRITE, check_writer};
use crate::domain::autopilot::{Draft, Imported};
use crate::http::graph::answer::{Answer, base, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, MANAGEMENT};
use crate::http::graph::route::{Call, routes};
use crate::ids::AutopilotImportId;
use crate::service::autopilot::{self, Change, Known};
use crate::wire::odata::edm;
use crate::wire::odata::filter::{Comparison, Expr, Literal};
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;

const SET: &str = "deviceManagement/windowsAutopilotDeviceIdentities";
const IMPORTS: &str = "deviceManagement/importedWindowsAutopilotDeviceIdentities";

const SHAPE: Shape = Shape {
    usual: &[
        "addressableUserName",
        "azureActiveDirectoryDeviceId",
        "displayName",
        "enrollmentState",
        "groupTag",
        "lastContactedDateTime",
        "managedDeviceId",
        "manufacturer",
        "model",
        "productKey",
        "purchaseOrderIdentifier",
        "resourceName",
        "serialNumber",
        "skuNumber",
        "systemFamily",
        "userPrincipalName",
    ],
    more: &[],
    beta: &[],
};

const IMPORT_SHAPE: Shape = Shape {
    usual: &["assignedUserPrincipalName", "groupTag", "hardwareIdentifier", "importId", "productKey", "serialNumber", "state"],
    more: &[],
    beta: &[],
};

routes! {
    Get "deviceManagement/windowsAutopilotDeviceIdentities", READ => list_known;
    Get "deviceManagement/windowsAutopilotDeviceIdentities/$count", READ => count;
    Get "deviceManagement/windowsAutopilotDeviceIdentities/{id}", READ => show;
    Delete "deviceManagement/windowsAutopilotDeviceIdentities/{id}", WRITE => delete;
    Post "deviceManagement/windowsAutopilotDeviceIdentities/{id}/assignUserToDevice", WRITE => assign;
    Post "deviceManagement/windowsAutopilotDeviceIdentities/{id}/unassignUserFromDevice", WRITE => unassign;
    Post "deviceManagement/windowsAutopilotDeviceIdentities/{id}/updateDeviceProperties", WRITE => update;
    Get "deviceManagement/importedWindowsAutopilotDeviceIdentities", READ => list_imports;
    Post "deviceManagement/importedWindowsAutopilotDeviceIdentities", WRITE => import_one;
    Get "deviceManagement/importedWindowsAutopilotDeviceIdentities/$count", READ => count_imports;
    Post "deviceManagement/importedWindowsAutopilotDeviceIdentities/import", WRITE => import_many;
    Get "deviceManagement/importedWindowsAutopilotDeviceIdentities/{id}", READ => show_import;
    Delete "deviceManagement/importedWindowsAutopilotDeviceIdentities/{id}", WRITE => delete_import;
}

fn json(known: &Known) -> Map<String, Value> {
    let identity = &known.identity;
    let device = known.device.as_ref().map(|(device, _)| device);
    let enrolled = known.device.as_ref().and_then(|(_, enrolled)| enrolled.as_ref());
    object! {
        "id": identity.id,
        "addressableUserName": identity.addressable_user_name,
        "azureActiveDirectoryDeviceId": device.map(|device| device.entra_device_id.clone().unwrap_or_else(|| device.id.to_string())),
        "displayName": identity.display_name,
        "enrollmentState": if enrolled.is_some() { "enrolled" } else { "notContacted" },
        "groupTag": identity.group_tag,
        "lastContactedDateTime": edm::time_or_never(enrolled.and_then(|(_, seen)| *seen).map(|at| at.0)),
        "managedDeviceId": enrolled.map(|(id, _)| id),
        "manufacturer": device.and_then(|device| device.manufacturer.as_ref()),
        "model": device.and_then(|device| device.model.as_ref()),
        "productKey": identity.product_key,
        "purchaseOrderIdentifier": identity.purchase_order,
        "resourceName": Value::Null,
        "serialNumber": identity.serial,
        "skuNumber": Value::Null,
        "systemFamily": Value::Null,
        "userPrincipalName": known.user_principal_name,
    }
}

fn import_json(imported: &Imported) -> Map<String, Value> {
    let failure = imported.outcome.as_ref().err();
    object! {
        "id": imported.id,
        "assignedUserPrincipalName": imported.user_principal_name,
        "groupTag": imported.group_tag,
        "hardwareIdentifier": Value::Null,
        "importId": imported.import_id,
        "productKey": imported.product_key,
        "serialNumber": imported.serial,
        "state": json!({
            "deviceImportStatus": if failure.is_some() { "error" } else { "complete" },
            "deviceRegistrationId": imported.outcome.as_ref().ok(),
            "deviceErrorCode": failure.map_or(0, |failure| failure.number()),
            "deviceErrorName": failure.map(|failure| failure.as_str()),
        }),
    }
}

async fn list_known(call: Call<'_>) -> Result<Answer> {
    let find = async |query: &_, limit| autopilot::page_known(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&SHAPE, MANAGEMENT, SET), find, json).await
}

async fn count(call: Call<'_>) -> Result<Answer> {
    let query = Query { count: true, ..list::query(call.request, &SHAPE)? };
    let found = autopilot::page_known(call.app, &query, &call.reach, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

async fn named(call: &Call<'_>) -> Result<Known> {
    // By serial number the command line finds them; the API goes by ids.
    let id = crate::ids::AutopilotId::parse(call.key(0)?).ok_or_else(GraphProblem::not_found)?;
    Ok(autopilot::find(call.app, id.as_str(), &call.reach).await?)
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let known = named(&call).await?;
    Ok(Answer::ok(list::single(&call, &SHAPE, SET, json(&known))?))
}

async fn delete(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let known = named(&call).await?;
    autopilot::delete(call.app, &known.identity.id, &call.by()).await?;
    Ok(Answer::done())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Given {
    user_principal_name: Option<String>,
    addressable_user_name: Option<String>,
    group_tag: Option<String>,
    display_name: Option<String>,
}

async fn change(call: Call<'_>, change: Change) -> Result<Answer> {
    check_writer(&call)?;
    let known = named(&call).await?;
    autopilot::change(call.app, &known.identity.id, change, &call.by()).await?;
    Ok(Answer::done())
}

async fn assign(call: Call<'_>) -> Result<Answer> {
    let given: Given = call.request.json()?;
    let upn = given.user_principal_name.filter(|upn| !upn.trim().is_empty());
    let upn = upn.ok_or_else(|| GraphProblem::invalid("userPrincipalName is required."))?;
    let wanted = Change { user_principal_name: Some(upn), addressable_user_name: given.addressable_user_name, ..Change::default() };
    change(call, wanted).await
}

async fn unassign(call: Call<'_>) -> Result<Answer> {
    let nobody = Change { user_principal_name: Some(String::new()), addressable_user_name: Some(String::new()), ..Change::default() };
    change(call, nobody).await
}

async fn update(call: Call<'_>) -> Result<Answer> {
    let given: Given = call.request.json()?;
    let wanted = Change {
        user_principal_name: given.user_principal_name,
        addressable_user_name: given.addressable_user_name,
        group_tag: given.group_tag,
        display_name: given.display_name,
    };
    change(call, wanted).await
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ImportGiven {
    import_id: Option<String>,
    serial_number: Option<String>,
    product_key: Option<String>,
    hardware_identifier: Option<String>,
    group_tag: Option<String>,
    assigned_user_principal_name: Option<String>,
}

impl ImportGiven {
    fn draft(self) -> Draft {
        Draft {
            import_id: self.import_id.unwrap_or_default(),
            serial: self.serial_number.unwrap_or_default(),
            product_key: self.product_key.unwrap_or_default(),
            hardware_hash: self.hardware_identifier.unwrap_or_default(),
            group_tag: self.group_tag.unwrap_or_default(),
            user_principal_name: self.assigned_user_principal_name.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManyGiven {
    imported_windows_autopilot_device_identities: Vec<ImportGiven>,
}

async fn import_one(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let given: ImportGiven = call.request.rows()?;
    let imported = autopilot::import(call.app, vec![given.draft()], &call.by()).await?;
    let imported = imported.first().ok_or_else(GraphProblem::not_found)?;
    let location = format!("{}/{IMPORTS}/{}", base(&call.app.config, call.request.version), imported.id);
    Ok(Answer::created(location, list::single(&call, &IMPORT_SHAPE, IMPORTS, import_json(imported))?))
}

async fn import_many(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let given: ManyGiven = call.request.rows()?;
    let drafts = given.imported_windows_autopilot_device_identities.into_iter().map(ImportGiven::draft).collect();
    let imported = autopilot::import(call.app, drafts, &call.by()).await?;
    let shown: Vec<Value> = imported.iter().map(|one| Value::Object(import_json(one))).collect();
    Ok(list::told(&call.app.config, call.request, IMPORTS, &shown))
}

async fn list_imports(call: Call<'_>) -> Result<Answer> {
    let find = async |query: &_, limit| autopilot::page_imports(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&IMPORT_SHAPE, MANAGEMENT, IMPORTS), find, import_json).await
}

async fn count_imports(call: Call<'_>) -> Result<Answer> {
    let query = Query { count: true, ..list::query(call.request, &IMPORT_SHAPE)? };
    let found = autopilot::page_imports(call.app, &query, &call.reach, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

async fn find_import(call: &Call<'_>) -> Result<Imported> {
    let id = AutopilotImportId::parse(call.key(0)?).ok_or_else(GraphProblem::not_found)?;
    let query = Query { filter: Some(Expr::Compare("id".into(), Comparison::Equal, Literal::Text(id.to_string()))), ..Query::default() };
    let found = autopilot::page_imports(call.app, &query, &call.reach, 1).await?;
    found.objects.into_iter().next().ok_or_else(GraphProblem::not_found)
}

async fn show_import(call: Call<'_>) -> Result<Answer> {
    let imported = find_import(&call).await?;
    Ok(Answer::ok(list::single(&call, &IMPORT_SHAPE, IMPORTS, import_json(&imported))?))
}

async fn delete_import(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let imported = find_import(&call).await?;
    autopilot::delete_import(call.app, &imported.id, &call.by()).await?;
    Ok(Answer::done())
}
