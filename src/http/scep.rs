//! SCEP over HTTP (RFC 8894 4): GET and POST under our own path, with any suffix that clients append, and under the paths of other
//! servers that clients have built in.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Data, ServiceConfig, get, head, post, resource, scope};
use actix_web::{HttpRequest, HttpResponse};
use percent_encoding::percent_decode_str;

use super::error::Problem;
use super::limits::{Anonymous, Body};
use super::peer::{Face, Peer};
use crate::app::App;
use crate::service::pki::scep;
use crate::wire::scep::decode_get_message;

/// Largest message, in bytes.
const SIZE: usize = 64 * 1024;

/// The paths: `/scep/<authority>` with any suffix (Windows and Cisco append `/pkiclient.exe`), and those of other servers. Put them first
/// in a table: a scope is found, or passed over, without a regular expression.
pub fn routes(table: &mut ServiceConfig) {
    let service = |path| resource(path).route(get().to(answer_get)).route(head().to(answer_get)).route(post().to(answer_post));
    table.service(scope("/scep").service(service("/{authority}/{suffix:.*}")).service(service("/{authority}")));
    table.service(scope("/certsrv/mscep").service(service("/mscep.dll/{suffix:.*}")).service(service("/mscep.dll")));
    table.service(service("/cgi-bin/pkiclient.exe"));
}

/// `GET …?operation=…&message=…`.
///
/// # Errors
/// 400 for what is no SCEP, 404 for an unknown authority or operation, 413 for a message beyond 64 KiB.
pub async fn answer_get(app: Data<App>, request: HttpRequest, peer: Peer, _: Anonymous) -> Result<HttpResponse, Problem> {
    let authority = authority(&app, &request, &peer)?;
    match parameter(&request, "operation").as_deref() {
        Some(b"GetCACaps") => {
            scep::resolve(&app, &authority).await?;
            Ok(reply("text/plain", scep::capabilities(&app).text().into_bytes()))
        }
        Some(b"GetCACert") => {
            let asked = parameter(&request, "includeRoot");
            let root = match asked.as_deref() {
                Some(b"true") => true,
                Some(b"false") => false,
                _ => app.config.scep.include_root,
            };
            Ok(reply("application/x-x509-ca-ra-cert", scep::certificates(&app, &authority, root).await?))
        }
        // A next CA certificate is not staged by this server: a new issuing authority gets a name and address of its own.
        Some(b"GetNextCACert") => Err(Problem::new(StatusCode::NOT_FOUND, "scep-next-ca", "there is no next CA certificate")),
        // HEAD asks for nothing to be done.
        Some(b"PKIOperation") if request.method() == Method::HEAD => Err(unknown()),
        Some(b"PKIOperation") => {
            let text = parameter(&request, "message").unwrap_or_default();
            if text.len() > SIZE * 2 {
                return Err(too_large());
            }
            let message = decode_get_message(&text).map_err(crate::service::Error::from)?;
            operate(&app, &authority, message, &peer).await
        }
        _ => Err(unknown()),
    }
}

/// `POST …?operation=PKIOperation`; the operation may be missing, the content type may be any.
///
/// # Errors
/// As [`answer_get`].
pub async fn answer_post(
    app: Data<App>,
    request: HttpRequest,
    peer: Peer,
    _: Anonymous,
    body: Body<SIZE>,
) -> Result<HttpResponse, Problem> {
    let authority = authority(&app, &request, &peer)?;
    match parameter(&request, "operation").as_deref() {
        None | Some(b"PKIOperation") => operate(&app, &authority, body.to_vec(), &peer).await,
        Some(_) => Err(unknown()),
    }
}

async fn operate(app: &App, authority: &str, message: Vec<u8>, peer: &Peer) -> Result<HttpResponse, Problem> {
    if message.len() > SIZE {
        return Err(too_large());
    }
    Ok(reply("application/x-pki-message", scep::receive(app, authority, message, &peer.origin()).await?))
}

/// The authority that the path names.
fn authority(app: &App, request: &HttpRequest, peer: &Peer) -> Result<String, Problem> {
    if peer.face == Face::Pki && !app.config.scep.plain_http {
        return Err(Problem::not_found());
    }
    Ok(request.match_info().get("authority").unwrap_or(scep::DEFAULT).to_owned())
}

/// The value of a query parameter, percent-decoded; a plus sign stays one, since clients send base64 unescaped.
fn parameter(request: &HttpRequest, name: &str) -> Option<Vec<u8>> {
    let value = request.query_string().split('&').find_map(|pair| match pair.split_once('=') {
        Some((key, value)) => (key == name).then_some(value),
        None => (pair == name).then_some(""),
    })?;
    Some(percent_decode_str(value).collect())
}

fn reply(content_type: &'static str, body: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, content_type)).insert_header((CACHE_CONTROL, "no-store")).body(body)
}

fn unknown() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "scep-operation", "operation must be GetCACaps, GetCACert, GetNextCACert or PKIOperation")
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "a message may have 65536 bytes at most")
}
