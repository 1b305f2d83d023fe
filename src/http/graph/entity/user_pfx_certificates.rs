//! `/deviceManagement/userPfxCertificates`: identities that are brought as a file for a person. Files and passwords come in and never out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::configurations::pkcs::PURPOSES;
use crate::domain::Refusal;
use crate::domain::access::{Action, Need, Scope};
use crate::domain::pfx::{Padding, Pfx, Purpose, Sent};
use crate::http::graph::answer::{Answer, base, entity, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, MANAGEMENT};
use crate::http::graph::route::{Call, routes};
use crate::secret::Secret;
use crate::service::pfx::Brought;
use crate::service::{directory, pfx};
use crate::wire::odata::query::Query;
use crate::wire::odata::shape::Shape;
use crate::wire::odata::{edm, quoted};

const READ: Need = Need { scopes: &[Scope::ConfigurationReadAll, Scope::ConfigurationReadWriteAll], action: Some(Action::IdentitiesRead) };
const WRITE: Need = Need { scopes: &[Scope::ConfigurationReadWriteAll], action: Some(Action::IdentitiesUpdate) };

const SET: &str = "deviceManagement/userPfxCertificates";

const SHAPE: Shape = Shape {
    usual: &[
        "createdDateTime",
        "encryptedPfxBlob",
        "encryptedPfxPassword",
        "expirationDateTime",
        "intendedPurpose",
        "keyName",
        "lastModifiedDateTime",
        "paddingScheme",
        "providerName",
        "startDateTime",
        "thumbprint",
        "userPrincipalName",
    ],
    more: &[],
    beta: &[],
};

routes! {
    Get "deviceManagement/userPfxCertificates", READ => list_certificates, beta;
    Post "deviceManagement/userPfxCertificates", WRITE => create, beta;
    Get "deviceManagement/userPfxCertificates/$count", READ => count, beta;
    Get "deviceManagement/userPfxCertificates/{id}", READ => show, beta;
    Patch "deviceManagement/userPfxCertificates/{id}", WRITE => update, beta;
    Delete "deviceManagement/userPfxCertificates/{id}", WRITE => delete, beta;
}

/// An identity as JSON; its id is made of the person's and the thumbprint, as Intune's own programs make it.
fn json((pfx, upn): &(Pfx, String)) -> Map<String, Value> {
    let word = PURPOSES.iter().find(|(_, purpose)| *purpose == pfx.purpose).map_or("unassigned", |(word, _)| word);
    let thumbprint = pfx.thumbprint.to_ascii_uppercase();
    let sent = pfx.sent.as_ref();
    object! {
        "id": format!("{}-{thumbprint}", pfx.user_id),
        "createdDateTime": edm::time(pfx.created_at.0),
        "encryptedPfxBlob": Value::Null,
        "encryptedPfxPassword": Value::Null,
        "expirationDateTime": edm::time(pfx.not_after.0),
        "intendedPurpose": word,
        "keyName": sent.map(|sent| &sent.key_name),
        "lastModifiedDateTime": edm::time(pfx.updated_at.0),
        "paddingScheme": sent.map_or("none", |sent| sent.padding.as_str()),
        "providerName": sent.map(|sent| &sent.provider_name),
        "startDateTime": edm::time(pfx.not_before.0),
        "thumbprint": thumbprint,
        "userPrincipalName": upn,
    }
}

async fn list_certificates(call: Call<'_>) -> Result<Answer> {
    let find = async |query: &_, limit| pfx::page_pfx(call.app, query, &call.reach, limit).await;
    list::answer(&call, (&SHAPE, MANAGEMENT, SET), find, json).await
}

async fn count(call: Call<'_>) -> Result<Answer> {
    let query = Query { count: true, ..list::query(call.request, &SHAPE)? };
    let found = pfx::page_pfx(call.app, &query, &call.reach, 1).await?;
    Ok(Answer::text(found.count.unwrap_or_default().to_string()))
}

/// The identity that the address names, with the name of its person.
async fn named(call: &Call<'_>) -> Result<(Pfx, String)> {
    let (user, thumbprint) = call.key(0)?.rsplit_once('-').ok_or_else(GraphProblem::not_found)?;
    let user = crate::ids::UserId::parse(user).ok_or_else(GraphProblem::not_found)?;
    let (user, _) = directory::find_user(call.app, user.as_str(), &call.reach).await?;
    let found = pfx::list(call.app, &user.id).await?.into_iter().find(|pfx| pfx.thumbprint.eq_ignore_ascii_case(thumbprint));
    Ok((found.ok_or_else(GraphProblem::not_found)?, user.upn))
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let found = named(&call).await?;
    Ok(Answer::ok(list::single(&call, &SHAPE, SET, json(&found))?))
}

/// What a body says.
#[derive(Default)]
struct Given {
    upn: Option<String>,
    purpose: Option<Purpose>,
    thumbprint: Option<String>,
    file: Option<Vec<u8>>,
    password: Option<Secret>,
    key_name: Option<String>,
    provider_name: Option<String>,
    padding: Option<Padding>,
}

fn wrong(property: &str, expected: &str) -> GraphProblem {
    GraphProblem::invalid(format!("{property} is {expected}."))
}

impl Given {
    fn read(body: &Map<String, Value>) -> Result<Self> {
        let mut given = Self::default();
        for (property, value) in body.iter().filter(|(property, value)| !property.contains('@') && !value.is_null()) {
            let text = || value.as_str().ok_or_else(|| wrong(property, "a text"));
            let bytes = || STANDARD.decode(text()?).map_err(|_| wrong(property, "in base64"));
            match property.as_str() {
                "userPrincipalName" => given.upn = Some(text()?.to_owned()),
                "thumbprint" => given.thumbprint = Some(text()?.to_owned()),
                "encryptedPfxBlob" => given.file = Some(bytes()?),
                "encryptedPfxPassword" => given.password = Some(Secret::new(bytes()?)),
                "keyName" => given.key_name = Some(text()?.to_owned()),
                "providerName" => given.provider_name = Some(text()?.to_owned()),
                "paddingScheme" => {
                    given.padding = Some(Padding::parse(text()?).ok_or_else(|| wrong(property, "oaepSha256, oaepSha384 or oaepSha512"))?);
                }
                "intendedPurpose" => {
                    let found = PURPOSES.iter().find(|(word, _)| value.as_str() == Some(word));
                    given.purpose = Some(found.ok_or_else(|| wrong(property, "smimeEncryption, smimeSigning, vpn or wifi"))?.1);
                }
                // The certificate says them.
                "startDateTime" | "expirationDateTime" | "createdDateTime" | "lastModifiedDateTime" | "id" => {}
                other => return Err(GraphProblem::invalid(format!("userPFXCertificate has no property '{}'.", quoted(other)))),
            }
        }
        Ok(given)
    }

    fn sent(&self) -> Result<Sent> {
        let needed = |value: &Option<String>, name| value.clone().ok_or_else(|| wrong(name, "needed with encryptedPfxPassword"));
        Ok(Sent {
            key_name: needed(&self.key_name, "keyName")?,
            provider_name: needed(&self.provider_name, "providerName")?,
            padding: self.padding.ok_or_else(|| wrong("paddingScheme", "needed with encryptedPfxPassword"))?,
        })
    }
}

async fn create(call: Call<'_>) -> Result<Answer> {
    let given = Given::read(&call.request.json()?)?;
    let needed = |name| wrong(name, "needed");
    let upn = given.upn.as_deref().ok_or_else(|| needed("userPrincipalName"))?;
    let (user, _) = directory::find_user(call.app, upn, &call.reach).await.map_err(|_| wrong("userPrincipalName", "the name of a user"))?;
    let sent = given.sent()?;
    let brought = Brought {
        purpose: given.purpose.ok_or_else(|| needed("intendedPurpose"))?,
        file: given.file.as_deref().ok_or_else(|| needed("encryptedPfxBlob"))?,
        password: given.password.as_ref().ok_or_else(|| needed("encryptedPfxPassword"))?,
        sent: Some(&sent),
        thumbprint: given.thumbprint.as_deref(),
    };
    let made = (pfx::import(call.app, &user.id, brought, &call.by()).await?, user.upn);
    let whole = json(&made);
    let id = whole.get("id").and_then(Value::as_str).unwrap_or_default();
    let location = format!("{}/{SET}/{id}", base(&call.app.config, call.request.version));
    Ok(Answer::created(location, entity(&call.app.config, call.request, SET, whole)))
}

async fn update(call: Call<'_>) -> Result<Answer> {
    let (before, upn) = named(&call).await?;
    let given = Given::read(&call.request.json()?)?;
    if given.thumbprint.as_ref().is_some_and(|said| !said.eq_ignore_ascii_case(&before.thumbprint)) {
        return Err(Refusal::PfxOther.into());
    }
    if given.upn.as_ref().is_some_and(|other| !other.eq_ignore_ascii_case(&upn)) {
        return Err(wrong("userPrincipalName", "that of the person whose it is; nobody else gets it"));
    }
    let purpose = given.purpose.unwrap_or(before.purpose);
    let sent = given.file.is_some().then(|| given.sent()).transpose()?;
    let again = match (&given.file, &given.password) {
        (Some(file), Some(password)) => Some(Brought { purpose, file, password, sent: sent.as_ref(), thumbprint: None }),
        (None, None) => None,
        _ => return Err(wrong("encryptedPfxPassword", "needed with encryptedPfxBlob, and the other way round")),
    };
    pfx::update(call.app, &before, purpose, again, &call.by()).await?;
    let after = named(&call).await?;
    Ok(Answer::ok(entity(&call.app.config, call.request, SET, json(&after))))
}

async fn delete(call: Call<'_>) -> Result<Answer> {
    let (found, _) = named(&call).await?;
    pfx::delete(call.app, &found.user_id, &found.id, &call.by()).await?;
    Ok(Answer::done())
}
