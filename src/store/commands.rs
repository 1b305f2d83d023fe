//! Orders to devices.

use diesel::prelude::*;

use super::schema::{commands, enrollments};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::command::{Command, Operation, State};
use crate::domain::profile::Scope;
use crate::ids::{CommandId, EnrollmentId};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = commands)]
struct Row {
    id: String,
    enrollment_id: String,
    kind: String,
    scope: String,
    payload: String,
    state: String,
    attempts: i64,
    result: Option<String>,
    not_before: i64,
    created_by: String,
    created_at: i64,
    updated_at: i64,
    version: i64,
}

impl TryFrom<Row> for Command {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let operation: Operation = serde_json::from_str(&row.payload)?;
        Ok(Self {
            id: CommandId::from_store(row.id),
            enrollment_id: EnrollmentId::from_store(row.enrollment_id),
            kind: row.kind,
            scope: Scope::parse(&row.scope).ok_or_else(|| Error::corrupt("commands.scope"))?,
            operation,
            state: State::parse(&row.state).ok_or_else(|| Error::corrupt("commands.state"))?,
            attempts: row.attempts,
            result: row.result,
            not_before: Time(row.not_before),
            created_by: row.created_by,
            version: row.version,
        })
    }
}

/// Queues an order and marks its enrolment as having work.
///
/// # Errors
/// [`Error::Conflict`] when the enrolment does not exist.
pub fn insert_command(tx: &mut Tx<'_>, command: &Command, now: Time) -> Result<()> {
    let row = Row {
        id: command.id.to_string(),
        enrollment_id: command.enrollment_id.to_string(),
        kind: command.kind.clone(),
        scope: command.scope.to_string(),
        payload: serde_json::to_string(&command.operation)?,
        state: command.state.to_string(),
        attempts: command.attempts,
        result: command.result.clone(),
        not_before: command.not_before.0,
        created_by: command.created_by.clone(),
        created_at: now.0,
        updated_at: now.0,
        version: 1,
    };
    // The enrolment's row is taken first: a session that ends meanwhile works out its next moment before the order or after it.
    diesel::update(enrollments::table.find(command.enrollment_id.as_str()))
        .set(enrollments::work_at.eq(enrollments::work_at))
        .execute(tx.conn())?;
    diesel::insert_into(commands::table).values(row).execute(tx.conn())?;
    diesel::update(enrollments::table.find(command.enrollment_id.as_str()))
        .set(enrollments::work_at.eq(Some(command.not_before.0)))
        .filter(enrollments::work_at.is_null().or(enrollments::work_at.gt(command.not_before.0)))
        .execute(tx.conn())?;
    Ok(())
}

/// The order.
///
/// # Errors
/// [`Error::NotFound`].
pub fn load_command(conn: &mut Conn, id: &CommandId) -> Result<Command> {
    commands::table.find(id.as_str()).select(Row::as_select()).first(conn)?.try_into()
}

/// Orders of an enrolment that are queued or in a message, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_open(conn: &mut Conn, enrollment: &EnrollmentId, limit: i64) -> Result<Vec<Command>> {
    let rows = commands::table
        .filter(commands::enrollment_id.eq(enrollment.as_str()))
        .filter(commands::state.eq_any([State::Queued.as_str(), State::Sent.as_str()]))
        .order(commands::id)
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Command::try_from).collect()
}

/// When the next queued order of an enrolment may be sent; `None` when none is queued.
///
/// # Errors
/// Only the database's own.
pub fn find_next_due(conn: &mut Conn, enrollment: &EnrollmentId) -> Result<Option<Time>> {
    let at: Option<i64> = commands::table
        .filter(commands::enrollment_id.eq(enrollment.as_str()))
        .filter(commands::state.eq(State::Queued.as_str()))
        .select(diesel::dsl::min(commands::not_before))
        .first(conn)?;
    Ok(at.map(Time))
}

/// All orders of an enrolment, newest first.
///
/// # Errors
/// Only the database's own.
pub fn list_commands(conn: &mut Conn, enrollment: &EnrollmentId, limit: i64) -> Result<Vec<Command>> {
    let rows = commands::table
        .filter(commands::enrollment_id.eq(enrollment.as_str()))
        .order(commands::id.desc())
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    rows.into_iter().map(Command::try_from).collect()
}

/// Stores a moved order, if nobody else moved it since it was read.
///
/// # Errors
/// [`Error::Busy`] when somebody did: read again and step again.
pub fn update_command(tx: &mut Tx<'_>, command: &Command, now: Time) -> Result<()> {
    let changed = diesel::update(commands::table.find(command.id.as_str()).filter(commands::version.eq(command.version)))
        .set((
            commands::state.eq(command.state.as_str()),
            commands::attempts.eq(command.attempts),
            commands::result.eq(&command.result),
            commands::not_before.eq(command.not_before.0),
            commands::updated_at.eq(now.0),
            commands::version.eq(command.version + 1),
        ))
        .execute(tx.conn())?;
    if changed == 1 { Ok(()) } else { Err(Error::Busy) }
}

/// Takes back every order of an enrolment that is not over yet. Returns how many.
///
/// # Errors
/// Only the database's own.
pub fn cancel_open(tx: &mut Tx<'_>, enrollment: &EnrollmentId, now: Time) -> Result<usize> {
    let open = [State::Queued.as_str(), State::Sent.as_str(), State::Uncertain.as_str()];
    diesel::update(commands::table.filter(commands::enrollment_id.eq(enrollment.as_str())).filter(commands::state.eq_any(open)))
        .set((commands::state.eq(State::Cancelled.as_str()), commands::updated_at.eq(now.0), commands::version.eq(commands::version + 1)))
        .execute(tx.conn())
        .map_err(Error::from)
}
