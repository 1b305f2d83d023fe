//! Where the tokens of `muster login` are kept: a file for each server in the user's configuration folder, which nobody else may read.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reqwest::Url;
use serde::{Deserialize, Serialize};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 256 * 1024;

/// What is kept of a login.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Login {
    /// The server, as `https://host:port`.
    pub server: String,
    /// The certificates (PEM) that alone are trusted for it; without them, those of the system are.
    pub ca: Option<String>,
    /// Who signed in: user principal name.
    pub user: String,
    /// What orders are given with.
    pub access_token: String,
    /// Until when that is good, in seconds since 1970 by this machine's clock.
    pub access_until: i64,
    /// What it is renewed with.
    pub refresh_token: String,
    /// Until when that is good, unless it is used.
    pub refresh_until: i64,
}

/// A server's address as it is kept: `https`, a host, and a port where it is not the usual one.
///
/// # Errors
/// When it is another kind of address.
pub(super) fn read_server(text: &str) -> Result<String, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = Url::parse(&whole).map_err(|error| error.to_string())?;
    let bare =
        url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    match url.host_str() {
        Some(host) if url.scheme() == "https" && bare => {
            Ok(url.port().map_or_else(|| format!("https://{host}"), |port| format!("https://{host}:{port}")))
        }
        _ => Err("use https://HOST or https://HOST:PORT".into()),
    }
}

/// The same as an address.
///
/// # Errors
/// As [`read_server`].
pub(super) fn read_url(text: &str) -> Result<Url, String> {
    Url::parse(&read_server(text)?).map_err(|error| error.to_string())
}

/// The folder of all logins.
fn folder() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    Ok(base.context("neither XDG_CONFIG_HOME nor HOME says where logins are to be kept")?.join("muster").join("logins"))
}

/// The file of a server.
fn file(server: &str) -> anyhow::Result<PathBuf> {
    let host = server.strip_prefix("https://").unwrap_or(server);
    let plain: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' }).collect();
    Ok(folder()?.join(format!("{plain}.json")))
}

/// The login at that server.
///
/// # Errors
/// When the file is not ours, or cannot be read.
pub(super) fn find(server: &str) -> anyhow::Result<Option<Login>> {
    read(&file(server)?)
}

/// All logins, by server.
///
/// # Errors
/// When a file is not ours, or cannot be read.
pub(super) fn list() -> anyhow::Result<Vec<Login>> {
    let entries = match std::fs::read_dir(folder()?) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            found.extend(read(&path)?);
        }
    }
    found.sort_by(|one, other| one.server.cmp(&other.server));
    Ok(found)
}

fn read(path: &Path) -> anyhow::Result<Option<Login>> {
    let named = || path.display().to_string();
    let known = match std::fs::symlink_metadata(path) {
        Ok(known) => known,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(named),
    };
    anyhow::ensure!(known.is_file(), "{}: this is no plain file; take it away and log in again", path.display());
    let own = std::fs::metadata("/proc/self").map_or(known.uid(), |process| process.uid());
    anyhow::ensure!(known.uid() == own, "{}: the file belongs to another user of this machine", path.display());
    let mode = known.mode() & 0o777;
    if mode & 0o077 != 0 {
        eprintln!(
            "warning: {}: others could read or change the file (mode {mode:o}), and its tokens with it; it is 600 again now. Where somebody \
             may have done so, run `muster logout` and log in again",
            path.display()
        );
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).with_context(named)?;
    }
    let mut text = String::new();
    File::open(path).with_context(named)?.take(LARGEST).read_to_string(&mut text).with_context(named)?;
    let damaged = || format!("{}: the file is damaged; take it away and log in again", path.display());
    Ok(Some(serde_json::from_str(&text).with_context(damaged)?))
}

/// Writes a login over the one of that server, as a whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(login: &Login) -> anyhow::Result<()> {
    let path = file(&login.server)?;
    let folder = make_folder()?;
    let new = folder.join(format!(".{}.{}", std::process::id(), path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(serde_json::to_string_pretty(login)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)
    })();
    if written.is_err() {
        drop(std::fs::remove_file(&new));
    }
    written.with_context(|| path.display().to_string())
}

/// Takes the login of a server away.
///
/// # Errors
/// When it cannot be taken away.
pub(super) fn remove(server: &str) -> anyhow::Result<()> {
    match std::fs::remove_file(file(server)?) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Waits until no other process renews the tokens of that server; the lock ends with the value.
///
/// # Errors
/// When there is no place for it.
pub(super) fn lock(server: &str) -> anyhow::Result<File> {
    make_folder()?;
    let path = file(server)?.with_extension("lock");
    let held = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let held = held.with_context(|| path.display().to_string())?;
    held.lock().with_context(|| path.display().to_string())?;
    Ok(held)
}

fn make_folder() -> anyhow::Result<PathBuf> {
    let folder = folder()?;
    let named = || folder.display().to_string();
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).with_context(named)?;
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).with_context(named)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_https_and_a_host() {
        for (text, server) in [
            ("muster.example", "https://muster.example"),
            ("https://Muster.example/", "https://muster.example"),
            ("https://muster.example:443", "https://muster.example"),
            ("127.0.0.1:8443", "https://127.0.0.1:8443"),
            ("https://[::1]:8443", "https://[::1]:8443"),
        ] {
            assert_eq!(read_server(text).as_deref(), Ok(server), "{text}");
        }
        for text in [
            "",
            "http://muster.example",
            "https://u:p@muster.example",
            "https://muster.example/v1.0",
            "https://muster.example?x",
            "file:///x",
        ] {
            assert!(read_server(text).is_err(), "{text}");
        }
    }
}
