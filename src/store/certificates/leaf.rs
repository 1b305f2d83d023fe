//! Certificates of those who enrolled, as the API lists them: with whose they are. Those of our own are no part of it.

use std::collections::HashMap;

use diesel::prelude::*;

use super::Row;
use crate::domain::certificate::Certificate;
use crate::domain::device::Device;
use crate::domain::user::User;
use crate::store::odata::{Kind, Property, Set};
use crate::store::schema::certificates;
use crate::store::{Conn, Result, devices, users};

/// What Graph calls the states that are stored. Time ends a certificate, and is compared apart.
const STATES: &[(&str, &str)] = &[("active", "active"), ("revoked", "held"), ("revoked", "revoked")];

/// The state of a certificate as it is stored: whether it ended is not in it.
pub const STORED_STATUS: &str = "storedStatus";
/// The authority that a list is of.
pub const AUTHORITY: &str = "t.authority_id";

/// The certificates as the API finds them.
pub const LEAVES: Set = Set {
    name: "leafCertificates",
    from: "certificates t LEFT JOIN users u ON u.id = t.user_id AND u.deleted_at IS NULL",
    key: "t.id",
    base: "t.purpose NOT IN ('authority', 'escrow', 'ocsp-responder', 'registration', 'server')",
    reach: "t.device_id IN (SELECT m.member_id FROM group_members m WHERE m.member_kind = 'device' AND m.group_id IN ({groups})) \
            OR t.user_id IN (SELECT m.member_id FROM group_members m WHERE m.member_kind = 'user' AND m.group_id IN ({groups})) \
            OR t.device_id IN (SELECT d.id FROM devices d JOIN group_members m ON m.member_id = d.user_id WHERE m.member_kind = 'user' \
            AND m.group_id IN ({groups}))",
    properties: &[
        Property::new("id", "t.id", Kind::Id),
        Property::new("serialNumber", "t.serial", Kind::Id),
        Property::new("thumbprint", "t.sha1", Kind::Id),
        Property::new("deviceId", "t.device_id", Kind::Id),
        Property::new("userId", "t.user_id", Kind::Id),
        Property::new("userPrincipalName", "u.upn", Kind::Text),
        Property::new("issuerId", "t.authority_id", Kind::Id),
        Property::new("subjectName", "t.subject", Kind::Text),
        Property::new(STORED_STATUS, "t.status", Kind::Word(STATES)),
        Property::new("validityStartDateTime", "t.not_before", Kind::Time),
        Property::new("validityEndDateTime", "t.not_after", Kind::Time),
        Property::new("revocationDateTime", "t.revoked_at", Kind::Time),
    ],
    lists: &[],
    types: &[("cloudCertificationAuthorityLeafCertificate", "TRUE")],
    newest_first: None,
};

/// A certificate with whose it is.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The certificate.
    pub certificate: Certificate,
    /// The device that it was issued for.
    pub device: Option<Device>,
    /// The person that it was issued for.
    pub user: Option<User>,
}

/// The certificates with these ids, those that exist.
///
/// # Errors
/// Only the database's own.
pub fn list_leaves(conn: &mut Conn, ids: &[String]) -> Result<Vec<Leaf>> {
    let rows: Vec<Row> = certificates::table.filter(certificates::id.eq_any(ids)).select(Row::as_select()).load(conn)?;
    let of: Vec<String> = rows.iter().filter_map(|row| row.device_id.clone()).collect();
    let known: HashMap<String, Device> =
        devices::list_by_ids(conn, &of)?.into_iter().map(|(device, _)| (device.id.to_string(), device)).collect();
    let of: Vec<String> = rows.iter().filter_map(|row| row.user_id.clone()).collect();
    let people: HashMap<String, User> = users::list_by_ids(conn, &of)?.into_iter().map(|(user, _)| (user.id.to_string(), user)).collect();
    rows.into_iter()
        .map(|row| {
            let device = row.device_id.as_ref().and_then(|id| known.get(id)).cloned();
            let user = row.user_id.as_ref().and_then(|id| people.get(id)).cloned();
            Ok(Leaf { certificate: row.try_into()?, device, user })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::certificate::Purpose;

    #[test]
    fn those_of_our_own_are_left_out() {
        for purpose in Purpose::ALL {
            assert_eq!(LEAVES.base.contains(&format!("'{purpose}'")), purpose.is_ours(), "{purpose}");
        }
    }
}
