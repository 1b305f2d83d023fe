//! MD5 credentials beside the client certificate (OMA-DM 1.2 security, windows.md section 2.2), when the configuration asks for them.

use super::load::Loaded;
use crate::app::App;
use crate::clock::Time;
use crate::domain::dm_session::{Judgement, NONCE_LIFE, Nonce, Proven, challenge, judge};
use crate::ids::EnrollmentId;
use crate::secret;
use crate::service::Result;
use crate::store::sealed::ENROLLMENT_MD5;
use crate::store::{self, Tx, enrollments};
use crate::wire::syncml::SyncMl;

/// What the credentials of a message come to.
pub(super) enum Proof {
    /// The device is who its certificate says.
    Proven(Proven),
    /// The answer that asks for credentials; the judgement says whether some came that were wrong.
    Challenge(Box<SyncMl>, Judgement),
}

/// The nonce that a message used, and the one that takes its place when the message is stored: each is good once, on whatever node.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    used: Option<Vec<u8>>,
    next: Vec<u8>,
    expires: Time,
}

impl Claim {
    /// Puts the next nonce in the place of the used one, in the transaction that stores what the message did.
    ///
    /// # Errors
    /// [`store::Error::Busy`] when another node was faster: look at the message again.
    pub(super) fn claim(&self, tx: &mut Tx<'_>, enrollment: &EnrollmentId) -> store::Result<()> {
        let won = enrollments::claim_nonce(tx, enrollment, self.used.as_deref(), &self.next, self.expires)?;
        if won { Ok(()) } else { Err(store::Error::Busy) }
    }
}

/// Judges a message's credentials against what was loaded. Nothing is written: the claim belongs into the message's transaction.
pub(super) fn authenticate(app: &App, loaded: &Loaded, message: &SyncMl) -> Result<(Proof, Option<Claim>)> {
    if !app.config.windows.md5_authentication {
        return Ok((Proof::Proven(Proven::Certificate), None));
    }
    let now = app.now();
    let (ha1, given) = match &loaded.digest {
        Some(digest) => {
            let raw = app.sealer().open(ENROLLMENT_MD5, &digest.sealed)?;
            // The digest covers the base64 of MD5(user ":" secret); the row keeps the sixteen bytes.
            (base64::Engine::encode(&base64::engine::general_purpose::STANDARD, raw.expose()), digest.nonce.clone())
        }
        None => (String::new(), None),
    };
    let nonce = given.map(|(value, expires)| Nonce { value, issued_at: expires.plus(-NONCE_LIFE), spent: false });
    let judgement = judge(message.header.cred.as_ref(), &ha1, nonce.as_ref(), now);
    let next = secret::random::<16>()?.to_vec();
    let used = if judgement == Judgement::Accepted { nonce.map(|nonce| nonce.value) } else { None };
    let claim = Claim { used, next: next.clone(), expires: now.plus(NONCE_LIFE) };
    let proof = match challenge(message, judgement, &next) {
        Some(answer) => Proof::Challenge(Box::new(answer), judgement),
        None => Proof::Proven(Proven::Once { next_nonce: next }),
    };
    Ok((proof, Some(claim)))
}
