//! Steps 7 and 8: whose request is it, what is it worth, and was it answered before.

use openssl::sha::sha256;

use super::Incoming;
use super::answer::{Content, can_seal};
use super::open::{Asked, Enrolment};
use crate::clock::Time;
use crate::domain::authority::Status;
use crate::domain::certificate::{Certificate, CertificateStatus, Grant, Purpose};
use crate::domain::enrollment;
use crate::domain::scep::{Challenge, Reason, State, Transaction, compare};
use crate::ids::{AuthorityId, CertificateId};
use crate::service::Result;
use crate::service::pki::authorize::scep_challenge;
use crate::store::{self, Conn, certificates, crls, enrollments, scep};

/// What to do.
pub(super) enum Decision {
    Answer(Content),
    Refuse(Reason),
    Park(Box<Issue>),
    Issue(Box<Issue>),
}

/// A certificate that may be issued, and by what right.
pub(super) struct Issue {
    pub(super) grant: Grant,
    pub(super) challenge_id: Option<String>,
    pub(super) renews: Option<CertificateId>,
}

pub(super) async fn decide(incoming: &Incoming<'_>, asked: &Asked) -> Result<Decision> {
    // Other keys than RSA would need the challenge as a password (RFC 8894 3.1), which no client does.
    if !can_seal(&incoming.echo) {
        return Ok(Decision::Refuse(Reason::AlgorithmRefused));
    }
    match asked {
        Asked::Certificate(enrolment) => decide_enrolment(incoming, enrolment).await,
        Asked::Poll => decide_poll(incoming).await,
        Asked::Copy { issuer, serial } => decide_copy(incoming, issuer, serial).await,
        Asked::Crl { issuer } => decide_crl(incoming, issuer).await,
    }
}

/// What the database knows of a request.
struct Known {
    transaction: Option<Transaction>,
    /// The certificate that the transaction was answered with.
    answered: Option<Certificate>,
    challenge: Option<Challenge>,
    /// Whether the enrolment that the challenge is for goes on.
    enrolled: bool,
    /// The signer's certificate, if it is one of ours and its device is still with us.
    signer: Option<Certificate>,
}

async fn decide_enrolment(incoming: &Incoming<'_>, enrolment: &Enrolment) -> Result<Decision> {
    let (app, now) = (incoming.app, incoming.app.now());
    let authority = incoming.authority.id.clone();
    let mut challenge_id = None;
    match &enrolment.request.challenge {
        Some(text) => match scep_challenge::recognise(app, &authority, text.expose()).await? {
            Ok(id) => challenge_id = Some(id),
            Err(reason) if !enrolment.renewal => return Ok(Decision::Refuse(reason)),
            Err(_) => {}
        },
        None if !enrolment.renewal => return Ok(Decision::Refuse(Reason::ChallengePasswordMissing)),
        None => {}
    }
    let transaction_id = incoming.echo.transaction_id.clone();
    let signer = (enrolment.renewal || !enrolment.own_key).then(|| hex::encode(sha256(&incoming.echo.signer)));
    let known =
        app.store.read(move |c| read_known(c, &authority, &transaction_id, challenge_id.as_deref(), signer.as_deref(), now)).await?;
    let request_hash = hex::encode(sha256(&enrolment.der));
    // Step 8: the same request under the same name is answered as before; another request may not use the name.
    if let Some(earlier) = known.transaction.filter(|earlier| earlier.is_live(now)) {
        let same = earlier.request_hash == request_hash && earlier.signer_hash == incoming.echo.signer_hash();
        return Ok(match (same, earlier.state, known.answered) {
            (true, State::Issued, Some(certificate)) => Decision::Answer(Content::Certificate(certificate.der)),
            (true, State::Pending, _) => Decision::Answer(Content::Pending),
            (true, State::Refused, _) => Decision::Refuse(Reason::RefusedByAdministrator),
            _ => Decision::Refuse(Reason::TransactionMismatch),
        });
    }
    if incoming.authority.status != Status::Active {
        return Ok(Decision::Refuse(Reason::AuthorityPaused));
    }
    // Step 7, by certificate: one of ours renews itself, whatever the request's challenge says.
    let renewing = known.signer.as_ref().filter(|_| enrolment.renewal);
    let order = if let Some(certificate) = renewing {
        let order = Issue { grant: certificate.grant.clone(), challenge_id: None, renews: Some(certificate.id.clone()) };
        (order, false)
    } else {
        // By challenge.
        let Some(challenge) = known.challenge else {
            let nothing =
                if enrolment.renewal { Reason::SigningCertThumbprintMismatch } else { Reason::BadCertificateRequestIdInChallenge };
            return Ok(Decision::Refuse(nothing));
        };
        if let Err(reason) = challenge.check(&incoming.authority.id, now) {
            return Ok(Decision::Refuse(reason));
        }
        if !known.enrolled {
            return Ok(Decision::Refuse(Reason::BadDeviceIdInChallenge));
        }
        // Step 6: somebody who signs with a key of his own asks for that key; a certificate of ours may ask for another.
        if !enrolment.own_key && known.signer.is_none() {
            return Ok(Decision::Refuse(Reason::RegisteredKeyMismatch));
        }
        let order = Issue { grant: challenge.grant, challenge_id: Some(challenge.id), renews: None };
        (order, challenge.needs_approval)
    };
    let (order, needs_approval) = order;
    if let Err(reason) = compare(&enrolment.request, &order.grant) {
        return Ok(Decision::Refuse(reason));
    }
    Ok(if needs_approval { Decision::Park(Box::new(order)) } else { Decision::Issue(Box::new(order)) })
}

fn read_known(
    c: &mut Conn,
    authority: &AuthorityId,
    transaction_id: &str,
    challenge_id: Option<&str>,
    signer: Option<&str>,
    now: Time,
) -> store::Result<Known> {
    let transaction = scep::find_transaction(c, authority, transaction_id)?;
    let answered = match transaction.as_ref().and_then(|t| t.certificate_id.clone()) {
        Some(id) => Some(certificates::load_certificate(c, &id)?),
        None => None,
    };
    let challenge = match challenge_id {
        Some(id) => scep::find_challenge(c, id)?,
        None => None,
    };
    let enrolled = match challenge.as_ref().and_then(|c| c.enrollment_id.clone()) {
        Some(id) => match enrollments::load_enrollment(c, &id) {
            Ok(enrollment) => matches!(enrollment.state, enrollment::State::Provisioned | enrollment::State::Active),
            Err(store::Error::NotFound) => false,
            Err(other) => return Err(other),
        },
        None => true,
    };
    let signer = match signer {
        Some(sha256) => find_signer(c, authority, sha256, now)?,
        None => None,
    };
    Ok(Known { transaction, answered, challenge, enrolled, signer })
}

/// The certificate of that thumbprint, if it may speak for its holder: of this authority, in its time, not revoked, delivered by
/// enrolment, its device still managed.
fn find_signer(c: &mut Conn, authority: &AuthorityId, sha256: &str, now: Time) -> store::Result<Option<Certificate>> {
    let Some(certificate) = certificates::find_certificate_by_sha256(c, sha256)? else { return Ok(None) };
    let valid = certificate.authority_id == *authority
        && certificate.status == CertificateStatus::Active
        && certificate.not_before <= now
        && now <= certificate.not_after
        && matches!(certificate.grant.purpose, Purpose::Authentication | Purpose::Manual);
    if !valid {
        return Ok(None);
    }
    let stays = match &certificate.grant.device_id {
        Some(device) => enrollments::find_current_enrollment(c, device)?.is_some(),
        None => true,
    };
    Ok(stays.then_some(certificate))
}

/// CertPoll (RFC 8894 3.3.3): found by transaction, answered to the signer of the request only.
async fn decide_poll(incoming: &Incoming<'_>) -> Result<Decision> {
    let (authority, id) = (incoming.authority.id.clone(), incoming.echo.transaction_id.clone());
    let now = incoming.app.now();
    let known = incoming.app.store.read(move |c| read_known(c, &authority, &id, None, None, now)).await?;
    let Some(transaction) = known.transaction else { return Ok(Decision::Refuse(Reason::TransactionUnknown)) };
    if transaction.signer_hash != incoming.echo.signer_hash() {
        return Ok(Decision::Refuse(Reason::TransactionMismatch));
    }
    Ok(match (transaction.state, known.answered) {
        (State::Pending, _) => Decision::Answer(Content::Pending),
        (State::Issued, Some(certificate)) => Decision::Answer(Content::Certificate(certificate.der)),
        (State::Issued, None) | (State::Refused, _) => Decision::Refuse(Reason::RefusedByAdministrator),
    })
}

/// GetCert (RFC 8894 3.3.4): for holders of a certificate of ours only, since certificates name people.
async fn decide_copy(incoming: &Incoming<'_>, issuer: &[u8], serial: &[u8]) -> Result<Decision> {
    if issuer != incoming.authority.subject {
        return Ok(Decision::Refuse(Reason::CertificateUnknown));
    }
    let now = incoming.app.now();
    let authority = incoming.authority.id.clone();
    let signer = hex::encode(sha256(&incoming.echo.signer));
    // Serial numbers are recorded in all their 16 octets.
    let serial = format!("{:0>32}", hex::encode(serial));
    let (signer, found) = incoming
        .app
        .store
        .read(move |c| Ok((find_signer(c, &authority, &signer, now)?, certificates::find_certificate_by_serial(c, &authority, &serial)?)))
        .await?;
    Ok(match (signer, found) {
        (None, _) => Decision::Refuse(Reason::SigningCertThumbprintMismatch),
        (Some(_), None) => Decision::Refuse(Reason::CertificateUnknown),
        (Some(_), Some(certificate)) => Decision::Answer(Content::Certificate(certificate.der)),
    })
}

/// GetCRL (RFC 8894 3.3.5): the list that is published anyway.
async fn decide_crl(incoming: &Incoming<'_>, issuer: &[u8]) -> Result<Decision> {
    if issuer != incoming.authority.subject {
        return Ok(Decision::Refuse(Reason::CertificateUnknown));
    }
    let authority = incoming.authority.id.clone();
    let found = incoming.app.store.read(move |c| crls::find_crl(c, &authority)).await?;
    Ok(found.map_or(Decision::Refuse(Reason::CertificateUnknown), |crl| Decision::Answer(Content::Crl(crl.der))))
}
