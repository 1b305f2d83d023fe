//! Filters (RFC 7644, section 3.4.2.2), read into the tree that queries of the database are made of. Names are those of [`Place::name`].

use super::path::{self, Named, Place};
use super::schema::{Attribute, Resource, Type};
use super::{Kind, Wrong};
use crate::wire::odata::filter::{Comparison, Expr, Literal, Match};
use crate::wire::odata::quoted;

/// How deep parentheses and `not` nest at most.
const DEEPEST: usize = 20;
/// How many nodes a filter has at most.
const MOST_NODES: usize = 100;
/// Longest filter.
const LONGEST: usize = 8 * 1024;

/// Lists whose members are rows of their own, and not a part of the resource's.
const LISTS: [&str; 2] = ["members", "groups"];

/// Reads a filter for resources of a kind.
///
/// # Errors
/// [`Wrong`], with the place.
pub fn parse(resource: &Resource, text: &str) -> Result<Expr, Wrong> {
    if text.len() > LONGEST {
        return Err(Wrong::new(Kind::InvalidFilter, "The filter is too long."));
    }
    let mut parser = Parser { rest: text, whole: text, nodes: 0, of: Of::Resource(resource) };
    let expr = parser.or(0)?;
    parser.end()?;
    Ok(expr)
}

/// Reads the filter that stands in brackets after an attribute: names in it are those of its values' attributes.
///
/// # Errors
/// [`Wrong`], with the place.
pub(super) fn parse_inner(attribute: &'static Attribute, text: &str) -> Result<(Expr, usize), Wrong> {
    if text.len() > LONGEST {
        return Err(Wrong::new(Kind::InvalidFilter, "The filter is too long."));
    }
    let mut parser = Parser { rest: text, whole: text, nodes: 0, of: Of::Value(attribute) };
    let expr = parser.or(0)?;
    parser.sign(']')?;
    Ok((expr, text.len() - parser.rest.len()))
}

/// What is being asked about.
#[derive(Clone, Copy)]
enum Of<'a> {
    /// Resources of a kind.
    Resource(&'a Resource),
    /// Values of a list that is a part of the resource's row: their names go with the list's.
    Part(Place),
    /// Members of a list that are rows of their own: they are asked for by their value alone.
    Member,
    /// Values of an attribute, in a path.
    Value(&'static Attribute),
}

struct Parser<'a> {
    rest: &'a str,
    whole: &'a str,
    nodes: usize,
    of: Of<'a>,
}

impl<'a> Parser<'a> {
    fn wrong(&self, expected: &str) -> Wrong {
        let at = self.whole.chars().count().saturating_sub(self.rest.chars().count());
        let near = if self.rest.is_empty() { "the end".to_owned() } else { format!("'{}'", quoted(self.rest)) };
        Wrong::new(Kind::InvalidFilter, format!("The filter is wrong at position {at}, near {near}: expected {expected}."))
    }

    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn end(&mut self) -> Result<(), Wrong> {
        self.blank();
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong("the end, and, or")) }
    }

    fn sign(&mut self, sign: char) -> Result<(), Wrong> {
        self.blank();
        self.rest = self.rest.strip_prefix(sign).ok_or_else(|| self.wrong(&format!("'{sign}'")))?;
        Ok(())
    }

    fn peek_word(&self) -> &'a str {
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "_.:$-+".contains(c))).unwrap_or(text.len());
        text.get(..end).unwrap_or_default()
    }

    fn word(&mut self) -> &'a str {
        let word = self.peek_word();
        self.blank();
        self.rest = self.rest.get(word.len()..).unwrap_or_default();
        word
    }

    fn keyword(&mut self, word: &str) -> bool {
        let found = self.peek_word().eq_ignore_ascii_case(word);
        if found {
            self.word();
        }
        found
    }

    fn or(&mut self, depth: usize) -> Result<Expr, Wrong> {
        let mut left = self.and(depth)?;
        while self.keyword("or") {
            left = Expr::Or(Box::new(left), Box::new(self.and(depth)?));
        }
        Ok(left)
    }

    fn and(&mut self, depth: usize) -> Result<Expr, Wrong> {
        let mut left = self.unary(depth)?;
        while self.keyword("and") {
            left = Expr::And(Box::new(left), Box::new(self.unary(depth)?));
        }
        Ok(left)
    }

    fn unary(&mut self, depth: usize) -> Result<Expr, Wrong> {
        self.nodes += 1;
        if depth > DEEPEST || self.nodes > MOST_NODES {
            return Err(Wrong::new(Kind::InvalidFilter, "The filter is too large, or nests too deep."));
        }
        self.blank();
        if let Some(rest) = self.rest.strip_prefix('(') {
            self.rest = rest;
            let inner = self.or(depth + 1)?;
            self.sign(')')?;
            return Ok(inner);
        }
        if self.keyword("not") {
            self.sign('(')?;
            let inner = self.or(depth + 1)?;
            self.sign(')')?;
            return Ok(Expr::Not(Box::new(inner)));
        }
        self.condition(depth)
    }

    fn condition(&mut self, depth: usize) -> Result<Expr, Wrong> {
        self.blank();
        let before = self.rest;
        let name = self.word();
        let unknown = |parser: &mut Self| {
            parser.rest = before;
            parser.wrong("an attribute that can be filtered by")
        };
        let Some((path, attribute)) = self.of.find(name) else { return Err(unknown(self)) };
        if let Some(rest) = self.rest.strip_prefix('[') {
            let (Of::Resource(_), Some(place)) = (self.of, path) else { return Err(unknown(self)) };
            if attribute.kind != Type::Complex || place.sub.is_some() {
                return Err(unknown(self));
            }
            self.rest = rest;
            let (outer, is_list) = (self.of, LISTS.contains(&attribute.name));
            self.of = if is_list { Of::Member } else { Of::Part(place) };
            let inner = self.or(depth + 1)?;
            self.of = outer;
            self.sign(']')?;
            if is_list {
                return Ok(Expr::Any(attribute.name.to_owned(), Box::new(inner)));
            }
            // What Entra ID asks where a part of a list is what people are told apart by.
            let Some(rest) = self.rest.strip_prefix('.') else { return Ok(inner) };
            self.rest = rest;
            let Some(sub) = attribute.sub(self.word()) else { return Err(unknown(self)) };
            let compared = self.comparison(Some(Place { sub: Some(sub), ..place }), sub)?;
            return Ok(Expr::And(Box::new(inner), Box::new(compared)));
        }
        self.comparison(path, attribute)
    }

    fn comparison(&mut self, path: Option<Place>, attribute: &'static Attribute) -> Result<Expr, Wrong> {
        // A list without more is asked for its values (RFC 7644, section 3.4.2.2).
        let (path, attribute) = match (path, attribute.sub("value").filter(|_| attribute.multi)) {
            (Some(place), Some(value)) => (Some(Place { sub: Some(value), ..place }), value),
            other => (other.0, attribute),
        };
        if attribute.kind == Type::Complex {
            return Err(self.wrong("a part of the attribute"));
        }
        let list = path.filter(|place| LISTS.contains(&place.attribute.name));
        let key = match (self.of, path) {
            (_, Some(_)) if list.is_some() => String::new(),
            (_, Some(place)) => place.name(),
            (Of::Member, None) => String::new(),
            (_, None) => attribute.name.to_owned(),
        };
        if list.is_some_and(|place| place.sub.is_some_and(|sub| sub.name != "value")) {
            return Err(self.wrong("the value of the list"));
        }
        let word = self.word().to_ascii_lowercase();
        if word == "pr" {
            // What has no rows of its own has a value, or none.
            return match list {
                Some(_) => Err(self.wrong("eq: lists cannot be asked whether they are empty")),
                None => Ok(Expr::Compare(key, Comparison::NotEqual, Literal::Null)),
            };
        }
        let literal = self.literal(attribute)?;
        let compared = |comparison| Expr::Compare(key.clone(), comparison, literal.clone());
        let matched = |kind| match &literal {
            Literal::Text(text) => Ok(Expr::Match(kind, key.clone(), text.clone())),
            _ => Err(Wrong::new(Kind::InvalidFilter, "co, sw and ew look for texts.")),
        };
        let expr = match word.as_str() {
            "eq" => compared(Comparison::Equal),
            "ne" => Expr::Not(Box::new(compared(Comparison::Equal))),
            "gt" => compared(Comparison::Greater),
            "ge" => compared(Comparison::GreaterOrEqual),
            "lt" => compared(Comparison::Less),
            "le" => compared(Comparison::LessOrEqual),
            "co" => matched(Match::Inside)?,
            "sw" => matched(Match::Start)?,
            "ew" => matched(Match::End)?,
            _ => return Err(self.wrong("eq, ne, co, sw, ew, gt, ge, lt, le or pr before a value")),
        };
        Ok(match list {
            Some(place) => Expr::Any(place.attribute.name.to_owned(), Box::new(expr)),
            None => expr,
        })
    }

    /// A value as JSON has it.
    fn literal(&mut self, attribute: &Attribute) -> Result<Literal, Wrong> {
        self.blank();
        if self.rest.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
            let Some(Ok(text)) = values.next() else { return Err(self.wrong("a quote at the end of the text")) };
            self.rest = self.rest.get(values.byte_offset()..).unwrap_or_default();
            if text.contains('\0') {
                return Err(Wrong::new(Kind::InvalidFilter, "The filter looks for a letter that no text has."));
            }
            // Entra ID writes truth values as texts.
            return Ok(match (attribute.kind, text.to_ascii_lowercase().as_str()) {
                (Type::Bool, "true") => Literal::Bool(true),
                (Type::Bool, "false") => Literal::Bool(false),
                _ => Literal::Text(text),
            });
        }
        let before = self.rest;
        let word = self.word();
        Ok(match word.to_ascii_lowercase().as_str() {
            "true" => Literal::Bool(true),
            "false" => Literal::Bool(false),
            "null" => Literal::Null,
            number => match number.parse() {
                Ok(number) => Literal::Number(number),
                Err(_) => {
                    self.rest = before;
                    return Err(self.wrong("a value: texts stand in double quotes"));
                }
            },
        })
    }
}

impl Of<'_> {
    /// The attribute of that name, and where it is; `None` for what cannot be asked for.
    fn find(self, name: &str) -> Option<(Option<Place>, &'static Attribute)> {
        match self {
            Self::Resource(resource) => match path::find(resource, name)? {
                Named::Attribute(place) => Some((Some(place), place.sub.unwrap_or(place.attribute))),
                _ => None,
            },
            Self::Part(list) => list.attribute.sub(name).map(|sub| (Some(Place { sub: Some(sub), ..list }), sub)),
            // Both lists have the same.
            Self::Member => {
                super::schema::GROUP.core.attribute("members")?.sub(name).filter(|sub| sub.name == "value").map(|sub| (None, sub))
            }
            Self::Value(attribute) => attribute.sub(name).map(|sub| (None, sub)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scim::schema::{GROUP, USER};
    use proptest::prelude::*;

    fn eq(name: &str, text: &str) -> Expr {
        Expr::Compare(name.into(), Comparison::Equal, Literal::Text(text.into()))
    }

    #[test]
    fn filters_of_identity_providers_are_read() {
        let and = |a, b| Expr::And(Box::new(a), Box::new(b));
        for (filter, expected) in [
            ("userName eq \"bjensen\"", eq("userName", "bjensen")),
            ("USERNAME Eq \"a\\\"b\"", eq("userName", "a\"b")),
            ("externalId eq \"0f1\"", eq("externalId", "0f1")),
            ("urn:ietf:params:scim:schemas:core:2.0:User:userName eq \"x\"", eq("userName", "x")),
            ("emails[type eq \"work\"].value eq \"x\"", and(eq("emails.type", "work"), eq("emails.value", "x"))),
            (
                "emails[type eq \"work\" and value co \"@x\"]",
                and(eq("emails.type", "work"), Expr::Match(Match::Inside, "emails.value".into(), "@x".into())),
            ),
            ("emails eq \"x\"", eq("emails.value", "x")),
            ("emails.value eq \"x\"", eq("emails.value", "x")),
            ("active eq \"True\"", Expr::Compare("active".into(), Comparison::Equal, Literal::Bool(true))),
            ("title pr", Expr::Compare("title".into(), Comparison::NotEqual, Literal::Null)),
            ("not (title eq \"x\")", Expr::Not(Box::new(eq("title", "x")))),
            ("title ne \"x\"", Expr::Not(Box::new(eq("title", "x")))),
            ("groups.value eq \"g\"", Expr::Any("groups".into(), Box::new(eq("", "g")))),
        ] {
            assert_eq!(parse(&USER, filter).unwrap(), expected, "{filter}");
        }
        let member = Expr::Any("members".into(), Box::new(eq("", "u")));
        for filter in ["members eq \"u\"", "members.value eq \"u\"", "members[value eq \"u\"]"] {
            assert_eq!(parse(&GROUP, filter).unwrap(), member, "{filter}");
        }
        assert_eq!(parse(&GROUP, "id eq \"g\" and members eq \"u\"").unwrap(), and(eq("id", "g"), member));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        let deep = format!("{}userName eq \"x\"{}", "(".repeat(3000), ")".repeat(3000));
        let many = vec!["userName eq \"x\""; 200].join(" or ");
        for filter in [
            "",
            "userName",
            "userName eq",
            "userName eq bob",
            "userName eq 'bob'",
            "userName eq \"bob",
            "userName is \"bob\"",
            "userName eq \"a\" \"b\"",
            "userName eq \"a\\u0000\"",
            "nickName eq \"x\"",
            "password eq \"x\"",
            "nonsense eq \"x\"",
            "name eq \"x\"",
            "emails[type eq \"work\"",
            "emails[userName eq \"x\"]",
            "userName[value eq \"x\"]",
            "groups pr",
            "groups.display eq \"x\"",
            "title co 1",
            "1=1; DROP TABLE users",
            &deep,
            &many,
            &format!("title eq \"{}\"", "x".repeat(9000)),
        ] {
            let wrong = parse(&USER, filter).map_err(|wrong| wrong.kind);
            assert_eq!(wrong, Err(Kind::InvalidFilter), "{filter:.80}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(filter in any::<String>()) {
            let _ = parse(&USER, &filter);
        }

        #[test]
        fn reading_never_panics_near_the_grammar(parts in proptest::collection::vec(prop_oneof![
            Just("userName"), Just(" eq "), Just("\""), Just("("), Just(")"), Just(" and "), Just("not "), Just("emails["), Just("]"),
            Just("members"), Just(" pr"), Just("\\u12"), Just("ä"), Just("urn:ietf:params:scim:schemas:core:2.0:User:"), Just("1"),
        ], 0..20)) {
            let _ = parse(&USER, &parts.concat());
            let _ = parse(&GROUP, &parts.concat());
        }
    }
}
