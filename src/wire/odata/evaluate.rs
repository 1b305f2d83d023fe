//! What a filter means for an object in JSON: for small collections that the program itself makes. Tables answer the same
//! (`store::odata`; a test compares the two).

use std::cmp::Ordering;

use serde_json::Value;

use super::filter::{Comparison, Expr, Literal, Match, moment};
use super::query::Order;

/// Whether the object fits. A property that it does not have is null; what compares with null is false, but for `eq null` and `ne null`.
#[must_use]
pub fn fits(expr: &Expr, object: &Value) -> bool {
    let at = |path: &str| {
        if path.is_empty() { object } else { path.split('/').fold(object, |value, name| value.get(name).unwrap_or(&Value::Null)) }
    };
    match expr {
        Expr::And(a, b) => fits(a, object) && fits(b, object),
        Expr::Or(a, b) => fits(a, object) || fits(b, object),
        Expr::Not(inner) => !fits(inner, object),
        Expr::Compare(path, comparison, literal) => compares(at(path), *comparison, literal),
        Expr::In(path, values) => values.iter().any(|value| compares(at(path), Comparison::Equal, value)),
        Expr::Match(kind, path, text) => at(path).as_str().is_some_and(|value| matches(*kind, &value.to_lowercase(), &text.to_lowercase())),
        Expr::Any(path, inner) => at(path).as_array().is_some_and(|items| items.iter().any(|item| fits(inner, item))),
        Expr::IsOf(name) => {
            let own = at("@odata.type").as_str().unwrap_or_default().trim_start_matches("#microsoft.graph.");
            own.eq_ignore_ascii_case(name)
        }
    }
}

/// Which of two objects comes first: nothing before everything, text whatever its case, and what is alike stays as it is.
#[must_use]
pub fn ordered(a: &Value, b: &Value, orders: &[Order]) -> Ordering {
    let at = |object: &Value, path: &str| {
        let found = path.split('/').try_fold(object, |value, name| value.get(name));
        match found {
            Some(Value::Bool(value)) => (1, i64::from(*value), String::new()),
            Some(Value::Number(value)) => (2, value.as_i64().unwrap_or_default(), String::new()),
            Some(Value::String(value)) => (3, 0, value.to_lowercase()),
            _ => (0, 0, String::new()),
        }
    };
    let by = |order: &Order| {
        let found = at(a, &order.property).cmp(&at(b, &order.property));
        if order.descending { found.reverse() } else { found }
    };
    orders.iter().map(by).find(|found| found.is_ne()).unwrap_or(Ordering::Equal)
}

fn matches(kind: Match, value: &str, text: &str) -> bool {
    match kind {
        Match::Start => value.starts_with(text),
        Match::End => value.ends_with(text),
        Match::Inside => value.contains(text),
    }
}

fn compares(value: &Value, comparison: Comparison, literal: &Literal) -> bool {
    if *literal == Literal::Null {
        return match comparison {
            Comparison::Equal => value.is_null(),
            Comparison::NotEqual => !value.is_null(),
            _ => false,
        };
    }
    let order = match (value, literal) {
        (Value::Bool(value), Literal::Bool(literal)) => Some(value.cmp(literal)),
        (Value::Number(value), Literal::Number(literal)) => value.as_i64().map(|value| value.cmp(literal)),
        (Value::String(value), Literal::Time(literal)) => moment(value).map(|value| value.cmp(literal)),
        (Value::String(value), Literal::Text(literal)) => Some(match (moment(value), moment(literal)) {
            // Scripts put moments into quotes.
            (Some(value), Some(literal)) => value.cmp(&literal),
            _ => value.to_lowercase().cmp(&literal.to_lowercase()),
        }),
        _ => None,
    };
    order.is_some_and(|order| match comparison {
        Comparison::Equal => order == Ordering::Equal,
        Comparison::NotEqual => order != Ordering::Equal,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterOrEqual => order != Ordering::Less,
        Comparison::Less => order == Ordering::Less,
        Comparison::LessOrEqual => order != Ordering::Greater,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_come_in_the_order_that_is_asked_for() {
        let mut all = [json!({"n": "b", "x": 2}), json!({"n": "A", "x": 1}), json!({"n": "a", "x": 10}), json!({"x": null})];
        let order = |property: &str, descending| Order { property: property.into(), descending };
        let numbers = |all: &[Value]| all.iter().map(|one| one["x"].as_i64()).collect::<Vec<_>>();
        all.sort_by(|a, b| ordered(a, b, &[order("x", true)]));
        assert_eq!(numbers(&all), [Some(10), Some(2), Some(1), None]);
        all.sort_by(|a, b| ordered(a, b, &[order("n", false), order("x", false)]));
        assert_eq!(numbers(&all), [None, Some(1), Some(10), Some(2)]);
    }

    #[test]
    fn what_a_filter_means() {
        let object = json!({
            "@odata.type": "#microsoft.graph.group", "displayName": "Ärzte Nord", "mail": null, "size": 3,
            "createdDateTime": "2026-01-04T00:00:00Z", "groupTypes": ["Unified", "DynamicMembership"], "status": {"errorCode": 5}, "on": true,
        });
        let fits = |filter: &str| fits(&Expr::parse(filter).unwrap(), &object);
        for filter in [
            "displayName eq 'ÄRZTE NORD'",
            "startsWith(displayName,'ärz') and endsWith(displayName,'ord') and contains(displayName,' N')",
            "mail eq null and missing eq null",
            "not (mail eq 'x')",
            "size in (1,3)",
            "createdDateTime gt '2026-01-03T00:00:00Z'",
            "groupTypes/any(c:c eq 'dynamicmembership')",
            "status/errorCode ne 0 and on eq true",
            "isof('microsoft.graph.group')",
        ] {
            assert!(fits(filter), "{filter}");
        }
        for filter in
            ["mail ne 'x'", "mail lt 'x'", "mail in ('x')", "startsWith(mail,'')", "size eq '3'", "isof('x')", "no/any(a:a eq 'x')"]
        {
            assert!(!fits(filter), "{filter}");
        }
    }
}
