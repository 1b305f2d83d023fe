//! Assets that this server hands out: certificates, credentials, identities and data that configurations of the same profile refer to, and
//! that devices fetch where the declaration says.
//!
//! Of those that are the same whenever they are fetched the declaration says size and hash. The others hold something that is good once (a
//! challenge, an identifier, a key in a file) and are made anew each time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::sha::sha256;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::acme::{ACME, Acme};
use super::identity::{self, Pkcs12, Wanted};
use super::scep::Scep;
use super::{Asked, AskedByAcme, SCEP, Target, Trusted, legacy};
use crate::catalogue::payload::Device;
use crate::catalogue::{Catalogue, Scope};
use crate::domain::certificate::{Template, Variables};
use crate::domain::profile::{Payload, fields};

const CERTIFICATE: &str = "com.apple.asset.credential.certificate";
const PASSWORD: &str = "com.apple.asset.credential.userpassword";
const IDENTITY: &str = "com.apple.asset.credential.identity";
const BY_SCEP: &str = "com.apple.asset.credential.scep";
const BY_ACME: &str = "com.apple.asset.credential.acme";
const DATA: &str = "com.apple.asset.data";

/// What a certificate is served as, DER.
const PKCS1: &str = "application/pkcs1";
/// What credentials are served as.
const JSON: &str = "application/json";
/// What an archive is served as.
const ZIP: &str = "application/zip";
/// Longest content of a data asset, in bytes.
const LONGEST: usize = 512 * 1024;
/// Longest media type.
const LONGEST_MEDIA: usize = 100;
/// Longest user name and password, in bytes.
const LONGEST_WORD: usize = 1024;
/// Keys of profiles that say who may use a key: of an asset its configuration says it.
const OF_CONFIGURATIONS: [&str; 2] = ["KeyIsExtractable", "AllowAllAppsAccess"];

/// The declaration that a kind of payload becomes when it is an asset of ours.
#[must_use]
pub fn type_of(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "certificate-asset" => CERTIFICATE,
        "password-asset" => PASSWORD,
        "pkcs12-asset" => IDENTITY,
        "scep-asset" => BY_SCEP,
        "acme-asset" => BY_ACME,
        "data-asset" => DATA,
        // No asset, and fetched like one.
        legacy::KIND => legacy::DECLARATION,
        _ => return None,
    })
}

/// `password-asset`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Password {
    user_name: String,
    #[serde(default)]
    password: Option<String>,
}

/// `data-asset`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Data {
    /// Base64.
    content: String,
    content_type: String,
}

impl Data {
    fn read(&self) -> Result<Vec<u8>, String> {
        let formed = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        let parts: Vec<&str> = self.content_type.split('/').collect();
        let media =
            matches!(parts.as_slice(), [kind, sub] if !kind.is_empty() && !sub.is_empty() && parts.iter().all(|p| p.bytes().all(formed)));
        if !media || self.content_type.len() > LONGEST_MEDIA {
            return Err("content-type: a media type, as application/zip".into());
        }
        if self.content.len() > LONGEST * 2 {
            return Err(format!("content: longer than {LONGEST} bytes"));
        }
        let compact: String = self.content.split_whitespace().collect();
        let bytes = STANDARD.decode(compact).map_err(|_| "content: should be Base64".to_owned())?;
        if bytes.is_empty() || bytes.len() > LONGEST {
            return Err(format!("content: 1 to {LONGEST} bytes"));
        }
        // The first entry of an archive, and the end of its directory.
        if self.content_type == ZIP && !(bytes.starts_with(b"PK\x03\x04") && bytes.windows(4).any(|window| window == b"PK\x05\x06")) {
            return Err("content: no ZIP archive".into());
        }
        Ok(bytes)
    }
}

/// What an asset is.
#[derive(Clone, Debug, PartialEq)]
pub enum Asset {
    /// The same whenever it is fetched.
    Fixed {
        /// Its media type.
        media: &'static str,
        /// Its media type where the document says it.
        own_media: Option<String>,
        /// It.
        bytes: Vec<u8>,
        /// It is nobody's business.
        secret: bool,
    },
    /// The settings with which a device has a key certified; the challenge is still to be filled in.
    Scep(Map<String, Value>, Box<Asked>),
    /// The same with an ACME server; the identifier is still to be filled in.
    Acme(Map<String, Value>, Box<AskedByAcme>),
    /// A key that is made here.
    Identity(Box<Wanted>),
}

impl Asset {
    /// The media type.
    #[must_use]
    pub fn media(&self) -> &str {
        match self {
            Self::Fixed { media, own_media, .. } => own_media.as_deref().unwrap_or(media),
            Self::Scep(..) | Self::Acme(..) | Self::Identity(_) => JSON,
        }
    }

    fn fixed(media: &'static str, bytes: Vec<u8>, secret: bool) -> Self {
        Self::Fixed { media, own_media: None, bytes, secret }
    }
}

/// Makes the asset of a payload.
///
/// # Errors
/// What is wrong with it.
pub fn make(payload: &Payload, target: &Target<'_>, catalogue: &Catalogue) -> Result<Asset, String> {
    // Names of other payloads mean nothing in an asset.
    let device = Device { system: target.system, version: target.version, user_enrollment: target.user_enrollment, uuid_of: &|_| None };
    let encode = |kind: &str, body: &Value| {
        let row = catalogue.payload(kind).ok_or_else(|| format!("there is no payload of the type {kind}"))?;
        row.encode_json(body.as_object().ok_or("no table")?, &device)
    };
    match payload.kind.as_str() {
        "certificate-asset" => Ok(Asset::fixed(PKCS1, fields::<Trusted>(&payload.body)?.resolve(target)?.1, false)),
        "password-asset" => {
            let own: Password = fields(&payload.body)?;
            if own.user_name.is_empty()
                || [Some(&own.user_name), own.password.as_ref()].into_iter().flatten().any(|w| w.len() > LONGEST_WORD)
            {
                return Err(format!("user-name, password: 1 to {LONGEST_WORD} bytes"));
            }
            let mut document = json!({ "UserName": filled(&own.user_name, target.variables)? });
            if let (Some(password), Some(document)) = (own.password, document.as_object_mut()) {
                document.insert("Password".into(), password.into());
            }
            Ok(Asset::fixed(JSON, document.to_string().into_bytes(), true))
        }
        "data-asset" => {
            let own: Data = fields(&payload.body)?;
            let bytes = own.read()?;
            Ok(Asset::Fixed { media: ZIP, own_media: Some(own.content_type), bytes, secret: true })
        }
        "scep-asset" => {
            let own: Scep = fields(&payload.body)?;
            let asked = own.asked(&payload.name, target)?;
            if asked.needs_approval {
                return Err("needs-approval: only with scep; devices do not wait for what they fetch".into());
            }
            let made = encode(SCEP, &own.payload(&asked.grant, target)?)?;
            let body = made.get("PayloadContent").and_then(Value::as_object).cloned().unwrap_or_default();
            Ok(Asset::Scep(without_access(body)?, Box::new(asked)))
        }
        "acme-asset" => {
            let own: Acme = fields(&payload.body)?;
            let (body, asked) = own.asked(&payload.name, target)?;
            Ok(Asset::Acme(without_access(encode(ACME, &body)?)?, Box::new(asked)))
        }
        "pkcs12-asset" => {
            let own: Pkcs12 = fields(&payload.body)?;
            Ok(Asset::Identity(Box::new(identity::want(&payload.name, &own, target.variables)?)))
        }
        legacy::KIND => Ok(Asset::fixed(legacy::MEDIA, legacy::document(payload, target.names)?, true)),
        kind => Err(format!("{kind} is no asset")),
    }
}

/// Fills what a user name may have of the person and the device (`{{UserName}}`).
fn filled(text: &str, variables: &Variables) -> Result<String, String> {
    let template = Template { scope: Scope::User, ..Template::default() };
    template.fill("user-name", text, variables).map_err(|why| format!("user-name: {why}"))
}

/// An asset says nothing of who may use its key.
fn without_access(mut body: Map<String, Value>) -> Result<Map<String, Value>, String> {
    for key in OF_CONFIGURATIONS {
        if body.remove(key) == Some(Value::Bool(true)) {
            return Err("extractable, all-apps-access: the configuration that refers to the asset says it".into());
        }
    }
    Ok(body)
}

/// What the declaration of an asset says, and what stands behind its address. `round` changes when another identity is wanted.
///
/// # Errors
/// As [`make`].
pub fn reference(
    payload: &Payload,
    url: &str,
    round: &str,
    target: &Target<'_>,
    catalogue: &Catalogue,
) -> Result<(Map<String, Value>, String), String> {
    let asset = make(payload, target, catalogue)?;
    let mut reference = json!({ "DataURL": url, "ContentType": asset.media() });
    let behind = match (&asset, reference.as_object_mut()) {
        (Asset::Fixed { bytes, .. }, Some(reference)) => {
            reference.insert("Size".into(), bytes.len().into());
            reference.insert("Hash-SHA-256".into(), hex::encode(sha256(bytes)).into());
            String::new()
        }
        // Only what was decided: what a device or person is called changes, and is no reason for another certificate.
        _ => json!([payload.body, round]).to_string(),
    };
    let mut body = Map::new();
    body.insert("Reference".into(), reference);
    // Credentials by password are older than this key, and as they were without it.
    body.insert("Authentication".into(), json!({ "Type": "MDM" }));
    Ok((body, behind))
}

/// The document of a SCEP or ACME asset with what is good once in it.
#[must_use]
pub fn document(mut body: Map<String, Value>, key: &str, value: &str) -> Vec<u8> {
    body.insert(key.to_owned(), value.into());
    Value::Object(body).to_string().into_bytes()
}

/// The document of an identity in a file.
#[must_use]
pub fn identity_document(file: &[u8], password: &str) -> Vec<u8> {
    json!({ "Password": password, "Identity": STANDARD.encode(file) }).to_string().into_bytes()
}
