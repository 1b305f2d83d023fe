//! What a status code means for the operation that it answers (OMA-DM response codes, with what Windows makes of them).

use crate::wire::locuri::Scope;
use crate::wire::syncml::{Format, Verb};

use super::plan::Verdict;

/// What to do about a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is decided.
    Settled(Verdict),
    /// Send the same with the other verb.
    Switch(Verb),
    /// The device has this chunk.
    Chunk,
    /// Done, but the device processes nothing more in this session.
    DoneAndStop,
}

/// Judges a status for an operation with that verb.
///
/// `absent`: nobody says that the user of the enrolment is signed in.
pub(super) fn judge(verb: Verb, format: Option<Format>, scope: Scope, absent: bool, switched: bool, code: u16) -> Judged {
    let settled = Judged::Settled;
    // Without the user's context Windows says "not there" or "not allowed" for what will be there later.
    let missing_for_user_or = |verdict| match scope {
        Scope::User => settled(Verdict::Deferred),
        Scope::Device => settled(verdict),
    };
    let missing_for_user = missing_for_user_or(Verdict::Failed);
    match code {
        213 => Judged::Chunk,
        214 => Judged::DoneAndStop,
        215 => settled(Verdict::Deferred),
        216 => settled(Verdict::Failed),
        200..=299 | 304 => settled(Verdict::Done),
        404 => match verb {
            Verb::Delete | Verb::Get if absent => missing_for_user_or(Verdict::Done),
            Verb::Delete | Verb::Get => settled(Verdict::Done),
            Verb::Replace if !switched => Judged::Switch(Verb::Add),
            Verb::Replace | Verb::Add | Verb::Exec => missing_for_user,
        },
        405 => missing_for_user,
        406 | 501 => settled(Verdict::NotApplicable),
        418 => match verb {
            Verb::Add if format == Some(Format::Node) => settled(Verdict::Done),
            Verb::Add if !switched => Judged::Switch(Verb::Replace),
            Verb::Add | Verb::Replace | Verb::Delete | Verb::Get | Verb::Exec => settled(Verdict::Failed),
        },
        408 | 417 | 500 | 503 | 508 => settled(Verdict::Retry),
        _ => settled(Verdict::Failed),
    }
}

/// Whether a code names the child that made an `Atomic` fail, rather than one that fell with it.
pub(super) fn is_guilty(code: u16) -> bool {
    !matches!(code, 0 | 100..=299 | 507)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds() {
        use Judged::{Chunk, DoneAndStop, Settled, Switch};
        use Verdict::{Deferred, Done, Failed, NotApplicable, Retry};
        let device = |verb, code| judge(verb, Some(Format::Chr), Scope::Device, false, false, code);
        let user = |verb, code| judge(verb, Some(Format::Chr), Scope::User, false, false, code);
        let alone = |scope, verb, code| judge(verb, Some(Format::Chr), scope, true, false, code);
        let switched = |verb, code| judge(verb, Some(Format::Chr), Scope::Device, false, true, code);
        for (got, expected) in [
            (device(Verb::Replace, 200), Settled(Done)),
            (device(Verb::Exec, 202), Settled(Done)),
            (device(Verb::Replace, 213), Chunk),
            (device(Verb::Replace, 214), DoneAndStop),
            (device(Verb::Replace, 215), Settled(Deferred)),
            (device(Verb::Replace, 216), Settled(Failed)),
            (device(Verb::Replace, 400), Settled(Failed)),
            (device(Verb::Replace, 401), Settled(Failed)),
            (device(Verb::Replace, 403), Settled(Failed)),
            (device(Verb::Replace, 425), Settled(Failed)),
            (device(Verb::Delete, 404), Settled(Done)),
            (device(Verb::Get, 404), Settled(Done)),
            (device(Verb::Replace, 404), Switch(Verb::Add)),
            (switched(Verb::Replace, 404), Settled(Failed)),
            (switched(Verb::Add, 404), Settled(Failed)),
            (device(Verb::Exec, 404), Settled(Failed)),
            (user(Verb::Get, 404), Settled(Done)),
            (user(Verb::Delete, 404), Settled(Done)),
            (alone(Scope::User, Verb::Get, 404), Settled(Deferred)),
            (alone(Scope::User, Verb::Delete, 404), Settled(Deferred)),
            (alone(Scope::Device, Verb::Get, 404), Settled(Done)),
            (alone(Scope::Device, Verb::Delete, 404), Settled(Done)),
            (user(Verb::Exec, 404), Settled(Deferred)),
            (user(Verb::Replace, 404), Switch(Verb::Add)),
            (user(Verb::Add, 404), Settled(Deferred)),
            (device(Verb::Replace, 405), Settled(Failed)),
            (user(Verb::Replace, 405), Settled(Deferred)),
            (device(Verb::Replace, 406), Settled(NotApplicable)),
            (device(Verb::Replace, 413), Settled(Failed)),
            (device(Verb::Replace, 415), Settled(Failed)),
            (device(Verb::Add, 418), Switch(Verb::Replace)),
            (switched(Verb::Add, 418), Settled(Failed)),
            (judge(Verb::Add, Some(Format::Node), Scope::Device, false, false, 418), Settled(Done)),
            (device(Verb::Replace, 420), Settled(Failed)),
            (device(Verb::Replace, 424), Settled(Failed)),
            (device(Verb::Replace, 500), Settled(Retry)),
            (device(Verb::Replace, 507), Settled(Failed)),
            (device(Verb::Replace, 508), Settled(Retry)),
            (device(Verb::Replace, 516), Settled(Failed)),
            (device(Verb::Replace, 0), Settled(Failed)),
            (device(Verb::Replace, 999), Settled(Failed)),
        ] {
            assert_eq!(got, expected);
        }
    }
}
