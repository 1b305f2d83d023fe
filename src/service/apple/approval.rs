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
use crate::service::{Result, push};
use crate::store::{self, Tx, desired_items, enrollments, scep};

/// Where a record remembers what was decided, by payload.
const DECIDED: &str = "decided";
/// How long after which to look whether a request still waits, in milliseconds; a decision is told at once.
pub(super) const LOOK: i64 = DAY;
/// How often a profile is given to a device for one approval: installations break off.
const DELIVERIES: u32 = 5;

/// What an administrator decided on the request of a payload.
#[derive(Serialize, Deserialize)]
struct Decided {
    approved: bool,
    /// What was to be certified ([`digest`]).
    grant: String,
    /// Deliveries that it went for.
    #[serde(default)]
    deliveries: u32,
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

    /// How it stands with the certificates that a record's profile asks for; a refusal counts once.
    pub(super) async fn standing(&mut self, key: &str, profile: &ProfileId, asked: &[Asked]) -> Result<Standing> {
        for asked in asked.iter().filter(|asked| asked.needs_approval) {
            match self.decided(key, &asked.payload) {
                Some(decided) if decided.approved => continue,
                Some(_) => {
                    self.remember(key, |memory| set(memory, &asked.payload, None));
                    return Ok(Standing::Refused);
                }
                None => {}
            }
            if self.is_waiting(key, profile, &asked.payload).await? {
                return Ok(Standing::Waits);
            }
        }
        Ok(Standing::Free)
    }

    async fn is_waiting(&self, key: &str, profile: &ProfileId, payload: &str) -> Result<bool> {
        let (device, profile, label) = (self.device.id.clone(), profile.clone(), label(key, payload));
        Ok(self.app.store.read(move |conn| scep::is_waiting(conn, &device, &profile, &label)).await?)
    }

    /// Lets the profiles wait whose installation failed since an administrator has not decided yet.
    pub(super) async fn wait_for_approvals(&mut self) -> Result<()> {
        for key in std::mem::take(&mut self.broken_off) {
            let Some((profile, payloads)) = install_profile::payloads(self, &key) else { continue };
            for payload in payloads.iter().filter(|payload| content::needs_approval(payload)) {
                if self.is_waiting(&key, &profile, &payload.name).await? {
                    let until = self.now.plus(LOOK);
                    self.apply(&key, Input::AwaitsApproval { until });
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether an administrator has agreed to that certificate already; that is used up when the profile is installed, and by trying too often.
    pub(super) fn is_approved(&mut self, key: &str, payload: &str, grant: &Grant) -> Result<bool> {
        let Some(known) = self.decided(key, payload).filter(|known| known.approved) else { return Ok(false) };
        let good = known.deliveries < DELIVERIES && known.grant == digest(grant)?;
        let next = good.then(|| Decided { deliveries: known.deliveries + 1, ..known });
        self.remember(key, |memory| set(memory, payload, next.as_ref()));
        Ok(good)
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
    let decided = Decided { approved, grant: digest(grant)?, deliveries: 0 };
    let name = payload.split('@').next().unwrap_or_default();
    let before: Vec<_> = desired_items::list_items(tx.conn(), device)?.into_iter().map(|(item, _)| item).collect();
    let mut items = before.clone();
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
        desired::apply(&mut items, key, Input::Changed, Timing::hours(1), now);
    }
    let (items, _) = desired::settle(items);
    let changed: Vec<_> = items.iter().filter(|item| !before.contains(item)).collect();
    if changed.is_empty() {
        return Ok(());
    }
    for item in changed {
        desired_items::update_item(tx, item, now)?;
    }
    // An exchange that has read the items looks again.
    enrollments::claim_update(tx, &enrollment)?;
    if waiting.is_empty() {
        return Ok(());
    }
    enrollments::update_work_at(tx, &enrollment.id, Some(now))?;
    push::due::enqueue(tx, true, now)
}
