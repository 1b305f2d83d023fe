//! The certificates that a device gets by SCEP: what `Enroll` began goes on outside of sessions, and its end is told in the next one.

use std::collections::BTreeMap;

use openssl::hash::MessageDigest;

use super::{Device, Held, scep};
use crate::catalogue::Scope;
use crate::clock::{MINUTE, Time};
use crate::wire::pkcs10::{GeneralName, NamePart, Wish};

/// Alert type with which Windows tells that a SCEP enrolment has ended.
const SCEP_RESULT: &str = "com.microsoft:mdm.SCEPcertinstall.result";
/// HRESULT of an enrolment that the server refused.
const REFUSED: i32 = 0x8018_0004_u32.cast_signed();
/// How often Windows asks again while a request is pending, and how many minutes it waits, unless it is told otherwise; the most that it
/// takes (`RetryCount`, `RetryDelay` of the ClientCertificateInstall CSP).
const RETRY_COUNT: u32 = 3;
const RETRY_DELAY: u32 = 5;
const MOST_RETRIES: u32 = 30;

/// A request that the server has not decided on: its `Status` is 2 meanwhile.
#[derive(Debug)]
pub(super) struct Pending {
    scope: Scope,
    pub(super) id: String,
    install: BTreeMap<String, String>,
    server: scep::Server,
    request: scep::Waiting,
    /// How often it may ask again.
    left: u32,
    /// When it asks next.
    at: Time,
}

impl Pending {
    fn delay(install: &BTreeMap<String, String>) -> i64 {
        let minutes = number(install, "RetryDelay").unwrap_or(RETRY_DELAY).max(1);
        i64::from(minutes) * MINUTE
    }
}

fn number(install: &BTreeMap<String, String>, name: &str) -> Option<u32> {
    install.get(name)?.trim().parse().ok()
}

/// What came of asking.
enum Asked {
    Issued(scep::Identity, Vec<Vec<u8>>),
    Waits(scep::Server, scep::Waiting),
}

impl Device {
    /// Does what sessions started and what goes on outside of them: SCEP enrolments, and the looks at those that the server has not decided
    /// on, as far as they are due by the device's clock. Their end is reported in the next session.
    pub async fn work(&mut self) {
        let now = self.now();
        for (scope, id, install) in std::mem::take(&mut self.waiting) {
            match self.scep(&install).await {
                Ok(Asked::Issued(identity, chain)) => self.done(scope, id, &install, identity, chain),
                Ok(Asked::Waits(server, request)) => {
                    let left = number(&install, "RetryCount").unwrap_or(RETRY_COUNT).min(MOST_RETRIES);
                    let at = now.plus(Pending::delay(&install));
                    self.wait(Pending { scope, id, install, server, request, left, at });
                }
                Err(error) => self.failed(scope, &id, &error),
            }
        }
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.at <= now);
        self.pending = later;
        // A request that was deleted meanwhile is over.
        for pending in due.into_iter().filter(|pending| self.tree.has_scep(pending.scope, &pending.id)).collect::<Vec<_>>() {
            match pending.server.poll(&mut self.web, &pending.request).await {
                Ok(scep::Outcome::Issued(identity)) => {
                    self.done(pending.scope, pending.id, &pending.install, identity, pending.server.certificates);
                }
                Ok(scep::Outcome::Pending(request)) => {
                    let at = now.plus(Pending::delay(&pending.install));
                    self.wait(Pending { request: *request, left: pending.left.saturating_sub(1), at, ..pending });
                }
                Err(error) => self.failed(pending.scope, &pending.id, &error),
            }
        }
    }

    /// Keeps a request for the next look, unless there was the last one.
    fn wait(&mut self, pending: Pending) {
        if pending.left == 0 {
            self.failed(pending.scope, &pending.id, &scep::Error::Undecided);
        } else {
            self.pending.push(pending);
        }
    }

    fn done(&mut self, scope: Scope, id: String, install: &BTreeMap<String, String>, identity: scep::Identity, chain: Vec<Vec<u8>>) {
        let thumbprint = openssl::hash::hash(MessageDigest::sha1(), &identity.certificate);
        let thumbprint = thumbprint.map(hex::encode_upper).unwrap_or_default();
        let server = install.get("ServerURL").cloned().unwrap_or_default();
        self.tree.scep_done(scope, &id, &thumbprint, &server);
        self.certificates.insert(id, Held { identity, scope, chain });
        self.alerts.push((SCEP_RESULT.to_owned(), "0".to_owned()));
    }

    fn failed(&mut self, scope: Scope, id: &str, error: &scep::Error) {
        tracing::debug!(%error, "simulated SCEP enrolment failed");
        self.tree.scep_failed(scope, id, REFUSED);
        self.alerts.push((SCEP_RESULT.to_owned(), "0".to_owned()));
    }

    /// Gets to know the SCEP servers (GetCACaps, GetCACert) of the certificates that it is to ask for, for callers that measure this apart:
    /// [`Device::work`] does it by itself.
    ///
    /// # Errors
    /// [`scep::Error`] says what went wrong.
    pub async fn meet_servers(&mut self) -> Result<(), scep::Error> {
        for (_, _, install) in &self.waiting {
            let url = install.get("ServerURL").map(String::as_str).unwrap_or_default();
            let server = scep::Server::discover(&mut self.web, url, scep::Options::default()).await?;
            self.servers.insert(url.to_owned(), server);
        }
        Ok(())
    }

    async fn scep(&mut self, install: &BTreeMap<String, String>) -> Result<Asked, scep::Error> {
        if self.faults.no_scep {
            return Err(scep::Error::Foreign);
        }
        let value = |name: &str| install.get(name).map(String::as_str).unwrap_or_default();
        let usage: u16 = value("KeyUsage").parse().unwrap_or_default();
        // The CSP's 0x80 and 0x20 are the first octet of the DER bit string; the request counts bits from the first one on.
        let mut key_usage = 0;
        if usage & 0x80 != 0 {
            key_usage |= 1;
        }
        if usage & 0x20 != 0 {
            key_usage |= 1 << 2;
        }
        let wish = Wish {
            subject: parse_name(value("SubjectName")),
            san: value("SubjectAlternativeNames").split(';').filter_map(alternative).collect(),
            ext_key_usage: value("EKUMapping").split('+').filter(|oid| !oid.is_empty()).map(str::to_owned).collect(),
            key_usage: Some(key_usage),
            challenge: Some(value("Challenge").to_owned()),
            ..Wish::default()
        };
        let server = match self.servers.remove(value("ServerURL")) {
            Some(met) => met,
            None => scep::Server::discover(&mut self.web, value("ServerURL"), scep::Options::default()).await?,
        };
        let thumbprint = |der: &[u8]| openssl::hash::hash(MessageDigest::sha1(), der).map(hex::encode_upper).unwrap_or_default();
        if !server.certificates.iter().any(|der| thumbprint(der).eq_ignore_ascii_case(value("CAThumbprint"))) {
            return Err(scep::Error::Foreign);
        }
        let now = self.now();
        let outcome = match &self.scep_key {
            Some(key) => server.enroll_with(&mut self.web, &wish, key, now).await?,
            None => server.enroll(&mut self.web, &wish, now).await?,
        };
        Ok(match outcome {
            scep::Outcome::Issued(identity) => Asked::Issued(identity, server.certificates),
            scep::Outcome::Pending(waiting) => Asked::Waits(server, *waiting),
        })
    }
}

/// Reads a name as Windows does (CertStrToName): `,` and `;` end an RDN, `+` joins attributes, values may be quoted.
fn parse_name(text: &str) -> Vec<NamePart> {
    let mut parts = Vec::new();
    let (mut rdn, mut piece, mut quoted) = (0, String::new(), false);
    let mut letters = text.chars().peekable();
    let mut push = |piece: &mut String, rdn: usize| {
        if let Some((name, value)) = piece.split_once('=')
            && let Some(oid) = attribute(name.trim())
        {
            parts.push(NamePart { rdn, oid: oid.to_owned(), value: value.trim().to_owned() });
        }
        piece.clear();
    };
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                piece.push('"');
            }
            '"' => quoted = !quoted,
            ',' | ';' if !quoted => {
                push(&mut piece, rdn);
                rdn += 1;
            }
            '+' if !quoted => push(&mut piece, rdn),
            other => piece.push(other),
        }
    }
    push(&mut piece, rdn);
    parts
}

fn attribute(name: &str) -> Option<&'static str> {
    let names = [
        ("CN", "2.5.4.3"),
        ("SN", "2.5.4.4"),
        ("SERIALNUMBER", "2.5.4.5"),
        ("C", "2.5.4.6"),
        ("L", "2.5.4.7"),
        ("ST", "2.5.4.8"),
        ("STREET", "2.5.4.9"),
        ("O", "2.5.4.10"),
        ("OU", "2.5.4.11"),
        ("T", "2.5.4.12"),
        ("G", "2.5.4.42"),
        ("UID", "0.9.2342.19200300.100.1.1"),
        ("DC", "0.9.2342.19200300.100.1.25"),
        ("E", "1.2.840.113549.1.9.1"),
    ];
    names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, oid)| *oid)
}

/// `type+value` in the numbers of `CERT_ALT_NAME`.
fn alternative(text: &str) -> Option<GeneralName> {
    let (kind, value) = text.split_once('+')?;
    let value = value.to_owned();
    match kind {
        "2" => Some(GeneralName::Email(value)),
        "3" => Some(GeneralName::Dns(value)),
        "7" => Some(GeneralName::Uri(value)),
        "11" => Some(GeneralName::Upn(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_windows_reads_them() {
        let parts = parse_name("CN=\"Test User (Company, \"\"LLC\"\")\",OU=Sales+O=X");
        let shown: Vec<(usize, &str, &str)> = parts.iter().map(|p| (p.rdn, p.oid.as_str(), p.value.as_str())).collect();
        assert_eq!(shown, [(0, "2.5.4.3", "Test User (Company, \"LLC\")"), (1, "2.5.4.11", "Sales"), (1, "2.5.4.10", "X")]);
    }
}
