//! Queries of the Graph-shaped API over tables: the same answers as the evaluator of small collections gives, page by page, on either
//! database; and through indexes where they are many.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex};

use diesel::connection::{Connection as _, InstrumentationEvent, SimpleConnection as _};
use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl as _};
use muster::store::certificates::leaf::LEAVES;
use muster::store::enrollments::managed::MANAGED;
use muster::store::odata::{Kind, Last, List, Property, Set, page};
use muster::store::{Conn, Store, autopilot, devices, provision, sign_ins, users};
use muster::wire::odata::edm::time;
use muster::wire::odata::evaluate::fits;
use muster::wire::odata::filter::{Comparison, Expr, Literal, Match, moment};
use muster::wire::odata::query::Query;
use muster::wire::scim::schema::USER;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::both_backends;

/// How many people the tables have.
const PEOPLE: i64 = 60;
/// How many filters are asked for.
const FILTERS: usize = 400;

/// Every kind of property, over the table of people.
static ALL: Set = Set {
    name: "all",
    from: "users t",
    key: "t.id",
    base: "t.enabled OR NOT t.enabled",
    reach: "FALSE",
    properties: &[
        Property::new("id", "t.id", Kind::Id).ordered(),
        Property::new("name", "t.display_name", Kind::Text).ordered(),
        Property::new("mail", "t.mail", Kind::Text).ordered().nullable(),
        Property::new("enabled", "t.enabled", Kind::Bool),
        Property::new("at", "t.created_at", Kind::Time).ordered(),
        Property::new("maybe", "CASE WHEN t.created_at % 3 = 0 THEN NULL ELSE t.created_at END", Kind::Time).ordered().nullable(),
        Property::new("number", "t.created_at / 1000 % 7", Kind::Number).ordered(),
        Property::new("few", "CASE WHEN t.created_at / 1000 % 5 = 0 THEN NULL ELSE t.created_at / 1000 % 5 END", Kind::Number)
            .ordered()
            .nullable(),
        Property::new("place", "t.usage_location", Kind::Word(&[("near", "DE"), ("near", "AT"), ("far", "US")])),
    ],
    lists: &[List { name: "serials", from: Some("FROM devices d WHERE d.user_id = t.id"), member: "d.serial_number", kind: Kind::Text }],
    types: &[("even", "t.enabled"), ("odd", "NOT t.enabled")],
    newest_first: None,
};

/// People with a little of everything: what is missing, what is empty, case, and signs that SQL takes for special.
static ROWS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let names = ["Ann", "ANN", "ann b", "O'Brien", "50%_\\x", "", "日本", "zoë"];
    let mails = [None, Some(""), Some("Ann@example.org"), Some("ann@EXAMPLE.org"), Some("%"), None, Some("a_b")];
    let row = |n: i64| {
        let at = n * 1_000 + if n % 4 == 0 { 7 } else { 0 };
        let few = at / 1_000 % 5;
        let serials: Vec<Option<String>> = (0..n % 3).map(|d| (d == 1).then(|| format!("S{}", n % 5))).collect();
        json!({
            "@odata.type": if n % 2 == 0 { "#microsoft.graph.even" } else { "#microsoft.graph.odd" },
            "id": format!("00000000-0000-7000-8000-{n:012x}"),
            "name": names[(n * 5 % 8) as usize],
            "mail": mails[(n * 3 % 7) as usize],
            "enabled": n % 2 == 0,
            "at": time(at),
            "maybe": (at % 3 != 0).then(|| time(at)),
            "number": at / 1_000 % 7,
            "few": (few != 0).then_some(few),
            "place": if n % 3 == 0 { "far" } else { "near" },
            "serials": serials,
            "millis": at,
        })
    };
    (0..PEOPLE).map(row).collect()
});

fn run(conn: &mut Conn, sql: &str) {
    match conn {
        Conn::Sqlite(c) => c.batch_execute(sql),
        Conn::Postgres(c) => c.batch_execute(sql),
    }
    .unwrap_or_else(|why| panic!("{sql}: {why}"));
}

async fn fill(store: &Store) {
    let text = |value: &Value| value.as_str().map_or("NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")));
    let mut sql = Vec::new();
    for (n, row) in ROWS.iter().enumerate() {
        let place = ["US", "DE", "AT"][n % 3];
        sql.push(format!(
            "INSERT INTO users (id, upn, display_name, mail, usage_location, enabled, created_at, updated_at) \
             VALUES ({}, 'u{n}@example.org', {}, {}, '{place}', {}, {}, 0)",
            text(&row["id"]),
            text(&row["name"]),
            text(&row["mail"]),
            row["enabled"],
            row["millis"]
        ));
        for (d, serial) in row["serials"].as_array().unwrap().iter().enumerate() {
            sql.push(format!(
                "INSERT INTO devices (id, display_name, platform, user_id, serial_number, state, created_at, updated_at) \
                 VALUES ('d{n}-{d}', 'PC', 'windows', {}, {}, 'managed', 0, 0)",
                text(&row["id"]),
                text(serial)
            ));
        }
    }
    let insert = move |tx: &mut muster::store::Tx<'_>| {
        sql.iter().for_each(|sql| run(tx.conn(), sql));
        Ok(())
    };
    store.write(insert).await.unwrap();
}

/// All pages, one after the other.
async fn keys(store: &Store, query: &Query, size: u32) -> Vec<String> {
    let (mut found, mut last): (Vec<String>, Option<Last>) = (Vec::new(), None);
    loop {
        let (asked, from) = (query.clone(), last.take());
        let part = store.read(move |c| Ok(page(c, &ALL, &asked, &[], from.as_ref(), size))).await.unwrap().unwrap();
        assert!(part.keys.len() <= size as usize && found.len() <= ROWS.len());
        found.extend(part.keys);
        last = part.next;
        if last.is_none() {
            return found;
        }
    }
}

/// What is missing comes first, as an empty text does.
fn sorted(one: &Value, other: &Value) -> Ordering {
    if one.is_number() || other.is_number() {
        return one.as_i64().cmp(&other.as_i64());
    }
    let (one, other) = (one.as_str().unwrap_or_default(), other.as_str().unwrap_or_default());
    match (moment(one), moment(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => one.to_lowercase().cmp(&other.to_lowercase()),
    }
}

fn expected(query: &Query) -> Vec<String> {
    let mut rows: Vec<&Value> = ROWS.iter().filter(|row| query.filter.as_ref().is_none_or(|filter| fits(filter, row))).collect();
    // They are by key already, and sorting keeps what is equal in its order.
    rows.sort_by(|one, other| {
        query.order_by.iter().fold(Ordering::Equal, |order, by| {
            let next = sorted(&one[&by.property], &other[&by.property]);
            order.then(if by.descending { next.reverse() } else { next })
        })
    });
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn some(texts: &[&'static str]) -> impl Strategy<Value = &'static str> + use<> {
    prop::sample::select(texts.to_vec())
}

fn texts() -> impl Strategy<Value = String> {
    some(&[
        "",
        "a",
        "ANN",
        "Ann b",
        "o'brien",
        "%",
        "_",
        "50%_\\",
        "日",
        "example.ORG",
        "S1",
        "s",
        "zo",
        "00000000-0000-7000-8000-00000000000a",
    ])
    .prop_map(str::to_owned)
}

fn filter() -> impl Strategy<Value = Expr> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let any_of = || prop::sample::select(vec![Equal, NotEqual, Greater, GreaterOrEqual, Less, LessOrEqual]);
    let equal = || prop::sample::select(vec![Equal, NotEqual]);
    let kind = || prop::sample::select(vec![Match::Start, Match::End, Match::Inside]);
    let compare = |(path, comparison, value): (&'static str, Comparison, Literal)| Expr::Compare(path.into(), comparison, value);
    let text = || texts().prop_map(Literal::Text);
    let leaf = prop_oneof![
        3 => (some(&["name", "mail"]), any_of(), text()).prop_map(compare),
        1 => (some(&["id"]), equal(), text()).prop_map(compare),
        2 => (some(&["at", "maybe"]), any_of(), (0i64..60_000).prop_map(|at| Literal::Time(at / 500 * 500))).prop_map(compare),
        2 => (some(&["number", "few"]), any_of(), (0i64..7).prop_map(Literal::Number)).prop_map(compare),
        1 => (some(&["enabled"]), equal(), any::<bool>().prop_map(Literal::Bool)).prop_map(compare),
        1 => (some(&["place"]), equal(), some(&["near", "FAR"]).prop_map(|t| Literal::Text(t.into()))).prop_map(compare),
        2 => (some(&["mail", "maybe", "few", "name"]), equal(), Just(Literal::Null)).prop_map(compare),
        2 => (kind(), some(&["name", "mail"]), texts()).prop_map(|(kind, path, text)| Expr::Match(kind, path.into(), text)),
        1 => (some(&["name", "mail"]), prop::collection::vec(prop_oneof![3 => text(), 1 => Just(Literal::Null)], 1..4))
            .prop_map(|(path, values)| Expr::In(path.into(), values)),
        2 => (kind(), texts(), any::<bool>()).prop_map(|(kind, text, not)| {
            let holds = Expr::Match(kind, String::new(), text);
            Expr::Any("serials".into(), Box::new(if not { Expr::Not(Box::new(holds)) } else { holds }))
        }),
        1 => (any_of(), text()).prop_map(|(comparison, value)| {
            Expr::Any("serials".into(), Box::new(Expr::Compare(String::new(), comparison, value)))
        }),
        1 => some(&["even", "odd"]).prop_map(|of| Expr::IsOf(of.into())),
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expr::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expr::Or(Box::new(a), Box::new(b))),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

fn order() -> impl Strategy<Value = String> {
    let one = (some(&["name", "mail", "at", "maybe", "number", "few"]), any::<bool>());
    prop::collection::vec(one, 0..4).prop_map(|orders| {
        let mut seen = HashSet::new();
        let kept = orders.into_iter().filter(|(name, _)| seen.insert(*name));
        kept.map(|(name, descending)| format!("{name}{}", if descending { " desc" } else { "" })).collect::<Vec<_>>().join(",")
    })
}

both_backends! {
    async fn tables_answer_as_the_evaluator_does(store: Store) {
        fill(&store).await;
        let config = Config { source_file: None, failure_persistence: None, ..Config::default() };
        let seed: [u8; 32] = std::array::from_fn(|at| at as u8);
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let (mut some, mut all) = (0, 0);
        for round in 0..FILTERS {
            let filter = filter().new_tree(&mut runner).unwrap().current();
            let order = order().new_tree(&mut runner).unwrap().current();
            let mut query = if order.is_empty() { Query::default() } else { Query::parse(&format!("$orderby={order}")).unwrap() };
            query.filter = Some(filter.clone());
            let expected = expected(&query);
            let size = if round % 2 == 0 { 7 } else { 1_000 };
            assert_eq!(keys(&store, &query, size).await, expected, "{filter:?} by {order}");
            some += usize::from(!expected.is_empty());
            all += usize::from(expected.len() == ROWS.len());
        }
        assert!(some > FILTERS / 2 && all < FILTERS / 2, "{some} {all}");
    }
}

/// A fleet of 100,000, all at once.
const FLEET: &str = "
    INSERT INTO users (id, upn, display_name, mail, external_id, enabled, created_at, updated_at)
        WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 100000)
        SELECT 'u' || (1000000 + n), 'user' || n || '@example.org', 'User ' || n, 'user' || n || '@example.org', 'E' || n, TRUE, n, n
        FROM g;
    INSERT INTO devices (id, display_name, platform, user_id, entra_device_id, serial_number, os_version, state, created_at, updated_at)
        WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 100000)
        SELECT 'd' || (1000000 + n), 'PC-' || n, 'windows', 'u' || (1000000 + n), NULL, 'SN' || n, '10.0.22631', 'managed', n, n FROM g;
    INSERT INTO enrollments (id, device_id, platform, kind, state, mdm_id, context, last_seen_at, enrolled_at, version)
        SELECT 'e' || id, id, platform, 'full', 'active', id, '{}', created_at, created_at, 1 FROM devices;
    INSERT INTO compliance_states (device_id, state, compliant, detail, evaluated_at, changed_at, version)
        SELECT id, CASE WHEN created_at % 50 = 0 THEN 'noncompliant' ELSE 'compliant' END, created_at % 50 <> 0, '{}', 1, 1, 1 FROM devices;
    INSERT INTO sign_ins (id, created_at, user_id, user_principal_name, user_display_name, app_id, app_display_name, resource_id,
            resource_display_name, ip_address, client_app_used, user_agent, correlation_id, is_interactive, method, error_code, failure_reason)
        SELECT 's' || id, created_at, id, upn, display_name, 'a' || (created_at % 20), 'App', '', '', '192.0.2.' || (created_at % 200), 'Browser',
            '', '', TRUE, 'passkey', CASE WHEN created_at % 5000 = 0 THEN 50126 ELSE 0 END, '' FROM users;
    INSERT INTO authorities (id, name, kind, status, key_algorithm, certificate, sealed_key, crl_number, crl_due_at, not_before, not_after,
            created_at, upper_chain, display_name, description, updated_at, version)
        VALUES ('ca', 'ca', 'issuing', 'active', 'p-256', 'c', 'k', 1, 1, 1, 1, 1, '', 'CA', '', 1, 1);
    INSERT INTO certificates (id, authority_id, serial, sha1, sha256, subject, purpose, status, not_before, not_after, device_id, user_id,
            grant_document, certificate, created_at, names_hash)
        SELECT 'c' || id, 'ca', 'ab' || created_at, 'a' || created_at, 'b' || created_at, 'CN=' || created_at, 'mdm-identity',
            CASE WHEN created_at % 50 = 0 THEN 'revoked' ELSE 'active' END, 1, created_at, id, user_id, '{}', 'c', created_at, '' FROM devices;
    INSERT INTO autopilot_devices (id, serial, product_key, hardware_hash, group_tag, user_id, addressable_user_name, display_name,
            purchase_order, created_at, updated_at)
        SELECT 'a' || id, serial_number, '', '', 'T' || (created_at % 1000), user_id, '', '', '', 1, 1 FROM devices;
";

/// What a plan reads from end to end, or sorts although it is much; few rows may be sorted.
fn unbounded(plan: &[String]) -> Vec<&String> {
    let rows = |line: &str| line.split("rows=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
    let scans = plan.iter().any(|line| line.starts_with("SCAN "));
    let is_bad = |line: &&String| {
        let node = line.trim_start_matches([' ', '-', '>']);
        line.contains("Seq Scan on")
            || (line.starts_with("SCAN ") && !line.contains("USING"))
            || (node.starts_with("Sort ") && rows(line) > 1_000)
            || (*line == "USE TEMP B-TREE FOR ORDER BY" && scans)
    };
    plan.iter().filter(is_bad).collect()
}

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    detail: String,
}

/// Runs a query, and has the database explain the statement that was sent, with its values.
fn explained(conn: &mut Conn, set: &Set, query: &Query, last: Option<&Last>) -> (Vec<String>, muster::store::odata::Page) {
    let heard = Arc::new(Mutex::new(None));
    let own = Arc::clone(&heard);
    let listen = move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            *own.lock().unwrap() = Some(query.to_string());
        }
    };
    match conn {
        Conn::Sqlite(c) => c.set_instrumentation(listen),
        Conn::Postgres(c) => c.set_instrumentation(listen),
    }
    let found = page(conn, set, query, &[], last, 50).unwrap();
    let text = heard.lock().unwrap().take().unwrap();
    match conn {
        Conn::Sqlite(c) => c.set_instrumentation(|_: InstrumentationEvent<'_>| ()),
        Conn::Postgres(c) => c.set_instrumentation(|_: InstrumentationEvent<'_>| ()),
    }
    let (statement, binds) = text.split_once(" -- binds: ").unwrap();
    let binds: Vec<Value> = serde_json::from_str(&binds.replace("\\u{10ffff}", "~")).unwrap_or_else(|why| panic!("{binds}: {why}"));
    let mut statement = statement.to_owned();
    for (at, value) in binds.iter().enumerate().rev() {
        let literal = value.as_str().map_or_else(|| value.to_string(), |text| format!("'{}'", text.replace('\'', "''")));
        statement = statement.replace(&format!("${}", at + 1), &literal);
    }
    let plan = match conn {
        Conn::Sqlite(c) => {
            let steps: Vec<Step> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {statement}")).load(c).unwrap();
            steps.into_iter().map(|step| step.detail).collect()
        }
        Conn::Postgres(c) => {
            let lines: Vec<Line> = diesel::sql_query(format!("EXPLAIN {statement}")).load(c).unwrap();
            lines.into_iter().map(|line| line.detail).collect()
        }
    };
    (plan, found)
}

both_backends! {
    async fn a_hundred_thousand_are_asked_for_through_indexes(store: Store) {
        let insert = |tx: &mut muster::store::Tx<'_>| {
            run(tx.conn(), FLEET);
            run(tx.conn(), "ANALYZE");
            Ok(())
        };
        store.write(insert).await.unwrap();
        let cases: [(&'static Set, &str, usize); 39] = [
            (&MANAGED, "", 50),
            (&MANAGED, "$orderby=deviceName", 50),
            (&MANAGED, "$orderby=deviceName desc", 50),
            (&MANAGED, "$filter=deviceName eq 'pc-4711'", 1),
            (&MANAGED, "$filter=startsWith(deviceName,'pc-471')&$orderby=deviceName", 50),
            (&MANAGED, "$filter=serialNumber eq 'sn4711'", 1),
            (&MANAGED, "$filter=startsWith(serialNumber,'SN4711')", 11),
            (&MANAGED, "$filter=userPrincipalName eq 'USER4711@example.org'", 1),
            (&MANAGED, "$filter=operatingSystem eq 'Windows'", 50),
            (&users::SET, "", 50),
            (&users::SET, "$filter=userPrincipalName eq 'User4711@Example.org'", 1),
            (&users::SET, "$filter=startsWith(displayName,'user 4711')", 11),
            (&users::SET, "$filter=mail eq 'user4711@example.org'", 1),
            (&users::SET, "$orderby=displayName desc", 50),
            (&users::SET, "$orderby=userPrincipalName&$filter=accountEnabled eq true", 50),
            (&sign_ins::SET, "", 50),
            (&sign_ins::SET, "$orderby=createdDateTime", 50),
            (&sign_ins::SET, "$filter=createdDateTime ge 1970-01-01T00:00:50Z", 50),
            (&sign_ins::SET, "$filter=userId eq 'u1004711'", 1),
            (&sign_ins::SET, "$filter=userPrincipalName eq 'User4711@Example.org'&$orderby=createdDateTime desc", 1),
            (&sign_ins::SET, "$filter=appId eq 'a7' and createdDateTime ge 1970-01-01T00:00:50Z", 50),
            (&sign_ins::SET, "$filter=ipAddress eq '192.0.2.7'", 50),
            (&sign_ins::SET, "$filter=status/errorCode eq 50126", 20),
            (&sign_ins::SET, "$filter=status/errorCode eq 0 and signInEventTypes/any(t: t eq 'interactiveUser')", 50),
            (&LEAVES, "", 50),
            (&LEAVES, "$filter=serialNumber eq 'AB4711'", 1),
            (&LEAVES, "$filter=deviceId eq 'd1004711'", 1),
            (&LEAVES, "$filter=userPrincipalName eq 'User4711@Example.org'", 1),
            (&LEAVES, "$filter=issuerId eq 'ca'", 50),
            (&LEAVES, "$filter=storedStatus eq 'revoked'", 50),
            (&LEAVES, "$filter=storedStatus eq 'active' and validityEndDateTime gt 1970-01-01T00:00:50Z", 50),
            (&LEAVES, "$filter=issuerId eq 'ca' and storedStatus eq 'revoked'", 50),
            (&autopilot::SET, "", 50),
            (&autopilot::SET, "$filter=serialNumber eq 'sn4711'", 1),
            (&autopilot::SET, "$orderby=serialNumber desc", 50),
            (&autopilot::SET, "$filter=groupTag eq 't7'", 50),
            (&autopilot::SET, "$filter=userPrincipalName eq 'user4711@example.org'", 1),
            (&devices::SET, "$filter=physicalIds/any(p:p eq '[OrderID]:T7')", 50),
            (&devices::SET, "$filter=physicalIds/any(p:startswith(p,'[ZTDID]'))", 50),
        ];
        let provisioned = [
            ("userName eq \"User4711@Example.org\"", 1),
            ("externalId eq \"E4711\"", 1),
            ("displayName eq \"user 4711\"", 1),
            ("emails[type eq \"work\"].value eq \"user4711@example.org\"", 1),
            ("id eq \"u1004711\" and active eq true", 1),
            ("userName sw \"user4711\"", 11),
        ];
        let filtered = |text: &str| Query { filter: Some(muster::wire::scim::filter::parse(&USER, text).unwrap()), ..Query::default() };
        let all = cases.map(|(set, text, count)| (set, text, Query::parse(text).unwrap(), count)).into_iter();
        let all = all.chain(provisioned.map(|(text, count)| (&provision::USERS, text, filtered(text), count)));
        let mut bad = Vec::new();
        for (set, text, query, count) in all {
            let mut last = None;
            for turn in 0..2 {
                let (asked, from) = (query.clone(), last.take());
                let (plan, found) = store.read(move |c| Ok(explained(c, set, &asked, from.as_ref()))).await.unwrap();
                if plan.is_empty() || !unbounded(&plan).is_empty() {
                    bad.push(format!("{} {text}, page {turn}: {plan:#?}", set.name));
                }
                if turn == 0 {
                    assert_eq!(found.keys.len(), count, "{text}");
                }
                last = found.next;
                if last.is_none() {
                    break;
                }
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
