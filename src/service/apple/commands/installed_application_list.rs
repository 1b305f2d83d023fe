//! `InstalledApplicationList`: which applications are on the device. By order all of them, and the list is kept; else those that profiles
//! ask for, and which version of each.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::apps;
use super::super::turn::Turn;
use super::{Body, ForUsers, Request, Subject, count, keep_list};
use crate::domain::apple::app::{self, Progress};
use crate::domain::device::Platform;
use crate::domain::inventory::Kind;
use crate::service::Result;
use crate::wire::apple::command::Answer;
use crate::wire::plist::Value;

pub(super) struct InstalledApplicationList;

const LIST: &str = "InstalledApplicationList";

impl Request for InstalledApplicationList {
    fn name(&self) -> &'static str {
        LIST
    }

    /// An iPhone lists what the server installed, and nothing of its user's.
    fn for_users(&self) -> ForUsers {
        ForUsers::Phones
    }

    fn says(&self, answer: &Answer) -> std::result::Result<String, String> {
        count(answer, LIST, Kind::Applications)
    }

    fn body<'t>(&'t self, turn: &'t mut Turn<'_>, subject: Subject<'t>) -> BoxFuture<'t, Result<Body>> {
        async move {
            Ok(Body::Keys(if subject.record() == apps::ALL { apps::ask(turn) } else { subject.keys() }))
        }
        .boxed()
    }

    fn done(&self, turn: &mut Turn<'_>, subject: Subject<'_>, answer: &Answer) {
        if subject.record() != apps::ALL {
            return keep_list(turn, Kind::Applications, answer, LIST);
        }
        let listed = answer.body.array(LIST).unwrap_or_default();
        for key in apps::records(turn) {
            let bundle = key.strip_prefix(app::RECORD);
            let mut entries = listed.iter().filter_map(Value::as_dict);
            let entry = entries.find(|entry| entry.string("Identifier").is_some() && entry.string("Identifier") == bundle);
            // What people call the version; the other one is the build's.
            let version = entry.and_then(|entry| entry.string("ShortVersion").or_else(|| entry.string("Version")));
            apps::found(turn, &key, version.map(|version| version.chars().take(64).collect()));
            if turn.device.platform == Platform::MacOs {
                let (progress, word) = if entry.is_some() { (Progress::There, "") } else { (Progress::Absent, "not installed") };
                apps::judge(turn, &key, progress, word);
            }
        }
    }

    fn failed(&self, turn: &mut Turn<'_>, subject: Subject<'_>, _why: &str) {
        if subject.record() == apps::ALL {
            apps::unanswered(turn);
        }
    }
}
