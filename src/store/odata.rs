//! Queries of the Graph-shaped API: a filter, an order and a place to go on from, compiled to one parameterised statement that gives the
//! keys of a page. Names come from the property table of a set and from nowhere else; values are always bound.

use diesel::deserialize::QueryableByName;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text};

use super::dialect::each_backend;
use super::{Conn, Result, Tx};
use crate::ids::GroupId;
use crate::wire::odata::Wrong;
use crate::wire::odata::filter::{Comparison, Expr, Literal, Match, moment};
use crate::wire::odata::query::{Clause, Order, Query};

/// What the values of a property are.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text, compared whatever its case.
    Text,
    /// An identifier: text that is stored in lower case and is equal or not.
    Id,
    /// Text of others, whose case matters where it is compared as a whole.
    Exact,
    /// A number.
    Number,
    /// A moment, in milliseconds.
    Time,
    /// A truth value.
    Bool,
    /// A word of an enumeration: what Graph calls it, and what is stored (several stored words may be one of Graph's).
    Word(&'static [(&'static str, &'static str)]),
}

/// A property that may be filtered by.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// Its name, as Graph has it.
    pub name: &'static str,
    /// The SQL expression.
    pub column: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// May be ordered by: an index leads through it.
    pub order: bool,
    /// May be missing.
    pub nullable: bool,
    /// Is looked through by a search that names no property.
    pub search: bool,
}

impl Property {
    /// A property that is filtered by only.
    #[must_use]
    pub const fn new(name: &'static str, column: &'static str, kind: Kind) -> Self {
        Self { name, column, kind, order: false, nullable: false, search: false }
    }

    /// May be ordered by, too.
    #[must_use]
    pub const fn ordered(self) -> Self {
        Self { order: true, ..self }
    }

    /// May be missing; then it is ordered before everything.
    #[must_use]
    pub const fn nullable(self) -> Self {
        Self { nullable: true, ..self }
    }

    /// Is searched, too.
    #[must_use]
    pub const fn searched(self) -> Self {
        Self { search: true, ..self }
    }
}

/// A property that is a list of texts: `any` looks into it.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// Its name.
    pub name: &'static str,
    /// Where its members are: `FROM … WHERE …`, or nothing when the expression is the only member.
    pub from: Option<&'static str>,
    /// The SQL expression of a member.
    pub member: &'static str,
    /// What its members are.
    pub kind: Kind,
}

/// A set of objects.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Its name, for tokens.
    pub name: &'static str,
    /// Tables and joins.
    pub from: &'static str,
    /// The expression of the key.
    pub key: &'static str,
    /// What is in the set at all.
    pub base: &'static str,
    /// Whether an object is in one of some groups; `{groups}` stands for their ids.
    pub reach: &'static str,
    /// Its properties.
    pub properties: &'static [Property],
    /// Its lists.
    pub lists: &'static [List],
    /// Its types, each with what tells it.
    pub types: &'static [(&'static str, &'static str)],
    /// How it is ordered when the query does not say: by this property, from the last to the first, where there is one, else by the key.
    pub newest_first: Option<&'static str>,
}

/// What a caller is bound to beside the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Within {
    /// Objects whose column (an SQL expression of ours) has this value.
    Equal(&'static str, String),
    /// Objects in these groups.
    Groups(Vec<GroupId>),
    /// Objects with one of these keys.
    Keys(Vec<String>),
}

/// A value that is ordered by.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Sort {
    /// A number or moment.
    Number(i64),
    /// A text.
    Text(String),
}

/// The last object of a page: where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Last {
    /// What was ordered by.
    pub values: Vec<Sort>,
    /// Its key.
    pub key: String,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys of its objects, in order.
    pub keys: Vec<String>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Last>,
}

/// What comes of a query: the database's own failures, or that it is not taken.
pub type Asked<T> = std::result::Result<T, Refused>;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The query is wrong.
    #[error(transparent)]
    Wrong(#[from] Wrong),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] super::Error),
}

pub(super) enum Bind {
    Text(String),
    Number(i64),
    Bool(bool),
}

struct Compiler<'a> {
    set: &'a Set,
    is_postgres: bool,
    binds: Vec<Bind>,
}

/// Before every moment: the year 1.
const BEFORE: i64 = -62_135_596_800_000;
/// Beyond every text that begins with what stands before it.
const BEYOND: char = '\u{10FFFF}';

impl Compiler<'_> {
    fn bind(&mut self, value: Bind) -> String {
        self.binds.push(value);
        format!("${}", self.binds.len())
    }

    /// A text as it is compared and indexed: whatever its case, byte by byte.
    fn folded(&self, expression: &str) -> String {
        if self.is_postgres { format!("lower({expression}) COLLATE \"C\"") } else { format!("lower({expression})") }
    }

    fn property(&self, name: &str) -> std::result::Result<&'static Property, Wrong> {
        let found = self.set.properties.iter().find(|property| property.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| Wrong::new(format!("The property '{}' cannot be filtered by.", crate::wire::odata::quoted(name))))
    }

    fn expr(&mut self, expr: &Expr) -> std::result::Result<String, Wrong> {
        Ok(match expr {
            Expr::And(a, b) => format!("({} AND {})", self.expr(a)?, self.expr(b)?),
            Expr::Or(a, b) => format!("({} OR {})", self.expr(a)?, self.expr(b)?),
            // What compares with nothing is not true; then its opposite is.
            Expr::Not(inner) => format!("NOT COALESCE({}, FALSE)", self.expr(inner)?),
            Expr::Compare(name, comparison, literal) => {
                let property = *self.property(name)?;
                self.compare(&property, *comparison, literal)?
            }
            Expr::In(name, values) => {
                let property = *self.property(name)?;
                let each: Vec<String> =
                    values.iter().map(|value| self.compare(&property, Comparison::Equal, value)).collect::<std::result::Result<_, _>>()?;
                format!("({})", each.join(" OR "))
            }
            Expr::Match(kind, name, text) => {
                let property = *self.property(name)?;
                self.matches(&property, *kind, text)?
            }
            Expr::Any(name, inner) => {
                let Some(list) = self.set.lists.iter().find(|list| list.name.eq_ignore_ascii_case(name)) else {
                    return Err(Wrong::new(format!(
                        "The property '{}' is no list that can be filtered by.",
                        crate::wire::odata::quoted(name)
                    )));
                };
                // Where many objects have such a member, the page is read in its order and each object is looked at: PostgreSQL makes no join of
                // what has an offset, which would put all objects together first. Few have a member that is told by its whole.
                let bound = if inner.names_whole() { "" } else { " LIMIT 1 OFFSET 0" };
                let inner = self.member(list, inner)?;
                match list.from {
                    Some(from) => format!("EXISTS (SELECT 1 {from} AND {inner}{bound})"),
                    None => inner,
                }
            }
            Expr::IsOf(name) => {
                let found = self.set.types.iter().find(|(word, _)| word.eq_ignore_ascii_case(name));
                let (_, predicate) = found.ok_or_else(|| Wrong::new("isof() names a type that this set has not."))?;
                format!("({predicate})")
            }
        })
    }

    /// A condition on a member of a list.
    fn member(&mut self, list: &List, expr: &Expr) -> std::result::Result<String, Wrong> {
        let member = Property::new("", list.member, list.kind);
        Ok(match expr {
            Expr::And(a, b) => format!("({} AND {})", self.member(list, a)?, self.member(list, b)?),
            Expr::Or(a, b) => format!("({} OR {})", self.member(list, a)?, self.member(list, b)?),
            Expr::Not(inner) => format!("NOT COALESCE({}, FALSE)", self.member(list, inner)?),
            Expr::Compare(name, comparison, literal) if name.is_empty() => self.compare(&member, *comparison, literal)?,
            Expr::Match(kind, name, text) if name.is_empty() => self.matches(&member, *kind, text)?,
            _ => return Err(Wrong::new("Inside any() the variable itself is compared with texts.")),
        })
    }

    fn compare(&mut self, property: &Property, comparison: Comparison, literal: &Literal) -> std::result::Result<String, Wrong> {
        let column = property.column;
        if *literal == Literal::Null {
            return match comparison {
                Comparison::Equal => Ok(format!("{column} IS NULL")),
                Comparison::NotEqual => Ok(format!("{column} IS NOT NULL")),
                _ => Err(Wrong::new("Only eq and ne compare with null.")),
            };
        }
        let operator = match comparison {
            Comparison::Equal => "=",
            Comparison::NotEqual => "<>",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
        };
        let wrong = |expected: &str| Wrong::new(format!("'{}' is compared with {expected}.", property.name));
        let exact = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        Ok(match (property.kind, literal) {
            (Kind::Text, Literal::Text(text)) => {
                let (left, bound) = (self.folded(column), self.bind(Bind::Text(text.clone())));
                format!("{left} {operator} {}", self.folded(&bound))
            }
            (Kind::Id, Literal::Text(text)) if exact => format!("{column} {operator} {}", self.bind(Bind::Text(text.to_lowercase()))),
            (Kind::Exact, Literal::Text(text)) => format!("{column} {operator} {}", self.bind(Bind::Text(text.clone()))),
            (Kind::Text | Kind::Id | Kind::Exact, _) => return Err(wrong("a text")),
            (Kind::Number, Literal::Number(number)) => format!("{column} {operator} {}", self.bind(Bind::Number(*number))),
            (Kind::Number, _) => return Err(wrong("a number")),
            (Kind::Time, Literal::Time(at)) => format!("{column} {operator} {}", self.bind(Bind::Number(*at))),
            // Scripts put moments into quotes.
            (Kind::Time, Literal::Text(text)) => {
                let at = moment(text).ok_or_else(|| wrong("a moment such as 2026-01-02T03:04:05Z"))?;
                format!("{column} {operator} {}", self.bind(Bind::Number(at)))
            }
            (Kind::Time, _) => return Err(wrong("a moment such as 2026-01-02T03:04:05Z")),
            (Kind::Bool, Literal::Bool(value)) if exact => format!("{column} {operator} {}", self.bind(Bind::Bool(*value))),
            (Kind::Bool, _) => return Err(wrong("true or false, by eq or ne")),
            (Kind::Word(words), Literal::Text(text)) if exact => {
                let stored: Vec<&str> =
                    words.iter().filter(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, stored)| *stored).collect();
                if stored.is_empty() {
                    let mut known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                    known.dedup();
                    return Err(wrong(&format!("one of {}", known.join(", "))));
                }
                let bound: Vec<String> = stored.iter().map(|word| self.bind(Bind::Text((*word).to_owned()))).collect();
                let not = if comparison == Comparison::NotEqual { "NOT " } else { "" };
                let holds = format!("{column} {not}IN ({})", bound.join(", "));
                // Few words are shared by many: SQLite would read all of a table for one of them and sort it, for a page.
                if self.is_postgres { holds } else { format!("likely({holds})") }
            }
            (Kind::Word(_), _) => return Err(wrong("a word, by eq or ne")),
        })
    }

    fn matches(&mut self, property: &Property, kind: Match, text: &str) -> std::result::Result<String, Wrong> {
        if !matches!(property.kind, Kind::Text | Kind::Id | Kind::Exact) {
            return Err(Wrong::new(format!("'{}' is no text.", property.name)));
        }
        let left = self.folded(property.column);
        Ok(match kind {
            // A stretch of the index.
            Match::Start => {
                let from = self.bind(Bind::Text(text.to_owned()));
                let to = self.bind(Bind::Text(format!("{text}{BEYOND}")));
                format!("({left} >= {} AND {left} < {})", self.folded(&from), self.folded(&to))
            }
            Match::End => format!("{left} LIKE lower({}) ESCAPE '\\'", self.bind(Bind::Text(format!("%{}", escaped(text))))),
            Match::Inside => format!("{left} LIKE lower({}) ESCAPE '\\'", self.bind(Bind::Text(format!("%{}%", escaped(text))))),
        })
    }

    fn search(&mut self, clauses: &[Vec<Clause>]) -> std::result::Result<String, Wrong> {
        let mut any = Vec::new();
        for all in clauses {
            let mut each = Vec::new();
            for clause in all {
                let searched: Vec<Property> = match &clause.property {
                    Some(name) => vec![*self.property(name)?],
                    None => self.set.properties.iter().filter(|property| property.search).copied().collect(),
                };
                let hits: Vec<String> = searched
                    .iter()
                    .map(|property| self.matches(property, Match::Inside, &clause.text))
                    .collect::<std::result::Result<_, _>>()?;
                if hits.is_empty() {
                    return Err(Wrong::new("This set cannot be searched."));
                }
                each.push(format!("({})", hits.join(" OR ")));
            }
            any.push(format!("({})", each.join(" AND ")));
        }
        Ok(format!("({})", any.join(" OR ")))
    }

    fn conditions(&mut self, query: &Query, within: &[Within]) -> std::result::Result<Vec<String>, Wrong> {
        let mut all = vec![format!("({})", self.set.base)];
        for bound in within {
            all.push(match bound {
                Within::Equal(column, value) => format!("{column} = {}", self.bind(Bind::Text(value.clone()))),
                Within::Groups(groups) if groups.is_empty() => "FALSE".into(),
                // Nobody's in particular.
                Within::Groups(_) if !self.set.reach.contains("{groups}") => self.set.reach.to_owned(),
                Within::Keys(keys) if keys.is_empty() => "FALSE".into(),
                Within::Keys(keys) => {
                    let places: Vec<String> = keys.iter().map(|key| self.bind(Bind::Text(key.clone()))).collect();
                    format!("{} IN ({})", self.set.key, places.join(", "))
                }
                Within::Groups(groups) => {
                    let ids: Vec<String> = groups.iter().map(|group| self.bind(Bind::Text(group.to_string()))).collect();
                    format!("({})", self.set.reach.replace("{groups}", &ids.join(", ")))
                }
            });
        }
        if let Some(filter) = &query.filter {
            all.push(self.expr(filter)?);
        }
        if !query.search.is_empty() {
            all.push(self.search(&query.search)?);
        }
        Ok(all)
    }

    /// What a property is ordered by: nothing comes before everything.
    fn order(&self, order: &Order) -> std::result::Result<(String, bool), Wrong> {
        let property = self.set.properties.iter().find(|property| property.order && property.name.eq_ignore_ascii_case(&order.property));
        let property = property
            .ok_or_else(|| Wrong::new(format!("The property '{}' cannot be ordered by.", crate::wire::odata::quoted(&order.property))))?;
        let column = property.column;
        Ok(match (property.kind, property.nullable) {
            (Kind::Number | Kind::Time, false) => (column.to_owned(), false),
            (Kind::Number | Kind::Time, true) => (format!("COALESCE({column}, {BEFORE})"), false),
            (_, false) => (self.folded(column), true),
            (_, true) => (self.folded(&format!("COALESCE({column}, '')")), true),
        })
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    k: String,
    #[diesel(sql_type = Nullable<Text>)]
    t0: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    n0: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    t1: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    n1: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    t2: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    n2: Option<i64>,
}

impl Row {
    fn last(self, orders: usize) -> Last {
        let values = [(self.t0, self.n0), (self.t1, self.n1), (self.t2, self.n2)];
        let sort =
            |(text, number): (Option<String>, Option<i64>)| number.map_or_else(|| Sort::Text(text.unwrap_or_default()), Sort::Number);
        Last { values: values.into_iter().take(orders).map(sort).collect(), key: self.k }
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Runs a statement with values bound in their order.
fn load<T>(conn: &mut Conn, text: &str, binds: Vec<Bind>) -> Result<Vec<T>>
where
    T: QueryableByName<diesel::pg::Pg> + QueryableByName<diesel::sqlite::Sqlite> + Send + 'static,
{
    each_backend!(conn, c => {
        let mut query = diesel::sql_query(text).into_boxed();
        for bind in binds {
            query = match bind {
                Bind::Text(value) => query.bind::<Text, _>(value),
                Bind::Number(value) => query.bind::<BigInt, _>(value),
                Bind::Bool(value) => query.bind::<Bool, _>(value),
            };
        }
        Ok(query.load::<T>(c)?)
    })
}

fn compiler<'a>(conn: &Conn, set: &'a Set) -> Compiler<'a> {
    Compiler { set, is_postgres: matches!(conn, Conn::Postgres(_)), binds: Vec::new() }
}

/// Runs a statement that is built around what tells the objects of a set that fit: `given` is bound first, as `$1` and so on.
///
/// # Errors
/// [`Refused::Wrong`] when the expression asks for what the set has not.
pub(super) fn execute(tx: &mut Tx<'_>, set: &Set, fits: &Expr, given: Vec<Bind>, statement: impl FnOnce(&str) -> String) -> Asked<usize> {
    let conn = tx.conn();
    let mut compiler = Compiler { binds: given, ..compiler(conn, set) };
    let condition = format!("({}) AND {}", set.base, compiler.expr(fits)?);
    let (text, binds) = (statement(&condition), compiler.binds);
    let done = each_backend!(conn, c => {
        let mut query = diesel::sql_query(text).into_boxed();
        for bind in binds {
            query = match bind {
                Bind::Text(value) => query.bind::<Text, _>(value),
                Bind::Number(value) => query.bind::<BigInt, _>(value),
                Bind::Bool(value) => query.bind::<Bool, _>(value),
            };
        }
        query.execute(c)
    });
    Ok(done.map_err(super::Error::from)?)
}

/// A page of at most `limit` objects of a set, after `last`.
///
/// # Errors
/// [`Refused::Wrong`] when the query asks for what the set has not.
pub fn page(conn: &mut Conn, set: &Set, query: &Query, within: &[Within], last: Option<&Last>, limit: u32) -> Asked<Page> {
    let mut compiler = compiler(conn, set);
    let mut conditions = compiler.conditions(query, within)?;
    let usual = set.newest_first.filter(|_| query.order_by.is_empty());
    let usual = usual.map(|property| Order { property: property.to_owned(), descending: true });
    let orders: Vec<(String, bool, bool)> = query
        .order_by
        .iter()
        .chain(&usual)
        .filter(|order| !order.property.eq_ignore_ascii_case("id"))
        .map(|order| compiler.order(order).map(|(expression, text)| (expression, text, order.descending)))
        .collect::<std::result::Result<_, _>>()?;
    let key_descends = usual.is_some() || query.order_by.iter().any(|order| order.property.eq_ignore_ascii_case("id") && order.descending);
    if let Some(last) = last {
        conditions.push(after(&mut compiler, &orders, key_descends, last)?);
    }
    let mut columns = format!("{} AS k", set.key);
    for number in 0..3 {
        let (text, count) = match orders.get(number) {
            Some((expression, true, _)) => (expression.as_str(), "CAST(NULL AS BIGINT)"),
            Some((expression, false, _)) => ("CAST(NULL AS TEXT)", expression.as_str()),
            None => ("CAST(NULL AS TEXT)", "CAST(NULL AS BIGINT)"),
        };
        columns.push_str(&format!(", {text} AS t{number}, {count} AS n{number}"));
    }
    let direction = |descends: bool| if descends { "DESC" } else { "ASC" };
    let mut by: Vec<String> = orders.iter().map(|(expression, _, descends)| format!("{expression} {}", direction(*descends))).collect();
    by.push(format!("{} {}", set.key, direction(key_descends)));
    let wanted = compiler.bind(Bind::Number(i64::from(limit) + 1));
    let skipped = compiler.bind(Bind::Number(i64::from(if last.is_none() { query.skip } else { 0 })));
    let text = format!(
        "SELECT {columns} FROM {} WHERE {} ORDER BY {} LIMIT {wanted} OFFSET {skipped}",
        set.from,
        conditions.join(" AND "),
        by.join(", ")
    );
    let mut rows: Vec<Row> = load(conn, &text, compiler.binds)?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let keys: Vec<String> = rows.iter().map(|row| row.k.clone()).collect();
    let next = if more { rows.pop().map(|row| row.last(orders.len())) } else { None };
    Ok(Page { keys, next })
}

/// What comes after an object in the order: first what an index can begin at, then the exact place.
fn after(
    compiler: &mut Compiler<'_>,
    orders: &[(String, bool, bool)],
    key_descends: bool,
    last: &Last,
) -> std::result::Result<String, Wrong> {
    if last.values.len() != orders.len() {
        return Err(Wrong::new("The skip token does not belong to this query."));
    }
    let mut bound = Vec::new();
    for ((expression, is_text, descends), value) in orders.iter().zip(&last.values) {
        let value = match (value, is_text) {
            (Sort::Text(text), true) => {
                let place = compiler.bind(Bind::Text(text.clone()));
                if compiler.is_postgres { format!("{place} COLLATE \"C\"") } else { place }
            }
            (Sort::Number(number), false) => compiler.bind(Bind::Number(*number)),
            _ => return Err(Wrong::new("The skip token does not belong to this query.")),
        };
        bound.push((expression.as_str(), value, *descends));
    }
    let key = compiler.bind(Bind::Text(last.key.clone()));
    bound.push((compiler.set.key, key, key_descends));
    let mut any = Vec::new();
    for at in 0..bound.len() {
        let mut all: Vec<String> = bound.iter().take(at).map(|(expression, value, _)| format!("{expression} = {value}")).collect();
        all.extend(
            bound.get(at).map(|(expression, value, descends)| format!("{expression} {} {value}", if *descends { "<" } else { ">" })),
        );
        any.push(format!("({})", all.join(" AND ")));
    }
    let begin = bound.first().map(|(expression, value, descends)| format!("{expression} {} {value}", if *descends { "<=" } else { ">=" }));
    Ok(format!("({} AND ({}))", begin.unwrap_or_default(), any.join(" OR ")))
}

/// How many objects of a set fit a query.
///
/// # Errors
/// As [`page`].
pub fn count(conn: &mut Conn, set: &Set, query: &Query, within: &[Within]) -> Asked<i64> {
    let mut compiler = compiler(conn, set);
    let conditions = compiler.conditions(query, within)?;
    let text = format!("SELECT COUNT(*) AS n FROM {} WHERE {}", set.from, conditions.join(" AND "));
    let rows: Vec<Count> = load(conn, &text, compiler.binds)?;
    Ok(rows.first().map_or(0, |row| row.n))
}

/// Whether one object is in a set and within bounds: what a caller may not see does not exist for them.
///
/// # Errors
/// Only the database's own.
pub fn has(conn: &mut Conn, set: &Set, key: &str, within: &[Within]) -> Asked<bool> {
    let mut compiler = compiler(conn, set);
    let mut conditions = compiler.conditions(&Query::default(), within)?;
    conditions.push(format!("{} = {}", set.key, compiler.bind(Bind::Text(key.to_owned()))));
    let text = format!("SELECT COUNT(*) AS n FROM {} WHERE {}", set.from, conditions.join(" AND "));
    let rows: Vec<Count> = load(conn, &text, compiler.binds)?;
    Ok(rows.first().is_some_and(|row| row.n > 0))
}
