//! Identities that go to a device with their key: made here for it alone, or imported for its user.
//!
//! A key that is made here is kept, sealed, until the device is seen to have it: a delivery that got lost is repeated with the same one.
//! Then it is forgotten, and whatever installs the profile anew later brings another key. Its certificate's id is the payload's generation.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::turn::Turn;
use crate::catalogue::OsVersion;
use crate::catalogue::payload::System;
use crate::clock::MINUTE;
use crate::domain::acme::Client;
use crate::domain::apple::content::identity::{self, Wanted};
use crate::domain::apple::content::{Asked, AskedByAcme};
use crate::domain::certificate::{Certificate, CertificateStatus, Grant, RevocationReason};
use crate::domain::desired::{Content, brought, label, profile_of};
use crate::domain::pfx::Pfx;
use crate::ids::{PfxId, ProfileId};
use crate::secret::random;
use crate::service::effect::Effect;
use crate::service::pki::authorize::scep_challenge::{self, NewChallenge};
use crate::service::pki::issue;
use crate::service::pki::keys::SigningKey;
use crate::service::pki::pkcs12::{File, Form, Identity};
use crate::service::{Error, Result};
use crate::store::issued_keys::{self, Place};
use crate::store::pfx;
use crate::store::sealed::{IMPORTED_PFX, ISSUED_KEY};
use crate::wire::apple::profile::Profile;

/// Where a record remembers the certificates whose keys are kept, by payload.
const KEPT: &str = "kept";
/// Where a record remembers that what it is made of has changed since it was sent.
pub(in crate::service) const STALE: &str = "stale";
/// Where a record remembers the imported identities that it was made with: those of other people's profiles have no such place.
pub(in crate::service) const IMPORTED: &str = "imported";

/// An identity for a payload.
pub(super) struct Made {
    payload: String,
    identity: Identity,
}

fn object<'m>(memory: &'m mut Map<String, Value>, name: &str) -> Option<&'m mut Map<String, Value>> {
    memory.entry(name).or_insert_with(|| json!({})).as_object_mut()
}

fn form(system: System, version: OsVersion) -> Form {
    if identity::knows_aes(system, version) { Form::Aes } else { Form::TripleDes }
}

impl Turn<'_> {
    /// The identities that a profile brings with their keys: those that wait for their delivery, and new ones for the rest.
    pub(super) async fn made_identities(&mut self, key: &str, profile: &ProfileId, wanted: Vec<Wanted>) -> Result<Vec<Made>> {
        let mut made = Vec::new();
        for wanted in wanted {
            let payload = wanted.payload.clone();
            let identity = self.made_identity(key, profile, wanted).await?;
            made.push(Made { payload, identity });
        }
        Ok(made)
    }

    async fn made_identity(&mut self, key: &str, profile: &ProfileId, wanted: Wanted) -> Result<Identity> {
        let payload = label(key, &wanted.payload);
        let place = Place { device: self.device.id.clone(), profile: profile.clone(), payload };
        match self.kept_identity(key, &place, &wanted).await? {
            Some(identity) => Ok(identity),
            None => self.new_identity(key, place, wanted).await,
        }
    }

    /// The file of an identity whose key is made here, encrypted so that the device can open it.
    pub(super) async fn identity_file(
        &mut self,
        key: &str,
        profile: &ProfileId,
        wanted: Wanted,
        (system, version): (System, OsVersion),
    ) -> Result<File> {
        let name = wanted.payload.clone();
        let identity = self.made_identity(key, profile, wanted).await?;
        identity.to_file(form(system, version), &name)
    }

    /// The identity that waits for its delivery, if it is still good and wanted.
    async fn kept_identity(&mut self, key: &str, place: &Place, wanted: &Wanted) -> Result<Option<Identity>> {
        let at = place.clone();
        let Some(kept) = self.app.store.read(move |conn| issued_keys::find_key(conn, &at)).await? else { return Ok(None) };
        let generation = self.record(key).and_then(|(_, record)| record.memory.get("generation")?.get(&wanted.payload)?.as_str());
        let of_generation = generation == Some(kept.certificate.as_str());
        let known = self.known.certificates.iter().find(|c| c.id == kept.certificate);
        let good = |c: &Certificate| c.status == CertificateStatus::Active && self.now < c.renews_from(wanted.renew_percent);
        if !of_generation || !known.is_some_and(good) {
            return Ok(None);
        }
        let identity = Identity::from_bytes(&self.app.sealer().open(ISSUED_KEY, &kept.sealed)?)?;
        self.audit("key.read", format!("certificate:{}", kept.certificate), &json!({ "for": key }));
        Ok(Some(identity))
    }

    async fn new_identity(&mut self, key: &str, place: Place, wanted: Wanted) -> Result<Identity> {
        let mut grant = wanted.grant;
        grant.device_id = Some(place.device.clone());
        grant.user_id.clone_from(&self.known.enrollment.user_id);
        grant.enrollment_id = Some(self.known.enrollment.id.clone());
        grant.profile_id = Some(place.profile.clone());
        grant.payload = Some(place.payload.clone());
        let (authority, now, payload) = (std::sync::Arc::clone(&self.authority), self.now, wanted.payload);
        let made = tokio::task::spawn_blocking(move || {
            let key = SigningKey::generate(wanted.key)?;
            let issued = issue::prepare_now(&authority, &grant, &key.spki()?, now)?;
            let identity = Identity::new(key.pkey().clone(), &issued.der, &authority.chain)?;
            Ok::<_, Error>((issued.certificate, identity))
        });
        let (certificate, identity) = made.await.map_err(Error::internal)??;
        let sealed = self.app.sealer().seal(ISSUED_KEY, identity.to_bytes()?.expose())?;
        let id = certificate.id.to_string();
        self.effects.push(Effect::Issue { certificate: Box::new(certificate), place, sealed });
        self.remember(key, |memory| {
            for name in ["generation", KEPT] {
                if let Some(all) = object(memory, name) {
                    all.insert(payload.clone(), id.as_str().into());
                }
            }
        });
        Ok(identity)
    }

    /// The device has a payload's certificate, and with it the key: it is kept no longer.
    pub(super) fn seen_identity(&mut self, key: &str, payload: &str, certificate: &Certificate) {
        let kept = self.record(key).and_then(|(_, record)| record.memory.get(KEPT)?.get(payload)?.as_str());
        if kept != Some(certificate.id.as_str()) {
            return;
        }
        self.effects.push(Effect::Delivered { certificate: certificate.id.clone() });
        self.remember(key, |memory| {
            if let Some(all) = object(memory, KEPT) {
                all.remove(payload);
                if all.is_empty() {
                    memory.remove(KEPT);
                }
            }
        });
    }

    /// The identities that were imported for the device's user.
    pub(super) async fn imported(&self) -> Result<Vec<Pfx>> {
        let Some(user) = self.known.enrollment.user_id.clone() else { return Ok(Vec::new()) };
        Ok(self.app.store.read(move |conn| pfx::list_of_user(conn, &user)).await?)
    }

    /// A fresh identifier for a certificate that the device will ask an ACME server for.
    pub(super) fn new_client(&mut self, key: &str, profile: &ProfileId, asked: AskedByAcme) -> Result<String> {
        let lifetime = i64::from(self.app.config.scep.challenge_minutes).saturating_mul(MINUTE);
        // Hexadecimal digits: an ACME identifier of this kind may hold no slash.
        let identifier = hex::encode(random::<32>()?);
        let mut grant = asked.grant;
        grant.device_id = Some(self.device.id.clone());
        grant.user_id.clone_from(&self.known.enrollment.user_id);
        grant.enrollment_id = Some(self.known.enrollment.id.clone());
        grant.profile_id = Some(profile.clone());
        grant.payload = Some(label(key, &asked.payload));
        let hash = Client::hash_of(&identifier);
        let (hardware_bound, attest, expires_at) = (asked.hardware_bound, asked.attest, self.now.plus(lifetime));
        self.effects.push(Effect::Client(Box::new(Client { hash, grant, hardware_bound, attest, expires_at })));
        Ok(identifier)
    }

    /// What is granted to the device with a certificate that it will ask for.
    pub(super) fn grant_of(&self, key: &str, profile: &ProfileId, asked: &Asked) -> Grant {
        Grant {
            device_id: Some(self.device.id.clone()),
            user_id: self.known.enrollment.user_id.clone(),
            enrollment_id: Some(self.known.enrollment.id.clone()),
            profile_id: Some(profile.clone()),
            payload: Some(label(key, &asked.payload)),
            ..asked.grant.clone()
        }
    }

    /// A fresh challenge for a certificate that the device will ask for by SCEP; it takes the place of challenges that were not used.
    pub(super) async fn new_challenge(&mut self, key: &str, profile: &ProfileId, asked: Asked) -> Result<String> {
        let payload = label(key, &asked.payload);
        let grant = self.grant_of(key, profile, &asked);
        let new = NewChallenge {
            authority: self.authority.id.clone(),
            device: grant.device_id.clone(),
            user: grant.user_id.clone(),
            enrollment: grant.enrollment_id.clone(),
            profile: grant.profile_id.clone(),
            needs_approval: asked.needs_approval,
            expires: None,
            grant,
        };
        let mut minted = scep_challenge::prepare(self.app, new).await?;
        if minted.row.needs_approval && self.is_approved(key, &asked.payload, &minted.row.grant)? {
            minted.row.needs_approval = false;
        }
        self.effects.push(Effect::Withdraw { profile: profile.clone(), payload });
        self.effects.push(Effect::Challenge(Box::new(minted.row)));
        String::from_utf8(minted.text.expose().to_vec()).map_err(Error::internal)
    }

    /// The good certificates of a record's payload, the newest first.
    pub(super) fn certificates_of(&self, key: &str, payload: &str) -> Vec<&Certificate> {
        let (profile, label) = (profile_of(key), label(key, payload));
        let own = |c: &&Certificate| profile.is_some() && c.grant.profile_id == profile && c.grant.payload.as_ref() == Some(&label);
        self.known.certificates.iter().filter(own).collect()
    }

    /// A payload's certificate is on the device: of those that are good, older ones end.
    pub(super) fn supersede(&mut self, key: &str, payload: &str, held: &Certificate) {
        self.seen_identity(key, payload, held);
        let several = self.certificates_of(key, payload).len() > 1;
        if let Some(profile) = profile_of(key).filter(|_| several) {
            let (keep, reason) = (Some(held.id.clone()), RevocationReason::Superseded);
            self.effects.push(Effect::Revoke { profile, payload: label(key, payload), keep, reason });
        }
    }

    /// What came with a record is gone from the device: its certificates end, and nothing more is issued for it. What another record of the
    /// profile brings stays.
    pub(super) fn end_certificates(&mut self, key: &str) {
        let Some(profile) = profile_of(key) else { return };
        let mut others: BTreeSet<String> = BTreeSet::new();
        for (other, winner) in self.effective.winners.iter().filter(|(other, winner)| *other != key && winner.profile == profile) {
            if let Content::Profile(payloads) | Content::Declarations(payloads) = &winner.content {
                others.extend(payloads.iter().map(|payload| label(other, &payload.name)));
            }
        }
        let of = |c: &&Certificate| c.grant.payload.as_ref().is_some_and(|own| !others.contains(own) && brought(key, &profile, own));
        let live = self.known.certificates.iter().filter(|c| c.grant.profile_id.as_ref() == Some(&profile)).filter(of);
        let names: BTreeSet<String> = live.filter_map(|c| c.grant.payload.clone()).collect();
        for payload in names {
            self.effects.push(Effect::Withdraw { profile: profile.clone(), payload: payload.clone() });
            let reason = RevocationReason::CessationOfOperation;
            self.effects.push(Effect::Revoke { profile: profile.clone(), payload, keep: None, reason });
        }
        self.effects.push(Effect::DropClients { profile, keep: others.into_iter().collect() });
    }

    /// Puts the identities into the profile, encrypted so that the device can open them.
    pub(super) async fn fill_identities(
        &mut self,
        profile: &mut Profile,
        made: Vec<Made>,
        imported: Vec<(String, PfxId)>,
        (system, version): (System, OsVersion),
    ) -> Result<()> {
        let mut all: Vec<(String, Identity)> = made.into_iter().map(|made| (made.payload, made.identity)).collect();
        for (part, id) in imported {
            let wanted = id.clone();
            let sealed = self.app.store.read(move |conn| pfx::load_sealed(conn, &wanted)).await?;
            all.push((part, Identity::from_bytes(&self.app.sealer().open(IMPORTED_PFX, &sealed)?)?));
            let after = json!({ "for": "InstallProfile", "device": self.device.id });
            self.audit("pfx.read", format!("pfx:{id}"), &after);
        }
        for (part, identity) in all {
            let file = identity.to_file(form(system, version), &part)?;
            let password = std::str::from_utf8(file.password.expose()).map_err(Error::internal)?;
            identity::fill_identity(profile, &part, file.content.expose(), password);
        }
        Ok(())
    }
}
