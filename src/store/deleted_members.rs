//! Who belonged to groups when one or the other was deleted, and belongs to them again once it is restored.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::dialect::each_backend;
use super::{Result, Tx};
use crate::domain::group::Group;
use crate::ids::{GroupId, UserId};

/// Runs statements that have one parameter, in their order.
fn run(tx: &mut Tx<'_>, statements: &[&str], id: &str) -> Result<()> {
    for statement in statements {
        each_backend!(tx.conn(), c => diesel::sql_query(*statement).bind::<Text, _>(id).execute(c))?;
    }
    Ok(())
}

/// Takes a user who is deleted out of every group. A group that gives a role forgets them: whoever restores people would give out roles.
///
/// # Errors
/// Only the database's own.
pub fn set_aside_of_user(tx: &mut Tx<'_>, user: &UserId) -> Result<()> {
    let statements = [
        "DELETE FROM group_members WHERE member_kind = 'user' AND member_id = $1
             AND group_id IN (SELECT principal_id FROM role_members WHERE kind = 'group')",
        "INSERT INTO deleted_members (group_id, member_kind, member_id, added_at)
             SELECT group_id, member_kind, member_id, added_at FROM group_members WHERE member_kind = 'user' AND member_id = $1",
        "DELETE FROM group_members WHERE member_kind = 'user' AND member_id = $1",
    ];
    run(tx, &statements, user.as_str())
}

/// Takes everybody out of a group that is deleted.
///
/// # Errors
/// Only the database's own.
pub fn set_aside_of_group(tx: &mut Tx<'_>, group: &GroupId) -> Result<()> {
    let statements = [
        "INSERT INTO deleted_members (group_id, member_kind, member_id, added_at)
             SELECT group_id, member_kind, member_id, added_at FROM group_members WHERE group_id = $1",
        "DELETE FROM group_members WHERE group_id = $1",
    ];
    run(tx, &statements, group.as_str())
}

/// A user who is restored belongs again to the groups of before: not to those that go by a rule by now, which is followed afterwards, nor
/// to those that give a role by now. What belongs to groups that are deleted themselves waits for these.
///
/// # Errors
/// Only the database's own.
pub fn give_back_of_user(tx: &mut Tx<'_>, user: &UserId) -> Result<()> {
    let statements = [
        "INSERT INTO group_members (group_id, member_kind, member_id, added_at)
             SELECT d.group_id, d.member_kind, d.member_id, d.added_at FROM deleted_members d
             JOIN groups g ON g.id = d.group_id AND g.deleted_at IS NULL AND g.membership_rule IS NULL
             WHERE d.member_kind = 'user' AND d.member_id = $1
                 AND NOT EXISTS (SELECT 1 FROM role_members r WHERE r.kind = 'group' AND r.principal_id = d.group_id)",
        "DELETE FROM deleted_members WHERE member_kind = 'user' AND member_id = $1
             AND group_id IN (SELECT id FROM groups WHERE deleted_at IS NULL)",
    ];
    run(tx, &statements, user.as_str())
}

/// A group that is restored has its members again, unless it goes by a rule, which is followed afterwards. Users who are deleted
/// themselves wait until they are restored.
///
/// # Errors
/// Only the database's own.
pub fn give_back_of_group(tx: &mut Tx<'_>, group: &Group) -> Result<()> {
    if group.rule.is_none() {
        let back = "INSERT INTO group_members (group_id, member_kind, member_id, added_at)
             SELECT d.group_id, d.member_kind, d.member_id, d.added_at FROM deleted_members d WHERE d.group_id = $1
                 AND ((d.member_kind = 'user' AND EXISTS (SELECT 1 FROM users u WHERE u.id = d.member_id AND u.deleted_at IS NULL))
                     OR (d.member_kind = 'device' AND EXISTS (SELECT 1 FROM devices t WHERE t.id = d.member_id)))";
        run(tx, &[back], group.id.as_str())?;
    }
    let rest = "DELETE FROM deleted_members WHERE group_id = $1 AND NOT (member_kind = 'user'
             AND EXISTS (SELECT 1 FROM users u WHERE u.id = deleted_members.member_id AND u.deleted_at IS NOT NULL))";
    run(tx, &[rest], group.id.as_str())
}
