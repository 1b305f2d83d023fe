//! Certificates of Macs and iPhones that an administrator decides on.
//!
//! A device asks for seconds only; then its installation of the profile has failed, and the request waits on its own. The profile waits with
//! it: nothing else is asked for until somebody decides. What was decided goes for the next installation, whose request nobody has to agree
//! to again if it is for the same certificate.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::commands::install_profile;
use super::turn::Turn;
use crate::clock::{DAY, Time};
use crate::domain::apple::content::{self, Asked};
use crate::domain::certificate::Grant;
use crate::domain::desired::{self, Input, Note, Timing, brought, label};
use crate::domain::enrollment::State;
use crate::ids::ProfileId;
use crate::service::Result;
use crate::service::desired::change_in;
use crate::store::{self, Tx, enrollments, scep};

/// Where a record remembers what was decided, by payload.
const DECIDED: &str = "decided";
/// How long after which to look whether a request still waits, in milliseconds; a decision is told at once.
pub(super) const LOOK: i64 = DAY;
/// How often the installation of a profile may fail after all of its certificates were approved: then somebody is asked anew.
const TRIES: u32 = 5;

/// What an administrator decided on the request of a payload.
#[derive(Serialize, Deserialize)]
struct Decided {
    approved: bool,
    /// What was to be certified ([`digest`]).
    grant: String,
    /// Installations that failed since.
    #[serde(default)]
    failures: u32,
}

/// How it stands with the certificates that a profile asks for.
pub(super) enum Standing {
    /// They may be asked for.
    Free,
    /// A request waits for an administrator.
    Waits,
    /// An administrator refused one.
    Refused,
}

/// What tells one certificate from another that would be asked for in its place.
fn digest(grant: &Grant) -> store::Result<String> {
    Ok(hex::encode(openssl::sha::sha256(&serde_json::to_vec(grant)?)))
}

fn decided(memory: &Map<String, Value>, payload: &str) -> Option<Decided> {
    Decided::deserialize(memory.get(DECIDED)?.get(payload)?).ok()
}

fn set(memory: &mut Map<String, Value>, payload: &str, decided: Option<&Decided>) {
    let Some(all) = memory.entry(DECIDED).or_insert_with(|| json!({})).as_object_mut() else { return };
    match decided.map(|decided| json!(decided)) {
        Some(decided) => all.insert(payload.to_owned(), decided),
        None => all.remove(payload),
    };
    if all.is_empty() {
        memory.remove(DECIDED);
    }
}

impl Turn<'_> {
    fn decided(&self, key: &str, payload: &str) -> Option<Decided> {
        decided(&self.record(key)?.1.memory, payload)
    }

    /// How it stands with the certificates that a record's profile asks for; a refusal counts once. What was decided or waits counts for
    /// the certificate that is wanted now, and not for one that was wanted before.
    pub(super) async fn standing(&mut self, key: &str, profile: &ProfileId, asked: &[Asked]) -> Result<Standing> {
        for asked in asked.iter().filter(|asked| asked.needs_approval) {
            let wanted = digest(&self.grant_of(key, profile, asked))?;
            match self.decided(key, &asked.payload) {
                Some(decided) if decided.grant != wanted => self.remember(key, |memory| set(memory, &asked.payload, None)),
                Some(decided) if decided.approved => continue,
                Some(_) => {
                    self.remember(key, |memory| set(memory, &asked.payload, None));
                    return Ok(Standing::Refused);
                }
                None => {}
            }
            for waiting in self.waiting(key, profile, &asked.payload).await? {
                if digest(&waiting)? == wanted {
                    return Ok(Standing::Waits);
                }
            }
        }
        Ok(Standing::Free)
    }

    /// What the requests of a payload ask for that wait.
    async fn waiting(&self, key: &str, profile: &ProfileId, payload: &str) -> Result<Vec<Grant>> {
        let (device, profile, label) = (self.device.id.clone(), profile.clone(), label(key, payload));
        Ok(self.app.store.read(move |conn| scep::list_waiting_of(conn, &device, &profile, &label)).await?)
    }

    /// Lets the profiles wait whose installation failed since an administrator has not decided yet. With others the failure counts against
    /// what was approved.
    pub(super) async fn wait_for_approvals(&mut self) -> Result<()> {
        for key in std::mem::take(&mut self.broken_off) {
            let Some((profile, payloads)) = install_profile::payloads(self, &key) else { continue };
            let mut waits = false;
            for payload in payloads.iter().filter(|payload| content::needs_approval(payload)) {
                waits |= !self.waiting(&key, &profile, &payload.name).await?.is_empty();
            }
            if waits {
                let until = self.now.plus(LOOK);
                self.apply(&key, Input::AwaitsApproval { until, asks: false });
                continue;
            }
            for payload in payloads {
                let Some(known) = self.decided(&key, &payload.name).filter(|known| known.approved) else { continue };
                let failures = known.failures.saturating_add(1);
                let next = (failures < TRIES).then_some(Decided { failures, ..known });
                self.remember(&key, |memory| set(memory, &payload.name, next.as_ref()));
            }
        }
        Ok(())
    }

    /// Whether an administrator has agreed to that certificate already; that is used up when the profile is installed, and when that fails
    /// too often.
    pub(super) fn is_approved(&self, key: &str, payload: &str, grant: &Grant) -> Result<bool> {
        let Some(known) = self.decided(key, payload).filter(|known| known.approved) else { return Ok(false) };
        Ok(known.grant == digest(grant)?)
    }

    /// The profile is installed: what comes later is decided on anew.
    pub(super) fn forget_decisions(&mut self, key: &str) {
        self.remember(key, |memory| {
            memory.remove(DECIDED);
        });
    }
}

/// An administrator has decided on a request: the profile of a Mac or iPhone that waits for it goes on. The caller holds the enrolment
/// ([`enrollments::hold_current`]).
///
/// # Errors
/// [`Busy`](store::Error::Busy) when somebody changed the enrolment meanwhile; else only the database's own.
pub(in crate::service) fn decide_in(tx: &mut Tx<'_>, grant: &Grant, approved: bool, now: Time) -> store::Result<()> {
    let (Some(device), Some(profile), Some(payload)) = (&grant.device_id, &grant.profile_id, &grant.payload) else { return Ok(()) };
    let Some(enrollment) = enrollments::find_current_enrollment(tx.conn(), device)? else { return Ok(()) };
    if !enrollment.platform.is_apple() || enrollment.state != State::Active {
        return Ok(());
    }
    let decided = Decided { approved, grant: digest(grant)?, failures: 0 };
    let name = payload.split('@').next().unwrap_or_default();
    change_in(tx, &enrollment, now, |items| {
        let mut waiting = Vec::new();
        for (key, record) in items.iter_mut().flat_map(|item| &mut item.detail.records) {
            if record.winner.is_none() && key.starts_with("profile:") && brought(key, profile, payload) {
                set(&mut record.memory, name, Some(&decided));
                if record.note == Some(Note::WaitsForApproval) {
                    waiting.push(key.clone());
                }
            }
        }
        for key in &waiting {
            // How long a look at what is verified takes does not matter here.
            desired::apply(items, key, Input::Changed, Timing::hours(1), now);
        }
        !waiting.is_empty()
    })
}
