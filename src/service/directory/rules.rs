//! Groups whose members a rule names.

use serde_json::json;

use crate::app::App;
use crate::clock::DAY;
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::domain::group::rule::Rule;
use crate::domain::group::{Group, Member};
use crate::service::desired::{Changed, recompute_in};
use crate::service::{Error, Result, push};
use crate::store::targets::{Turn, take_turn};
use crate::store::{audit, group_rules};

fn read(text: &str) -> Result<Rule> {
    Rule::parse(text).map_err(|wrong| Error::Invalid(Refusal::GroupRuleInvalid, wrong.to_string()))
}

/// Checks the rule of a group that has one.
///
/// # Errors
/// `DIR0002`.
pub(in crate::service) fn check(group: &Group) -> Result<()> {
    group.rule.as_deref().map_or(Ok(()), |text| read(text).map(drop))
}

/// Of whom a rule would be true: at most so many, and whether there are more.
///
/// # Errors
/// `DIR0002`.
pub async fn test(app: &App, rule: &str, limit: i64) -> Result<(Vec<Member>, bool)> {
    let rule = read(rule)?;
    let most = usize::try_from(limit).unwrap_or_default();
    let mut found = app.store.read(move |conn| group_rules::list_fitting(conn, &rule, limit + 1)).await?;
    let more = found.len() > most;
    found.truncate(most);
    Ok((found, more))
}

/// Follows every rule for what changed since it was followed, and once a day for everything; returns how many joined and left. What is
/// moved is audited. Each group is a transaction of its own.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn follow(app: &App) -> Result<usize> {
    let push = push::wns::enabled(&app.config);
    let mut moved = 0;
    for id in app.store.read(group_rules::list_groups).await? {
        let now = app.now();
        moved += app
            .store
            .write(move |tx| {
                take_turn(tx, Turn::Shared)?;
                let moved = group_rules::follow_changed(tx, &id, now, DAY)?;
                if moved > 0 {
                    recompute_in(tx, Changed::Group(&id), push, now)?;
                    let entry = Entry::new("system", "group.follow-rule", format!("group:{id}"), "job").after(&json!({ "moved": moved }));
                    audit::append(tx, &entry, now)?;
                }
                Ok(moved)
            })
            .await?;
    }
    if moved > 0 {
        app.outbox.notify_waiters();
    }
    Ok(moved)
}
