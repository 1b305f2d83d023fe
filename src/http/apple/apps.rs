//! Packages of applications, and their manifests, under the links that devices are given. A download that broke off goes on where it was.

use std::io;
use std::sync::Arc;

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, ETAG};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;

use crate::app::App;
use crate::domain::apple::app::PART;
use crate::domain::apple::package::Package;
use crate::http::error::Problem;
use crate::http::limits::Anonymous;
use crate::http::range::{self, Wanted};
use crate::ids::PackageId;
use crate::service::apple::packages::{self, Served};
use crate::wire::apple::PLIST;

/// Where they are.
pub const ROUTE: &str = "/apple/apps/{token}/{file}";

/// What a link leads to.
pub async fn show(app: Data<App>, _: Anonymous, request: HttpRequest, path: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (token, file) = path.into_inner();
    match packages::open(&app, &token, &file).await? {
        Served::Manifest(document) => {
            let mut answer = HttpResponse::Ok();
            Ok(answer.insert_header((CACHE_CONTROL, "private, no-store")).content_type(PLIST).body(document))
        }
        Served::Package(package) => send(app.into_inner(), package, &request),
    }
}

/// Sends a package, or the part of it that is asked for.
fn send(app: Arc<App>, package: Package, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    let wrong = |_| Problem::internal();
    let size = u64::try_from(package.size).map_err(wrong)?;
    // Another content has another identifier.
    let tag = format!("\"{}\"", package.id);
    let wanted = range::wanted(request.headers(), &tag, size);
    let (status, first, last) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0, size.saturating_sub(1)),
        Wanted::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last),
        Wanted::Beyond => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    let mut answer = HttpResponse::build(status);
    answer.insert_header((CACHE_CONTROL, "private, no-store")).insert_header((ACCEPT_RANGES, "bytes")).insert_header((ETAG, tag));
    match wanted {
        Wanted::Whole => {}
        Wanted::Part { .. } => drop(answer.insert_header((CONTENT_RANGE, format!("bytes {first}-{last}/{size}")))),
        Wanted::Beyond => return Ok(answer.insert_header((CONTENT_RANGE, format!("bytes */{size}"))).finish()),
    }
    let left = if size == 0 { 0 } else { last.saturating_sub(first).saturating_add(1) };
    let part = u64::try_from(PART).map_err(wrong)?;
    let place = Place {
        app,
        package: package.id,
        number: i64::try_from(first.checked_div(part).unwrap_or(0)).map_err(wrong)?,
        skip: usize::try_from(first.checked_rem(part).unwrap_or(0)).map_err(wrong)?,
        left,
    };
    let parts = stream::try_unfold(place, next);
    Ok(answer.content_type("application/octet-stream").body(SizedStream::new(left, Box::pin(parts))))
}

/// Where a download is.
struct Place {
    app: Arc<App>,
    package: PackageId,
    /// The part that comes next, …
    number: i64,
    /// … how many bytes of it are passed over, …
    skip: usize,
    /// … and how many bytes are still to come.
    left: u64,
}

/// The next part: one at a time is in memory.
async fn next(mut place: Place) -> io::Result<Option<(Bytes, Place)>> {
    if place.left == 0 {
        return Ok(None);
    }
    let Some(part) = packages::read(&place.app, &place.package, place.number).await.map_err(io::Error::other)? else { return Ok(None) };
    let part = Bytes::from(part);
    let from = place.skip.min(part.len());
    let length = usize::try_from(place.left).unwrap_or(usize::MAX).min(part.len().saturating_sub(from));
    let part = part.slice(from..from.saturating_add(length));
    (place.number, place.skip) = (place.number.saturating_add(1), 0);
    place.left = place.left.saturating_sub(u64::try_from(length).map_err(io::Error::other)?);
    Ok(Some((part, place)))
}
