//! `ContentCachingInformation`: how the content cache of a Mac is. Its numbers and words are kept as a list.

use super::super::turn::Turn;
use super::{Request, Subject, keep_entries, text};
use crate::domain::inventory::Kind;
use crate::wire::apple::command::Answer;
use crate::wire::plist::{Dict, Value};

pub(super) struct ContentCachingInformation;

/// What is said by one word or number, and of the alerts what they are called.
fn list(answer: &Answer) -> Option<Vec<Value>> {
    let status = answer.body.dict("StatusResponse")?;
    let entry = |name: &str, value: String| Value::Dict(Dict::new().with("Name", name).with("Value", value));
    let mut all: Vec<Value> = status.iter().filter_map(|(name, value)| Some(entry(name, text(value)?))).collect();
    let alerts = status.array("Alerts").unwrap_or_default().iter().filter_map(Value::as_dict);
    all.extend(alerts.filter_map(|alert| Some(entry("Alert", alert.string("className")?.to_owned()))));
    Some(all)
}

impl Request for ContentCachingInformation {
    fn name(&self) -> &'static str {
        "ContentCachingInformation"
    }

    fn says(&self, answer: &Answer) -> Result<String, String> {
        let status = answer.body.dict("StatusResponse").ok_or("no StatusResponse in the answer")?;
        let is = |key: &str| status.boolean(key).unwrap_or(false);
        let word = match (is("Activated"), is("Active")) {
            (true, true) => "the content cache serves",
            (true, false) => "the content cache is on, and does not serve yet",
            (false, _) => "the content cache is off",
        };
        Ok(format!("{word}; muster device inventory shows more"))
    }

    fn done(&self, turn: &mut Turn<'_>, _subject: Subject<'_>, answer: &Answer) {
        keep_entries(turn, Kind::ContentCaching, &list(answer).unwrap_or_default());
    }
}
