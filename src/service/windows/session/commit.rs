//! Everything that a message changed is stored in one transaction, together with the answer's bytes.

use std::collections::BTreeMap;

use super::apply::Turn;
use super::proof::Claim;
use crate::domain::audit::Entry;
use crate::domain::command::Command;
use crate::domain::desired::{self, Item};
use crate::domain::dm_session::Session;
use crate::domain::enrollment;
use crate::domain::fact::Fact;
use crate::ids::ProfileId;
use crate::secret::Sealer;
use crate::service::device;
use crate::service::{Result, compliance};
use crate::store::dm_sessions::Stored;
use crate::store::sealed::PIECE;
use crate::store::targets::{self, take_turn};
use crate::store::{self, Tx, audit, commands, desired_items, devices, dm_sessions, enrollments, facts};

/// The place that a message takes in its session's row.
pub(super) struct Slot {
    /// The row to be stored.
    pub(super) stored: Stored,
    /// The session begins with this message.
    pub(super) first: bool,
    /// The nonce that the message used.
    pub(super) claim: Option<Claim>,
    /// Whether pieces of a large object may be kept from before.
    pub(super) pieces: bool,
    /// The piece that this message brought: its number and its sealed text.
    pub(super) piece: Option<(u32, Vec<u8>)>,
}

impl Slot {
    /// Takes the piece of a large object that came with the message out of the session.
    pub(super) fn keep_piece(&mut self, sealer: &Sealer, session: &mut Session) -> Result<()> {
        let piece = session.take_piece();
        // Pieces are forgotten when their object is whole or dropped, and when another begins.
        self.pieces &= !session.is_receiving() || piece.as_ref().is_some_and(|piece| piece.number == 0);
        self.piece = match piece {
            Some(piece) => Some((piece.number, sealer.seal(PIECE, piece.text.as_bytes())?)),
            None => None,
        };
        Ok(())
    }

    /// Stores the row, if no other node has answered since it was read, and claims the nonce.
    pub(super) fn store(&self, tx: &mut Tx<'_>) -> store::Result<()> {
        let enrollment = &self.stored.enrollment_id;
        if let Some(claim) = &self.claim {
            claim.claim(tx, enrollment)?;
        }
        dm_sessions::upsert_session(tx, &self.stored)?;
        if self.pieces {
            dm_sessions::purge_pieces(tx, enrollment)?;
        }
        match &self.piece {
            Some((number, text)) => dm_sessions::insert_piece(tx, enrollment, *number, text),
            None => Ok(()),
        }
    }
}

impl Turn<'_> {
    /// Stores everything that the message changed, in one transaction.
    pub(super) async fn commit(mut self, over_now: bool, slot: Slot) -> Result<()> {
        // What is gone from the device may have been asked for in vain: its profile says so from now on.
        desired::reconcile(&mut self.items, &self.effective, self.timing, self.now);
        let (items, over) = desired::settle(self.items);
        let before: BTreeMap<&ProfileId, &Item> = self.loaded.items.iter().map(|l| (&l.item.profile_id, &l.item)).collect();
        let changed: Vec<Item> = items.into_iter().filter(|item| before.get(&item.profile_id).is_none_or(|old| **old != *item)).collect();
        let reported: Vec<Fact> = self.reported.into_values().collect();
        let sealer = self.app.sealer();
        let mut orders: Vec<(Command, Option<Vec<u8>>)> = Vec::new();
        for order in self.moved_orders.into_values() {
            let result = commands::seal_result(&sealer, &order)?;
            orders.push((order, result));
        }
        let corrupt = self.loaded.corrupt_orders;
        for id in &corrupt {
            self.entries.push(Entry::new("system", "command.unreadable", format!("command:{id}"), self.origin));
        }
        let device = (self.device != self.loaded.device).then_some(self.device.clone());
        let mut enrollment = self.loaded.enrollment.clone();
        if enrollment.state == enrollment::State::Provisioned {
            enrollment.state = enrollment::State::Active;
        }
        let stale = enrollment != self.before;
        let (now, origin, read_state) = (self.now, self.origin.to_owned(), self.before.state);
        let rules = compliance::rules(&self.app.config);
        let (effects, entries, report_hash, left) = (self.effects, self.entries, self.report_hash, self.left);
        let device_id = self.device.id.clone();
        let ring = self
            .app
            .store
            .write(move |tx| {
                if left.is_some() {
                    take_turn(tx, targets::Turn::Device)?;
                }
                // The row is taken before it is looked at: nobody changes it, or the device, between the look and the writing.
                enrollments::lock_enrollment(tx, &enrollment.id)?;
                // Somebody may have retired or re-enrolled the device meanwhile: then the message is looked at again.
                let current = enrollments::load_enrollment(tx.conn(), &enrollment.id)?;
                if current.version != enrollment.version || current.state != read_state {
                    return Err(store::Error::Busy);
                }
                slot.store(tx)?;
                for item in &changed {
                    desired_items::update_item(tx, item, now)?;
                }
                for profile in &over {
                    desired_items::delete_item(tx, &device_id, profile)?;
                }
                let news = facts::upsert_facts(tx, &device_id, &reported)?;
                for (order, result) in &orders {
                    commands::update_command(tx, order, result.as_deref(), now)?;
                }
                for id in &corrupt {
                    commands::delete_command(tx, id)?;
                }
                if let Some(device) = &device {
                    devices::update_inventory(tx, device, now)?;
                }
                if stale {
                    enrollments::claim_update(tx, &enrollment)?;
                }
                if let Some(hash) = &report_hash {
                    enrollments::update_report_hash(tx, &enrollment.id, hash)?;
                }
                for effect in &effects {
                    effect.store(tx, &device_id, &origin, now)?;
                }
                let flipped = compliance::checked_in(tx, &device_id, !news.is_empty(), rules, now)?;
                if over_now {
                    let items = desired_items::find_next_work(tx.conn(), &device_id)?;
                    let orders = commands::find_next_due(tx.conn(), &enrollment.id)?;
                    enrollments::update_work_at(tx, &enrollment.id, [items, orders].into_iter().flatten().min())?;
                }
                for entry in &entries {
                    audit::append(tx, entry, now)?;
                }
                let left = match left {
                    Some(leaving) => {
                        let ending = device::Ending { sealer: &sealer, rules, origin: &origin, now };
                        device::left_in(tx, &enrollment.id, leaving, Some(&slot.stored), &ending)?
                    }
                    None => false,
                };
                Ok(left || flipped)
            })
            .await?;
        if ring {
            self.app.outbox.notify_waiters();
        }
        Ok(())
    }
}
