//! `ProvisioningProfileList`: which provisioning profiles are on the device. The list is kept.

use super::super::turn::Turn;
use super::{ForUsers, Request, Subject, count, keep_list};
use crate::domain::inventory::Kind;
use crate::wire::apple::command::Answer;

pub(super) struct ProvisioningProfileList;

impl Request for ProvisioningProfileList {
    fn name(&self) -> &'static str {
        "ProvisioningProfileList"
    }

    fn for_users(&self) -> ForUsers {
        ForUsers::All
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        count(answer, "ProvisioningProfileList", Kind::ProvisioningProfiles)
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        keep_list(turn, Kind::ProvisioningProfiles, answer, "ProvisioningProfileList");
    }
}
