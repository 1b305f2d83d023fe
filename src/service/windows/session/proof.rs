//! MD5 credentials beside the client certificate (OMA-DM 1.2 security, windows.md section 2.2), when the configuration asks for them.

use crate::app::App;
use crate::clock::{MINUTE, Time};
use crate::domain::dm_session::{Judgement, Nonce, Proven, challenge, judge};
use crate::secret;
use crate::service::Result;
use crate::store::enrollments::{self, Identity};
use crate::wire::syncml::SyncMl;

/// How long a nonce may be used.
const NONCE_LIFE: i64 = 5 * MINUTE;

/// What the credentials of a message come to.
pub(super) enum Proof {
    /// The device is who its certificate says.
    Proven(Proven),
    /// The answer that asks for credentials.
    Challenge(Box<SyncMl>),
}

pub(super) async fn authenticate(app: &App, identity: &Identity, message: &SyncMl) -> Result<Proof> {
    if !app.config.windows.md5_authentication {
        return Ok(Proof::Proven(Proven::Certificate));
    }
    let (id, now) = (identity.enrollment.id.clone(), app.now());
    let digest = app.store.read(move |conn| enrollments::find_digest(conn, &id)).await?;
    let (ha1, given) = match digest {
        Some(digest) => {
            let raw = app.sealer().open("enrollments.sealed_md5", &digest.sealed)?;
            // The digest covers the base64 of MD5(user ":" secret); the row keeps the sixteen bytes.
            (base64::Engine::encode(&base64::engine::general_purpose::STANDARD, raw.expose()), digest.nonce)
        }
        None => (String::new(), None),
    };
    let nonce = given.map(|(value, expires)| Nonce { value, issued_at: expires.plus(-NONCE_LIFE), spent: false });
    let judgement = judge(message.header.cred.as_ref(), &ha1, nonce.as_ref(), now);
    let next = secret::random::<16>()?.to_vec();
    let used = if judgement == Judgement::Accepted { nonce.map(|nonce| nonce.value) } else { None };
    let won = claim(app, identity, used, next.clone(), now).await?;
    // The same credentials on two nodes at once: the slower one is a repetition.
    let judgement = if judgement == Judgement::Accepted && !won { Judgement::Wrong } else { judgement };
    match challenge(message, judgement, &next) {
        Some(answer) => Ok(Proof::Challenge(Box::new(answer))),
        None => Ok(Proof::Proven(Proven::Once { next_nonce: next })),
    }
}

async fn claim(app: &App, identity: &Identity, used: Option<Vec<u8>>, next: Vec<u8>, now: Time) -> Result<bool> {
    let id = identity.enrollment.id.clone();
    let expires = now.plus(NONCE_LIFE);
    Ok(app.store.write(move |tx| enrollments::claim_nonce(tx, &id, used.as_deref(), &next, expires)).await?)
}
