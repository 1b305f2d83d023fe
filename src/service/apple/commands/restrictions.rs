//! `Restrictions`: what an iPhone or iPad forbids, as it follows from all of its profiles; on demand also profile by profile. Kept as a list.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::super::turn::Turn;
use super::{Request, Subject, flag, keep_entries, text};
use crate::domain::device::Platform;
use crate::domain::inventory::Kind;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{Dict, Value};

pub(super) struct Restrictions;

/// The restrictions of one dictionary: by their kinds, each with a value or a list of values.
fn entries(profile: Option<&str>, restrictions: &Dict, into: &mut Vec<Value>) {
    for (kind, names) in restrictions.iter().filter_map(|(kind, names)| Some((kind, names.as_dict()?))) {
        for (name, said) in names.iter().filter_map(|(name, said)| Some((name, said.as_dict()?))) {
            let one = said.get("value").and_then(text);
            let many = said.array("values").map(|values| values.iter().filter_map(text).collect::<Vec<_>>().join(", "));
            let entry = Dict::new().with("Restriction", name).with("Kind", kind).with("Value", one.or(many).unwrap_or_default());
            into.push(Value::Dict(match profile {
                Some(profile) => entry.with("Profile", profile),
                None => entry,
            }));
        }
    }
}

fn list(answer: &Answer) -> Option<Vec<Value>> {
    let mut all = Vec::new();
    entries(None, answer.body.dict("GlobalRestrictions")?, &mut all);
    if let Some(profiles) = answer.body.dict("ProfileRestrictions") {
        for (profile, restrictions) in profiles.iter().filter_map(|(profile, said)| Some((profile, said.as_dict()?))) {
            entries(Some(profile), restrictions, &mut all);
        }
    }
    Some(all)
}

impl Request for Restrictions {
    fn name(&self) -> &'static str {
        "Restrictions"
    }

    fn order(&self, values: &BTreeMap<String, String>, _platform: Platform) -> Result<Map<String, Json>, String> {
        Ok(flag(values, "profiles")?.map(|each| ("ProfileRestrictions".to_owned(), each.into())).into_iter().collect())
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        let all = list(answer).ok_or("no GlobalRestrictions in the answer")?;
        Ok(format!("{} restrictions; muster device inventory shows them", all.len()))
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        keep_entries(turn, Kind::Restrictions, &list(answer).unwrap_or_default());
    }
}
