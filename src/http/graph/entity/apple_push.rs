//! `/deviceManagement/applePushNotificationCertificate`: the certificate with which devices of Apple are woken.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::domain::access::{Action, Need, Scope};
use crate::http::graph::answer::{Answer, base, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::service::apple::push_certificate::{self, Import, Shown};
use crate::wire::odata::edm;
use crate::wire::odata::shape::Shape;

/// What whoever reads how devices enrol, and what Apple and Microsoft give for it, needs.
pub(super) const READ: Need =
    Need { scopes: &[Scope::ServiceConfigReadAll, Scope::ServiceConfigReadWriteAll], action: Some(Action::EnrollmentRead) };
/// What whoever changes it needs.
pub(super) const WRITE: Need = Need { scopes: &[Scope::ServiceConfigReadWriteAll], action: Some(Action::EnrollmentUpdate) };

const SET: &str = "deviceManagement/applePushNotificationCertificate";

const SHAPE: Shape = Shape {
    usual: &[
        "appleIdentifier",
        "certificate",
        "certificateSerialNumber",
        "certificateUploadFailureReason",
        "certificateUploadStatus",
        "expirationDateTime",
        "lastModifiedDateTime",
        "topicIdentifier",
    ],
    more: &[],
    beta: &[],
};

routes! {
    Get "deviceManagement/applePushNotificationCertificate", READ => show;
    Patch "deviceManagement/applePushNotificationCertificate", WRITE => update;
    // It makes the key that the request is for.
    Get "deviceManagement/applePushNotificationCertificate/downloadApplePushNotificationCertificateSigningRequest", WRITE => download;
}

/// What is everybody's is not changed by whoever is bound to groups.
pub(super) fn check_writer(call: &Call<'_>) -> Result<()> {
    if call.reach.is_all() { Ok(()) } else { Err(GraphProblem::forbidden("Whoever is bound to groups does not change how devices enrol.")) }
}

fn json_of(call: &Call<'_>, shown: Option<&Shown>) -> Map<String, Value> {
    object! {
        "id": call.app.tenant,
        "appleIdentifier": shown.and_then(|shown| shown.account.as_ref()),
        "certificate": shown.map(|shown| &shown.pem),
        "certificateSerialNumber": shown.map(|shown| &shown.serial),
        "certificateUploadFailureReason": Value::Null,
        "certificateUploadStatus": Value::Null,
        "expirationDateTime": edm::time_or_never(shown.map(|shown| shown.not_after.0)),
        "lastModifiedDateTime": edm::time_or_never(shown.map(|shown| shown.updated_at.0)),
        "topicIdentifier": shown.map(|shown| &shown.topic),
    }
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let shown = push_certificate::shown(call.app).await?;
    let whole = json_of(&call, shown.as_ref());
    // A single thing has no collection that it is one of.
    let mut whole = list::single(&call, &SHAPE, SET, whole)?;
    if let Some(members) = whole.as_object_mut() {
        members.insert("@odata.context".into(), format!("{}/$metadata#{SET}", base(&call.app.config, call.request.version)).into());
    }
    Ok(Answer::ok(whole))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Given {
    apple_identifier: Option<String>,
    certificate: Option<String>,
}

async fn update(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let given: Given = call.request.json()?;
    let certificate = given.certificate.filter(|text| !text.trim().is_empty());
    let certificate = certificate.ok_or_else(|| GraphProblem::invalid("certificate is the certificate that Apple made, PEM."))?;
    let by = call.by();
    let import = Import {
        certificate: super::cloud_authorities::read_pem(&certificate)?,
        key: None,
        replace_topic: false,
        confirmed: false,
        account: given.apple_identifier,
    };
    push_certificate::import(call.app, import, &by.actor, &by.origin).await?;
    show(call).await
}

async fn download(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    let by = call.by();
    let request = push_certificate::request_pem(call.app, &by.actor, &by.origin).await?;
    let context = format!("{}/$metadata#Edm.String", base(&call.app.config, call.request.version));
    Ok(Answer::ok(json!({ "@odata.context": context, "value": request })))
}
