//! Packages of applications: they are brought, listed and taken away by administrators, and fetched by devices under links of their own.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::sha::sha256;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::apple::app::{ENTERPRISE, LARGEST_PACKAGE, PART, is_bundle_id, is_name, is_version};
use crate::domain::apple::package::{Form, Package};
use crate::domain::audit::Entry;
use crate::domain::enrollment::State;
use crate::domain::profile::Payload;
use crate::ids::{EnrollmentId, PackageId, ProfileId};
use crate::secret::{Sealer, hmac_sha256, same};
use crate::service::identity::instance_key;
use crate::service::push;
use crate::service::{Error, Result};
use crate::store::apple::packages;
use crate::store::sealed::MANIFEST_KEY;
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, Conn, audit, desired_items, enrollments, profiles};
use crate::wire::apple::app::Manifest;

/// Where packages and their manifests are, before the link's token.
pub const PATH: &str = "/apple/apps";
/// The manifest's name there.
pub const MANIFEST: &str = "manifest.plist";
/// Purpose of the sealed tokens of links; nothing of them is kept.
const LINK: &str = "apple_packages.link";
/// How long a link is good: a command may wait as long in a device's own queue.
const LINK_DAYS: i64 = 7;
/// Longest token of a link, in characters.
const LONGEST_TOKEN: usize = 1_000;
/// Longest title, in characters.
const LONGEST_TITLE: usize = 128;
/// How many profiles are looked at together.
const PAGE: i64 = 100;

/// A package to bring.
#[derive(Clone, Debug)]
pub struct New {
    /// What profiles call it.
    pub name: String,
    /// The application's bundle identifier.
    pub bundle_id: String,
    /// The application's version.
    pub version: String,
    /// Name for people; the package's own name when it is empty.
    pub title: String,
    /// Take the place of a package of that name.
    pub replace: bool,
}

fn invalid(why: impl Into<String>) -> Error {
    Error::Invalid(Refusal::AppPackageInvalid, why.into())
}

fn shown(package: &Package) -> Value {
    json!({
        "name": package.name, "title": package.title, "bundle_id": package.bundle_id, "version": package.version,
        "form": package.form, "bytes": package.size, "created_at": package.created_at.to_string(),
    })
}

/// A file that is read part by part, off the threads that answer devices.
struct Source(Arc<File>);

impl Source {
    async fn open(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        let opening = move || -> io::Result<(File, u64)> {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let opened = tokio::task::spawn_blocking(opening).await.map_err(Error::internal)?;
        let (file, length) = opened.map_err(|error| invalid(error.to_string()))?;
        if length > LARGEST_PACKAGE {
            return Err(Refusal::AppPackageTooLarge.into());
        }
        Ok(Self(Arc::new(file)))
    }

    /// The next part; empty after the last.
    async fn next(&self) -> Result<Vec<u8>> {
        let file = Arc::clone(&self.0);
        let reading = move || -> io::Result<Vec<u8>> {
            let mut part = Vec::new();
            file.take(PART as u64).read_to_end(&mut part)?;
            Ok(part)
        };
        let read = tokio::task::spawn_blocking(reading).await.map_err(Error::internal)?;
        read.map_err(|error| invalid(error.to_string()))
    }
}

/// Takes a package in from a file, part by part.
///
/// # Errors
/// [`Refusal::AppPackageInvalid`], [`Refusal::AppPackageTooLarge`], [`Refusal::AppPackageNameTaken`]; else the database's own.
pub async fn add(app: &App, file: &Path, new: New, actor: &str, origin: &str) -> Result<Value> {
    if !is_name(&new.name) {
        return Err(invalid("its name has 1 to 35 lower-case letters, digits and hyphens"));
    }
    if !is_bundle_id(&new.bundle_id) {
        return Err(invalid("a bundle identifier has letters, digits, dots, hyphens and underscores"));
    }
    if !is_version(&new.version) {
        return Err(invalid("a version has numbers with dots between them"));
    }
    let title = if new.title.is_empty() { new.name.clone() } else { new.title.clone() };
    if title.chars().count() > LONGEST_TITLE || title.chars().any(char::is_control) {
        return Err(invalid(format!("a title has up to {LONGEST_TITLE} characters and no control characters")));
    }
    let name = new.name.clone();
    let before = app.store.read(move |conn| packages::find_package(conn, &name)).await?;
    if before.is_some() && !new.replace {
        return Err(Refusal::AppPackageNameTaken.into());
    }
    let file = Source::open(file).await?;
    let first = file.next().await?;
    let form = Form::of(&first).ok_or_else(|| invalid("it is neither an installer package (.pkg) nor an application (.ipa)"))?;
    let (New { name, bundle_id, version, .. }, id, now) = (new, PackageId::new(), app.now());
    let mut package = Package { id, name, title, bundle_id, version, form, size: 0, created_at: now };
    let begun = package.clone();
    app.store
        .write(move |tx| {
            packages::delete_unfinished(tx, now.plus(-DAY))?;
            packages::insert_package(tx, &begun)
        })
        .await?;
    match take(app, &file, first, &package.id).await {
        Ok(size) => package.size = size,
        Err(error) => {
            let id = package.id.clone();
            app.store.write(move |tx| packages::delete_package(tx, &id)).await?;
            return Err(error);
        }
    }
    let mut entry = Entry::new(actor, "apple.package_add", format!("package:{}", package.name), origin).after(&shown(&package));
    if let Some(before) = &before {
        entry = entry.before(&shown(before));
    }
    let (whole, replace) = (package.clone(), before.is_some());
    let (sealer, push) = (app.sealer(), push::wns::enabled(&app.config));
    app.store
        .write(move |tx| {
            take_turn(tx, Turn::Shared)?;
            // Somebody else brought one of the name since.
            if !replace && packages::find_package(tx.conn(), &whole.name)?.is_some() {
                return Err(Refusal::AppPackageNameTaken.into());
            }
            packages::complete_package(tx, &whole)?;
            for (profile, _) in naming(tx.conn(), &sealer, &whole.name)? {
                desired_items::update_looked_at(tx, &profile, now)?;
            }
            push::due::enqueue(tx, push, now)?;
            audit::append(tx, &entry, now)
        })
        .await?;
    app.outbox.notify_waiters();
    Ok(shown(&package))
}

/// The profiles that name a package, with their names.
fn naming(conn: &mut Conn, sealer: &Sealer, name: &str) -> store::Result<Vec<(ProfileId, String)>> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = profiles::list_profiles(conn, sealer, &after, PAGE)?;
        let Some(last) = page.last() else { return Ok(found) };
        after.clone_from(&last.display_name);
        let names = |payload: &Payload| payload.kind == ENTERPRISE && payload.body.get("package").and_then(Value::as_str) == Some(name);
        let of_page = page.into_iter().filter(|profile| profile.document.payloads.iter().any(names));
        found.extend(of_page.map(|profile| (profile.id, profile.display_name)));
    }
}

/// Takes the parts in, the first of which was read; how many bytes they have.
async fn take(app: &App, file: &Source, first: Vec<u8>, id: &PackageId) -> Result<i64> {
    let (mut size, mut number, mut part) = (0_i64, 0_i64, first);
    while !part.is_empty() {
        size = size.saturating_add(i64::try_from(part.len()).map_err(Error::internal)?);
        // The file may have grown meanwhile.
        if u64::try_from(size).is_ok_and(|size| size > LARGEST_PACKAGE) {
            return Err(Refusal::AppPackageTooLarge.into());
        }
        let (id, content) = (id.clone(), std::mem::take(&mut part));
        app.store.write(move |tx| packages::insert_part(tx, &id, number, &hex::encode(sha256(&content)), &content)).await?;
        number = number.saturating_add(1);
        part = file.next().await?;
    }
    Ok(size)
}

/// All packages.
///
/// # Errors
/// Only the database's own.
pub async fn list(app: &App) -> Result<Value> {
    Ok(app.store.read(packages::list_packages).await?.iter().map(shown).collect())
}

/// Takes a package away. Devices keep what they installed.
///
/// # Errors
/// [`Refusal::AppPackageUnknown`]; [`Refusal::AppPackageInUse`] with the names of the profiles; else the database's own.
pub async fn remove(app: &App, name: String, actor: &str, origin: &str) -> Result<()> {
    let (actor, origin, now, sealer) = (actor.to_owned(), origin.to_owned(), app.now(), app.sealer());
    let used = app
        .store
        .write(move |tx| {
            let package = packages::find_package(tx.conn(), &name)?.filter(|package| package.name == name && is_name(&name));
            let package = package.ok_or(Refusal::AppPackageUnknown)?;
            let used = naming(tx.conn(), &sealer, &name)?;
            if !used.is_empty() {
                return Ok(used);
            }
            packages::delete_package(tx, &package.id)?;
            let entry = Entry::new(&actor, "apple.package_remove", format!("package:{name}"), &origin).before(&shown(&package));
            audit::append(tx, &entry, now)?;
            Ok(used)
        })
        .await?;
    if used.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = used.into_iter().map(|(_, name)| name).collect();
    Err(Error::Invalid(Refusal::AppPackageInUse, names.join(", ")))
}

/// What the token of a package's link says.
#[derive(Debug, Deserialize, Serialize)]
struct Link {
    package: PackageId,
    enrollment: EnrollmentId,
    until: Time,
}

/// The address of a package for one device and a few days.
///
/// # Errors
/// Only when it cannot be sealed.
pub(super) fn link(app: &App, package: &Package, enrollment: &EnrollmentId) -> Result<String> {
    let link = Link { package: package.id.clone(), enrollment: enrollment.clone(), until: app.now().plus(LINK_DAYS * DAY) };
    let text = serde_json::to_vec(&link).map_err(Error::internal)?;
    Ok(address(app, &URL_SAFE_NO_PAD.encode(app.sealer().seal(LINK, &text)?), &file_name(package)))
}

/// What the token of a manifest's link says.
#[derive(Debug, Deserialize, Serialize)]
struct Named {
    package: String,
    enrollment: EnrollmentId,
}

/// The address of the manifest of whichever package has that name, for one device while it is enrolled. It is the same each time: by it a
/// device knows an application again that it was given in another way, and looks for newer versions.
///
/// # Errors
/// Only the database's own.
pub(super) async fn manifest_link(app: &App, name: &str, enrollment: &EnrollmentId) -> Result<String> {
    let named = Named { package: name.to_owned(), enrollment: enrollment.clone() };
    let text = serde_json::to_vec(&named).map_err(Error::internal)?;
    let mark = hmac_sha256(instance_key(app, MANIFEST_KEY).await?.expose(), &text).map_err(Error::internal)?;
    Ok(address(app, &format!("{}.{}", URL_SAFE_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(mark)), MANIFEST))
}

/// What the token of a manifest's link says, when it is one of ours.
async fn named(app: &App, token: &str) -> Result<Option<Named>> {
    let decoded =
        token.split_once('.').and_then(|(text, mark)| Some((URL_SAFE_NO_PAD.decode(text).ok()?, URL_SAFE_NO_PAD.decode(mark).ok()?)));
    let Some((text, mark)) = decoded else { return Ok(None) };
    let expected = hmac_sha256(instance_key(app, MANIFEST_KEY).await?.expose(), &text).map_err(Error::internal)?;
    Ok(if same(&expected, &mark) { serde_json::from_slice(&text).ok() } else { None })
}

fn address(app: &App, token: &str, file: &str) -> String {
    format!("{}{PATH}/{token}/{file}", app.config.web_url())
}

fn file_name(package: &Package) -> String {
    format!("package.{}", package.form)
}

/// What a device needs to install a package.
///
/// # Errors
/// Only the database's own.
pub(super) async fn manifest(app: &App, package: &Package, url: String) -> Result<Manifest> {
    let id = package.id.clone();
    let sha256s = app.store.read(move |conn| packages::list_hashes(conn, &id)).await?;
    Ok(Manifest {
        url,
        part_size: i64::try_from(PART).map_err(Error::internal)?,
        sha256s,
        bundle_id: package.bundle_id.clone(),
        version: package.version.clone(),
        title: package.title.clone(),
    })
}

/// What a link leads to.
#[derive(Debug)]
pub enum Served {
    /// A manifest.
    Manifest(Vec<u8>),
    /// A package, to be read with [`read`].
    Package(Package),
}

/// Whether an enrolment is there and has not ended.
fn is_live(conn: &mut Conn, enrollment: &EnrollmentId) -> store::Result<bool> {
    match enrollments::load_enrollment(conn, enrollment) {
        Ok(enrollment) => Ok(enrollment.state != State::Ended),
        Err(store::Error::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a link of a device.
///
/// # Errors
/// [`Error::NotFound`] when it is none of ours, has ended, or is for a device that is not managed (any more).
pub async fn open(app: &App, token: &str, file: &str) -> Result<Served> {
    let nothing = || Error::NotFound("package");
    if token.len() > LONGEST_TOKEN {
        return Err(nothing());
    }
    if file == MANIFEST {
        let Named { package: name, enrollment } = named(app, token).await?.ok_or_else(nothing)?;
        let whose = enrollment.clone();
        let found = app.store.read(move |conn| if is_live(conn, &whose)? { packages::find_package(conn, &name) } else { Ok(None) });
        let package = found.await?.ok_or_else(nothing)?;
        let url = link(app, &package, &enrollment)?;
        return Ok(Served::Manifest(manifest(app, &package, url).await?.encode()));
    }
    let sealed = URL_SAFE_NO_PAD.decode(token).map_err(|_| nothing())?;
    let text = app.sealer().open(LINK, &sealed).map_err(|_| nothing())?;
    let link: Link = serde_json::from_slice(text.expose()).map_err(|_| nothing())?;
    if link.until <= app.now() {
        return Err(nothing());
    }
    let found =
        app.store.read(move |conn| if is_live(conn, &link.enrollment)? { packages::load_package(conn, &link.package) } else { Ok(None) });
    let package = found.await?.ok_or_else(nothing)?;
    if file == file_name(&package) { Ok(Served::Package(package)) } else { Err(nothing()) }
}

/// One part of a package; `None` after the last.
///
/// # Errors
/// Only the database's own.
pub async fn read(app: &App, package: &PackageId, number: i64) -> Result<Option<Vec<u8>>> {
    let package = package.clone();
    Ok(app.store.read(move |conn| packages::find_part(conn, &package, number)).await?)
}

/// What is to be said of applications whose package nobody has brought: devices wait for it.
///
/// # Errors
/// Only the database's own.
pub async fn missing(app: &App, payloads: &[Payload]) -> Result<Vec<String>> {
    let enterprise = payloads.iter().filter(|payload| payload.kind == ENTERPRISE);
    let named: Vec<(String, String)> =
        enterprise.filter_map(|payload| Some((payload.name.clone(), payload.body.get("package")?.as_str()?.to_owned()))).collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let names = named.iter().map(|(_, package)| package.clone()).collect();
    let known = app.store.read(move |conn| packages::list_named(conn, &names)).await?;
    let lacking = named.into_iter().filter(|(_, package)| !known.iter().any(|one| one.name == *package));
    Ok(lacking
        .map(|(name, package)| format!("{name}: there is no package {package} yet; devices wait for it (muster apple app-add)"))
        .collect())
}
