//! The Windows provisioning document (`wap-provisioningdoc`, MS-MDE2 3.4 and the w7 APPLICATION reference): written by the server,
//! read by the device.

use openssl::sha::sha1;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Malformed;
use super::mde::{decode_base64, encode_base64};
use super::xml::{Element, Limits, Writer};

/// What stands for itself in search criteria.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// Where the identity certificate goes on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The enrolling user's store.
    User,
    /// The machine's store.
    System,
}

impl Store {
    /// As it stands in the document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::System => "System",
        }
    }
}

/// How the device renews its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// How long before the end it begins, in days.
    pub period_days: u32,
    /// How long it waits between two tries, in days.
    pub retry_days: u32,
}

/// A secret that one side shows to the other (w7 `APPAUTH`).
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The name that goes with it; the server's own block has none.
    pub name: Option<String>,
    /// The secret.
    pub secret: String,
    /// The first nonce.
    pub nonce: Vec<u8>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({:?}, [secret])", self.name)
    }
}

/// One of the three sets of polling that run one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollSet {
    /// How often; 0 means for ever.
    pub retries: u32,
    /// Minutes between; 0 switches the set off.
    pub interval_minutes: u32,
}

/// When the device calls by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Right after enrolment.
    pub first: PollSet,
    /// Then.
    pub second: PollSet,
    /// From then on.
    pub remaining: PollSet,
    /// Also at each sign-in.
    pub on_login: bool,
}

/// The management account (w7 `APPLICATION`) and the client's settings (`DMClient`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Management {
    /// Name of the server for people.
    pub name: String,
    /// Where the device calls.
    pub address: String,
    /// Subject of the identity certificate, in its order: attribute type and value.
    pub subject: Vec<(String, String)>,
    /// What the server shows to the device.
    pub server: Credential,
    /// What the device shows to the server.
    pub client: Credential,
    /// User principal name of who enrolled.
    pub upn: Option<String>,
    /// Our name of the device.
    pub device_name: Option<String>,
    /// Our id of the device: it comes back as `client-request-id`.
    pub entity_id: String,
    /// Whether it signs its messages (`RequireMessageSigning`).
    pub sign_messages: bool,
    /// Package family name for push.
    pub push_package: Option<String>,
    /// When the device calls by itself.
    pub poll: Poll,
    /// How it renews its certificate.
    pub renewal: Renewal,
}

/// The whole document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Root certificate to trust, DER.
    pub root: Option<Vec<u8>>,
    /// Certificate of the issuing CA, DER.
    pub intermediate: Option<Vec<u8>>,
    /// The identity certificate, DER.
    pub certificate: Vec<u8>,
    /// Where it goes.
    pub store: Store,
    /// The server's name in the device's tree, the same for ever.
    pub provider_id: String,
    /// Everything else; a renewal leaves it out.
    pub management: Option<Management>,
}

/// The thumbprint that names a certificate on Windows: SHA-1, upper-case hex.
#[must_use]
pub fn thumbprint(der: &[u8]) -> String {
    hex::encode_upper(sha1(der))
}

impl Document {
    /// Writes the document. Order matters: root, intermediate, identity.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(8192);
        w.open("wap-provisioningdoc").attribute("version", "1.1");
        open(&mut w, "CertificateStore");
        for (store, der) in [("Root", &self.root), ("CA", &self.intermediate)] {
            if let Some(der) = der {
                open(&mut w, store);
                open(&mut w, "System");
                encoded_certificate(&mut w, der);
                w.close().close();
            }
        }
        open(&mut w, "My");
        open(&mut w, self.store.as_str());
        encoded_certificate(&mut w, &self.certificate);
        open(&mut w, "PrivateKeyContainer");
        w.close().close();
        if let Some(management) = &self.management {
            open(&mut w, "WSTEP");
            open(&mut w, "Renew");
            typed(&mut w, "ROBOSupport", "true", "boolean");
            typed(&mut w, "RenewPeriod", &management.renewal.period_days.to_string(), "integer");
            typed(&mut w, "RetryInterval", &management.renewal.retry_days.to_string(), "integer");
            w.close().close();
        }
        w.close().close();
        open(&mut w, "APPLICATION");
        parm(&mut w, "APPID", "w7");
        parm(&mut w, "PROVIDER-ID", &self.provider_id);
        if let Some(management) = &self.management {
            self.account(&mut w, management);
        }
        w.close();
        if let Some(management) = &self.management {
            self.client(&mut w, management);
        }
        w.finish()
    }

    fn account(&self, w: &mut Writer<'static>, management: &Management) {
        parm(w, "NAME", &management.name);
        parm(w, "ADDR", &management.address);
        parm(w, "SSLCLIENTCERTSEARCHCRITERIA", &search_criteria(&management.subject, self.store));
        parm(w, "CONNRETRYFREQ", "6");
        parm(w, "INITIALBACKOFFTIME", "30000");
        parm(w, "MAXBACKOFFTIME", "120000");
        w.open("parm").attribute("name", "BACKCOMPATRETRYDISABLED").close();
        parm(w, "DEFAULTENCODING", "application/vnd.syncml.dm+xml");
        for (level, credential) in [("CLIENT", &management.server), ("APPSRV", &management.client)] {
            open(w, "APPAUTH");
            parm(w, "AAUTHLEVEL", level);
            parm(w, "AAUTHTYPE", "DIGEST");
            if let Some(name) = &credential.name {
                parm(w, "AAUTHNAME", name);
            }
            parm(w, "AAUTHSECRET", &credential.secret);
            parm(w, "AAUTHDATA", &encode_base64(&credential.nonce));
            w.close();
        }
    }

    fn client(&self, w: &mut Writer<'static>, management: &Management) {
        open(w, "DMClient");
        open(w, "Provider");
        w.open("characteristic").attribute("type", &self.provider_id);
        if let Some(upn) = &management.upn {
            typed(w, "UPN", upn, "string");
        }
        if let Some(name) = &management.device_name {
            typed(w, "EntDeviceName", name, "string");
        }
        typed(w, "EntDMID", &management.entity_id, "string");
        typed(w, "EnableOmaDmKeepAliveMessage", "true", "boolean");
        typed(w, "SyncApplicationVersion", "5.0", "string");
        if management.sign_messages {
            typed(w, "RequireMessageSigning", "true", "boolean");
        }
        open(w, "Poll");
        let poll = &management.poll;
        let sets = [
            ("NumberOfFirstRetries", "IntervalForFirstSetOfRetries", poll.first),
            ("NumberOfSecondRetries", "IntervalForSecondSetOfRetries", poll.second),
            ("NumberOfRemainingScheduledRetries", "IntervalForRemainingScheduledRetries", poll.remaining),
        ];
        for (number, interval, set) in sets {
            typed(w, number, &set.retries.to_string(), "integer");
            typed(w, interval, &set.interval_minutes.to_string(), "integer");
        }
        let on_login = if poll.on_login { "true" } else { "false" };
        typed(w, "PollOnLogin", on_login, "boolean");
        typed(w, "AllUsersPollOnFirstLogin", on_login, "boolean");
        w.close();
        if let Some(package) = &management.push_package {
            open(w, "Push");
            typed(w, "PFN", package, "string");
            w.close();
        }
        w.close().close().close();
    }

    /// Reads a document as a device does, checking what Windows checks: thumbprints, data types, one provider everywhere.
    ///
    /// # Errors
    /// When something that must be there is missing or wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let root = Element::parse(bytes, Limits::SOAP)?;
        if !root.is("", "wap-provisioningdoc") || root.attribute("", "version") != Some("1.1") {
            return Err(Malformed::new("not a provisioning document", "wap-provisioningdoc"));
        }
        let stores = find(&root, &["CertificateStore"])?;
        let trusted = |name: &'static str| find(stores, &[name, "System"]).ok().map(certificate_in).transpose();
        let my = find(stores, &["My"])?;
        let (store, holder) = match (find(my, &["User"]), find(my, &["System"])) {
            (Ok(user), Err(_)) => (Store::User, user),
            (Err(_), Ok(system)) => (Store::System, system),
            _ => return Err(Malformed::new("not in exactly one store", "CertificateStore/My")),
        };
        find(holder, &["PrivateKeyContainer"])?;
        let application = find(&root, &["APPLICATION"])?;
        if value(application, "APPID")? != "w7" {
            return Err(Malformed::new("not w7", "APPLICATION/APPID"));
        }
        let provider_id = value(application, "PROVIDER-ID")?.to_owned();
        let management = match find(&root, &["DMClient", "Provider", &provider_id]) {
            Ok(client) => Some(Management::read(my, application, client, store)?),
            Err(_) if parm_of(application, "ADDR").is_some() => {
                return Err(Malformed::new("other provider than in w7", "DMClient/Provider"));
            }
            Err(_) => None,
        };
        Ok(Self {
            root: trusted("Root")?,
            intermediate: trusted("CA")?,
            certificate: certificate_in(holder)?,
            store,
            provider_id,
            management,
        })
    }
}

impl Management {
    fn read(my: &Element, application: &Element, client: &Element, store: Store) -> Result<Self, Malformed> {
        let renew = find(my, &["WSTEP", "Renew"])?;
        if typed_value(renew, "ROBOSupport", "boolean")? != "true" {
            return Err(Malformed::new("not true", "WSTEP/Renew/ROBOSupport"));
        }
        let poll = find(client, &["Poll"])?;
        let set = |number: &'static str, interval: &'static str| -> Result<PollSet, Malformed> {
            Ok(PollSet { retries: integer(poll, number)?, interval_minutes: integer(poll, interval)? })
        };
        let push_package = find(client, &["Push"]).ok().map(|push| typed_value(push, "PFN", "string").map(str::to_owned)).transpose()?;
        Ok(Self {
            name: value(application, "NAME")?.to_owned(),
            address: value(application, "ADDR")?.to_owned(),
            subject: read_criteria(value(application, "SSLCLIENTCERTSEARCHCRITERIA")?, store)?,
            server: Credential::read(application, "CLIENT")?,
            client: Credential::read(application, "APPSRV")?,
            upn: parm_of(client, "UPN").and_then(|p| p.attribute("", "value")).map(str::to_owned),
            device_name: parm_of(client, "EntDeviceName").and_then(|p| p.attribute("", "value")).map(str::to_owned),
            entity_id: typed_value(client, "EntDMID", "string")?.to_owned(),
            sign_messages: parm_of(client, "RequireMessageSigning").is_some_and(|p| p.attribute("", "value") == Some("true")),
            push_package,
            poll: Poll {
                first: set("NumberOfFirstRetries", "IntervalForFirstSetOfRetries")?,
                second: set("NumberOfSecondRetries", "IntervalForSecondSetOfRetries")?,
                remaining: set("NumberOfRemainingScheduledRetries", "IntervalForRemainingScheduledRetries")?,
                on_login: typed_value(poll, "PollOnLogin", "boolean")? == "true",
            },
            renewal: Renewal { period_days: integer(renew, "RenewPeriod")?, retry_days: integer(renew, "RetryInterval")? },
        })
    }
}

impl Credential {
    fn read(application: &Element, level: &'static str) -> Result<Self, Malformed> {
        let blocks = application.elements().filter(|e| e.attribute("", "type") == Some("APPAUTH"));
        let block = blocks.into_iter().find(|e| value(e, "AAUTHLEVEL").is_ok_and(|v| v == level));
        let block = block.ok_or_else(|| Malformed::new("missing", format!("APPAUTH {level}")))?;
        Ok(Self {
            name: value(block, "AAUTHNAME").ok().map(str::to_owned),
            secret: value(block, "AAUTHSECRET")?.to_owned(),
            nonce: decode_base64(value(block, "AAUTHDATA")?, "AAUTHDATA")?,
        })
    }
}

/// `Subject=CN%3D…%2COU%3D…&Stores=My%5CUser`: how the device finds its certificate for TLS.
fn search_criteria(subject: &[(String, String)], store: Store) -> String {
    let name = subject.iter().map(|(kind, value)| format!("{kind}={value}")).collect::<Vec<_>>().join(",");
    format!("Subject={}&Stores=My%5C{}", utf8_percent_encode(&name, PLAIN), store.as_str())
}

fn read_criteria(text: &str, store: Store) -> Result<Vec<(String, String)>, Malformed> {
    let wrong = |what: &'static str| Malformed::new(what, "SSLCLIENTCERTSEARCHCRITERIA");
    let mut subject = None;
    let mut stores = None;
    for part in text.split('&') {
        let (key, value) = part.split_once('=').ok_or_else(|| wrong("no equals sign"))?;
        let value = percent_decode_str(value).decode_utf8().map_err(|_| wrong("not UTF-8"))?.into_owned();
        match key {
            "Subject" => subject = Some(value),
            "Stores" => stores = Some(value),
            _ => return Err(wrong("unknown criterion")),
        }
    }
    if stores.as_deref()
        != Some(match store {
            Store::User => r"My\User",
            Store::System => r"My\System",
        })
    {
        return Err(wrong("other store than the certificate's"));
    }
    let subject = subject.ok_or_else(|| wrong("no subject"))?;
    subject
        .split(',')
        .map(|part| part.split_once('=').map(|(kind, value)| (kind.to_owned(), value.to_owned())).ok_or_else(|| wrong("no name")))
        .collect()
}

fn open(w: &mut Writer<'static>, kind: &str) {
    w.open("characteristic").attribute("type", kind);
}

fn parm(w: &mut Writer<'static>, name: &str, value: &str) {
    w.open("parm").attribute("name", name).attribute("value", value).close();
}

fn typed(w: &mut Writer<'static>, name: &str, value: &str, datatype: &str) {
    w.open("parm").attribute("name", name).attribute("value", value).attribute("datatype", datatype).close();
}

fn encoded_certificate(w: &mut Writer<'static>, der: &[u8]) {
    open(w, &thumbprint(der));
    parm(w, "EncodedCertificate", &encode_base64(der));
    w.close();
}

fn find<'e>(element: &'e Element, path: &[&str]) -> Result<&'e Element, Malformed> {
    path.iter()
        .try_fold(element, |e, kind| e.all("", "characteristic").find(|c| c.attribute("", "type") == Some(kind)))
        .ok_or_else(|| Malformed::new("missing", path.join("/")))
}

fn parm_of<'e>(element: &'e Element, name: &str) -> Option<&'e Element> {
    element.all("", "parm").find(|p| p.attribute("", "name") == Some(name))
}

fn value<'e>(element: &'e Element, name: &str) -> Result<&'e str, Malformed> {
    parm_of(element, name).and_then(|p| p.attribute("", "value")).ok_or_else(|| Malformed::new("missing", name))
}

fn typed_value<'e>(element: &'e Element, name: &str, datatype: &str) -> Result<&'e str, Malformed> {
    if parm_of(element, name).and_then(|p| p.attribute("", "datatype")) != Some(datatype) {
        return Err(Malformed::new(format!("datatype is not {datatype}"), name));
    }
    value(element, name)
}

fn integer(element: &Element, name: &str) -> Result<u32, Malformed> {
    typed_value(element, name, "integer")?.parse().map_err(|_| Malformed::new("not a number", name))
}

/// The one certificate of a store, whose name must be its thumbprint.
fn certificate_in(store: &Element) -> Result<Vec<u8>, Malformed> {
    let mut entries = store.all("", "characteristic").filter(|c| parm_of(c, "EncodedCertificate").is_some());
    let (Some(entry), None) = (entries.next(), entries.next()) else {
        return Err(Malformed::new("not exactly one certificate", "CertificateStore"));
    };
    let der = decode_base64(value(entry, "EncodedCertificate")?, "EncodedCertificate")?;
    if entry.attribute("", "type") != Some(thumbprint(&der).as_str()) {
        return Err(Malformed::new("thumbprint of another certificate", "CertificateStore"));
    }
    Ok(der)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn credentials(named: bool)(name in "[!-~]{1,12}", secret in "[!-~]{1,20}", nonce in proptest::collection::vec(any::<u8>(), 0..20))
            -> Credential {
            Credential { name: named.then_some(name), secret, nonce }
        }
    }

    prop_compose! {
        fn managements()(
            server in credentials(false), client in credentials(true), upn in proptest::option::of("[!-~]{1,20}"),
            device_name in proptest::option::of("[ -~]{1,20}"),
            cn in "[ -+\\--<>-~]{1,30}", numbers in proptest::array::uniform6(any::<u32>()), on_login in any::<bool>(),
            push_package in proptest::option::of("[!-~]{1,20}"), sign_messages in any::<bool>(),
        ) -> Management {
            let set = |at: usize| PollSet { retries: numbers[at], interval_minutes: numbers[at + 1] };
            Management {
                name: "Muster".into(),
                address: "https://h:8444/ManagementServer/MDM.svc".into(),
                subject: vec![("CN".into(), cn), ("OU".into(), "Muster".into())],
                server,
                client,
                upn,
                device_name,
                entity_id: "e".into(),
                sign_messages,
                push_package,
                poll: Poll { first: set(0), second: set(2), remaining: set(4), on_login },
                renewal: Renewal { period_days: numbers[0], retry_days: numbers[5] },
            }
        }
    }

    proptest! {
        #[test]
        fn documents_round_trip(
            root in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..40)),
            certificate in proptest::collection::vec(any::<u8>(), 1..40),
            system in any::<bool>(),
            management in proptest::option::of(managements()),
        ) {
            let document = Document {
                intermediate: root.clone(),
                root,
                certificate,
                store: if system { Store::System } else { Store::User },
                provider_id: "Muster".into(),
                management,
            };
            prop_assert_eq!(Document::decode(&document.encode()).unwrap(), document);
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Document::decode(&bytes);
        }
    }

    #[test]
    fn a_certificate_under_a_foreign_thumbprint_is_refused() {
        let document = Document {
            root: Some(vec![1]),
            intermediate: None,
            certificate: vec![2],
            store: Store::User,
            provider_id: "P".into(),
            management: None,
        };
        let text = String::from_utf8(document.encode()).unwrap().replace(&thumbprint(&[2]), &thumbprint(&[3]));
        assert!(Document::decode(text.as_bytes()).is_err());
    }

    #[test]
    fn criteria_encode_what_separates() {
        let subject = [("CN".to_owned(), "a b".to_owned()), ("OU".to_owned(), "P".to_owned())];
        assert_eq!(search_criteria(&subject, Store::User), r"Subject=CN%3Da%20b%2COU%3DP&Stores=My%5CUser");
    }
}
