//! Packages of applications, and their manifests, under the links that devices are given.

use std::io;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Bytes, Data, Path};
use futures_util::stream;

use crate::app::App;
use crate::http::error::Problem;
use crate::http::limits::Anonymous;
use crate::ids::PackageId;
use crate::service::apple::packages::{self, Served};
use crate::wire::apple::PLIST;

/// Where they are.
pub const ROUTE: &str = "/apple/apps/{token}/{file}";

/// What a link leads to.
pub async fn show(app: Data<App>, _: Anonymous, path: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (token, file) = path.into_inner();
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CACHE_CONTROL, "private, no-store"));
    match packages::open(&app, &token, &file).await? {
        Served::Manifest(document) => Ok(answer.content_type(PLIST).body(document)),
        Served::Package(package) => {
            let size = u64::try_from(package.size).map_err(|_| Problem::internal())?;
            let parts = stream::try_unfold((app.into_inner(), package.id, 0_i64), next);
            Ok(answer.content_type("application/octet-stream").body(SizedStream::new(size, Box::pin(parts))))
        }
    }
}

type Place = (Arc<App>, PackageId, i64);

/// The next part: one at a time is in memory.
async fn next((app, package, number): Place) -> io::Result<Option<(Bytes, Place)>> {
    let part = packages::read(&app, &package, number).await.map_err(io::Error::other)?;
    Ok(part.map(|part| (Bytes::from(part), (app, package, number.saturating_add(1)))))
}
