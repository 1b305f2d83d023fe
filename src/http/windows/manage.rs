//! Windows management: OMA-DM over mutual TLS.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use crate::app::App;
use crate::http::error::Problem;
use crate::http::limits::Body;
use crate::http::peer::Peer;
use crate::service::windows::session;
use crate::service::windows::signature::{self, Presented};
use crate::wire::syncml::{MAX_BYTES, MEDIA_TYPE};

/// A message of a device. Whoever has no certificate, or one that is not good, gets 403 without another word: known and unknown devices
/// look the same. An address that is refused again and again gets 429; devices behind it that may speak are not held up.
pub async fn receive(app: Data<App>, peer: Peer, request: HttpRequest, body: Body<MAX_BYTES>) -> Result<HttpResponse, Problem> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case(MEDIA_TYPE) {
        let text = "messages are application/vnd.syncml.dm+xml";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", text));
    }
    let headers = request.headers();
    // The CSP calls it so, MS-MDM otherwise.
    let signature = headers.get("MDM-Signature").or_else(|| headers.get("MS-Signature"));
    let presented = Presented {
        certificate: peer.certificate.as_ref().map(|certificate| (certificate.der.as_slice(), certificate.sha256.as_str())),
        via_proxy: peer.via_proxy,
        signature: signature.map(HeaderValue::as_bytes),
    };
    let certificate = signature::identify(&app, &presented, &body, &peer.origin()).await?;
    let answer = session::receive(&app, &certificate, &body, &peer.origin()).await?;
    Ok(HttpResponse::Ok().content_type(MEDIA_TYPE).body(answer))
}
