//! Lists in pages: what comes after a key, and where the next page is.

use serde::Serialize;
use serde_json::{Value, json};

use super::route::Call;
use super::schema::{Described, Number, Schemas};

/// How many there are on a page: 100 unless the caller says it.
pub type Limit = Option<Number<1, 1000>>;

/// How many a caller wants.
#[must_use]
pub fn limit(given: Limit) -> i64 {
    given.map_or(100, |limit| limit.0)
}

/// A page.
#[derive(Clone, Debug, Serialize)]
pub struct Page<T> {
    value: Vec<T>,
    next: Option<String>,
}

impl<T> Page<T> {
    /// All there is.
    #[must_use]
    pub fn whole(value: Vec<T>) -> Self {
        Self { value, next: None }
    }

    /// The first `limit` of what was found, one more than which was asked for; `key` is what the next page comes after.
    #[must_use]
    pub fn cut(call: &Call<'_>, mut value: Vec<T>, limit: i64, key: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = value.len() > limit;
        value.truncate(limit);
        Self::go_on(call, value, more, "after", key)
    }

    /// A page, and whether there is more of it, after (or before) its last one.
    #[must_use]
    pub fn go_on(call: &Call<'_>, value: Vec<T>, more: bool, way: &str, key: impl Fn(&T) -> String) -> Self {
        let next = value.last().filter(|_| more).map(|last| next_link(call, way, &key(last)));
        Self { value, next }
    }
}

/// The address of the next page: the same question after another key, from the configured base URL.
fn next_link(call: &Call<'_>, way: &str, key: &str) -> String {
    let encode = |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let path: Vec<String> = call.request.segments.iter().map(|segment| encode(segment)).collect();
    let kept = call.request.query.split('&').filter(|pair| !pair.is_empty() && pair.split('=').next() != Some(way));
    let mut query: Vec<String> = kept.map(str::to_owned).collect();
    query.push(format!("{way}={}", encode(key)));
    format!("{}/{}?{}", super::base(&call.app.config), path.join("/").replace("%2D", "-"), query.join("&"))
}

impl<T: Described> Described for Page<T> {
    fn name() -> Option<String> {
        T::name().map(|name| format!("PageOf{name}"))
    }

    fn describe(all: &mut Schemas) -> Value {
        json!({
            "type": "object",
            "description": "A page of a list.",
            "required": ["value", "next"],
            "properties": {
                "value": { "type": "array", "items": all.of::<T>() },
                "next": { "type": ["string", "null"], "format": "uri", "description": "The address of the next page; null on the last one." },
            },
        })
    }
}
