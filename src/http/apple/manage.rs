//! Check-in, the command channel and assets. An Apple device that gets 401 removes its enrolment: no answer here ever is one, and no refusal
//! has a body that a device could take for an instruction, but the one for devices that an administrator has retired: those shall leave.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER};
use actix_web::web::{Data, Path, ServiceConfig, get, resource};
use actix_web::{HttpRequest, HttpResponse};

use crate::app::App;
use crate::domain::Refusal;
use crate::http::limits::Body;
use crate::http::peer::Peer;
use crate::service::Error;
use crate::service::apple::assets::{self as service, DEVICE_PATH, USER_PATH};
use crate::service::apple::checkin::{self, Reply};
use crate::service::apple::connect;
use crate::service::apple::identity::Presented;
use crate::wire::apple::PLIST;
use crate::wire::apple::enroll::Stop;
use crate::wire::plist::Limits;

/// Where check-in messages go.
pub const CHECK_IN: &str = crate::service::apple::enroll::CHECK_IN_PATH;
/// Where commands are fetched.
pub const COMMANDS: &str = crate::service::apple::enroll::COMMANDS_PATH;
/// Largest message: a status report or a result.
const LARGEST: usize = Limits::RESULT.bytes;

fn presented<'a>(peer: &'a Peer, request: &'a HttpRequest, origin: &'a str) -> Presented<'a> {
    Presented {
        certificate: peer.certificate.as_ref().map(|certificate| (certificate.der.as_slice(), certificate.sha256.as_str())),
        signature: request.headers().get("Mdm-Signature").map(HeaderValue::as_bytes),
        origin,
    }
}

/// Where assets are fetched.
pub fn assets(table: &mut ServiceConfig) {
    table
        .service(resource(format!("{DEVICE_PATH}/{{identifier}}")).route(get().to(asset)))
        .service(resource(format!("{USER_PATH}/{{user}}/{{identifier}}")).route(get().to(asset_of_user)));
}

/// A check-in message.
pub async fn check_in(app: Data<App>, peer: Peer, request: HttpRequest, body: Body<LARGEST>) -> HttpResponse {
    let origin = peer.origin();
    match checkin::receive(&app, &presented(&peer, &request, &origin), &body).await {
        Ok(Reply::Empty) => HttpResponse::Ok().finish(),
        Ok(Reply::Plist(body)) => HttpResponse::Ok().content_type(PLIST).body(body),
        Ok(Reply::Json(body)) => HttpResponse::Ok().content_type("application/json").body(body),
        Ok(Reply::NotThere) => refusal(StatusCode::NOT_FOUND, "there is no such declaration"),
        Ok(Reply::Declined) => refusal(StatusCode::GONE, "the users of this device are not managed"),
        Err(error) => render(&error),
    }
}

/// An answer of a device, or that it is idle.
pub async fn connect(app: Data<App>, peer: Peer, request: HttpRequest, body: Body<LARGEST>) -> HttpResponse {
    let origin = peer.origin();
    match connect::receive(&app, &presented(&peer, &request, &origin), &body).await {
        Ok(answer) if answer.is_empty() => HttpResponse::Ok().finish(),
        Ok(answer) => HttpResponse::Ok().content_type(PLIST).body(answer),
        Err(error) => render(&error),
    }
}

/// An asset of the device's own channel.
async fn asset(app: Data<App>, peer: Peer, request: HttpRequest, path: Path<String>) -> HttpResponse {
    give(&app, &peer, &request, None, &path.into_inner()).await
}

/// An asset of a user's channel.
async fn asset_of_user(app: Data<App>, peer: Peer, request: HttpRequest, path: Path<(String, String)>) -> HttpResponse {
    let (user, identifier) = path.into_inner();
    give(&app, &peer, &request, Some(&user), &identifier).await
}

async fn give(app: &App, peer: &Peer, request: &HttpRequest, user: Option<&str>, identifier: &str) -> HttpResponse {
    let origin = peer.origin();
    match service::fetch(app, &presented(peer, request, &origin), user, identifier).await {
        Ok(Some(asset)) => {
            HttpResponse::Ok().content_type(asset.media).insert_header((CACHE_CONTROL, "no-store")).body(asset.content.expose().to_vec())
        }
        Ok(None) => refusal(StatusCode::NOT_FOUND, "there is no such asset"),
        Err(error) => render(&error),
    }
}

fn refusal(status: StatusCode, text: &str) -> HttpResponse {
    HttpResponse::build(status).content_type("text/plain; charset=UTF-8").insert_header((CACHE_CONTROL, "no-store")).body(text.to_owned())
}

fn render(error: &Error) -> HttpResponse {
    let mut later = refusal(StatusCode::SERVICE_UNAVAILABLE, "try again later");
    match error {
        Error::Malformed(malformed) => refusal(StatusCode::BAD_REQUEST, &malformed.to_string()),
        Error::Refused(retired @ Refusal::DeviceRetired) => {
            HttpResponse::Forbidden().insert_header((CACHE_CONTROL, "no-store")).json(Stop::UnrecognizedDevice.body(retired.text()))
        }
        Error::Refused(refused) | Error::Invalid(refused, _) => refusal(StatusCode::BAD_REQUEST, &refused.to_string()),
        Error::NotFound(_) | Error::Unknown(_) | Error::Conflict(_) => {
            refusal(StatusCode::BAD_REQUEST, "the message does not fit what is known of the device")
        }
        Error::Throttled(seconds) => {
            later.headers_mut().insert(RETRY_AFTER, HeaderValue::from(*seconds));
            later
        }
        Error::Unavailable(why) => {
            tracing::warn!(error = %why, "unavailable");
            later.headers_mut().insert(RETRY_AFTER, HeaderValue::from(5));
            later
        }
        Error::Internal(reason) => {
            tracing::error!(error = ?reason, "a message of an Apple device failed");
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "the server failed")
        }
    }
}
