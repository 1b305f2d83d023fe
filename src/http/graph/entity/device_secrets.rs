//! What Macs, iPhones and iPads entrusted to the server, for whoever has to get into one: recovery keys and passwords. Each reading is in
//! the audit log before it is answered, and needs a permission and an action of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::domain::access::{Action, Need, Scope};
use crate::domain::apple::escrow::Kind;
use crate::http::graph::answer::{Answer, base, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, DIRECTORY};
use crate::http::graph::route::{Call, routes};
use crate::ids::DeviceId;
use crate::service::device::managed::{self, Managed};
use crate::service::device::{self, LocalAdmin};
use crate::service::{Error, directory};
use crate::wire::odata::edm;
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;

const SECRET: Need = Need { scopes: &[Scope::ManagedDevicesPrivileged], action: Some(Action::SecretsRead) };
/// Of which devices there are passwords; the passwords themselves take [`PASSWORDS`].
const BASIC: Need = Need {
    scopes: &[Scope::DeviceLocalCredentialReadBasicAll, Scope::DeviceLocalCredentialReadAll],
    action: Some(Action::ManagedDevicesRead),
};
const PASSWORDS: Need = Need { scopes: &[Scope::DeviceLocalCredentialReadAll], action: Some(Action::SecretsRead) };

const LOCAL: &str = "directory/deviceLocalCredentials";
const SHAPE: Shape = Shape { usual: &["deviceName", "lastBackupDateTime", "refreshDateTime"], more: &["credentials"], beta: &[] };

routes! {
    Get "deviceManagement/managedDevices/{id}/getFileVaultKey", SECRET => file_vault_key, beta;
    Get "deviceManagement/managedDevices/{id}/retrieveMacOSManagedDeviceLocalAdminAccountDetail", SECRET => local_admin, beta;
    Get "deviceManagement/managedDevices/{id}/retrieveRecoveryLockPasscode", SECRET => recovery_lock, beta;
    Get "directory/deviceLocalCredentials", BASIC => list_local;
    Get "directory/deviceLocalCredentials/$count", BASIC => count_local;
    Get "directory/deviceLocalCredentials/{id}", BASIC => show_local;
}

/// Reads a secret out; who reads it is in the audit log before.
async fn reveal(call: &Call<'_>, device: &DeviceId, kind: Kind) -> Result<Zeroizing<String>> {
    let secret = device::reveal(call.app, device, kind, &call.by()).await?;
    Ok(Zeroizing::new(String::from_utf8_lossy(secret.expose()).into_owned()))
}

/// A secret of the managed device that the address names, as the value of a function.
async fn answer(call: &Call<'_>, kind: Kind) -> Result<Answer> {
    let found = managed::find_one(call.app, call.key(0)?, &call.reach).await?;
    let value = reveal(call, &found.device.id, kind).await?;
    let context = format!("{}/$metadata#Edm.String", base(&call.app.config, call.request.version));
    Ok(Answer::ok(json!({ "@odata.context": context, "value": value.as_str() })))
}

async fn file_vault_key(call: Call<'_>) -> Result<Answer> {
    answer(&call, Kind::FileVault).await
}

async fn recovery_lock(call: Call<'_>) -> Result<Answer> {
    answer(&call, Kind::RecoveryLock).await
}

async fn local_admin(call: Call<'_>) -> Result<Answer> {
    let found = managed::find_one(call.app, call.key(0)?, &call.reach).await?;
    let kept = device::find_local_admin(call.app, &found.device.id).await?;
    let password = reveal(&call, &found.device.id, Kind::Admin).await?;
    let kind = "microsoft.graph.macOSManagedDeviceLocalAdminAccountDetail";
    Ok(Answer::ok(json!({
        "@odata.context": format!("{}/$metadata#{kind}", base(&call.app.config, call.request.version)),
        "adminAccountPassword": password.as_str(),
        "passwordLastRotatedDateTime": edm::time(kept.since.0),
    })))
}

/// What opens Activation Lock, when the caller selected it by name and may see it.
pub(super) async fn bypass_code(call: &Call<'_>, managed: &Managed, query: &Query) -> Result<Value> {
    if !query.select.iter().any(|name| name == "activationLockBypassCode") {
        return Ok(Value::Null);
    }
    let Some(reach) = call.caller.reach(SECRET) else { return Ok(Value::Null) };
    if managed::find_one(call.app, managed.enrollment.id.as_str(), &reach).await.is_err() {
        return Ok(Value::Null);
    }
    match device::reveal(call.app, &managed.device.id, Kind::ActivationLock, &call.by()).await {
        Ok(secret) => Ok(String::from_utf8_lossy(secret.expose()).into()),
        Err(Error::NotFound(_)) => Ok(Value::Null),
        Err(error) => Err(error.into()),
    }
}

fn json(found: &LocalAdmin) -> Map<String, Value> {
    let device = &found.device;
    object! {
        "id": device.entra_device_id.clone().unwrap_or_else(|| device.id.to_string()),
        "deviceName": device.display_name,
        "lastBackupDateTime": edm::time(found.since.0),
        "refreshDateTime": Value::Null,
    }
}

/// The query of a list, which never has passwords.
fn check_list(query: &Query) -> Result<()> {
    if query.select.iter().any(|name| name == "credentials") {
        return Err(GraphProblem::bad("credentials can be selected of a single device only."));
    }
    Ok(())
}

async fn list_local(call: Call<'_>) -> Result<Answer> {
    check_list(&list::query(call.request, &SHAPE)?)?;
    let find = async |query: &_, limit| device::page_local_admins(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&SHAPE, DIRECTORY, LOCAL), find, json).await
}

async fn count_local(call: Call<'_>) -> Result<Answer> {
    let query = Query { count: true, ..list::query(call.request, &SHAPE)? };
    let found = device::page_local_admins(call.app, &query, &call.reach, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

async fn show_local(call: Call<'_>) -> Result<Answer> {
    let wanted = list::query(call.request, &SHAPE)?.select.iter().any(|name| name == "credentials" || name == "*");
    let reach = match call.caller.reach(PASSWORDS) {
        Some(reach) if wanted => reach,
        None if wanted => {
            return Err(GraphProblem::forbidden("credentials take DeviceLocalCredential.Read.All and a role that shows secrets."));
        }
        _ => call.reach.clone(),
    };
    let found = directory::find_device(call.app, call.key(0)?, &reach).await?;
    let kept = device::find_local_admin(call.app, &found.device.id).await?;
    let mut whole = json(&kept);
    if wanted {
        let password = reveal(&call, &kept.device.id, Kind::Admin).await?;
        let one = json!({
            "accountName": Value::Null,
            "accountSid": Value::Null,
            "backupDateTime": edm::time(kept.since.0),
            "passwordBase64": STANDARD.encode(password.as_bytes()),
        });
        whole.insert("credentials".into(), json!([one]));
    }
    Ok(Answer::ok(list::single(&call, &SHAPE, LOCAL, whole)?))
}
