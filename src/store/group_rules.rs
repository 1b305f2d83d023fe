//! Rules that say who belongs to a group, as statements: whoever joins and whoever leaves is found and written by one statement each,
//! whatever their number.

mod patterns;

use diesel::prelude::*;

use super::odata::{self, Bind, Kind, Property, Refused, Set};
use super::schema::groups;
use super::{Conn, Error, Result, Tx};
use crate::clock::{MINUTE, Time};
use crate::domain::group::rule::{Rule, Subject, Test, Value};
use crate::domain::group::{Group, Member};
use crate::ids::{DeviceId, GroupId, UserId};
use crate::wire::odata::filter::{Comparison, Expr, Literal, Match};
use crate::wire::odata::query::Query;

/// How far the clocks of nodes, and of transactions that end late, are apart at most.
const MARGIN: i64 = 10 * MINUTE;

const USERS: Set = Set {
    name: "users of a rule",
    from: "users t",
    key: "t.id",
    base: "t.deleted_at IS NULL",
    reach: "FALSE",
    properties: &[
        Property::new("accountEnabled", "t.enabled", Kind::Bool),
        Property::new("department", "t.department", Kind::Text),
        Property::new("displayName", "t.display_name", Kind::Text),
        Property::new("employeeId", "t.employee_id", Kind::Text),
        Property::new("givenName", "t.given_name", Kind::Text),
        Property::new("jobTitle", "t.job_title", Kind::Text),
        Property::new("mail", "t.mail", Kind::Text),
        Property::new("mobile", "t.mobile_phone", Kind::Text),
        Property::new("objectId", "t.id", Kind::Text),
        Property::new("onPremisesSecurityIdentifier", "t.security_identifier", Kind::Text),
        Property::new("physicalDeliveryOfficeName", "t.office_location", Kind::Text),
        Property::new("preferredLanguage", "t.preferred_language", Kind::Text),
        Property::new("surname", "t.surname", Kind::Text),
        Property::new("usageLocation", "t.usage_location", Kind::Text),
        Property::new("userPrincipalName", "t.upn", Kind::Text),
    ],
    lists: &[],
    types: &[],
    newest_first: None,
};

/// The words are Entra ID's.
const SYSTEM: &str = "CASE t.platform WHEN 'windows' THEN 'Windows' WHEN 'macos' THEN 'MacMDM' WHEN 'android' THEN 'AndroidEnterprise'
    ELSE CASE WHEN t.model LIKE 'iPad%' THEN 'iPad' ELSE 'iPhone' END END";

const DEVICES: Set = Set {
    name: "devices of a rule",
    from: "devices t",
    key: "t.id",
    // What is not managed any more is in no group by a rule.
    base: "t.state <> 'retired'",
    reach: "FALSE",
    properties: &[
        Property::new("deviceId", "COALESCE(t.entra_device_id, t.id)", Kind::Text),
        Property::new("deviceManufacturer", "t.manufacturer", Kind::Text),
        Property::new("deviceModel", "t.model", Kind::Text),
        Property::new("deviceOSType", SYSTEM, Kind::Text),
        Property::new("deviceOSVersion", "t.os_version", Kind::Text),
        Property::new("displayName", "t.display_name", Kind::Text),
        Property::new("objectId", "t.id", Kind::Text),
    ],
    lists: &[super::autopilot::DEVICE_PHYSICAL_IDS],
    types: &[],
    newest_first: None,
};

fn set(subject: Subject) -> &'static Set {
    match subject {
        Subject::User => &USERS,
        Subject::Device => &DEVICES,
    }
}

/// What is true of nothing.
fn nothing() -> Expr {
    Expr::Not(Box::new(Expr::Compare("objectId".into(), Comparison::NotEqual, Literal::Null)))
}

/// A rule of texts, as a filter. What compares with nothing is not true, and its opposite is: the filter has it so, too.
fn filter(test: &Test) -> Expr {
    let chain = |tests: &[Test], both: fn(Box<Expr>, Box<Expr>) -> Expr| {
        let mut each = tests.iter().map(filter);
        let first = each.next().unwrap_or_else(nothing);
        each.fold(first, |all, next| both(Box::new(all), Box::new(next)))
    };
    match test {
        Test::All(tests) => chain(tests, Expr::And),
        Test::Any(tests) => chain(tests, Expr::Or),
        Test::Not(test) => Expr::Not(Box::new(filter(test))),
        Test::Is(name, value) => {
            let value = match value {
                Value::Text(text) => Literal::Text(text.clone()),
                Value::Texts(_) => Literal::Null,
                Value::Bool(value) => Literal::Bool(*value),
                Value::Null => Literal::Null,
            };
            Expr::Compare((*name).to_owned(), Comparison::Equal, value)
        }
        Test::Ends(name, text) => Expr::Match(Match::End, (*name).to_owned(), text.clone()),
        Test::AnyOf(name, test) => Expr::Any((*name).to_owned(), Box::new(filter(test))),
        Test::AllOf(name, test) => Expr::Not(Box::new(Expr::Any((*name).to_owned(), Box::new(Expr::Not(Box::new(filter(test))))))),
        // Rules with patterns take the other way.
        Test::Matches(..) => Expr::Not(Box::new(nothing())),
        Test::Begins(name, text) => Expr::Match(Match::Start, (*name).to_owned(), text.clone()),
        Test::Holds(name, text) => Expr::Match(Match::Inside, (*name).to_owned(), text.clone()),
    }
}

/// What the rule of a group speaks of.
pub(super) fn subject(group: &Group) -> Option<&'static str> {
    group.rule.as_deref().and_then(|text| Rule::parse(text).ok()).map(|rule| rule.subject.as_str())
}

fn known<T>(asked: odata::Asked<T>) -> Result<T> {
    asked.map_err(|refused| match refused {
        Refused::Store(error) => error,
        Refused::Wrong(_) => Error::corrupt("groups.membership_rule"),
    })
}

/// For which objects a rule is followed.
enum Over<'a> {
    All,
    One(&'a str),
    Since(Time),
}

/// Lets join whoever the rule is true of, and leave whoever it is not; returns how many moved.
fn apply(tx: &mut Tx<'_>, group: &GroupId, rule: &Rule, over: &Over<'_>, now: Time) -> Result<usize> {
    if rule.test.has_pattern() {
        return patterns::apply(tx, group, rule, over, now);
    }
    let (set, kind, fits) = (set(rule.subject), rule.subject.as_str(), filter(&rule.test));
    // Parameters are numbered as they first appear.
    let (among, third) = match over {
        Over::All => ("", None),
        Over::One(id) => ("AND t.id = $3", Some(Bind::Text((*id).to_owned()))),
        Over::Since(at) => ("AND t.updated_at >= $3", Some(Bind::Number(at.0))),
    };
    let from = set.from;
    let given: Vec<Bind> = [Bind::Text(group.to_string()), Bind::Number(now.0)].into_iter().chain(third).collect();
    let joined = known(odata::execute(tx, set, &fits, given, |fits| {
        format!(
            "INSERT INTO group_members (group_id, member_kind, member_id, added_at)
             SELECT $1, '{kind}', t.id, $2 FROM {from} WHERE TRUE {among} AND {fits} AND NOT EXISTS (
                 SELECT 1 FROM group_members m WHERE m.group_id = $1 AND m.member_kind = '{kind}' AND m.member_id = t.id)"
        )
    }))?;
    let (of, second) = match over {
        Over::All => (String::new(), None),
        Over::One(id) => (format!("AND member_kind = '{kind}' AND member_id = $2"), Some(Bind::Text((*id).to_owned()))),
        Over::Since(at) => (
            format!("AND member_kind = '{kind}' AND member_id IN (SELECT t.id FROM {from} WHERE t.updated_at >= $2)"),
            Some(Bind::Number(at.0)),
        ),
    };
    let given: Vec<Bind> = [Bind::Text(group.to_string())].into_iter().chain(second).collect();
    let left = known(odata::execute(tx, set, &fits, given, |fits| {
        // Those of the other kind were added before there was a rule.
        format!(
            "DELETE FROM group_members WHERE group_id = $1 {of}
                 AND (member_kind <> '{kind}' OR NOT EXISTS (SELECT 1 FROM {from} WHERE t.id = group_members.member_id AND {fits}))"
        )
    }))?;
    Ok(joined + left)
}

/// Follows the rule of a group for everything, when it has one.
///
/// # Errors
/// Only the database's own.
pub fn follow_all(tx: &mut Tx<'_>, group: &Group, now: Time) -> Result<usize> {
    let Some(rule) = group.rule.as_deref().and_then(|text| Rule::parse(text).ok()) else { return Ok(0) };
    let moved = apply(tx, &group.id, &rule, &Over::All, now)?;
    diesel::update(groups::table.find(group.id.as_str())).set(groups::rule_followed_at.eq(now.0)).execute(tx.conn())?;
    Ok(moved)
}

/// Follows every rule for one user or device, after it changed; returns how many groups have it or lost it.
///
/// # Errors
/// Only the database's own.
pub fn follow(tx: &mut Tx<'_>, subject: Subject, id: &str, now: Time) -> Result<usize> {
    let rules: Vec<(String, Option<String>)> = groups::table
        .filter(groups::rule_subject.eq(subject.as_str()))
        .filter(groups::deleted_at.is_null())
        .order(groups::id)
        .select((groups::id, groups::membership_rule))
        .load(tx.conn())?;
    let mut moved = 0;
    for (group, text) in rules {
        // One that cannot be read any more keeps nobody from enrolling: it stays as it was.
        if let Some(Ok(rule)) = text.as_deref().map(Rule::parse) {
            moved += apply(tx, &GroupId::from_store(group), &rule, &Over::One(id), now)?;
        }
    }
    Ok(moved)
}

/// The groups that go by a rule.
///
/// # Errors
/// Only the database's own.
pub fn list_groups(conn: &mut Conn) -> Result<Vec<GroupId>> {
    let by_rule = groups::table.filter(groups::rule_subject.is_not_null()).filter(groups::deleted_at.is_null());
    let ids: Vec<String> = by_rule.order(groups::id).select(groups::id).load(conn)?;
    Ok(ids.into_iter().map(GroupId::from_store).collect())
}

/// Follows the rule of a group for what changed since that was done last; for everything when a new stretch of `every` milliseconds has
/// begun since. Returns how many moved.
///
/// # Errors
/// Only the database's own.
pub fn follow_changed(tx: &mut Tx<'_>, group: &GroupId, now: Time, every: i64) -> Result<usize> {
    let present = groups::table.find(group.as_str()).filter(groups::deleted_at.is_null());
    let found: Option<(Option<String>, i64)> =
        present.select((groups::membership_rule, groups::rule_followed_at)).first(tx.conn()).optional()?;
    let Some((Some(text), followed)) = found else { return Ok(0) };
    let Ok(rule) = Rule::parse(&text) else { return Err(Error::corrupt("groups.membership_rule")) };
    let all = followed > now.0 || followed.div_euclid(every) != now.0.div_euclid(every);
    let over = if all { Over::All } else { Over::Since(Time(followed - MARGIN)) };
    let moved = apply(tx, group, &rule, &over, now)?;
    diesel::update(groups::table.find(group.as_str())).set(groups::rule_followed_at.eq(now.0)).execute(tx.conn())?;
    Ok(moved)
}

/// Of whom a rule is true.
///
/// # Errors
/// Only the database's own.
pub fn list_fitting(conn: &mut Conn, rule: &Rule, limit: i64) -> Result<Vec<Member>> {
    if rule.test.has_pattern() {
        return patterns::list_fitting(conn, rule, limit);
    }
    let query = Query { filter: Some(filter(&rule.test)), ..Query::default() };
    let page = known(odata::page(conn, set(rule.subject), &query, &[], None, u32::try_from(limit).unwrap_or(u32::MAX)))?;
    Ok(page.keys.into_iter().map(|id| member(rule.subject, id)).collect())
}

fn member(subject: Subject, id: String) -> Member {
    match subject {
        Subject::User => Member::User(UserId::from_store(id)),
        Subject::Device => Member::Device(DeviceId::from_store(id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::group::rule::{LISTS_OF_DEVICES, OF_DEVICES, OF_USERS};

    #[test]
    fn what_rules_may_ask_for_is_in_the_tables() {
        for (set, names) in [(&USERS, OF_USERS), (&DEVICES, OF_DEVICES)] {
            let known: Vec<_> = set.properties.iter().map(|property| property.name).collect();
            assert_eq!(known, names);
        }
        let lists: Vec<_> = DEVICES.lists.iter().map(|list| list.name).collect();
        assert_eq!(lists, LISTS_OF_DEVICES);
    }
}
