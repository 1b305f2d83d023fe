//! Where the data is, and how people are shown it: never with a password, and with no more than scheme and host where it is not certain which
//! part is one.

use std::fmt;
use std::path::PathBuf;

/// What is shown in the place of a secret.
pub(crate) const MASK: &str = "[secret]";
const SCHEMES: [&str; 2] = ["postgres", "postgresql"];
/// Parameters of a connection that are shown (PostgreSQL 17 manual, 32.1.2). Any other makes the whole uncertain: libpq refuses it, and it
/// may be a part of a password that has an `&`.
const SHOWN: [&str; 24] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "options",
    "port",
    "require_auth",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];
/// Parameters whose value is masked.
const MASKED: [&str; 6] = ["oauth_client_secret", "passfile", "password", "scram_client_key", "scram_server_key", "sslpassword"];

/// Where the data is.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A `postgres://` URL.
    Postgres(String),
    /// A SQLite file; its lock file stands beside it.
    Sqlite(PathBuf),
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(url) => f.write_str(&shown(url)),
            Self::Sqlite(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Location {
    /// Reads a `postgres://…` URL or a file path.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Self::Postgres(text.to_owned())
        } else {
            Self::Sqlite(PathBuf::from(text.strip_prefix("sqlite://").unwrap_or(text)))
        }
    }
}

/// A `postgres://` URL, taken apart as libpq does.
struct Url<'u> {
    scheme: &'u str,
    user: Option<&'u str>,
    has_password: bool,
    hosts: &'u str,
    path: Option<&'u str>,
    query: Vec<(&'u str, &'u str)>,
}

impl<'u> Url<'u> {
    /// `None` where it is not certain which part is the password: after an `@`, `/` or `?` in it that is not written as `%XX`.
    fn read(text: &'u str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        // Who is before the first `@` that no `/` is before, whatever else is there (libpq's conninfo_uri_parse_options).
        let names_user = rest.split('/').next().is_some_and(|front| front.contains('@'));
        let (who, rest) = rest.split_once('@').filter(|_| names_user).map_or((None, rest), |(who, rest)| (Some(who), rest));
        let (user, password) = who.map_or((None, None), |w| w.split_once(':').map_or((Some(w), None), |(u, p)| (Some(u), Some(p))));
        let (front, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = front.split_once('/').map_or((front, None), |(hosts, path)| (hosts, Some(path)));
        let query: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=')).collect::<Option<_>>()?;
        let certain = SCHEMES.contains(&scheme)
            && is_encoded(text)
            && !rest.contains('@')
            && user.is_none_or(|user| is_plain(user) && !user.to_ascii_lowercase().contains("%3a"))
            && are_hosts(hosts)
            && path.is_none_or(is_plain)
            && query.iter().all(|(key, value)| is_parameter(key) && !value.contains('='));
        certain.then_some(Self { scheme, user, has_password: password.is_some(), hosts, path, query })
    }

    fn shown(&self) -> String {
        let password = if self.has_password { format!(":{MASK}") } else { String::new() };
        let who = self.user.map(|user| format!("{user}{password}@")).unwrap_or_default();
        let path = self.path.map(|path| format!("/{path}")).unwrap_or_default();
        let query: Vec<String> = self.query.iter().map(|(key, value)| pair(key, value)).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        format!("{}://{who}{}{path}{query}", self.scheme, self.hosts)
    }
}

/// A database for people: what was configured, without passwords.
#[must_use]
pub fn shown(text: &str) -> String {
    match text.split_once("://") {
        None if is_mistyped(text) => MASK.to_owned(),
        None | Some(("sqlite", _)) if !may_be_keywords(text) => text.to_owned(),
        None | Some(("sqlite", _)) => keywords(text).unwrap_or_else(|| MASK.to_owned()),
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => match Url::read(text) {
            Some(url) => url.shown(),
            None => only_host(rest).map_or_else(|| format!("{scheme}://{MASK}"), |host| format!("{scheme}://{MASK}@{host}/{MASK}")),
        },
        Some(_) => MASK.to_owned(),
    }
}

/// Host and port of a `postgres://` URL, or the folder of its socket; an error with what is certain of them where the URL is not clear.
pub(super) fn place(url: &str) -> Result<String, String> {
    let Some(read) = Url::read(url) else {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        return Err(only_host(rest).unwrap_or("a host that is not certain").to_owned());
    };
    let named = || read.query.iter().find(|(key, _)| ["host", "hostaddr"].contains(key)).map(|(_, value)| *value);
    let host = Some(read.hosts).filter(|hosts| !hosts.is_empty()).or_else(named).unwrap_or("this machine");
    Ok(host.chars().filter(|c| !c.is_control()).take(255).collect())
}

/// Whether it is a mistyped URL rather than a path: it begins as one of PostgreSQL does, or has somebody's name in it. A path with an `@` is
/// written as `sqlite://…`.
#[must_use]
pub fn is_mistyped(text: &str) -> bool {
    let lower = text.trim_start().to_ascii_lowercase();
    let begins =
        lower.strip_prefix("postgresql").or_else(|| lower.strip_prefix("postgres")).is_some_and(|rest| rest.starts_with([':', '/']));
    !text.contains("://") && (begins || text.contains('@'))
}

/// Whether it is libpq's other form, `host=… password=…`, which is not a path although it could be one.
#[must_use]
pub fn is_keywords(text: &str) -> bool {
    text.split_once('=').is_some_and(|(key, _)| is_parameter(key.trim()))
}

fn may_be_keywords(text: &str) -> bool {
    let small = text.to_ascii_lowercase();
    is_keywords(text) || small.contains('=') && (small.contains("pass") || small.contains("secret"))
}

/// The keyword form without its passwords; `None` where quotes or spaces make it uncertain what belongs to one.
fn keywords(text: &str) -> Option<String> {
    let pairs = text.split_whitespace().map(|word| {
        let (key, value) = word.split_once('=')?;
        (is_parameter(key) && !value.is_empty()).then(|| pair(key, value))
    });
    let pairs = pairs.collect::<Option<Vec<_>>>()?;
    (!text.contains(['\'', '\\'])).then(|| pairs.join(" "))
}

/// The host, where the URL has the same one whether or not its first `?` begins the parameters.
fn only_host(rest: &str) -> Option<&str> {
    fn host(text: &str) -> Option<&str> {
        let after = text.rsplit('@').next()?;
        after.split(['/', '?']).next().filter(|host| !host.is_empty() && are_hosts(host))
    }
    host(rest).filter(|found| rest.split('?').next().and_then(host) == Some(*found))
}

fn pair(key: &str, value: &str) -> String {
    format!("{key}={}", if MASKED.contains(&key) { MASK } else { value })
}

fn is_parameter(key: &str) -> bool {
    SHOWN.contains(&key) || MASKED.contains(&key)
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+%".contains(&b))
}

/// Every `%` begins a character; libpq repeats the text where one does not.
fn is_encoded(text: &str) -> bool {
    let is_character = |after: &str| after.get(..2).is_some_and(|c| c != "00" && c.bytes().all(|b| b.is_ascii_hexdigit()));
    text.split('%').skip(1).all(is_character)
}

/// Hosts with their ports, with commas between them.
fn are_hosts(text: &str) -> bool {
    let is_host = |host: &str| {
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, rest)) if rest.is_empty() || rest.starts_with(':') => (name.replace(':', ""), rest.strip_prefix(':')),
            _ => host.split_once(':').map_or((host.to_owned(), None), |(name, port)| (name.to_owned(), Some(port))),
        };
        is_plain(&name) && port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()))
    };
    text.split(',').all(is_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is configured, how it is shown, and which place an error names (an `Err` where the URL is not clear).
    type Case = (&'static str, &'static str, Result<&'static str, &'static str>);

    const URLS: [Case; 22] = [
        ("postgres://muster:hunter2@db.example.org:5432/x", "postgres://muster:[secret]@db.example.org:5432/x", Ok("db.example.org:5432")),
        ("postgresql://db", "postgresql://db", Ok("db")),
        ("postgres://muster@a,b:5433/x?sslmode=require", "postgres://muster@a,b:5433/x?sslmode=require", Ok("a,b:5433")),
        ("postgres://postgres@/t0?host=/run/postgresql", "postgres://postgres@/t0?host=/run/postgresql", Ok("/run/postgresql")),
        ("postgres:///muster", "postgres:///muster", Ok("this machine")),
        ("postgres://[::1]:5432/x", "postgres://[::1]:5432/x", Ok("[::1]:5432")),
        ("postgres://a%40b:hunter2@db/x", "postgres://a%40b:[secret]@db/x", Ok("db")),
        // As libpq reads it, the password has a question mark.
        ("postgres://muster:hunter?2secret@127.0.0.1:1/x", "postgres://muster:[secret]@127.0.0.1:1/x", Ok("127.0.0.1:1")),
        ("postgres://muster@db/x?password=hunter2", "postgres://muster@db/x?password=[secret]", Ok("db")),
        ("postgres://db/x?user=u&password=hunter2", "postgres://db/x?user=u&password=[secret]", Ok("db")),
        (
            "postgres://db/x?sslpassword=hunter2&passfile=/hunter2&user=u",
            "postgres://db/x?sslpassword=[secret]&passfile=[secret]&user=u",
            Ok("db"),
        ),
        // Not clear: the host, where it is the same however it is read.
        ("postgres://muster:hunt@er2/x@db/muster?sslmode=require", "postgres://[secret]@db/[secret]", Err("db")),
        ("postgres://muster:hunt@er2@db/muster", "postgres://[secret]@db/[secret]", Err("db")),
        ("postgres://muster:hunt/er2@db/muster", "postgres://[secret]@db/[secret]", Err("db")),
        ("postgres://db/x?mypass=hunter2", "postgres://[secret]@db/[secret]", Err("db")),
        ("postgres://db/x?pass%77ord=hunter2", "postgres://[secret]@db/[secret]", Err("db")),
        ("postgres://db/x?password=hunt&er2=x", "postgres://[secret]@db/[secret]", Err("db")),
        ("postgres://muster:hunter%2@db/x", "postgres://[secret]@db/[secret]", Err("db")),
        ("postgres://muster%3Ahunter2@db/x", "postgres://[secret]@db/[secret]", Err("db")),
        ("postgres://db/x?password=hunt@er2", "postgres://[secret]", Err("a host that is not certain")),
        ("postgres://muster:5?hunt/er2@db/x", "postgres://[secret]", Err("a host that is not certain")),
        ("postgres://muster:hunter2/x", "postgres://[secret]", Err("a host that is not certain")),
    ];

    #[test]
    fn a_server_is_shown_without_its_password() {
        for (url, expected, expected_place) in URLS {
            assert_eq!(shown(url), expected, "{url}");
            assert_eq!(place(url), expected_place.map(str::to_owned).map_err(str::to_owned), "{url}");
            assert_eq!(format!("{:?}", Location::parse(url)), expected);
        }
    }

    #[test]
    fn other_forms_are_shown_without_passwords_and_paths_as_they_are() {
        for (text, expected) in [
            ("/srv/muster/m.db", "/srv/muster/m.db"),
            ("sqlite:///srv/a=b.db", "sqlite:///srv/a=b.db"),
            ("host=db user=u password=hunter2", "host=db user=u password=[secret]"),
            ("host = db password = hunter2", MASK),
            ("host=db password='hunt er2'", MASK),
            ("host=db password=hunt er2", MASK),
            ("sslpassword=hunter2", "sslpassword=[secret]"),
            ("db?my_secret=hunter2", MASK),
            ("mysql://u:hunter2@db/x", "mysql://[secret]@db/[secret]"),
            ("x host=://hunter2", MASK),
            ("postgres:/muster:hunter2@h/x", MASK),
            ("postgres:muster:hunter2@h/x", MASK),
            ("Postgresql//muster:hunter2@h/x", MASK),
            ("muster:hunter2@h/x", MASK),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert!(is_mistyped("postgres:x") && is_mistyped("a@b") && !is_mistyped("postgres://h/x") && !is_mistyped("/srv/postgres/x"));
        assert!(is_keywords("host = db") && is_keywords("password=x") && !is_keywords("/srv/a=b") && !is_keywords("muster.db"));
    }
}
