//! The configuration: one documented table of settings, read from a TOML file, the environment (`MUSTER_…`, two underscores between
//! levels) and flags; a later source wins.

mod check;
mod load;
mod show;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use check::Wrong;
pub use load::{Error, Sources};
pub use show::Row;

/// Declares a section: its settings with their documentation and defaults. The documentation serves rustdoc, `muster config print` and
/// the table in `docs/configuration.md`.
macro_rules! settings {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr;)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[doc = $doc])+ pub $field: $kind,)+ }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl show::Shown for $name {
            fn show(&self, key: &str, doc: &str, rows: &mut Vec<Row>) {
                rows.push(Row::section(key, doc));
                $(show::Shown::show(&self.$field, &show::below(key, stringify!($field)), concat!($($doc),+), rows);)+
            }
        }
    };
}

mod apple;

pub use apple::{Account, Apns, Apple, Automated, SetupProfile};

settings! {
    /// All settings of a server.
    Config {
        /// Folder of the database, the master key and the control socket.
        data_dir: PathBuf = PathBuf::from("data");
        /// `postgres://…`, or a SQLite file; default: `muster.db` in the data folder.
        database: Option<String> = None;
        /// Connections in the pool.
        database_connections: u32 = 8;
        /// How long a start and a request wait for a connection to PostgreSQL, in seconds.
        database_wait_seconds: u32 = 30;
        /// File of master keys (mode 0600); default: `master.key` in the data folder. `MUSTER_MASTER_KEY` holds the keys themselves instead.
        master_key_file: Option<PathBuf> = None;
        /// Name of the organisation, shown to people and put into certificates.
        organisation: String = "Example Organisation".into();
        /// DNS names of the organisation, as in user names; clients may name the organisation by one of them when they ask for tokens.
        domains: Vec<String> = Vec::new();
        /// Threads that serve requests; 0 means one per core.
        workers: usize = 0;
        /// One port for the faces `web` and `device`, told apart by the name that the client asks for (SNI); else a port each.
        single_port: bool = false;
        /// Addresses of reverse proxies whose `Client-Cert` header (RFC 9440) and address header are believed.
        proxies: Vec<IpAddr> = Vec::new();
        /// The header in which the proxies name the client's address: `x-forwarded-for` or `forwarded` (RFC 7239). The other one is ignored, as
        /// a proxy may pass on what a client writes there; the proxies must add to this one, or write it anew.
        proxy_header: String = "x-forwarded-for".into();
        /// How long orders to devices are kept once they are over, in days; one that waits for a person stays.
        order_days: u32 = 365;
        /// How long the sign-in log is kept, in days.
        sign_in_days: u32 = 30;
        /// How often callers may call.
        limits: Limits = Limits::default();
        /// The face that never asks for a client certificate.
        web: Face = face(8443);
        /// The face that asks for a client certificate.
        device: Face = face(8444);
        /// The plain HTTP face of the CA.
        pki: Face = face(8080);
        /// Server certificate from elsewhere; default: one of our own CA.
        tls: Tls = Tls::default();
        /// The CA.
        ca: Ca = Ca::default();
        /// SCEP.
        scep: Scep = Scep::default();
        /// Which devices may enrol.
        enrollment: Enrollment = Enrollment::default();
        /// Apple.
        apple: Apple = Apple::default();
        /// Windows.
        windows: Windows = Windows::default();
        /// Compliance of the whole organisation.
        compliance: Compliance = Compliance::default();
        /// Signals.
        signals: Signals = Signals::default();
    }
}

settings! {
    /// How often callers may call.
    Limits {
        /// Requests per second that one address may send where no authentication is needed; 0 means any number.
        anonymous_per_second: u32 = 50;
        /// How many it may send at once after a pause.
        anonymous_burst: u32 = 500;
        /// Calls per second of the API for one program, or one person through it; reading, writing and what is urgent are counted apart; 0
        /// means any number.
        api_per_second: u32 = 100;
        /// How many it may send at once after a pause.
        api_burst: u32 = 1000;
    }
}

settings! {
    /// Where a face listens and what it is called.
    Face {
        /// Address and port; port 0 takes a free one.
        listen: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        /// Base URL as clients see it, without a slash at the end; default: made of the address.
        url: Option<String> = None;
    }
}

settings! {
    /// Server certificate from elsewhere.
    Tls {
        /// PEM file: certificate and chain.
        certificate_file: Option<PathBuf> = None;
        /// PEM file: private key.
        key_file: Option<PathBuf> = None;
        /// More DNS names for our own server certificate (such as `enterpriseenrollment.example.org`).
        extra_names: Vec<String> = Vec::new();
    }
}

settings! {
    /// The CA that `init` makes.
    Ca {
        /// Key of root and issuing CA: `rsa-2048`, `rsa-3072`, `rsa-4096`, `p-256`, `p-384`.
        key_algorithm: String = "rsa-3072".into();
        /// Life of the root, in days.
        root_days: u32 = 7300;
        /// Life of the issuing CA, in days.
        issuing_days: u32 = 3650;
        /// Life of a CRL, in hours; at least 2.
        crl_hours: u32 = 168;
        /// How often a CRL is published even when nothing changed, in hours; less than `ca.crl_hours`.
        crl_refresh_hours: u32 = 84;
        /// Life of an OCSP answer, in hours.
        ocsp_hours: u32 = 24;
        /// Life of the OCSP responder's certificate, in days.
        ocsp_responder_days: u32 = 30;
        /// Life of the SCEP registration authority's certificate, in days.
        ra_days: u32 = 365;
    }
}

settings! {
    /// SCEP.
    Scep {
        /// Accept SHA-1 signatures of clients that know no better.
        allow_sha1: bool = false;
        /// Accept 3DES envelopes.
        allow_3des: bool = true;
        /// Life of a challenge, in minutes.
        challenge_minutes: u32 = 1440;
        /// A certificate may renew itself when no more than this share of its life is left, in percent; 100 means at any time.
        renewal_percent: u32 = 50;
        /// How many good certificates of one subject a device may have for a profile, and as its identity; more renewals are refused.
        live_certificates: u32 = 5;
        /// By how much the time in a signed request may differ from ours, in hours; requests need not say a time.
        clock_skew_hours: u32 = 24;
        /// Serve SCEP on the plain HTTP face, too.
        plain_http: bool = false;
        /// Hand out the root with the other CA certificates. Windows wants it; where a client does not, it asks with `includeRoot=false`.
        include_root: bool = true;
    }
}

settings! {
    /// Which devices may enrol, and when one that is to leave has left. Devices that are enrolled stay.
    Enrollment {
        /// Days after the order to leave when a device has left in any case: its certificate is revoked even if it never heard it.
        give_up_days: u32 = 30;
        /// Days after which an enrolment ends that was begun and not finished: the device never came to be managed.
        unfinished_days: u32 = 7;
        /// Serial numbers of the organisation's devices; all others are personal. A PC states its own serial number, and nothing proves it.
        serial_numbers: Vec<String> = Vec::new();
        /// Windows.
        windows: Restriction = Restriction::default();
        /// macOS.
        macos: Restriction = Restriction::default();
        /// iOS and iPadOS.
        ios: Restriction = Restriction::default();
    }
}

settings! {
    /// What may enrol of one platform.
    Restriction {
        /// Devices of the platform may enrol.
        allowed: bool = true;
        /// Oldest version that may enrol (`10.0.19041`, `15.1`); empty means any.
        minimum_os_version: String = String::new();
        /// Newest version that may enrol; one with fewer numbers holds all that begin with it (`26` holds 26.3). Empty means any.
        maximum_os_version: String = String::new();
        /// Devices may enrol that are not listed as the organisation's. On Windows no is no protection: the list is of serial numbers, and a PC states its own.
        personal: bool = true;
    }
}

settings! {
    /// Windows.
    Windows {
        /// The server's name in the device's tree (`DMClient/Provider/<id>`); enrolled devices keep the one that they enrolled with.
        provider_id: String = "Muster".into();
        /// How many devices a user may enrol; 0 means any number.
        devices_per_user: u32 = 0;
        /// Refuse enrolment for the time being.
        maintenance: bool = false;
        /// Life of a device's identity certificate, in days.
        identity_days: u32 = 365;
        /// How many days before its end a device renews it.
        renewal_days: u32 = 60;
        /// Minutes between sessions when nothing wakes the device.
        poll_minutes: u32 = 480;
        /// A device that was told to leave, and heard it, has left when it is silent for that many polls.
        give_up_polls: u32 = 2;
        /// Have devices that enrol from now on sign their messages, and take the signature for the client certificate where a reverse
        /// proxy (`proxies`) ends TLS and passes none on.
        sign_messages: bool = false;
        /// Ask for MD5 credentials beside the client certificate.
        md5_authentication: bool = false;
        /// How many commands one message carries at most.
        commands_per_message: usize = 100;
        /// Hours between two reads of the values that were set, to find drift.
        drift_hours: u32 = 24;
        /// Organisations whose identity stays at Microsoft: whose tokens we accept for enrolment.
        entra: Vec<EntraTenant> = Vec::new();
        /// Push notifications.
        wns: Wns = Wns::default();
    }
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

settings! {
    /// Windows Push Notification Services; off without a client id.
    Wns {
        /// Package family name that devices register a channel for.
        package_family_name: String = String::new();
        /// `ms-app://<SID>`.
        client_id: String = String::new();
        /// Secret of the app registration; better given as `MUSTER_WINDOWS__WNS__CLIENT_SECRET`.
        client_secret: Hidden = Hidden::default();
        /// Token endpoint.
        token_url: String = "https://login.live.com/accesstoken.srf".into();
        /// Host name endings that channel URIs may have.
        channel_hosts: Vec<String> = vec![".notify.windows.com".into()];
    }
}

settings! {
    /// Compliance of the whole organisation.
    Compliance {
        /// A device without any compliance policy is not compliant.
        secure_by_default: bool = false;
        /// Days after its last check-in when a device stops being compliant, 1 to 120.
        validity_days: u32 = 30;
    }
}

settings! {
    /// Signals.
    Signals {
        /// Hours for which an undeliverable signal is tried again.
        retention_hours: u32 = 72;
        /// Seconds that a receiver may take to answer.
        timeout_seconds: u32 = 10;
        /// Allow receivers on loopback and private addresses, and over plain HTTP on loopback: for demos and tests.
        allow_private_receivers: bool = false;
    }
}

/// A setting that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// The value: only where it is used.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Hidden {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.mask())
    }
}

impl Hidden {
    fn mask(&self) -> &'static str {
        if self.0.is_empty() { "" } else { crate::store::location::MASK }
    }
}

impl Serialize for Hidden {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.mask())
    }
}

fn face(port: u16) -> Face {
    Face { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), url: None }
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

    /// Base URL of the CA's plain HTTP face, as certificates name it.
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

    /// How long to wait for a connection to the database.
    #[must_use]
    pub fn database_patience(&self) -> std::time::Duration {
        std::time::Duration::from_secs(u64::from(self.database_wait_seconds))
    }

    /// The socket on which a running server takes orders of the command line.
    #[must_use]
    pub fn control_path(&self) -> PathBuf {
        self.data_dir.join("control.sock")
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
