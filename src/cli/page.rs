//! Long lists, page by page: the last row of a page that is not the end says, as `more`, how the rest is seen.

use serde_json::{Map, Value};

/// The most rows of a page, whatever an order from another machine says.
const MOST: i64 = 1000;

/// One more than a page has: whether it is there tells whether this is the end.
pub(super) fn probe(limit: i64) -> i64 {
    limit.clamp(1, MOST).saturating_add(1)
}

/// The page of at most `limit` rows out of what [`probe`] found. `next` names the option that shows what comes after a row.
pub(super) fn cut(mut rows: Vec<Value>, limit: i64, next: impl FnOnce(&Map<String, Value>) -> Option<String>) -> Value {
    let limit = usize::try_from(limit.clamp(1, MOST)).unwrap_or_default();
    let more = rows.len() > limit;
    rows.truncate(limit);
    mark(rows, more, next)
}

/// The rows, the last one marked where there are more.
pub(super) fn mark(mut rows: Vec<Value>, more: bool, next: impl FnOnce(&Map<String, Value>) -> Option<String>) -> Value {
    if let Some(last) = rows.last_mut().and_then(Value::as_object_mut).filter(|_| more) {
        let way = next(last).map_or_else(|| "--limit".to_owned(), |next| format!("{next}, or --limit"));
        last.insert("more".into(), way.into());
    }
    Value::Array(rows)
}

/// `--after` with a field of the row.
pub(super) fn after(field: &'static str) -> impl FnOnce(&Map<String, Value>) -> Option<String> {
    move |row| {
        let value = row.get(field)?;
        let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_.@:".contains(c));
        Some(if plain { format!("--after {word}") } else { format!("--after '{}'", word.replace('\'', r"'\''")) })
    }
}

/// Takes the mark off a list that is shown to people; the line below it.
pub(super) fn rest(rows: &mut Value) -> String {
    let all = rows.as_array_mut().into_iter().flatten();
    let more = all.filter_map(|row| row.as_object_mut()?.remove("more")).last();
    more.as_ref().and_then(Value::as_str).map_or_else(String::new, |way| format!("(there are more: {way})\n"))
}
