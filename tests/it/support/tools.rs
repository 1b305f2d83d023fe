//! Programs from outside that tests run.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The path of an installed program, or `None` after saying what is missing; fails when `REQUIRE_ALL=1`.
pub fn find(program: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/lib/certmonger"), PathBuf::from("/usr/libexec/certmonger")];
    let found = std::env::split_paths(&path).chain(extra).map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        missing(&format!("{program} (Debian package {package})"));
    }
    found
}

/// A folder of others' data that stands beside the project (`MUSTER_SHARED_DATA`), or `None` after saying that it is missing; fails when
/// `REQUIRE_ALL=1`.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("MUSTER_SHARED_DATA").map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let folder = shared.join(folder);
    if folder.is_dir() {
        return Some(folder);
    }
    let place = std::path::absolute(&folder).unwrap_or(folder);
    missing(&format!(
        "the published data of {} (cannot be installed: put it there, or name its place in MUSTER_SHARED_DATA)",
        place.display()
    ));
    None
}

/// What `scripts/graph-clients` installed, or `None` after saying that it is missing.
pub fn client(name: &str, what: &str) -> Option<PathBuf> {
    let found = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/graph-clients").join(name)).filter(|path| path.exists());
    if found.is_none() {
        missing(&format!("{what} (scripts/graph-clients installs them)"));
    }
    found
}

/// What `scripts/scim-clients` installed, or `None` after saying that it is missing.
pub fn scim_client(name: &str) -> Option<PathBuf> {
    let found = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/scim-clients").join(name)).filter(|path| path.exists());
    if found.is_none() {
        missing("scim2-tester (scripts/scim-clients installs it)");
    }
    found
}

/// Says what is missing; fails when `REQUIRE_ALL=1`.
pub fn missing(what: &str) {
    assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|v| v != "1"), "missing: {what}");
    say(&format!("skipped, as this is missing: {what}"));
}

/// Says something aloud: `eprintln!` is swallowed in a test that passes.
pub fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
