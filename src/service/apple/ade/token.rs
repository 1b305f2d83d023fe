//! The server token: the key for which Apple encrypts it, and how it is brought, each year anew.

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::cms::CmsContentInfo;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::x509::{X509, X509NameBuilder};
use serde_json::json;

use super::client::Client;
use super::{Status, load, target};
use crate::app::App;
use crate::clock::{DAY, Time};
use crate::domain::Refusal;
use crate::domain::apple::ade::{Link, Progress, Server};
use crate::domain::audit::Entry;
use crate::domain::certificate::KeyAlgorithm;
use crate::ids::AdeServerId;
use crate::secret::random;
use crate::service::pki::authority::pem;
use crate::service::pki::keys::SigningKey;
use crate::service::{Error, Result};
use crate::store;
use crate::store::apple::ade;
use crate::store::sealed::{ADE_KEY, ADE_TOKEN};
use crate::wire::apple::ade::{Account, LONGEST_TOKEN, Token, envelope};

/// How long the certificate is said to be good; Apple looks at its key only.
const DAYS: i64 = 3650;
/// Longest name of a server.
const LONGEST_NAME: usize = 40;

/// The certificate (PEM) that Apple Business Manager wants for a server. It is made with the server, and stays until `fresh` asks for
/// another one: then a token that is on its way does not open any more.
///
/// # Errors
/// [`Refusal::AdeNameInvalid`].
pub async fn request(app: &App, name: String, fresh: bool, actor: &str, origin: &str) -> Result<String> {
    let sensible = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(1..=LONGEST_NAME).contains(&name.len()) || !name.bytes().all(sensible) {
        return Err(Refusal::AdeNameInvalid.into());
    }
    let (wanted, now) = (name.clone(), app.now());
    let known = app.store.read(move |c| ade::find_server(c, &wanted)).await?;
    if let Some(known) = known.as_ref().filter(|_| !fresh) {
        return Ok(pem(&known.certificate));
    }
    let (sealer, organisation) = (app.sealer(), app.config.organisation.clone());
    let making = move || -> Result<(Vec<u8>, Vec<u8>)> {
        // Apple takes no other kind of key.
        let key = SigningKey::generate(KeyAlgorithm::Rsa2048)?;
        Ok((key.seal(&sealer, ADE_KEY)?, certificate(&key, &organisation, now)?))
    };
    let (sealed_key, certificate) = tokio::task::spawn_blocking(making).await.map_err(Error::internal)??;
    let shown = pem(&certificate);
    let after = json!({ "certificate": hex::encode(openssl::sha::sha256(&certificate)), "fresh": fresh });
    let entry = Entry::new(actor, "apple.ade_key", target(&name), origin).after(&after);
    app.store
        .write(move |tx| {
            match ade::find_server(tx.conn(), &name)? {
                // Somebody else made it meanwhile.
                Some(_) if !fresh => return Err(store::Error::Busy),
                Some(server) => ade::update_key(tx, &server.id, &sealed_key, &certificate)?,
                None => {
                    let server = Server {
                        id: AdeServerId::new(),
                        name: name.clone(),
                        sealed_key: sealed_key.clone(),
                        certificate: certificate.clone(),
                        link: None,
                        progress: Progress::default(),
                        profile: None,
                        synced_at: None,
                        wait_until: None,
                        alarm: None,
                        created_at: now,
                        account: None,
                    };
                    ade::insert_server(tx, &server)?;
                }
            }
            store::audit::append(tx, &entry, now)
        })
        .await?;
    Ok(shown)
}

fn certificate(key: &SigningKey, organisation: &str, now: Time) -> Result<Vec<u8>> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, organisation)?;
    name.append_entry_by_nid(Nid::COMMONNAME, "Automated device enrolment")?;
    let name = name.build();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(BigNum::from_slice(&random::<16>()?)?.to_asn1_integer()?.as_ref())?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_not_before(Asn1Time::from_unix(now.0.div_euclid(1000))?.as_ref())?;
    builder.set_not_after(Asn1Time::from_unix(now.plus(DAYS.saturating_mul(DAY)).0.div_euclid(1000))?.as_ref())?;
    builder.set_pubkey(key.pkey())?;
    builder.sign(key.pkey(), MessageDigest::sha256())?;
    Ok(builder.build().to_der()?)
}

/// A token to put in force.
pub struct Import {
    /// Which server.
    pub name: String,
    /// The file that Apple Business Manager gave.
    pub file: Vec<u8>,
    /// Take it although it is for another server than the one before: the list is read anew.
    pub replace: bool,
    /// The Apple Account that it was downloaded with.
    pub account: Option<String>,
}

/// Longest name of an Apple Account.
const LONGEST_ACCOUNT: usize = 256;

fn refused(why: impl Into<String>) -> Error {
    Error::Invalid(Refusal::AdeTokenRefused, why.into())
}

/// Puts a token in force after Apple took it. It must be encrypted for the certificate of [`request`] and for the same server as the one
/// before it.
///
/// # Errors
/// [`Refusal::AdeServerUnknown`]; [`Refusal::AdeTokenRefused`] says what is wrong; [`Refusal::AdeServerChanged`];
/// [`Error::Unavailable`] when Apple cannot be asked.
pub async fn import(app: &App, import: Import, actor: &str, origin: &str) -> Result<Status> {
    let server = load(app, &import.name).await?;
    let account_name = import.account.as_deref().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    if account_name.as_ref().is_some_and(|name| name.chars().count() > LONGEST_ACCOUNT || name.chars().any(char::is_control)) {
        return Err(refused(format!("the name of the Apple Account has more than {LONGEST_ACCOUNT} characters")));
    }
    let (sealer, sealed_key, own) = (app.sealer(), server.sealed_key.clone(), server.certificate.clone());
    let opening = move || -> Result<Token> {
        let key = SigningKey::open(&sealer, ADE_KEY, &sealed_key, KeyAlgorithm::Rsa2048)?;
        open(&import.file, &key, &own)
    };
    let token = tokio::task::spawn_blocking(opening).await.map_err(Error::internal)??;
    let now = app.now();
    let ends_at = Time::parse(&token.access_token_expiry).ok_or_else(|| refused("its end cannot be read"))?;
    if ends_at <= now {
        return Err(refused(format!("it ended {ends_at}")));
    }
    let mut client = Client::new(app, token)?;
    let account: Account = client.get("/account").await.map_err(|failure| match failure {
        super::client::Failure::Refused { words, .. } => refused(format!("Apple does not take it: {words}")),
        ours @ super::client::Failure::Ours(_) => ours.into_error(),
    })?;
    let changed = server.link.as_ref().is_some_and(|link| link.server_uuid != account.server_uuid);
    if changed && !import.replace {
        return Err(Refusal::AdeServerChanged.into());
    }
    let link = Link {
        sealed_token: app.sealer().seal(ADE_TOKEN, client.token()?.expose())?,
        ends_at,
        warned_days: None,
        server_uuid: account.server_uuid,
        organisation: account.org_name,
    };
    let begin = changed.then(|| Progress { generation: server.progress.generation.saturating_add(1), ..Progress::default() });
    let after = json!({
        "server": link.server_uuid, "serverName": account.server_name, "organisation": link.organisation, "notAfter": ends_at.to_string(),
    });
    let mut entry = Entry::new(actor, "apple.ade_token", target(&server.name), origin).after(&after);
    if let Some(old) = &server.link {
        entry = entry.before(&json!({ "server": old.server_uuid, "organisation": old.organisation, "notAfter": old.ends_at.to_string() }));
    }
    let (name, before) = (server.name.clone(), server.link.clone());
    let (server, devices) = app
        .store
        .write(move |tx| {
            let current = ade::find_server(tx.conn(), &name)?.ok_or(Refusal::AdeServerUnknown)?;
            // Somebody else brought one since.
            if current.link != before {
                return Err(store::Error::Busy);
            }
            ade::update_link(tx, &current.id, &link, begin.as_ref())?;
            if let Some(account) = &account_name {
                ade::update_account(tx, &current.id, account)?;
            }
            store::audit::append(tx, &entry, now)?;
            Ok((Server { link: Some(link.clone()), alarm: None, ..current.clone() }, ade::count_devices(tx.conn(), &current.id)?))
        })
        .await?;
    Ok(Status::of(&server, devices, now))
}

/// The token in a file.
fn open(file: &[u8], key: &SigningKey, certificate: &[u8]) -> Result<Token> {
    if file.len() > LONGEST_TOKEN {
        return Err(refused("it is too long to be one"));
    }
    let der = envelope(file).map_err(|_| refused("it is not the file (*_smime.p7m) that Apple Business Manager gives"))?;
    let message =
        CmsContentInfo::from_der(&der).map_err(|_| refused("it is not the file (*_smime.p7m) that Apple Business Manager gives"))?;
    let own = X509::from_der(certificate)?;
    // With the certificate the right recipient is looked for: an unfitting key opens nothing, instead of opening nonsense.
    let inner = message.decrypt(key.pkey(), &own);
    let inner = zeroize::Zeroizing::new(inner.map_err(|_| refused("it is encrypted for another certificate than this server's"))?);
    Token::decode(&inner).map_err(|malformed| refused(malformed.to_string()))
}
