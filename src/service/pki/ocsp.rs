//! Answering OCSP: without a nonce from answers that were signed before, with one freshly.

use std::sync::Arc;

use openssl::sha::sha1;

use super::authority::{self, Authority};
use crate::app::App;
use crate::clock::{HOUR, MINUTE, Time};
use crate::domain::certificate::{CertificateStatus, Purpose};
use crate::ids::AuthorityId;
use crate::service::{Error, Result};
use crate::store::certificates::{self, Standing};
use crate::store::ocsp_responses::{self, Answer};
use crate::wire::ocsp::{self, CertId, Failure, Hash, Request, Single, Status, ToBeSigned};
use crate::wire::x509::Parts;

/// How many answers the job looks at or drops at a time.
const BATCH: i64 = 500;

/// How often an answer is made anew because the certificate's standing changed meanwhile.
const TRIES: usize = 3;

/// What goes back, and for how long proxies may keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The response, DER.
    pub der: Vec<u8>,
    /// When the answer was made and until when it holds; `None` for answers that nobody may keep.
    pub cacheable: Option<(Time, Time)>,
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self { der: failure.der(), cacheable: None }
    }
}

/// Answers a request to the responder of the authority of that name.
///
/// # Errors
/// [`Error::NotFound`] for an unknown authority; everything else is an OCSP answer.
pub async fn answer(app: &App, name: &str, request: &[u8]) -> Result<Reply> {
    let authority = authority::by_name(app, name).await?;
    let Ok(request) = Request::parse(request) else { return Ok(Failure::MalformedRequest.into()) };
    if !request.certificates.iter().all(|id| is_ours(&authority, id)) {
        return Ok(Failure::Unauthorized.into());
    }
    let kept = match (request.certificates.as_slice(), &request.nonce) {
        ([id], None) if id.is_canonical() => from_store(app, &authority, id).await,
        _ => freshly(app, &authority, request).await,
    };
    Ok(kept.unwrap_or_else(|error| {
        tracing::warn!(authority = %authority.name, %error, "no OCSP answer");
        match error {
            Error::Unavailable(_) | Error::Throttled(_) => Failure::TryLater.into(),
            _ => Failure::InternalError.into(),
        }
    }))
}

fn is_ours(authority: &Authority, id: &CertId) -> bool {
    let (names, keys): (&[u8], &[u8]) = match id.hash {
        Some(Hash::Sha1) => (&authority.name_hashes.0, &authority.key_hashes.0),
        Some(Hash::Sha256) => (&authority.name_hashes.1, &authority.key_hashes.1),
        None => return false,
    };
    id.issuer_name_hash == names && id.issuer_key_hash == keys
}

fn serial_text(id: &CertId) -> String {
    let significant: Vec<u8> = id.serial.iter().copied().skip_while(|b| *b == 0).collect();
    hex::encode(significant)
}

async fn from_store(app: &App, authority: &Arc<Authority>, id: &CertId) -> Result<Reply> {
    let (now, serial) = (app.now(), serial_text(id));
    let (authority_id, wanted, hash) = (authority.id.clone(), serial.clone(), id.hash.map_or("", Hash::as_str));
    let found = app
        .store
        .read(move |c| {
            let kept = ocsp_responses::find_answer(c, &authority_id, &wanted, hash)?;
            let standing = if kept.is_some() { None } else { certificates::find_standing(c, &authority_id, &wanted)? };
            Ok((kept, standing))
        })
        .await?;
    if let (Some(kept), _) = &found
        && now < kept.next_update.plus(-life(app) / 4)
    {
        return Ok(Reply { der: kept.der.clone(), cacheable: Some((kept.this_update, kept.next_update)) });
    }
    let mut standing = match found {
        (Some(_), _) => read_standing(app, &authority.id, &serial).await?,
        (None, standing) => standing,
    };
    for _ in 0..TRIES {
        let (der, next) = sign(app, authority, vec![(id.raw.clone(), standing)], None, now).await?;
        let Some(known) = standing else {
            // Nothing is kept of serial numbers that were never issued: there is no end of them.
            return Ok(Reply { der, cacheable: None });
        };
        let answer = Answer { serial: serial.clone(), hash: hash.into(), der: der.clone(), this_update: now, next_update: next };
        if keep(app, &authority.id, known, answer).await? {
            return Ok(Reply { der, cacheable: Some((now, next)) });
        }
        // A revocation came between: what was signed is not true any more.
        standing = read_standing(app, &authority.id, &serial).await?;
    }
    Err(Error::Unavailable("the certificate's standing keeps changing".into()))
}

async fn read_standing(app: &App, authority: &AuthorityId, serial: &str) -> Result<Option<Standing>> {
    let (authority, serial) = (authority.clone(), serial.to_owned());
    Ok(app.store.read(move |c| certificates::find_standing(c, &authority, &serial)).await?)
}

/// Keeps an answer; false when the certificate's standing has changed since it was looked up.
async fn keep(app: &App, authority: &AuthorityId, standing: Standing, answer: Answer) -> Result<bool> {
    let authority = authority.clone();
    Ok(app.store.write(move |tx| ocsp_responses::claim_answer(tx, &authority, &answer, standing)).await?)
}

async fn freshly(app: &App, authority: &Arc<Authority>, request: Request) -> Result<Reply> {
    let (id, serials) = (authority.id.clone(), request.certificates.iter().map(serial_text).collect::<Vec<_>>());
    let standings = app
        .store
        .read(move |c| serials.iter().map(|serial| certificates::find_standing(c, &id, serial)).collect::<crate::store::Result<Vec<_>>>())
        .await?;
    let asked = request.certificates.into_iter().map(|id| id.raw).zip(standings).collect();
    let (der, _) = sign(app, authority, asked, request.nonce, app.now()).await?;
    Ok(Reply { der, cacheable: None })
}

fn life(app: &App) -> i64 {
    i64::from(app.config.ca.ocsp_hours.max(1)) * HOUR
}

async fn sign(
    app: &App,
    authority: &Arc<Authority>,
    asked: Vec<(Vec<u8>, Option<Standing>)>,
    nonce: Option<Vec<u8>>,
    now: Time,
) -> Result<(Vec<u8>, Time)> {
    let responder = Arc::clone(authority.service_key(Purpose::OcspResponder, now)?);
    // An answer does not outlive the responder's certificate.
    let next = now.plus(life(app)).min(responder.not_after);
    let signed = tokio::task::spawn_blocking(move || -> Result<Vec<u8>> {
        let parts = Parts::parse(&responder.certificate)?;
        let single = |(id, standing): &'_ (Vec<u8>, Option<Standing>)| (id.clone(), status(*standing));
        let statuses: Vec<(Vec<u8>, Status)> = asked.iter().map(single).collect();
        let answers: Vec<Single<'_>> = statuses
            .iter()
            .map(|(id, status)| Single { cert_id: id, status: *status, this_update: now.seconds(), next_update: next.seconds() })
            .collect();
        let to_be_signed =
            ToBeSigned { responder_key_hash: sha1(parts.key_bits), produced_at: now.seconds(), answers: &answers, nonce: nonce.as_deref() }
                .der();
        let signature = responder.key.sign(&to_be_signed)?;
        Ok(ocsp::response(&to_be_signed, responder.key.signature_algorithm(), &signature, &responder.certificate))
    })
    .await
    .map_err(Error::internal)??;
    metrics::counter!("muster_ocsp_signed_total").increment(1);
    Ok((signed, next))
}

fn status(standing: Option<Standing>) -> Status {
    match standing {
        None => Status::Unknown,
        Some(Standing { status: CertificateStatus::Active, .. }) => Status::Good,
        Some(Standing { revoked_at, reason, .. }) => {
            Status::Revoked { at: revoked_at.map_or(0, Time::seconds), reason: reason.map_or(0, |reason| reason.code()) }
        }
    }
}

/// Signs again the answers that come near their end and drops those about certificates that have ended; says how many it signed. For a
/// job.
///
/// # Errors
/// When the store fails.
pub async fn renew_answers(app: &App) -> Result<usize> {
    let (mut signed, now) = (0, app.now());
    let before = now.plus(life(app) / 2);
    for authority in authority::list(app).await? {
        loop {
            let id = authority.id.clone();
            if app.store.write(move |tx| ocsp_responses::purge_ended(tx, &id, now, BATCH)).await? == 0 {
                break;
            }
        }
        loop {
            let id = authority.id.clone();
            let ending = app.store.read(move |c| ocsp_responses::list_ending(c, &id, before, BATCH)).await?;
            let mut renewed = 0;
            for (serial, hash) in ending {
                renewed += usize::from(renew_answer(app, &authority, &serial, &hash).await?.is_some_and(|next| next >= before));
            }
            signed += renewed;
            // What cannot be renewed (the responder itself ends, or a revocation came between) would come up for ever.
            if renewed == 0 {
                break;
            }
        }
    }
    Ok(signed)
}

/// Signs anew, with both digests, the answers about a certificate whose standing changed. The change itself is recorded by now: should
/// signing fail, the answer is signed when somebody asks.
pub(super) async fn sign_anew(app: &App, authority: &AuthorityId, serial: &str) {
    if let Err(error) = sign_both(app, authority, serial).await {
        tracing::warn!(%authority, serial, %error, "the OCSP answer is not signed in advance");
    }
}

async fn sign_both(app: &App, authority: &AuthorityId, serial: &str) -> Result<()> {
    let authority = authority::by_id(app, authority).await?;
    for hash in [Hash::Sha1, Hash::Sha256] {
        renew_answer(app, &authority, serial, hash.as_str()).await?;
    }
    Ok(())
}

/// Signs an answer anew; says until when it holds.
async fn renew_answer(app: &App, authority: &Arc<Authority>, serial: &str, hash: &str) -> Result<Option<Time>> {
    let Some(standing) = read_standing(app, &authority.id, serial).await? else { return Ok(None) };
    let bytes = hex::decode(serial).map_err(Error::internal)?;
    let cert_id = if hash == Hash::Sha1.as_str() {
        ocsp::cert_id(Hash::Sha1, &authority.name_hashes.0, &authority.key_hashes.0, &bytes)
    } else {
        ocsp::cert_id(Hash::Sha256, &authority.name_hashes.1, &authority.key_hashes.1, &bytes)
    };
    let now = app.now();
    let (der, next) = sign(app, authority, vec![(cert_id, Some(standing))], None, now).await?;
    let answer = Answer { serial: serial.into(), hash: hash.into(), der, this_update: now, next_update: next };
    Ok(keep(app, &authority.id, standing, answer).await?.then_some(next))
}

/// For how long a proxy may keep an answer, in seconds: never beyond its end, and no more than ten minutes, so that a revocation shows.
#[must_use]
pub fn max_age(now: Time, next_update: Time) -> i64 {
    next_update.since(now).clamp(0, 10 * MINUTE) / 1000
}
