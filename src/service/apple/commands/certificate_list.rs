//! `CertificateList`: shows whether the certificates that profiles brought are on the device. Asked before the list of profiles.

use openssl::sha::sha256;
use serde_json::json;

use super::super::turn::Turn;
use super::{ForUsers, Request, Subject, install_profile};
use crate::domain::apple::content;
use crate::domain::desired::brought;
use crate::wire::apple::command::Answer;

pub(in crate::service::apple) struct CertificateList;

/// Most certificates of one list that are looked at.
const MOST: usize = 2_000;

impl Request for CertificateList {
    fn name(&self) -> &'static str {
        "CertificateList"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        let listed = answer.body.array("CertificateList").unwrap_or_default();
        let listed: std::collections::BTreeSet<String> = listed
            .iter()
            .take(MOST)
            .filter_map(|entry| entry.as_dict()?.data("Data"))
            .map(|der| hex::encode(sha256(der)))
            .collect();
        // Only what we issued: the rest is the device's own affair.
        let known = turn.known.certificates.iter().filter(|c| listed.contains(&c.sha256));
        let ours: Vec<_> = known
            .filter_map(|c| Some((c.grant.profile_id.clone()?, c.grant.payload.clone()?, c.sha256.clone())))
            .collect();
        let keys: Vec<String> = turn.records().map(|(key, _)| key.clone()).filter(|key| brings(turn, key)).collect();
        for key in keys {
            let own = ours.iter().filter(|(profile, payload, _)| brought(&key, profile, payload));
            let own: Vec<&str> = own.map(|(_, _, sha256)| sha256.as_str()).collect();
            turn.remember(&key, |memory| {
                memory.insert("certificates".into(), json!(own));
            });
        }
    }

    // The list of profiles that follows looks at what was seen before.
    fn failed(&self, _turn: &mut Turn<'_>, _subject: Subject<'_>, _why: &str) {}
}

/// Whether a record's profile brings certificates.
pub(in crate::service::apple) fn brings(turn: &Turn<'_>, key: &str) -> bool {
    install_profile::payloads(turn, key).is_some_and(|(_, payloads)| payloads.iter().any(|payload| content::renewal(payload).is_some()))
}
