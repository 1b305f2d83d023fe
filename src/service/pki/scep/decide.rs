//! Steps 7 and 8: whose request is it, what is it worth, and was it answered before.

use openssl::sha::sha256;

use super::answer::{Content, can_seal};
use super::open::{Asked, Enrolment};
use super::{Incoming, holder};
use crate::clock::Time;
use crate::config::Scep;
use crate::domain::authority::Status;
use crate::domain::certificate::{Certificate, CertificateStatus, Grant, Purpose};
use crate::domain::scep::{Challenge, Reason, State, Transaction, compare};
use crate::ids::{AuthorityId, CertificateId};
use crate::secret::Sealer;
use crate::service;
use crate::service::pki::authorize::scep_challenge;
use crate::store::{self, Conn, Tx, certificates, crls, scep};

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
    /// A challenge that a renewal brought along without need: it is used up.
    pub(super) burns: Option<String>,
    /// Whether an older transaction of that name gives way.
    pub(super) replaces: bool,
}

impl Issue {
    /// Uses up by what right it is issued; false when that is gone since it was decided.
    pub(super) fn claim(&self, tx: &mut Tx<'_>, live: u32, now: Time) -> store::Result<bool> {
        holder::hold(tx, &self.grant)?;
        // Judged before anything is written: what is written stays.
        if holder::judge(tx.conn(), &self.grant)?.is_err() {
            return Ok(false);
        }
        if self.renews.is_none() && is_barred(tx.conn(), &self.grant, None, now)? {
            return Ok(false);
        }
        if let Some(challenge) = &self.challenge_id
            && !scep::claim_challenge(tx, challenge, now)?
        {
            return Ok(false);
        }
        if let Some(older) = &self.renews {
            // Others who renew or revoke it wait from here on.
            let Some(older) = certificates::claim_renewal(tx, older, now)? else { return Ok(false) };
            if is_barred(tx.conn(), &self.grant, Some(&older.id), now)? {
                return Ok(false);
            }
            if count_alike(tx.conn(), &older, now)? >= i64::from(live) {
                return Ok(false);
            }
        }
        // Only with the certificate: a challenge is not used up for nothing.
        if let Some(challenge) = &self.burns {
            scep::claim_challenge(tx, challenge, now)?;
        }
        Ok(true)
    }
}

/// Whether nothing may take the place of a certificate on hold: neither of one in the place that the grant is for, nor, by a renewal, of one
/// that took the place of the renewing one ([`certificates::is_barred`]). Whoever renews what no profile gave goes on in his own line only:
/// others may have the same names.
pub(super) fn is_barred(c: &mut Conn, grant: &Grant, renews: Option<&CertificateId>, now: Time) -> store::Result<bool> {
    if let Some(older) = renews {
        if certificates::is_barred(c, older)? {
            return Ok(true);
        }
        if grant.profile_id.is_none() {
            return Ok(false);
        }
    }
    certificates::has_held(c, grant, now)
}

/// Records an issued certificate, and that it takes the place of the one that renewed itself and of those of its kind.
pub(super) fn record(tx: &mut Tx<'_>, certificate: &Certificate, renews: Option<&CertificateId>, now: Time) -> store::Result<()> {
    certificates::insert_certificate(tx, certificate, now)?;
    if let Some(older) = renews {
        certificates::update_superseded(tx, older, &certificate.id)?;
    }
    certificates::update_superseded_alike(tx, certificate, now).map(|_| ())
}

pub(super) fn decide(incoming: &Incoming<'_>, asked: &Asked) -> service::Result<Decision> {
    // Other keys than RSA would need the challenge as a password (RFC 8894 3.1), which no client does.
    if !can_seal(&incoming.echo) {
        return Ok(Decision::Refuse(Reason::AlgorithmRefused));
    }
    match asked {
        Asked::Certificate(enrolment) => decide_enrolment(incoming, enrolment),
        Asked::Poll => decide_poll(incoming),
        Asked::Copy(name) => decide_copy(incoming, name.as_ref()),
        Asked::Crl(issuer) => decide_crl(incoming, issuer.as_deref()),
    }
}

/// What the database knows of a request.
struct Known {
    transaction: Option<Transaction>,
    /// The certificate that the transaction was answered with.
    answered: Option<Certificate>,
    challenge: Option<Challenge>,
    /// Whether those whom the challenge is for may still have a certificate, and have none there that is on hold.
    holder: Result<(), Reason>,
    /// The signer's certificate, if it is one of ours and good.
    signer: Option<Signer>,
}

/// A certificate that signed a request.
struct Signer {
    certificate: Certificate,
    /// What its holder is granted today, and whether an administrator has to agree.
    grant: Result<(Grant, bool), Reason>,
    /// How many of its kind are good, or wait for an administrator.
    alike: i64,
    /// Whether a certificate on hold keeps it from renewing itself.
    barred: bool,
}

impl Signer {
    /// Whether it may renew itself now, and into what.
    fn renews(&self, rules: &Scep, now: Time) -> Result<(Grant, bool), Reason> {
        let grant = self.grant.clone()?;
        if self.barred {
            return Err(Reason::CertificateHeld);
        }
        if now < self.certificate.renews_from(rules.renewal_percent) {
            return Err(Reason::RenewalTooEarly);
        }
        if self.alike >= i64::from(rules.live_certificates) {
            return Err(Reason::RenewalTooMany);
        }
        Ok(grant)
    }
}

fn decide_enrolment(incoming: &Incoming<'_>, enrolment: &Enrolment) -> service::Result<Decision> {
    let (desk, now) = (incoming.desk, incoming.desk.now());
    let authority = &desk.authority.id;
    let mut challenge_id = None;
    match &enrolment.request.challenge {
        Some(text) => match scep_challenge::recognise(&desk.challenge_key, &desk.tenant, authority, text.expose())? {
            Ok(id) => challenge_id = Some(id),
            Err(reason) if !enrolment.renewal => return Ok(Decision::Refuse(reason)),
            Err(_) => {}
        },
        None if !enrolment.renewal => return Ok(Decision::Refuse(Reason::ChallengePasswordMissing)),
        None => {}
    }
    let transaction_id = &incoming.echo.transaction_id;
    let signer = (enrolment.renewal || !enrolment.own_key).then(|| hex::encode(sha256(&incoming.echo.signer)));
    let known = desk
        .store
        .read_here(|c| read_known(c, &desk.sealer, authority, transaction_id, challenge_id.as_deref(), signer.as_deref(), now))?;
    let request_hash = hex::encode(sha256(&enrolment.der));
    // Step 8: the same request under the same name is answered as before; another request may not use the name.
    let replaces = known.transaction.is_some();
    if let Some(earlier) = known.transaction.filter(|earlier| earlier.is_live(now)) {
        let same = earlier.request_hash == request_hash && earlier.signer_hash == incoming.echo.signer_hash;
        return Ok(match (same, earlier.state, known.answered) {
            (true, State::Issued, Some(certificate)) => Decision::Answer(Content::Certificate(certificate.der)),
            (true, State::Pending, _) => Decision::Answer(Content::Pending),
            (true, State::Refused, _) => Decision::Refuse(Reason::RefusedByAdministrator),
            _ => Decision::Refuse(Reason::TransactionMismatch),
        });
    }
    if desk.authority.status != Status::Active {
        return Ok(Decision::Refuse(Reason::AuthorityPaused));
    }
    // Step 7, by certificate: one of ours renews itself, whatever the request's challenge says.
    let renewing = known.signer.as_ref().filter(|_| enrolment.renewal);
    let renewal = renewing.map(|signer| (signer, signer.renews(&desk.config.scep, now)));
    let order = if let Some((signer, Ok((grant, needs_approval)))) = renewal {
        // The challenge would buy another certificate.
        let burns = known.challenge.map(|challenge| challenge.id);
        (Issue { grant, challenge_id: None, renews: Some(signer.certificate.id.clone()), burns, replaces }, needs_approval)
    } else {
        // By challenge: a certificate that may not renew itself may still be replaced.
        let Some(challenge) = known.challenge else {
            let nothing = match renewing.map(|signer| signer.renews(&desk.config.scep, now)) {
                Some(Err(reason)) => reason,
                _ if enrolment.renewal => Reason::SigningCertThumbprintMismatch,
                _ => Reason::BadCertificateRequestIdInChallenge,
            };
            return Ok(Decision::Refuse(nothing));
        };
        if let Err(reason) = challenge.check(authority, now) {
            return Ok(Decision::Refuse(reason));
        }
        if let Err(reason) = known.holder {
            return Ok(Decision::Refuse(reason));
        }
        // Step 6: somebody who signs with a key of his own asks for that key; a certificate of ours may ask for another, for the device and
        // the user that it is for itself.
        let same_holder = |signer: &Signer| {
            let own = &signer.certificate.grant;
            (&own.device_id, &own.user_id) == (&challenge.device_id, &challenge.user_id)
        };
        if !enrolment.own_key && !known.signer.as_ref().is_some_and(same_holder) {
            return Ok(Decision::Refuse(Reason::RegisteredKeyMismatch));
        }
        let order = Issue { grant: challenge.grant, challenge_id: Some(challenge.id), renews: None, burns: None, replaces };
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
    sealer: &Sealer,
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
    let holder = match &challenge {
        Some(challenge) => match holder::judge(c, &challenge.grant)? {
            Ok(()) if is_barred(c, &challenge.grant, None, now)? => Err(Reason::CertificateHeld),
            judged => judged,
        },
        None => Ok(()),
    };
    let signer = match signer {
        Some(sha256) => find_signer(c, sealer, authority, sha256, now)?,
        None => None,
    };
    Ok(Known { transaction, answered, challenge, holder, signer })
}

/// The certificate of that thumbprint, if it is one that may speak for its holder: of this authority, in its time, not revoked,
/// delivered by enrolment.
fn find_signer(c: &mut Conn, sealer: &Sealer, authority: &AuthorityId, sha256: &str, now: Time) -> store::Result<Option<Signer>> {
    let Some(certificate) = certificates::find_certificate_by_sha256(c, sha256)? else { return Ok(None) };
    let valid = certificate.authority_id == *authority
        && certificate.status == CertificateStatus::Active
        && certificate.not_before <= now
        && now <= certificate.not_after
        && matches!(certificate.grant.purpose, Purpose::Authentication | Purpose::Manual);
    if !valid {
        return Ok(None);
    }
    let grant = match holder::judge(c, &certificate.grant)? {
        Ok(()) => holder::grant_today(c, sealer, &certificate.grant)?,
        Err(reason) => Err(reason),
    };
    let alike = count_alike(c, &certificate, now)?;
    let barred = is_barred(c, &certificate.grant, Some(&certificate.id), now)?;
    Ok(Some(Signer { certificate, grant, alike, barred }))
}

/// How many certificates of the kind are good, with those that would come of waiting renewals.
fn count_alike(c: &mut Conn, certificate: &Certificate, now: Time) -> store::Result<i64> {
    let alike = certificates::list_alike(c, certificate, now)?;
    Ok(i64::try_from(alike.len()).unwrap_or(i64::MAX) + scep::count_renewals(c, &alike)?)
}

/// CertPoll (RFC 8894 3.3.3): found by transaction, answered to the signer of the request only.
fn decide_poll(incoming: &Incoming<'_>) -> service::Result<Decision> {
    let (desk, id) = (incoming.desk, &incoming.echo.transaction_id);
    let known = desk.store.read_here(|c| read_known(c, &desk.sealer, &desk.authority.id, id, None, None, desk.now()))?;
    let Some(transaction) = known.transaction else { return Ok(Decision::Refuse(Reason::TransactionUnknown)) };
    if transaction.signer_hash != incoming.echo.signer_hash {
        return Ok(Decision::Refuse(Reason::TransactionMismatch));
    }
    Ok(match (transaction.state, known.answered) {
        (State::Pending, _) => Decision::Answer(Content::Pending),
        (State::Issued, Some(certificate)) => Decision::Answer(Content::Certificate(certificate.der)),
        (State::Issued, None) | (State::Refused, _) => Decision::Refuse(Reason::RefusedByAdministrator),
    })
}

/// GetCert (RFC 8894 3.3.4): for holders of a certificate of ours only, since certificates name people. Everybody else is told the same
/// whatever he asks for; a payload that names nothing is an unknown certificate.
fn decide_copy(incoming: &Incoming<'_>, name: Option<&(Vec<u8>, Vec<u8>)>) -> service::Result<Decision> {
    let desk = incoming.desk;
    let authority = &desk.authority.id;
    let signer = hex::encode(sha256(&incoming.echo.signer));
    // Serial numbers are recorded in all their 16 octets.
    let ours = name.filter(|(issuer, _)| *issuer == desk.authority.subject);
    let serial = ours.map(|(_, serial)| format!("{:0>32}", hex::encode(serial)));
    let (signer, found) = desk.store.read_here(|c| {
        let signer = find_signer(c, &desk.sealer, authority, &signer, desk.now())?.filter(|signer| signer.grant.is_ok());
        let found = match serial {
            Some(serial) => certificates::find_certificate_by_serial(c, authority, &serial)?,
            None => None,
        };
        Ok((signer, found))
    })?;
    Ok(match (signer, found) {
        (None, _) => Decision::Refuse(Reason::SigningCertThumbprintMismatch),
        (Some(_), None) => Decision::Refuse(Reason::CertificateUnknown),
        (Some(_), Some(certificate)) => Decision::Answer(Content::Certificate(certificate.der)),
    })
}

/// GetCRL (RFC 8894 3.3.5): the list that is published anyway.
fn decide_crl(incoming: &Incoming<'_>, issuer: Option<&[u8]>) -> service::Result<Decision> {
    let authority = &incoming.desk.authority;
    if issuer != Some(authority.subject.as_slice()) {
        return Ok(Decision::Refuse(Reason::CertificateUnknown));
    }
    let found = incoming.desk.store.read_here(|c| crls::find_crl(c, &authority.id))?;
    Ok(found.map_or(Decision::Refuse(Reason::CertificateUnknown), |crl| Decision::Answer(Content::Crl(crl.der))))
}
