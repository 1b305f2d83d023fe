//! Query options (`$filter`, `$select`, …), with and without the dollar sign, as Graph takes both.

use percent_encoding::percent_decode_str;

use super::filter::Expr;
use super::{Wrong, quoted};

/// Longest query.
const LONGEST: usize = 16 * 1024;
/// How many properties are ordered by at most.
const MOST_ORDERS: usize = 3;
/// How many names a list has at most.
const MOST_NAMES: usize = 200;
/// How many clauses a search has at most.
const MOST_CLAUSES: usize = 10;
/// How far `$skip` goes at most.
const FURTHEST: u32 = 100_000;

/// One thing to order by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The property.
    pub property: String,
    /// From the last to the first.
    pub descending: bool,
}

/// One thing to search for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// The property; `None` for all that are searched.
    pub property: Option<String>,
    /// The text.
    pub text: String,
}

/// What is expanded.
#[derive(Clone, Debug, PartialEq)]
pub struct Expand {
    /// The navigation property.
    pub property: String,
    /// Options inside the parentheses.
    pub query: Query,
}

/// Query options.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// `$select`; empty for the default.
    pub select: Vec<String>,
    /// `$filter`.
    pub filter: Option<Expr>,
    /// `$orderby`.
    pub order_by: Vec<Order>,
    /// `$top`.
    pub top: Option<u32>,
    /// `$skip`.
    pub skip: u32,
    /// `$skiptoken`.
    pub skip_token: Option<String>,
    /// `$deltatoken`.
    pub delta_token: Option<String>,
    /// `$count=true`.
    pub count: bool,
    /// `$search`: one of the outer lists' members holds as a whole.
    pub search: Vec<Vec<Clause>>,
    /// `$expand`.
    pub expand: Vec<Expand>,
}

impl Query {
    /// Reads the part of an address after the question mark.
    ///
    /// # Errors
    /// [`Wrong`] for unknown and repeated options and for values that are none.
    pub fn parse(raw: &str) -> Result<Self, Wrong> {
        if raw.len() > LONGEST {
            return Err(Wrong::new("The query is too long."));
        }
        let mut query = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            query.take(&name, &value, &mut seen, 0)?;
        }
        Ok(query)
    }

    fn take(&mut self, name: &str, value: &str, seen: &mut Vec<String>, depth: usize) -> Result<(), Wrong> {
        let dollar = name.starts_with('$');
        let bare = name.trim_start_matches('$').to_ascii_lowercase();
        match bare.as_str() {
            "select" => self.select = names(value)?,
            "filter" => self.filter = Some(Expr::parse(value)?),
            "orderby" => self.order_by = orders(value)?,
            "top" => self.top = Some(number(name, value)?),
            "skip" => {
                self.skip = number(name, value)?;
                if self.skip > FURTHEST {
                    return Err(Wrong::new(format!("$skip goes up to {FURTHEST}; follow @odata.nextLink instead.")));
                }
            }
            "skiptoken" => self.skip_token = Some(value.to_owned()),
            "deltatoken" => self.delta_token = Some(value.to_owned()),
            "count" => {
                self.count = match value.to_ascii_lowercase().as_str() {
                    "true" => true,
                    "false" => false,
                    _ => return Err(Wrong::new("$count is true or false.")),
                }
            }
            "search" => self.search = search(value)?,
            "expand" => self.expand = expands(value, depth)?,
            // Accepted for the sake of clients that send them, and without an effect.
            "format" | "schemaversion" => {}
            _ if dollar => return Err(Wrong::new(format!("The query parameter '{}' is not supported.", quoted(name)))),
            _ => return Ok(()),
        }
        if seen.contains(&bare) {
            return Err(Wrong::new(format!("The query parameter '{}' is there twice.", quoted(name))));
        }
        seen.push(bare);
        Ok(())
    }
}

fn decode(text: &str) -> Result<String, Wrong> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| Wrong::new("The query is not UTF-8."))?;
    Ok(decoded.into_owned())
}

fn number(name: &str, value: &str) -> Result<u32, Wrong> {
    value.trim().parse().map_err(|_| Wrong::new(format!("{} is a whole number.", quoted(name))))
}

fn name(text: &str) -> Result<String, Wrong> {
    let text = text.trim();
    let formed = !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_/@.*".contains(&b));
    if formed { Ok(text.to_owned()) } else { Err(Wrong::new(format!("'{}' is no property.", quoted(text)))) }
}

fn names(text: &str) -> Result<Vec<String>, Wrong> {
    let all: Vec<String> = text.split(',').filter(|part| !part.trim().is_empty()).map(name).collect::<Result<_, _>>()?;
    if all.len() > MOST_NAMES { Err(Wrong::new(format!("At most {MOST_NAMES} properties can be selected."))) } else { Ok(all) }
}

fn orders(text: &str) -> Result<Vec<Order>, Wrong> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let mut words = part.split_whitespace();
        let property = name(words.next().unwrap_or_default())?;
        let descending = match words.next().map(str::to_ascii_lowercase).as_deref() {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(_) => return Err(Wrong::new(format!("'{}' is no order: write asc or desc.", quoted(part)))),
        };
        if words.next().is_some() || all.len() == MOST_ORDERS {
            return Err(Wrong::new(format!("$orderby names up to {MOST_ORDERS} properties, each with asc or desc.")));
        }
        all.push(Order { property, descending });
    }
    Ok(all)
}

/// `"displayName:ann" OR "mail:ann"`, `"a:b" AND ("c:d" OR "e:f")` without the parentheses, or a text as it is.
fn search(text: &str) -> Result<Vec<Vec<Clause>>, Wrong> {
    let text = text.trim();
    if text.len() > 1024 {
        return Err(Wrong::new("The search is too long."));
    }
    if !text.starts_with('"') {
        let text = text.trim_matches('\'').to_owned();
        return Ok(if text.is_empty() { Vec::new() } else { vec![vec![Clause { property: None, text }]] });
    }
    let unclear = || Wrong::new("$search is \"property:text\", with AND or OR between several.");
    let (mut any, mut all, mut rest, mut count) = (Vec::new(), Vec::new(), text, 0);
    loop {
        let inner = rest.strip_prefix('"').ok_or_else(unclear)?;
        let end = inner.find('"').ok_or_else(unclear)?;
        let (quoted_text, after) = (inner.get(..end).unwrap_or_default(), inner.get(end + 1..).unwrap_or_default().trim_start());
        let clause = match quoted_text.split_once(':') {
            Some((property, text)) if property.bytes().all(|b| b.is_ascii_alphanumeric()) && !property.is_empty() => {
                Clause { property: Some(property.to_owned()), text: text.trim().to_owned() }
            }
            _ => Clause { property: None, text: quoted_text.to_owned() },
        };
        count += 1;
        if clause.text.is_empty() || count > MOST_CLAUSES {
            return Err(unclear());
        }
        all.push(clause);
        if after.is_empty() {
            any.push(all);
            return Ok(any);
        }
        let (word, next) = after.split_once(char::is_whitespace).ok_or_else(unclear)?;
        match word.to_ascii_uppercase().as_str() {
            "AND" => {}
            "OR" => any.push(std::mem::take(&mut all)),
            _ => return Err(unclear()),
        }
        rest = next.trim_start();
    }
}

/// `assignments`, `settings($select=id;$top=5)`, several with commas.
fn expands(text: &str, depth: usize) -> Result<Vec<Expand>, Wrong> {
    if depth > 1 {
        return Err(Wrong::new("$expand nests one level."));
    }
    let mut all = Vec::new();
    for part in split(text, ',')? {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let (property, inner) = match part.split_once('(') {
            None => (part, ""),
            Some((property, rest)) => (property, rest.strip_suffix(')').ok_or_else(|| Wrong::new("$expand lacks a parenthesis."))?),
        };
        let mut query = Query::default();
        let mut seen = Vec::new();
        for option in split(inner, ';')? {
            let option = option.trim();
            if option.is_empty() {
                continue;
            }
            let (name, value) = option.split_once('=').ok_or_else(|| Wrong::new("An option inside $expand has no value."))?;
            query.take(name.trim(), value, &mut seen, depth + 1)?;
        }
        all.push(Expand { property: name(property)?, query });
        if all.len() > 10 {
            return Err(Wrong::new("At most 10 properties can be expanded."));
        }
    }
    Ok(all)
}

/// Splits at a sign that is in no parentheses and no quotes.
fn split(text: &str, sign: char) -> Result<Vec<&str>, Wrong> {
    let (mut parts, mut depth, mut quoted, mut start) = (Vec::new(), 0_i32, false, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ if letter == sign && depth == 0 && !quoted => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + sign.len_utf8();
            }
            _ => {}
        }
        if depth < 0 {
            return Err(Wrong::new("A parenthesis is closed that was not opened."));
        }
    }
    if depth != 0 || quoted {
        return Err(Wrong::new("A parenthesis or quote is not closed."));
    }
    parts.push(text.get(start..).unwrap_or_default());
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn options_are_read_with_and_without_the_sign() {
        let query =
            Query::parse("$select=id,deviceName&filter=a%20eq%20'1%2B1'&$orderby=deviceName%20desc,id&$top=5&$count=true&api-version=1.0")
                .unwrap();
        assert_eq!(query.select, ["id", "deviceName"]);
        assert!(query.filter.is_some() && query.count);
        assert_eq!(
            query.order_by.iter().map(|o| (o.property.as_str(), o.descending)).collect::<Vec<_>>(),
            [("deviceName", true), ("id", false)]
        );
        assert_eq!(query.top, Some(5));
        let query = Query::parse("$expand=assignments,scheduledActionsForRule($expand=scheduledActionConfigurations;$top=2)").unwrap();
        assert_eq!(query.expand[1].query.expand[0].property, "scheduledActionConfigurations");
        assert_eq!(query.expand[1].query.top, Some(2));
    }

    #[test]
    fn searches_are_clauses_or_a_text() {
        let clause = |property: Option<&str>, text: &str| Clause { property: property.map(str::to_owned), text: text.into() };
        assert_eq!(
            Query::parse("$search=%22displayName:ann%22%20OR%20%22mail:ann%22").unwrap().search,
            [vec![clause(Some("displayName"), "ann")], vec![clause(Some("mail"), "ann")]]
        );
        assert_eq!(
            Query::parse("$search=\"displayName:ann\" AND \"x\"").unwrap().search,
            [vec![clause(Some("displayName"), "ann"), clause(None, "x")]]
        );
        assert_eq!(Query::parse("$search=PC-01").unwrap().search, [vec![clause(None, "PC-01")]]);
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for query in [
            "$nope=1",
            "$top=x",
            "$top=-1",
            "$top=1&$top=2",
            "$top=1&top=2",
            "$skip=1000000",
            "$count=maybe",
            "$select=a;b",
            "$orderby=a up",
            "$orderby=a,b,c,d",
            "$search=\"displayName:",
            "$search=\"a:b\" XOR \"c:d\"",
            "$expand=a(",
            "$expand=a($expand=b($expand=c))",
            "$filter=%ff",
        ] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(query in any::<String>()) {
            let _ = Query::parse(&query);
        }
    }
}
