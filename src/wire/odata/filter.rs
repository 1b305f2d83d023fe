//! `$filter`: the part of OData's grammar (OData 4.01 Part 2, section 5.1.1) that Graph has, as a tree.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Wrong, quoted};

/// How deep parentheses and `not` nest at most.
const DEEPEST: usize = 20;
/// How many nodes a filter has at most.
const MOST_NODES: usize = 100;
/// How many values a list has at most.
const MOST_VALUES: usize = 100;
/// Longest filter.
const LONGEST: usize = 8 * 1024;

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `eq`
    Equal,
    /// `ne`
    NotEqual,
    /// `gt`
    Greater,
    /// `ge`
    GreaterOrEqual,
    /// `lt`
    Less,
    /// `le`
    LessOrEqual,
}

/// What is asked of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// `startswith`
    Start,
    /// `endswith`
    End,
    /// `contains`
    Inside,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// A text, in quotes or a GUID, or the word of an enumeration.
    Text(String),
    /// A number.
    Number(i64),
    /// A truth value.
    Bool(bool),
    /// A moment, in milliseconds since 1970.
    Time(i64),
    /// None.
    Null,
}

/// A filter.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Both.
    And(Box<Self>, Box<Self>),
    /// One of them.
    Or(Box<Self>, Box<Self>),
    /// Not.
    Not(Box<Self>),
    /// A property compared with a value.
    Compare(String, Comparison, Literal),
    /// A property that is one of these.
    In(String, Vec<Literal>),
    /// A text property that begins, ends with or holds a text.
    Match(Match, String, String),
    /// A list property of which one member fulfils this; properties inside are the member (an empty name) or a part of it.
    Any(String, Box<Self>),
    /// The object is of that type, named without the namespace.
    IsOf(String),
}

impl Expr {
    /// Whether it is true only of values that it names as a whole.
    #[must_use]
    pub fn names_whole(&self) -> bool {
        match self {
            Self::And(a, b) => a.names_whole() || b.names_whole(),
            Self::Or(a, b) => a.names_whole() && b.names_whole(),
            Self::Compare(_, Comparison::Equal, literal) => *literal != Literal::Null,
            Self::In(..) => true,
            Self::Not(_) | Self::Compare(..) | Self::Match(..) | Self::Any(..) | Self::IsOf(_) => false,
        }
    }

    /// The properties that it looks at.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::And(a, b) | Self::Or(a, b) => [a.names(), b.names()].concat(),
            Self::Not(inner) => inner.names(),
            Self::Compare(name, ..) | Self::In(name, _) | Self::Match(_, name, _) | Self::Any(name, _) => vec![name],
            Self::IsOf(_) => Vec::new(),
        }
    }

    /// Reads a filter.
    ///
    /// # Errors
    /// [`Wrong`], with the place.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        if text.len() > LONGEST {
            return Err(Wrong::new("The filter is too long."));
        }
        let mut parser = Parser { rest: text, whole: text, nodes: 0, variable: None };
        let expr = parser.or(0)?;
        parser.blank();
        if parser.rest.is_empty() { Ok(expr) } else { Err(parser.wrong("the end or another condition")) }
    }
}

struct Parser<'a> {
    rest: &'a str,
    whole: &'a str,
    nodes: usize,
    /// The variable of the lambda that is being read.
    variable: Option<String>,
}

impl<'a> Parser<'a> {
    fn wrong(&self, expected: &str) -> Wrong {
        let at = self.whole.chars().count() - self.rest.chars().count();
        let near = if self.rest.is_empty() { "the end".to_owned() } else { format!("'{}'", quoted(self.rest)) };
        Wrong::new(format!("Invalid filter clause at position {at}, near {near}: expected {expected}."))
    }

    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes a sign.
    fn sign(&mut self, sign: char) -> Result<(), Wrong> {
        self.blank();
        self.rest = self.rest.strip_prefix(sign).ok_or_else(|| self.wrong(&format!("'{sign}'")))?;
        Ok(())
    }

    fn peek_word(&self) -> &'a str {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "_@.-:+".contains(c))).unwrap_or(text.len());
        text.get(..end).unwrap_or_default()
    }

    /// Takes a word if it is this one, in any case.
    fn keyword(&mut self, word: &str) -> bool {
        let found = self.peek_word();
        if !found.eq_ignore_ascii_case(word) {
            return false;
        }
        self.blank();
        self.rest = self.rest.get(found.len()..).unwrap_or_default();
        true
    }

    fn count(&mut self) -> Result<(), Wrong> {
        self.nodes += 1;
        if self.nodes > MOST_NODES { Err(Wrong::new(format!("The filter has more than {MOST_NODES} parts."))) } else { Ok(()) }
    }

    fn or(&mut self, depth: usize) -> Result<Expr, Wrong> {
        let mut left = self.and(depth)?;
        while self.keyword("or") {
            self.count()?;
            left = Expr::Or(Box::new(left), Box::new(self.and(depth)?));
        }
        Ok(left)
    }

    fn and(&mut self, depth: usize) -> Result<Expr, Wrong> {
        let mut left = self.unary(depth)?;
        while self.keyword("and") {
            self.count()?;
            left = Expr::And(Box::new(left), Box::new(self.unary(depth)?));
        }
        Ok(left)
    }

    fn unary(&mut self, depth: usize) -> Result<Expr, Wrong> {
        if depth > DEEPEST {
            return Err(Wrong::new(format!("The filter nests deeper than {DEEPEST}.")));
        }
        self.count()?;
        self.blank();
        if let Some(rest) = self.rest.strip_prefix('(') {
            self.rest = rest;
            let inner = self.or(depth + 1)?;
            self.sign(')')?;
            return Ok(inner);
        }
        if self.keyword("not") {
            return Ok(Expr::Not(Box::new(self.unary(depth + 1)?)));
        }
        self.condition(depth)
    }

    fn condition(&mut self, depth: usize) -> Result<Expr, Wrong> {
        for (name, kind) in [("startswith", Match::Start), ("endswith", Match::End), ("contains", Match::Inside)] {
            if self.keyword(name) {
                self.sign('(')?;
                let path = self.path()?;
                self.sign(',')?;
                let Literal::Text(text) = self.literal()? else { return Err(self.wrong("a text")) };
                self.sign(')')?;
                // Some scripts compare the outcome.
                if self.keyword("eq") {
                    return match self.literal()? {
                        Literal::Bool(true) => Ok(Expr::Match(kind, path, text)),
                        Literal::Bool(false) => Ok(Expr::Not(Box::new(Expr::Match(kind, path, text)))),
                        _ => Err(self.wrong("true or false")),
                    };
                }
                return Ok(Expr::Match(kind, path, text));
            }
        }
        if self.keyword("isof") {
            self.sign('(')?;
            let Literal::Text(name) = self.literal()? else { return Err(self.wrong("the name of a type in quotes")) };
            self.sign(')')?;
            let bare = name.trim_start_matches('#');
            return Ok(Expr::IsOf(bare.strip_prefix("microsoft.graph.").unwrap_or(bare).to_owned()));
        }
        let path = self.path()?;
        if let Some(list) = path.strip_suffix("/any") {
            return self.any(list.to_owned(), depth);
        }
        if self.keyword("in") {
            self.sign('(')?;
            let mut values = vec![self.literal()?];
            loop {
                self.blank();
                let Some(rest) = self.rest.strip_prefix(',') else { break };
                self.rest = rest;
                values.push(self.literal()?);
                if values.len() > MOST_VALUES {
                    return Err(Wrong::new(format!("A list has at most {MOST_VALUES} values.")));
                }
            }
            self.sign(')')?;
            return Ok(Expr::In(path, values));
        }
        let words = [
            ("eq", Comparison::Equal),
            ("ne", Comparison::NotEqual),
            ("gt", Comparison::Greater),
            ("ge", Comparison::GreaterOrEqual),
            ("lt", Comparison::Less),
            ("le", Comparison::LessOrEqual),
        ];
        for (word, comparison) in words {
            if self.keyword(word) {
                return Ok(Expr::Compare(path, comparison, self.literal()?));
            }
        }
        Err(self.wrong("eq, ne, gt, ge, lt, le or in"))
    }

    fn any(&mut self, list: String, depth: usize) -> Result<Expr, Wrong> {
        if self.variable.is_some() {
            return Err(Wrong::new("One any() inside another is not supported."));
        }
        self.sign('(')?;
        self.blank();
        let name = self.peek_word().split(':').next().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(self.wrong("a variable"));
        }
        self.rest = self.rest.get(name.len()..).unwrap_or_default();
        self.sign(':')?;
        self.variable = Some(name);
        let inner = self.or(depth + 1)?;
        self.variable = None;
        self.sign(')')?;
        Ok(Expr::Any(list, Box::new(inner)))
    }

    /// A property: names with slashes between; inside a lambda the variable alone is an empty name, and before others it falls away.
    fn path(&mut self) -> Result<String, Wrong> {
        self.blank();
        let text = self.rest;
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "_/$@".contains(c))).unwrap_or(text.len());
        let path = text.get(..end).unwrap_or_default();
        let formed =
            path.starts_with(|c: char| c.is_ascii_alphabetic()) && path.split('/').all(|part| !part.is_empty()) && path.len() <= 128;
        if !formed {
            return Err(self.wrong("a property"));
        }
        self.rest = text.get(end..).unwrap_or_default();
        match &self.variable {
            Some(name) if path == name => Ok(String::new()),
            Some(name) => match path.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('/')) {
                Some(rest) => Ok(rest.to_owned()),
                None => Err(self.wrong("the variable of any()")),
            },
            None => Ok(path.to_owned()),
        }
    }

    fn literal(&mut self) -> Result<Literal, Wrong> {
        self.blank();
        if self.rest.starts_with('\'') {
            return self.text().map(Literal::Text);
        }
        let word = self.peek_word();
        if word.is_empty() {
            return Err(self.wrong("a value"));
        }
        self.rest = self.rest.get(word.len()..).unwrap_or_default();
        // `microsoft.graph.complianceState'noncompliant'`, `duration'PT1H'`, `guid'…'`.
        if self.rest.starts_with('\'') {
            return self.text().map(Literal::Text);
        }
        Ok(match word.to_ascii_lowercase().as_str() {
            "true" => Literal::Bool(true),
            "false" => Literal::Bool(false),
            "null" => Literal::Null,
            lower => match lower.parse::<i64>() {
                Ok(number) => Literal::Number(number),
                Err(_) => match moment(word) {
                    Some(at) => Literal::Time(at),
                    None if uuid(word) => Literal::Text(lower.to_owned()),
                    None => return Err(self.wrong("a value: texts stand in single quotes")),
                },
            },
        })
    }

    /// A text in quotes; a quote inside is written twice.
    fn text(&mut self) -> Result<String, Wrong> {
        let mut out = String::new();
        let mut letters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, letter)) = letters.next() {
            if letter != '\'' {
                out.push(letter);
            } else if letters.peek().is_some_and(|(_, next)| *next == '\'') {
                letters.next();
                out.push('\'');
            } else {
                self.rest = self.rest.get(at + 1..).unwrap_or_default();
                return Ok(out);
            }
        }
        Err(self.wrong("a quote at the end of the text"))
    }
}

/// A moment as Graph's clients write it: `2026-01-02`, `2026-01-02T03:04:05Z`, with or without fractions.
#[must_use]
pub fn moment(text: &str) -> Option<i64> {
    let text = text.to_ascii_uppercase();
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text };
    let at = OffsetDateTime::parse(&whole, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

fn uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| if matches!(at, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: &str) -> Literal {
        Literal::Text(value.into())
    }

    fn eq(path: &str, value: Literal) -> Expr {
        Expr::Compare(path.into(), Comparison::Equal, value)
    }

    #[test]
    fn filters_of_the_field_are_read() {
        let and = |a, b| Expr::And(Box::new(a), Box::new(b));
        for (filter, expected) in [
            (
                "operatingSystem eq 'Windows' and complianceState EQ 'noncompliant'",
                and(eq("operatingSystem", text("Windows")), eq("complianceState", text("noncompliant"))),
            ),
            (
                "lastSyncDateTime le 2026-01-01T00:00:00Z",
                Expr::Compare("lastSyncDateTime".into(), Comparison::LessOrEqual, Literal::Time(1_767_225_600_000)),
            ),
            ("startsWith(deviceName,'PC-')", Expr::Match(Match::Start, "deviceName".into(), "PC-".into())),
            ("contains( serialNumber , '5CG' ) eq true", Expr::Match(Match::Inside, "serialNumber".into(), "5CG".into())),
            (
                "azureADDeviceId eq 9B6C3C11-0000-4000-8000-000000000001",
                eq("azureADDeviceId", text("9b6c3c11-0000-4000-8000-000000000001")),
            ),
            ("groupTypes/any(c:c eq 'DynamicMembership')", Expr::Any("groupTypes".into(), Box::new(eq("", text("DynamicMembership"))))),
            (
                "physicalIds/any(p:startswith(p,'[ZTDID]'))",
                Expr::Any("physicalIds".into(), Box::new(Expr::Match(Match::Start, String::new(), "[ZTDID]".into()))),
            ),
            ("userPrincipalName in ('a@x','b@x')", Expr::In("userPrincipalName".into(), vec![text("a@x"), text("b@x")])),
            ("isof('microsoft.graph.windows10CompliancePolicy')", Expr::IsOf("windows10CompliancePolicy".into())),
            (
                "createdDateTime ge 2026-01-01 and status/errorCode ne 0",
                and(
                    Expr::Compare("createdDateTime".into(), Comparison::GreaterOrEqual, Literal::Time(1_767_225_600_000)),
                    Expr::Compare("status/errorCode".into(), Comparison::NotEqual, Literal::Number(0)),
                ),
            ),
            ("complianceState eq microsoft.graph.complianceState'noncompliant'", eq("complianceState", text("noncompliant"))),
            ("displayName eq 'O''Brien'", eq("displayName", text("O'Brien"))),
            ("not (accountEnabled eq true)", Expr::Not(Box::new(eq("accountEnabled", Literal::Bool(true))))),
            ("mail eq null", eq("mail", Literal::Null)),
            (
                "a eq 1 or b eq 2 and c eq 3",
                Expr::Or(Box::new(eq("a", Literal::Number(1))), Box::new(and(eq("b", Literal::Number(2)), eq("c", Literal::Number(3))))),
            ),
        ] {
            assert_eq!(Expr::parse(filter).unwrap(), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_quickly() {
        let many = (0..101).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        for filter in [
            "",
            "1 eq 1) or (1 eq 1",
            "displayName",
            "displayName eq",
            "displayName eq bob",
            "displayName eq 'x",
            "displayName like 'x'",
            "displayName eq 'x' garbage",
            "a/any(x:y eq 1)",
            "a/any(x:x/any(z:z eq 1))",
            "startswith(a,1)",
            "a//b eq 1",
            &format!("{}a eq 1{}", "(".repeat(3000), ")".repeat(3000)),
            &format!("{} a eq 1", "not ".repeat(3000)),
            &vec!["a eq 1"; 200].join(" or "),
            &format!("a in ({many})"),
            &"a".repeat(9000),
        ] {
            assert!(Expr::parse(filter).is_err(), "{filter:.80}");
        }
        assert_eq!(
            Expr::parse("displayName eq bob").unwrap_err().to_string(),
            "Invalid filter clause at position 18, near the end: expected a value: texts stand in single quotes."
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics(filter in any::<String>()) {
            let _ = Expr::parse(&filter);
        }

        #[test]
        fn reading_never_panics_near_the_grammar(parts in proptest::collection::vec(prop_oneof![
            Just("a"), Just(" eq "), Just("'"), Just("("), Just(")"), Just(" and "), Just("not "), Just("/any("), Just("x:x"), Just(" in "),
            Just("2026-01-01"), Just(","), Just("null"), Just("ä"), Just("startswith("),
        ], 0..20)) {
            let _ = Expr::parse(&parts.concat());
        }
    }
}
