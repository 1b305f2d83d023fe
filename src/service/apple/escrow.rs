//! What devices entrust to the server: kept sealed, and forgotten when it is of no use. Recovery keys that Macs encrypt for this server are
//! opened as they come.

use serde_json::json;

use super::turn::Turn;
use crate::domain::apple::escrow::{Kind, wants_recovery_key};
use crate::domain::certificate::Purpose;
use crate::domain::desired::{Content, Winner};
use crate::secret::{Secret, random};
use crate::service::effect::Effect;
use crate::service::pki::authority::Authority;
use crate::service::{Error, Result};
use crate::store::apple::secrets;
use crate::store::sealed::APPLE_SECRET;
use crate::wire::cms::{CertificateView, EnvelopedData, ber};

/// Shortest and longest key that is taken for one.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=128;

impl Turn<'_> {
    /// Asks for the recovery key, where a profile wants it entrusted and none is kept: it comes with the security report.
    pub(super) fn expect_recovery_key(&mut self) {
        let wants = |winner: &Winner| matches!(&winner.content, Content::Profile(payloads) if wants_recovery_key(payloads));
        if !self.keeps(Kind::FileVault) && self.wanted().any(|(_, winner)| wants(winner)) {
            self.ask("SecurityInfo");
        }
    }

    /// Takes in a recovery key that the device encrypted for the escrow certificate; one that does not open is reported, not kept.
    pub(super) fn take_recovery_key(&mut self, message: &[u8]) -> Result<bool> {
        let Some(key) = open(&self.authority, message)? else {
            tracing::warn!(device = %self.device.id, "the recovery key is not encrypted for the escrow certificate of the issuing authority");
            self.audit_device("escrow.refuse", &json!({ "kind": Kind::FileVault }));
            return Ok(false);
        };
        let source = hex::encode(openssl::sha::sha256(message));
        self.keep(Kind::FileVault, &key, Some(source))?;
        Ok(true)
    }

    /// A secret that is kept for the device and goes into a command, if it is; the audit log says so.
    pub(super) async fn secret(&mut self, kind: Kind, request: &str) -> Result<Option<Secret>> {
        let secret = self.open_secret(kind).await?;
        if secret.is_some() {
            self.note_reading(kind, request);
        }
        Ok(secret)
    }

    /// The same, where the caller says it in the audit log ([`Self::note_reading`]).
    pub(super) async fn open_secret(&self, kind: Kind) -> Result<Option<Secret>> {
        let id = self.known.enrollment.id.clone();
        let Some(found) = self.app.store.read(move |conn| secrets::find_secret(conn, &id, kind)).await? else { return Ok(None) };
        Ok(Some(self.app.sealer().open(APPLE_SECRET, &found.sealed)?))
    }

    /// Says in the audit log that a secret was read for a command.
    pub(super) fn note_reading(&mut self, kind: Kind, request: &str) {
        let object = format!("enrollment:{}", self.known.enrollment.id);
        self.audit("escrow.read", object, &json!({ "kind": kind, "for": request }));
    }

    /// The escrow certificate: what the device encrypts its recovery key for.
    pub(super) fn escrow_certificate(&self) -> Result<Vec<u8>> {
        Ok(self.authority.service_key(Purpose::Escrow, self.now)?.certificate.clone())
    }

    /// Whether a secret of that kind is kept, or was taken in with this message.
    pub(super) fn keeps(&self, kind: Kind) -> bool {
        self.kept.contains(&kind)
    }

    /// Keeps a secret for the device.
    pub(super) fn keep(&mut self, kind: Kind, secret: &Secret, source: Option<String>) -> Result<()> {
        let sealed = self.app.sealer().seal(APPLE_SECRET, secret.expose())?;
        let enrollment = self.known.enrollment.id.clone();
        self.effects.push(Effect::Keep { enrollment, kind, sealed, source });
        self.kept.push(kind);
        Ok(())
    }

    /// What was kept as one kind is another from now on, in the place of what that was; without it, the other is forgotten.
    pub(super) fn promote(&mut self, from: Kind, to: Kind) {
        let enrollment = self.known.enrollment.id.clone();
        if self.keeps(from) {
            self.kept.push(to);
        } else {
            self.kept.retain(|kind| *kind != to);
        }
        self.kept.retain(|kind| *kind != from);
        self.effects.push(Effect::Promote { enrollment, from, to });
    }

    /// Forgets a secret.
    pub(super) fn forget(&mut self, kind: Kind) {
        if self.keeps(kind) {
            let enrollment = self.known.enrollment.id.clone();
            self.kept.retain(|kept| *kept != kind);
            self.effects.push(Effect::Forget { enrollment, kind });
        }
    }
}

/// The key in a message, if it is for one of the authority's escrow certificates.
fn open(authority: &Authority, message: &[u8]) -> Result<Option<Secret>> {
    let Ok(der) = ber::to_der(message) else { return Ok(None) };
    let Ok(envelope) = EnvelopedData::parse(&der) else { return Ok(None) };
    for key in authority.service_keys.iter().filter(|key| key.purpose == Purpose::Escrow) {
        let view = CertificateView::parse(&key.certificate).map_err(Error::internal)?;
        let Some(recipient) = envelope.recipients.iter().find(|recipient| recipient.identifier.names(&view)) else { continue };
        // What does not open comes out as noise, which is no key.
        let Ok(plain) = envelope.open(recipient, key.key.pkey(), &random::<32>()?) else { continue };
        if LENGTH.contains(&plain.len()) && plain.iter().all(u8::is_ascii_graphic) {
            return Ok(Some(Secret::new(plain.to_vec())));
        }
    }
    Ok(None)
}
