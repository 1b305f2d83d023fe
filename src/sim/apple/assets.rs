//! Assets that are declared to a simulated device: fetched where the declaration says, held against size, hash and media type, and put to
//! use by the configurations that refer to them.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::sha::sha256;
use openssl::x509::X509;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::declarations::Held;
use super::profiles::Check;
use super::{Device, Error};
use crate::catalogue::catalogue;
use crate::sim::scep;
use crate::wire::apple::ddm::{Declaration, Kind, Valid};
use crate::wire::apple::profile::Payload;
use crate::wire::plist::{Data, Dict, Value};

/// Longest asset that the device takes.
const LONGEST: usize = 1024 * 1024;
/// An archive.
const ZIP: &str = "application/zip";
const DOWNLOAD: &str = "Error.AssetCannotBeDownloaded";
const VERIFY: &str = "Error.AssetCannotBeVerified";
const READ: &str = "Error.AssetCannotBeDeserialized";
const MISSING: &str = "Error.MissingAssets";
const INVALID: &str = "Error.ConfigurationIsInvalid";
const APPLY: &str = "Error.ConfigurationCannotBeApplied";

/// Why an asset or what refers to it is refused: the reason's code, and words.
pub(super) type Fault = (&'static str, String);

/// What an asset holds.
#[derive(Clone, Debug)]
pub enum Material {
    /// A certificate, DER.
    Certificate(Vec<u8>),
    /// A user name, and a password.
    Words(String, Option<String>),
    /// What an identity is made of: a payload that a profile could have.
    Identity(Payload),
    /// Anything, with its media type.
    Data(String, Vec<u8>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    #[serde(rename = "DataURL")]
    url: String,
    #[serde(rename = "ContentType", default)]
    media: Option<String>,
    #[serde(rename = "Size", default)]
    size: Option<usize>,
    #[serde(rename = "Hash-SHA-256", default)]
    hash: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    #[serde(rename = "UserName")]
    user_name: String,
    #[serde(rename = "Password", default)]
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "Password")]
    password: String,
    #[serde(rename = "Identity")]
    identity: String,
}

impl Device {
    /// Fetches an asset, unless the device has it in this version.
    pub(super) async fn obtain(&mut self, held: &mut Held) -> Result<(), Fault> {
        let token = &held.declaration.server_token;
        if held.material.as_ref().is_some_and(|(known, _)| known == token) {
            return Ok(());
        }
        let reference = held.declaration.payload.get("Reference").cloned().unwrap_or_default();
        let reference: Reference = serde_json::from_value(reference).map_err(|why| (DOWNLOAD, why.to_string()))?;
        if !reference.url.starts_with("https://") {
            return Err((DOWNLOAD, "not https".into()));
        }
        let response = self.get(&reference.url).await.map_err(|error: Error| (DOWNLOAD, error.to_string()))?;
        let (media, bytes) = (response.header("content-type").unwrap_or_default().to_owned(), response.body);
        let hash = hex::encode(sha256(&bytes));
        let wrong = |what: &str| Err((VERIFY, format!("another {what}")));
        if bytes.len() > LONGEST || reference.size.is_some_and(|size| size != bytes.len()) {
            return wrong("size");
        }
        if reference.size != Some(0) && reference.hash.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&hash)) {
            return wrong("hash");
        }
        if reference.media.is_some_and(|wanted| wanted != media) {
            return wrong("media type");
        }
        let material = self.read(&held.declaration, media, bytes).map_err(|why| (READ, why))?;
        held.material = Some((token.clone(), material));
        Ok(())
    }

    fn read(&self, declaration: &Declaration, media: String, bytes: Vec<u8>) -> Result<Material, String> {
        let json = |bytes: &[u8]| -> Result<Map<String, Json>, String> {
            if media != "application/json" {
                return Err(format!("{media} is no credential"));
            }
            serde_json::from_slice(bytes).map_err(|why| why.to_string())
        };
        let typed = |what: Json| (serde_json::from_value::<Words>(what.clone()), serde_json::from_value::<File>(what));
        let payload = |kind: &str, body: Dict| -> Result<Material, String> {
            let row = catalogue().payload(kind).ok_or("no such payload")?;
            let check = Check { row, machine: &self.machine, users: self.is_users(), uuids: &BTreeSet::new() };
            check.dict(&body, "").map_err(|why| why.to_string())?;
            let identifier = declaration.identifier.clone();
            Ok(Material::Identity(Payload { kind: kind.into(), uuid: identifier.clone(), identifier, body }))
        };
        let dict = |map: Map<String, Json>| match Value::from_json(&Json::Object(map)) {
            Some(Value::Dict(dict)) => Ok(dict),
            _ => Err("no dictionary".to_owned()),
        };
        match declaration.kind.as_str() {
            "com.apple.asset.credential.certificate" => {
                let certificate = match media.as_str() {
                    "application/pkcs1" => X509::from_der(&bytes),
                    "application/pem" => X509::from_pem(&bytes),
                    _ => return Err(format!("{media} is no certificate")),
                };
                certificate.and_then(|certificate| certificate.to_der()).map(Material::Certificate).map_err(|why| why.to_string())
            }
            "com.apple.asset.credential.userpassword" => {
                let words = typed(Json::Object(json(&bytes)?)).0.map_err(|why| why.to_string())?;
                Ok(Material::Words(words.user_name, words.password))
            }
            "com.apple.asset.credential.identity" => {
                let file = typed(Json::Object(json(&bytes)?)).1.map_err(|why| why.to_string())?;
                let content = STANDARD.decode(file.identity).map_err(|why| why.to_string())?;
                payload("com.apple.security.pkcs12", Dict::new().with("PayloadContent", Data(content)).with("Password", file.password))
            }
            "com.apple.asset.credential.scep" => {
                payload("com.apple.security.scep", Dict::new().with("PayloadContent", dict(json(&bytes)?)?))
            }
            "com.apple.asset.credential.acme" => payload("com.apple.security.acme", dict(json(&bytes)?)?),
            "com.apple.asset.data" => Ok(Material::Data(media, bytes)),
            other => Err(format!("{other} is not fetched")),
        }
    }

    /// Puts what a configuration refers to into force, once for each version of both.
    pub(super) async fn use_assets(&mut self, held: &mut Held) -> Result<(), Fault> {
        let Some(row) = catalogue().payload(&held.declaration.kind) else { return Ok(()) };
        for key in row.keys.iter().filter(|key| !key.assets.is_empty()) {
            let at = format!("/{}", key.at);
            let Some(name) = Json::Object(held.declaration.payload.clone()).pointer(&at).and_then(Json::as_str).map(str::to_owned) else {
                continue;
            };
            let asset = self.declarations.held.get(&(Kind::Asset, name.clone())).ok_or_else(|| (MISSING, name.clone()))?;
            if !key.assets.contains(&asset.declaration.kind) {
                return Err((INVALID, format!("{}: {} is of another kind", key.at, asset.declaration.kind)));
            }
            // One that holds its content itself.
            if !asset.declaration.payload.contains_key("Reference") && asset.status.valid == Valid::Valid {
                continue;
            }
            let material = asset.material.as_ref().filter(|_| asset.status.valid == Valid::Valid);
            let (token, material) = material.cloned().ok_or_else(|| (MISSING, name.clone()))?;
            let reference = asset.declaration.payload.get("Reference").and_then(Json::as_object);
            let hashed = reference.is_some_and(|reference| reference.contains_key("Hash-SHA-256") && reference.contains_key("ContentType"));
            if let (Some(first), Material::Data(found, bytes)) = (key.media.first(), &material)
                && !(hashed && key.media.contains(found) && (first != ZIP || bytes.starts_with(b"PK")))
            {
                return Err((INVALID, format!("{}: should be {first}, with type and hash", key.at)));
            }
            let version = format!("{} {token}", held.declaration.server_token);
            if held.used.as_ref().is_some_and(|(known, _)| *known == version) {
                continue;
            }
            let identity = match &material {
                Material::Identity(payload) => Some(self.identity_of(payload).await.map_err(|refused| (APPLY, refused.to_string()))?),
                Material::Certificate(_) | Material::Words(..) | Material::Data(..) => None,
            };
            held.used = Some((version, identity));
        }
        Ok(())
    }

    /// What an asset of that name holds, when the device has it.
    #[must_use]
    pub fn asset(&self, identifier: &str) -> Option<&Material> {
        self.declarations.held.get(&(Kind::Asset, identifier.to_owned()))?.material.as_ref().map(|(_, material)| material)
    }

    /// The identities that configurations made of their assets.
    pub fn declared_identities(&self) -> impl Iterator<Item = &scep::Identity> {
        self.declarations.held.values().filter_map(|held| held.used.as_ref()?.1.as_ref())
    }
}
