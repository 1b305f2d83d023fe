//! What a device's work leaves behind beside its own records: challenges, secrets, and certificates that are not needed any more.

use serde_json::json;

use crate::clock::Time;
use crate::domain::acme::Client;
use crate::domain::apple::attestation::Nonce;
use crate::domain::apple::escrow::Kind;
use crate::domain::apple::licence;
use crate::domain::audit::Entry;
use crate::domain::certificate::{Certificate, RevocationReason};
use crate::domain::inventory;
use crate::domain::registration::Token;
use crate::domain::scep::Challenge;
use crate::ids::{CertificateId, DeviceId, EnrollmentId, ProfileId};
use crate::service::pki::authorize::scep_challenge;
use crate::service::pki::{issue, revoke};
use crate::store::apple::sessions::{self, Session};
use crate::store::apple::{licences, nonces, secrets};
use crate::store::certificates::{self, Live};
use crate::store::issued_keys::{self, Kept, Place};
use crate::store::{self, Tx, acme_clients, audit, registration_tokens};

/// What has to be stored beside the part's record, in the same transaction.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A new SCEP challenge.
    Challenge(Box<Challenge>),
    /// An enrolment that the device begins when it has been erased.
    Session(Box<Session>),
    /// Nothing more may be issued for what a payload has asked for so far.
    Withdraw {
        /// The profile.
        profile: ProfileId,
        /// The payload's name in it.
        payload: String,
    },
    /// Certificates of a payload that are not needed any more.
    Revoke {
        /// The profile.
        profile: ProfileId,
        /// The payload's name in it.
        payload: String,
        /// All but this one.
        keep: Option<CertificateId>,
        /// Why.
        reason: RevocationReason,
    },
    /// A certificate for a key that was made here, and the key until the device is seen to have it.
    Issue {
        /// The certificate.
        certificate: Box<Certificate>,
        /// Where the key goes.
        place: Place,
        /// The identity, sealed.
        sealed: Vec<u8>,
    },
    /// A one-time identifier for an ACME server.
    Client(Box<Client>),
    /// The identifiers and tokens of a profile are good no longer.
    DropClients {
        /// The profile.
        profile: ProfileId,
        /// But those of these payloads.
        keep: Vec<String>,
    },
    /// A token with which the device registers at the identity service.
    Registration(Box<Token>),
    /// A freshness code for an attestation.
    Nonce {
        /// The enrolment that gets it.
        enrollment: EnrollmentId,
        /// The code.
        nonce: Nonce,
    },
    /// The device has the key: it is not kept here any longer.
    Delivered {
        /// The key's certificate.
        certificate: CertificateId,
    },
    /// A secret that the device entrusts to the server, or gets from it.
    Keep {
        /// The enrolment.
        enrollment: EnrollmentId,
        /// What.
        kind: Kind,
        /// The secret, sealed.
        sealed: Vec<u8>,
        /// As in [`secrets::upsert_secret`].
        source: Option<String>,
    },
    /// A secret that is of no use any more.
    Forget {
        /// The enrolment.
        enrollment: EnrollmentId,
        /// What.
        kind: Kind,
    },
    /// A list that the device answered, in the place of the one before.
    Inventory {
        /// Of what.
        kind: inventory::Kind,
        /// The list.
        list: inventory::List,
    },
    /// The device wants a licence of the App Store, or does not want it any more.
    Licence {
        /// The device's serial number.
        serial: String,
        /// The application's number in the store.
        store_id: i64,
        /// Whether it is wanted.
        wanted: bool,
    },
    /// A secret that is in force now, in the place of another.
    Promote {
        /// The enrolment.
        enrollment: EnrollmentId,
        /// What it was kept as.
        from: Kind,
        /// What it is.
        to: Kind,
    },
}

impl Effect {
    /// Stores it in the caller's transaction.
    ///
    /// # Errors
    /// Only the database's own.
    pub fn store(&self, tx: &mut Tx<'_>, device: &DeviceId, origin: &str, now: Time) -> store::Result<()> {
        let actor = format!("device:{device}");
        match self {
            Self::Challenge(challenge) => {
                store::scep::insert_challenge(tx, challenge, now)?;
                audit::append(tx, &scep_challenge::audit(challenge, &actor, origin), now)
            }
            Self::Session(session) => {
                sessions::insert_session(tx, session)?;
                let after = json!({ "method": session.method, "expires_at": session.expires_at.to_string() });
                audit::append(tx, &Entry::new(&actor, "enrollment.begin", format!("enrollment:{}", session.id), origin).after(&after), now)
            }
            Self::Withdraw { profile, payload } => {
                let count = store::scep::withdraw(tx, device, Some((profile, payload)), &actor, now)?;
                if count == 0 {
                    return Ok(());
                }
                let entry = Entry::new(&actor, "scep.withdraw", format!("device:{device}"), origin)
                    .after(&json!({ "profile": profile, "payload": payload, "count": count }));
                audit::append(tx, &entry, now)
            }
            Self::Revoke { profile, payload, keep, reason } => {
                let live = Live { device: Some(device.clone()), profile: Some(profile.clone()), ..Live::default() };
                let which = |c: &Certificate| c.grant.payload.as_deref() == Some(payload) && keep.as_ref() != Some(&c.id);
                revoke::revoke_live_in(tx, &live, which, *reason, &actor, origin, now)?;
                Ok(())
            }
            Self::Issue { certificate, place, sealed } => {
                certificates::insert_certificate(tx, certificate, now)?;
                let kept = Kept { certificate: certificate.id.clone(), sealed: sealed.clone() };
                issued_keys::insert_key(tx, place, &kept, now)?;
                audit::append(tx, &issue::audit(certificate, &actor, origin), now)
            }
            Self::Client(client) => {
                acme_clients::insert_client(tx, client, now)?;
                let after = json!({ "profile": client.grant.profile_id, "payload": client.grant.payload, "attest": client.attest });
                audit::append(tx, &Entry::new(&actor, "acme.client", format!("device:{device}"), origin).after(&after), now)
            }
            Self::Licence { serial, store_id, wanted } => {
                let state = if *wanted { licence::State::Wanted } else { licence::State::Unwanted };
                licences::upsert_licence(tx, serial, *store_id, state, now)
            }
            Self::DropClients { profile, keep } => {
                registration_tokens::delete_unused(tx, device, profile, keep)?;
                acme_clients::delete_clients(tx, device, Some((profile, keep)))
            }
            Self::Registration(token) => registration_tokens::insert_token(tx, token),
            Self::Nonce { enrollment, nonce } => nonces::insert_nonce(tx, enrollment, nonce),
            Self::Delivered { certificate } => issued_keys::delete_key(tx, certificate),
            Self::Keep { enrollment, kind, sealed, source } => {
                if !secrets::upsert_secret(tx, enrollment, *kind, sealed, source.as_deref(), now)? {
                    return Ok(());
                }
                let entry = Entry::new(&actor, "escrow.keep", format!("enrollment:{enrollment}"), origin).after(&json!({ "kind": kind }));
                audit::append(tx, &entry, now)
            }
            Self::Forget { enrollment, kind } => {
                secrets::delete_secret(tx, enrollment, *kind)?;
                let entry = Entry::new(&actor, "escrow.forget", format!("enrollment:{enrollment}"), origin).after(&json!({ "kind": kind }));
                audit::append(tx, &entry, now)
            }
            Self::Inventory { kind, list } => store::inventory::upsert_list(tx, device, *kind, list, now),
            Self::Promote { enrollment, from, to } => {
                secrets::promote_secret(tx, enrollment, *from, *to, now)?;
                let entry = Entry::new(&actor, "escrow.promote", format!("enrollment:{enrollment}"), origin);
                audit::append(tx, &entry.after(&json!({ "from": from, "to": to })), now)
            }
        }
    }
}
