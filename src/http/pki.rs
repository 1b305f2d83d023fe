//! The CA's plain HTTP face: revocation lists, authority certificates, OCSP.

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, EntityTag, Header as _, HttpDate, IF_NONE_MATCH, IfNoneMatch, LAST_MODIFIED,
};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use openssl::sha::sha256;

use super::error::Problem;
use super::limits::{Anonymous, Body};
use crate::app::App;
use crate::clock::{HOUR, Time};
use crate::service::pki::{authority, crl, ocsp};
use crate::wire::ocsp::{Failure, MAX_REQUEST};

const OCSP_RESPONSE: &str = "application/ocsp-response";
/// For how long the certificate of an authority may be kept: it never changes.
const CERTIFICATE_AGE: i64 = 24 * HOUR;

/// `GET /crl/{authority}.crl`: the newest revocation list.
///
/// # Errors
/// 404 for an unknown authority.
pub async fn show_crl(app: Data<App>, _: Anonymous, request: HttpRequest, name: Path<String>) -> Result<HttpResponse, Problem> {
    let list = crl::find(&app, &name).await?;
    let now = app.now();
    let age = list.next_update.since(now).clamp(0, HOUR) / 1000;
    Ok(cacheable(&request, "application/pkix-crl", &list.der, list.this_update, now.plus(age * 1000), &format!("public, max-age={age}")))
}

/// `GET /aia/{authority}.cer`: the certificate of an authority, DER.
///
/// # Errors
/// 404 for an unknown authority.
pub async fn show_certificate(app: Data<App>, _: Anonymous, request: HttpRequest, name: Path<String>) -> Result<HttpResponse, Problem> {
    let authority = authority::by_name(&app, &name).await?;
    let expires = app.now().plus(CERTIFICATE_AGE);
    let policy = format!("public, max-age={}", CERTIFICATE_AGE / 1000);
    Ok(cacheable(&request, "application/pkix-cert", &authority.certificate, authority.not_before, expires, &policy))
}

/// `GET /aia/{authority}.pem`: the certificate of an authority and those above it, to the root, PEM.
///
/// # Errors
/// 404 for an unknown authority.
pub async fn show_chain(app: Data<App>, _: Anonymous, name: Path<String>) -> Result<HttpResponse, Problem> {
    let authority = authority::by_name(&app, &name).await?;
    let pem: String = authority.chain.iter().map(|der| authority::pem(der)).collect();
    Ok(HttpResponse::Ok().content_type("application/pem-certificate-chain").body(pem))
}

/// `POST /ocsp/{authority}`.
///
/// # Errors
/// 404 for an unknown authority; all else is an OCSP answer.
pub async fn answer_posted(app: Data<App>, _: Anonymous, name: Path<String>, body: Body<MAX_REQUEST>) -> Result<HttpResponse, Problem> {
    let reply = ocsp::answer(&app, &name, &body).await?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, OCSP_RESPONSE)).insert_header((CACHE_CONTROL, "no-store")).body(reply.der))
}

/// `GET /ocsp/{authority}/{request}`: the request in base64, escaped or not.
///
/// # Errors
/// 404 for an unknown authority; all else is an OCSP answer.
pub async fn answer_got(app: Data<App>, _: Anonymous, request: HttpRequest, path: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (name, text) = path.into_inner();
    let Some(decoded) = decode(&text) else {
        authority::by_name(&app, &name).await?;
        return Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, OCSP_RESPONSE)).body(Failure::MalformedRequest.der()));
    };
    let reply = ocsp::answer(&app, &name, &decoded).await?;
    let Some((this_update, next_update)) = reply.cacheable else {
        return Ok(HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, OCSP_RESPONSE))
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(reply.der));
    };
    let age = ocsp::max_age(app.now(), next_update);
    let policy = format!("max-age={age}, public, no-transform, must-revalidate");
    Ok(cacheable(&request, OCSP_RESPONSE, &reply.der, this_update, next_update, &policy))
}

/// The bytes of a request in a path. `+` may have become a space on its way, and a slash may stand before it.
fn decode(text: &str) -> Option<Vec<u8>> {
    let unescaped = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    let plain: String = unescaped.trim_start_matches('/').chars().map(|c| if c == ' ' { '+' } else { c }).collect();
    if plain.len() > MAX_REQUEST * 4 / 3 + 4 {
        return None;
    }
    BASE64_STANDARD.decode(plain.trim_end_matches('=').to_owned() + padding(plain.trim_end_matches('=').len())).ok()
}

fn padding(length: usize) -> &'static str {
    match length % 4 {
        2 => "==",
        3 => "=",
        _ => "",
    }
}

fn cacheable(request: &HttpRequest, content_type: &str, body: &[u8], modified: Time, expires: Time, policy: &str) -> HttpResponse {
    let tag = EntityTag::new_strong(hex::encode(sha256(body)));
    let same = request.headers().contains_key(IF_NONE_MATCH)
        && match IfNoneMatch::parse(request) {
            Ok(IfNoneMatch::Any) => true,
            Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|t| t.weak_eq(&tag)),
            Err(_) => false,
        };
    let mut response = HttpResponse::build(if same { StatusCode::NOT_MODIFIED } else { StatusCode::OK });
    response
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((ETAG, tag.to_string()))
        .insert_header((LAST_MODIFIED, http_date(modified)))
        .insert_header((EXPIRES, http_date(expires)))
        .insert_header((CACHE_CONTROL, policy));
    if same { response.finish() } else { response.body(body.to_vec()) }
}

fn http_date(at: Time) -> HttpDate {
    let seconds = u64::try_from(at.seconds()).unwrap_or_default();
    HttpDate::from(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_paths_are_read_escaped_and_not() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = BASE64_STANDARD.encode(&bytes);
        assert!(text.contains('+') && text.contains('/'));
        let escaped = text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        for form in [text.clone(), escaped, text.replace('+', " "), format!("/{text}"), text.trim_end_matches('=').to_owned()] {
            assert_eq!(decode(&form).as_deref(), Some(&bytes[..]), "{form}");
        }
        assert_eq!(decode("%ff"), None);
        assert_eq!(decode("a"), None);
        assert_eq!(decode(&"A".repeat(MAX_REQUEST * 2)), None);
    }
}
