//! OData 4.0 as Microsoft Graph speaks it: query options, filters, and how values are written in JSON.

pub mod edm;
pub mod evaluate;
pub mod filter;
pub mod query;
pub mod shape;

use std::borrow::Cow;

/// Why a query is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong(pub Cow<'static, str>);

impl Wrong {
    /// Names what is wrong and where.
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self(what.into())
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Wrong {}

/// What is quoted of a caller's text, short and without what would disturb a log.
pub(crate) fn quoted(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect()
}
