//! The configuration: one documented struct, read from a TOML file, the environment (`MUSTER_…`, two underscores between levels) and
//! flags, in this order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// All settings of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the database, the master key and the control socket.
    pub data_dir: PathBuf,
    /// `postgres://…`, or a SQLite file; default: `muster.db` in the data folder.
    pub database: Option<String>,
    /// Connections in the pool.
    pub database_connections: u32,
    /// File of master keys (mode 0600); default: `master.key` in the data folder. `MUSTER_MASTER_KEY` holds the keys themselves instead.
    pub master_key_file: Option<PathBuf>,
    /// Name of the organisation, shown to people and put into certificates.
    pub organisation: String,
    /// Threads that serve requests; 0 means one per core.
    pub workers: usize,
    /// One port for the faces `web` and `device`, told apart by the name that the client asks for (SNI); else a port each.
    pub single_port: bool,
    /// Addresses of reverse proxies whose `Client-Cert` header (RFC 9440) and `Forwarded` address are believed.
    pub proxies: Vec<IpAddr>,
    /// Bounds on what unauthenticated callers may do.
    pub limits: Limits,
    /// The face that never asks for a client certificate.
    pub web: Face,
    /// The face that asks for a client certificate.
    pub device: Face,
    /// The plain HTTP face of the CA.
    pub pki: Face,
    /// Server certificate from elsewhere; default: one of our own CA.
    pub tls: Tls,
    /// The CA.
    pub ca: Ca,
    /// SCEP.
    pub scep: Scep,
    /// Windows.
    pub windows: Windows,
    /// Compliance of the whole organisation.
    pub compliance: Compliance,
    /// Signals.
    pub signals: Signals,
}

/// Bounds on what unauthenticated callers may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests per second that one address may send where no authentication is needed; 0 means any number.
    pub anonymous_per_second: u32,
    /// How many it may send at once after a pause.
    pub anonymous_burst: u32,
}

/// Where a face listens and what it is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Face {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Base URL as clients see it, without a slash at the end; default: made of the address.
    pub url: Option<String>,
}

/// Server certificate from elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file: certificate and chain.
    pub certificate_file: Option<PathBuf>,
    /// PEM file: private key.
    pub key_file: Option<PathBuf>,
    /// More DNS names for our own server certificate (such as `enterpriseenrollment.example.org`).
    pub extra_names: Vec<String>,
}

/// The CA that `init` makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ca {
    /// Key of root and issuing CA: `rsa-2048`, `rsa-3072`, `rsa-4096`, `p-256`, `p-384`.
    pub key_algorithm: String,
    /// Life of the root, in days.
    pub root_days: u32,
    /// Life of the issuing CA, in days.
    pub issuing_days: u32,
    /// Life of a CRL, in hours.
    pub crl_hours: u32,
    /// How often a CRL is published even when nothing changed, in hours.
    pub crl_refresh_hours: u32,
    /// Life of an OCSP answer, in hours.
    pub ocsp_hours: u32,
    /// Life of the OCSP responder's certificate, in days.
    pub ocsp_responder_days: u32,
    /// Life of the SCEP registration authority's certificate, in days.
    pub ra_days: u32,
}

/// SCEP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scep {
    /// Accept SHA-1 signatures of clients that know no better.
    pub allow_sha1: bool,
    /// Accept 3DES envelopes.
    pub allow_3des: bool,
    /// Life of a challenge, in minutes.
    pub challenge_minutes: u32,
    /// Serve SCEP on the plain HTTP face, too.
    pub plain_http: bool,
}

/// Windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Windows {
    /// The server's name in the device's tree (`DMClient/Provider/<id>`): never change it once devices are enrolled.
    pub provider_id: String,
    /// How many devices a user may enrol; 0 means any number.
    pub devices_per_user: u32,
    /// Oldest version that may enrol (`10.0.19041`); empty means any.
    pub minimum_os_version: String,
    /// Refuse enrolment for the time being.
    pub maintenance: bool,
    /// Life of a device's identity certificate, in days.
    pub identity_days: u32,
    /// How many days before its end a device renews it.
    pub renewal_days: u32,
    /// Minutes between sessions when nothing wakes the device.
    pub poll_minutes: u32,
    /// Ask for MD5 credentials beside the client certificate.
    pub md5_authentication: bool,
    /// How many commands one message carries at most.
    pub commands_per_message: usize,
    /// Hours between two reads of the values that were set, to find drift.
    pub drift_hours: u32,
    /// Organisations whose identity stays at Microsoft: whose tokens we accept for enrolment.
    pub entra: Vec<EntraTenant>,
    /// Push notifications.
    pub wns: Wns,
}

/// A tenant whose tokens are accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntraTenant {
    /// The `tid` claim.
    pub tenant_id: String,
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
    /// Where the issuer publishes its keys.
    pub jwks_uri: String,
}

/// Windows Push Notification Services; off without a client id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wns {
    /// Package family name that devices register a channel for.
    pub package_family_name: String,
    /// `ms-app://<SID>`.
    pub client_id: String,
    /// Secret of the app registration; better given as `MUSTER_WINDOWS__WNS__CLIENT_SECRET`.
    pub client_secret: String,
    /// Token endpoint.
    pub token_url: String,
    /// Host name endings that channel URIs may have.
    pub channel_hosts: Vec<String>,
}

/// Compliance of the whole organisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compliance {
    /// A device without any compliance policy is not compliant.
    pub secure_by_default: bool,
    /// Days after its last check-in when a device stops being compliant, 1 to 120.
    pub validity_days: u32,
}

/// Signals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Signals {
    /// Hours for which an undeliverable signal is tried again.
    pub retention_hours: u32,
    /// Seconds that a receiver may take to answer.
    pub timeout_seconds: u32,
    /// Allow receivers on loopback and private addresses, and over plain HTTP on loopback: for demos and tests.
    pub allow_private_receivers: bool,
}

impl Default for Config {
    fn default() -> Self {
        let face = |port| Face { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), url: None };
        Self {
            data_dir: PathBuf::from("data"),
            database: None,
            database_connections: 8,
            master_key_file: None,
            organisation: "Example Organisation".into(),
            workers: 0,
            single_port: false,
            proxies: Vec::new(),
            limits: Limits::default(),
            web: face(8443),
            device: face(8444),
            pki: face(8080),
            tls: Tls::default(),
            ca: Ca::default(),
            scep: Scep::default(),
            windows: Windows::default(),
            compliance: Compliance::default(),
            signals: Signals::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { anonymous_per_second: 50, anonymous_burst: 500 }
    }
}

impl Default for Face {
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), url: None }
    }
}

impl Default for Ca {
    fn default() -> Self {
        Self {
            key_algorithm: "rsa-3072".into(),
            root_days: 7300,
            issuing_days: 3650,
            crl_hours: 168,
            crl_refresh_hours: 84,
            ocsp_hours: 24,
            ocsp_responder_days: 30,
            ra_days: 365,
        }
    }
}

impl Default for Scep {
    fn default() -> Self {
        Self { allow_sha1: false, allow_3des: true, challenge_minutes: 1440, plain_http: false }
    }
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            provider_id: "Muster".into(),
            devices_per_user: 0,
            minimum_os_version: String::new(),
            maintenance: false,
            identity_days: 365,
            renewal_days: 60,
            poll_minutes: 480,
            md5_authentication: false,
            commands_per_message: 100,
            drift_hours: 24,
            entra: Vec::new(),
            wns: Wns::default(),
        }
    }
}

impl Default for Wns {
    fn default() -> Self {
        Self {
            package_family_name: String::new(),
            client_id: String::new(),
            client_secret: String::new(),
            token_url: "https://login.live.com/accesstoken.srf".into(),
            channel_hosts: vec![".notify.windows.com".into()],
        }
    }
}

impl Default for Compliance {
    fn default() -> Self {
        Self { secure_by_default: false, validity_days: 30 }
    }
}

impl Default for Signals {
    fn default() -> Self {
        Self { retention_hours: 72, timeout_seconds: 10, allow_private_receivers: false }
    }
}

impl Config {
    /// Base URL of the web face, as clients see it, without a slash at the end.
    #[must_use]
    pub fn web_url(&self) -> String {
        self.web.base("https")
    }

    /// Base URL of the device face.
    #[must_use]
    pub fn device_url(&self) -> String {
        self.device.base("https")
    }

    /// Base URL of the CA's plain HTTP face.
    #[must_use]
    pub fn pki_url(&self) -> String {
        self.pki.base("http")
    }

    /// Host name (or address) of the web face.
    #[must_use]
    pub fn web_host(&self) -> String {
        host(&self.web_url())
    }

    /// Host name (or address) of the device face.
    #[must_use]
    pub fn device_host(&self) -> String {
        host(&self.device_url())
    }

    /// Every name and address that the server certificate must be good for.
    #[must_use]
    pub fn server_names(&self) -> Vec<String> {
        let mut names = vec![self.web_host(), self.device_host()];
        names.extend(self.tls.extra_names.iter().cloned());
        for face in [&self.web, &self.device] {
            let address = face.listen.ip();
            if address.is_loopback() || address.is_unspecified() {
                names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
            } else {
                names.push(address.to_string());
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// Where the data is: the configured database, or the SQLite file in the data folder.
    #[must_use]
    pub fn location(&self) -> crate::store::Location {
        self.database
            .as_deref()
            .map_or_else(|| crate::store::Location::Sqlite(self.data_dir.join("muster.db")), crate::store::Location::parse)
    }

    /// The file of master keys.
    #[must_use]
    pub fn master_key_path(&self) -> PathBuf {
        self.master_key_file.clone().unwrap_or_else(|| self.data_dir.join("master.key"))
    }
}

impl Face {
    fn base(&self, scheme: &str) -> String {
        if let Some(url) = &self.url {
            return url.trim_end_matches('/').to_owned();
        }
        let address = self.listen.ip();
        if address.is_unspecified() {
            format!("{scheme}://localhost:{}", self.listen.port())
        } else {
            format!("{scheme}://{}", self.listen)
        }
    }
}

/// The host of a URL, without port and brackets.
fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if let Some(inner) = authority.strip_prefix('[') {
        return inner.split(']').next().unwrap_or(inner).to_owned();
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned()
}
