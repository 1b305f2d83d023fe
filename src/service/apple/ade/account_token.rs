//! The token by which a device shows Apple that this organisation manages it, when somebody signs in with a Managed Apple Account: a JWT
//! (RFC 7519) that is signed with the key of the server token, whose public half Apple has.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::app::App;
use crate::domain::apple::ade::Server;
use crate::domain::certificate::KeyAlgorithm;
use crate::service::pki::keys::SigningKey;
use crate::service::{Error, Result};
use crate::store::apple::ade;
use crate::store::sealed::ADE_KEY;
use crate::wire::apple::checkin::TOKEN_MAID;

/// Whether such tokens can be given: Apple Business Manager knows a key of this server.
///
/// # Errors
/// When the store fails.
pub async fn gives_account_tokens(app: &App) -> Result<bool> {
    Ok(app.store.read(ade::list_servers).await?.iter().any(|server| server.link.is_some()))
}

/// A token for a device of that serial number, in the name of the server that lists it; of one that none lists, in the name of the first.
/// `None` while no server has a token of Apple's.
///
/// # Errors
/// When the store, the seal or OpenSSL fails.
pub async fn account_token(app: &App, serial: Option<String>) -> Result<Option<Vec<u8>>> {
    let found = app.store.read(move |conn| {
        let of = serial.map(|serial| ade::find_server_id(conn, &serial)).transpose()?.flatten();
        let mut linked: Vec<Server> = ade::list_servers(conn)?.into_iter().filter(|server| server.link.is_some()).collect();
        linked.sort_by_key(|server| Some(&server.id) != of.as_ref());
        Ok(linked.into_iter().next())
    });
    let Some(server) = found.await? else { return Ok(None) };
    let Some(link) = server.link else { return Ok(None) };
    let key = SigningKey::open(&app.sealer(), ADE_KEY, &server.sealed_key, KeyAlgorithm::Rsa2048)?;
    let claims = json!({
        "iss": link.server_uuid,
        "iat": app.now().seconds(),
        "jti": uuid::Uuid::new_v4().to_string(),
        "service_type": TOKEN_MAID,
    });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "RS256" })), part(&claims));
    let signing = move || {
        let signature = key.sign(message.as_bytes())?;
        Ok::<_, Error>(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes())
    };
    tokio::task::spawn_blocking(signing).await.map_err(Error::internal)?.map(Some)
}
