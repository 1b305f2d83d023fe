//! Orders to devices. What they ask for and what was answered is sealed.

use std::collections::HashMap;

use diesel::prelude::*;
use serde_json::{Map, Value};

use super::dialect::delete_some;
use super::schema::{commands, devices, enrollments};
use super::sealed::{COMMAND_LARGE, COMMAND_PAYLOAD, COMMAND_RESULT};
use super::{Conn, Error, Result, Tx};
use crate::clock::Time;
use crate::domain::command::{Command, Operation, State};
use crate::domain::profile::Scope;
use crate::ids::{CommandId, EnrollmentId};
use crate::secret::{SealError, Sealer};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = commands)]
struct Row {
    id: String,
    enrollment_id: String,
    kind: String,
    scope: String,
    sealed_payload: Vec<u8>,
    state: String,
    attempts: i64,
    sealed_result: Option<Vec<u8>>,
    not_before: i64,
    created_by: String,
    created_at: i64,
    updated_at: i64,
    version: i64,
}

/// Longest key of a request that is read with each message of its device, in bytes.
const LARGE: usize = 4096;

/// What an order asks the device to do, sealed to be stored.
#[derive(Clone, Debug)]
pub struct Sealed {
    payload: Vec<u8>,
    large: Option<Vec<u8>>,
}

impl From<Vec<u8>> for Sealed {
    /// Of an order in which nothing is large.
    fn from(payload: Vec<u8>) -> Self {
        Self { payload, large: None }
    }
}

/// What an order asks the device to do, sealed to be stored: it may be a secret. What is large in it is taken out and sealed apart
/// ([`find_large`]).
///
/// # Errors
/// When OpenSSL fails.
pub fn seal_payload(sealer: &Sealer, operation: &mut Operation) -> Result<Sealed> {
    let large = match operation {
        Operation::Request(request) => Some(request.set_apart(LARGE)).filter(|large| !large.is_empty()),
        Operation::Node(_) => None,
    };
    let seal = |large: &Map<String, Value>| Ok::<_, Error>(sealer.seal(COMMAND_LARGE, &serde_json::to_vec(large)?)?);
    Ok(Sealed { payload: sealer.seal(COMMAND_PAYLOAD, &serde_json::to_vec(operation)?)?, large: large.as_ref().map(seal).transpose()? })
}

/// The keys of an order that are kept apart because they are large; none, when there are none.
///
/// # Errors
/// [`Error::Corrupt`] when they cannot be read.
pub fn find_large(conn: &mut Conn, sealer: &Sealer, id: &CommandId) -> Result<Map<String, Value>> {
    let sealed: Option<Option<Vec<u8>>> = commands::table.find(id.as_str()).select(commands::sealed_large).first(conn).optional()?;
    match sealed.flatten() {
        Some(sealed) => Ok(serde_json::from_slice(sealer.open(COMMAND_LARGE, &sealed)?.expose())?),
        None => Ok(Map::new()),
    }
}

/// What the device said to an order, sealed to be stored: values that were read may be secrets.
///
/// # Errors
/// When OpenSSL fails.
pub fn seal_result(sealer: &Sealer, command: &Command) -> Result<Option<Vec<u8>>> {
    Ok(command.result.as_ref().map(|result| sealer.seal(COMMAND_RESULT, result.as_bytes())).transpose()?)
}

/// What became of orders without a word of the device, sealed as what it says.
///
/// # Errors
/// When OpenSSL fails.
pub fn seal_end(sealer: &Sealer, why: &str) -> Result<Vec<u8>> {
    Ok(sealer.seal(COMMAND_RESULT, why.as_bytes())?)
}

/// Why a row is not an order.
enum Unreadable {
    /// It is sealed under a key that this process does not hold; another node may.
    Key(u32),
    /// It does not hold what it should.
    Corrupt(Error),
}

impl From<SealError> for Unreadable {
    fn from(error: SealError) -> Self {
        match error {
            SealError::UnknownKey(id) => Self::Key(id),
            other => Self::Corrupt(other.into()),
        }
    }
}

impl From<Unreadable> for Error {
    fn from(why: Unreadable) -> Self {
        match why {
            Unreadable::Key(id) => SealError::UnknownKey(id).into(),
            Unreadable::Corrupt(error) => error,
        }
    }
}

impl Row {
    fn open(self, sealer: &Sealer) -> std::result::Result<Command, Unreadable> {
        let corrupt = |what: &str| Unreadable::Corrupt(Error::corrupt(what));
        let payload = sealer.open(COMMAND_PAYLOAD, &self.sealed_payload)?;
        let operation: Operation = serde_json::from_slice(payload.expose()).map_err(|_| corrupt("commands.sealed_payload"))?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| corrupt("commands.sealed_result"));
        let result = match self.sealed_result {
            Some(sealed) => Some(text(sealer.open(COMMAND_RESULT, &sealed)?.expose())?),
            None => None,
        };
        Ok(Command {
            id: CommandId::from_store(self.id),
            enrollment_id: EnrollmentId::from_store(self.enrollment_id),
            kind: self.kind,
            scope: Scope::parse(&self.scope).ok_or_else(|| corrupt("commands.scope"))?,
            operation,
            state: State::parse(&self.state).ok_or_else(|| corrupt("commands.state"))?,
            attempts: self.attempts,
            result,
            not_before: Time(self.not_before),
            created_by: self.created_by,
            version: self.version,
        })
    }
}

/// Orders of which each can be read or not.
#[derive(Debug, Default)]
pub struct Orders {
    /// Those that can.
    pub readable: Vec<Command>,
    /// Those that nobody can read any more.
    pub corrupt: Vec<CommandId>,
}

/// Sorts rows. One that is sealed under a key that this process does not hold is left alone: another node may read it.
fn sort(rows: Vec<Row>, sealer: &Sealer) -> Orders {
    let mut orders = Orders::default();
    for row in rows {
        let id = CommandId::from_store(row.id.clone());
        match row.open(sealer) {
            Ok(command) => orders.readable.push(command),
            Err(Unreadable::Key(key)) => tracing::error!(order = %id, key = format!("{key:08x}"), "sealed under an unknown key"),
            Err(Unreadable::Corrupt(error)) => {
                tracing::error!(order = %id, %error, "an order cannot be read");
                orders.corrupt.push(id);
            }
        }
    }
    orders
}

/// Queues an order with its sealed payload ([`seal_payload`]) and marks its enrolment as having work.
///
/// # Errors
/// [`Error::Conflict`] when the enrolment does not exist.
pub fn insert_command(tx: &mut Tx<'_>, command: &Command, sealed: &Sealed, now: Time) -> Result<()> {
    let row = Row {
        id: command.id.to_string(),
        enrollment_id: command.enrollment_id.to_string(),
        kind: command.kind.clone(),
        scope: command.scope.to_string(),
        sealed_payload: sealed.payload.clone(),
        state: command.state.to_string(),
        attempts: command.attempts,
        sealed_result: None,
        not_before: command.not_before.0,
        created_by: command.created_by.clone(),
        created_at: now.0,
        updated_at: now.0,
        version: 1,
    };
    // The enrolment's row is taken first: a session that ends meanwhile works out its next moment before the order or after it.
    super::enrollments::lock_enrollment(tx, &command.enrollment_id)?;
    diesel::insert_into(commands::table).values((row, commands::sealed_large.eq(sealed.large.as_deref()))).execute(tx.conn())?;
    // New work is due from now on: what the device puts off meanwhile is no reason to wake it as rarely as for that.
    let earlier = enrollments::work_at.is_null().or(enrollments::work_at.gt(command.not_before.0)).assume_not_null();
    diesel::update(enrollments::table.find(command.enrollment_id.as_str()))
        .set(enrollments::work_at.eq(Some(command.not_before.0)))
        .filter(earlier.or((command.not_before <= now).into_sql::<diesel::sql_types::Bool>()))
        .execute(tx.conn())?;
    Ok(())
}

/// The order.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Corrupt`] when it cannot be read.
pub fn load_command(conn: &mut Conn, sealer: &Sealer, id: &CommandId) -> Result<Command> {
    let row: Row = commands::table.find(id.as_str()).select(Row::as_select()).first(conn)?;
    Ok(row.open(sealer)?)
}

/// An order's kind, and the name of the device that was given it; `None` without such an order.
///
/// # Errors
/// Only the database's own.
pub fn find_label(conn: &mut Conn, id: &CommandId) -> Result<Option<(String, String)>> {
    let given = commands::table
        .inner_join(enrollments::table.on(enrollments::id.eq(commands::enrollment_id)))
        .inner_join(devices::table.on(devices::id.eq(enrollments::device_id)))
        .filter(commands::id.eq(id.as_str()))
        .select((commands::kind, devices::display_name));
    Ok(given.first(conn).optional()?)
}

/// Orders of an enrolment that are queued or in a message, oldest first.
///
/// # Errors
/// Only the database's own.
pub fn list_open(conn: &mut Conn, sealer: &Sealer, enrollment: &EnrollmentId, limit: i64) -> Result<Orders> {
    let rows: Vec<Row> = commands::table
        .filter(commands::enrollment_id.eq(enrollment.as_str()))
        .filter(commands::state.eq_any([State::Queued.as_str(), State::Sent.as_str()]))
        .order(commands::id)
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    Ok(sort(rows, sealer))
}

/// When these orders were given and last moved, by their ids.
///
/// # Errors
/// Only the database's own.
pub fn list_times(conn: &mut Conn, ids: &[CommandId]) -> Result<HashMap<CommandId, (Time, Time)>> {
    let ids: Vec<&str> = ids.iter().map(CommandId::as_str).collect();
    let rows: Vec<(String, i64, i64)> =
        commands::table.filter(commands::id.eq_any(ids)).select((commands::id, commands::created_at, commands::updated_at)).load(conn)?;
    Ok(rows.into_iter().map(|(id, created, updated)| (CommandId::from_store(id), (Time(created), Time(updated)))).collect())
}

/// These orders of an enrolment, as far as they can be read, whatever has become of them.
///
/// # Errors
/// Only the database's own.
pub fn list_these(conn: &mut Conn, sealer: &Sealer, enrollment: &EnrollmentId, ids: &[CommandId]) -> Result<Vec<Command>> {
    let rows: Vec<Row> = commands::table
        .filter(commands::id.eq_any(ids.iter().map(CommandId::as_str)))
        .filter(commands::enrollment_id.eq(enrollment.as_str()))
        .select(Row::as_select())
        .load(conn)?;
    Ok(sort(rows, sealer).readable)
}

/// When the next queued order of an enrolment may be sent, of those that may be sent later than `after`; `None` when there is none.
///
/// # Errors
/// Only the database's own.
pub fn find_next_due(conn: &mut Conn, enrollment: &EnrollmentId, after: Time) -> Result<Option<Time>> {
    let at: Option<i64> = commands::table
        .filter(commands::enrollment_id.eq(enrollment.as_str()))
        .filter(commands::state.eq(State::Queued.as_str()))
        .filter(commands::not_before.gt(after.0))
        .select(diesel::dsl::min(commands::not_before))
        .first(conn)?;
    Ok(at.map(Time))
}

/// All orders of enrolments that can be read, newest first.
///
/// # Errors
/// Only the database's own.
pub fn list_commands(conn: &mut Conn, sealer: &Sealer, enrollments: &[EnrollmentId], limit: i64) -> Result<Vec<Command>> {
    let rows: Vec<Row> = commands::table
        .filter(commands::enrollment_id.eq_any(enrollments.iter().map(EnrollmentId::as_str)))
        .order(commands::id.desc())
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?;
    Ok(sort(rows, sealer).readable)
}

/// Stores a moved order with its sealed result ([`seal_result`]), if nobody else moved it since it was read.
///
/// # Errors
/// [`Error::Busy`] when somebody did: read again and step again.
pub fn update_command(tx: &mut Tx<'_>, command: &Command, sealed_result: Option<&[u8]>, now: Time) -> Result<()> {
    let changed = diesel::update(commands::table.find(command.id.as_str()).filter(commands::version.eq(command.version)))
        .set((
            commands::state.eq(command.state.as_str()),
            commands::attempts.eq(command.attempts),
            commands::sealed_result.eq(sealed_result),
            commands::not_before.eq(command.not_before.0),
            commands::updated_at.eq(now.0),
            commands::version.eq(command.version + 1),
        ))
        .execute(tx.conn())?;
    if changed == 1 { Ok(()) } else { Err(Error::Busy) }
}

/// Takes an order back that was read in this transaction; what the device said to it stays.
///
/// # Errors
/// [`Error::Busy`] when somebody moved it.
pub fn update_cancelled(tx: &mut Tx<'_>, command: &Command, now: Time) -> Result<()> {
    let target = commands::table.find(command.id.as_str()).filter(commands::version.eq(command.version));
    let changed = diesel::update(target)
        .set((commands::state.eq(State::Cancelled.as_str()), commands::updated_at.eq(now.0), commands::version.eq(command.version + 1)))
        .execute(tx.conn())?;
    if changed == 1 { Ok(()) } else { Err(Error::Busy) }
}

/// Deletes an order that nobody can read any more.
///
/// # Errors
/// Only the database's own.
pub fn delete_command(tx: &mut Tx<'_>, id: &CommandId) -> Result<()> {
    diesel::delete(commands::table.find(id.as_str())).execute(tx.conn())?;
    Ok(())
}

/// Takes back every order of an enrolment that is not over yet, with what became of it ([`seal_end`]). Returns them, with their kinds.
///
/// # Errors
/// Only the database's own.
pub fn cancel_open(tx: &mut Tx<'_>, enrollment: &EnrollmentId, sealed_end: &[u8], now: Time) -> Result<Vec<(CommandId, String)>> {
    let open = [State::Queued.as_str(), State::Sent.as_str(), State::Uncertain.as_str()];
    let open = commands::enrollment_id.eq(enrollment.as_str()).and(commands::state.eq_any(open));
    let found: Vec<(String, String)> =
        commands::table.filter(open).order(commands::id).select((commands::id, commands::kind)).load(tx.conn())?;
    diesel::update(commands::table.filter(commands::id.eq_any(found.iter().map(|(id, _)| id))))
        .set((
            commands::state.eq(State::Cancelled.as_str()),
            commands::sealed_result.eq(Some(sealed_end)),
            commands::updated_at.eq(now.0),
            commands::version.eq(commands::version + 1),
        ))
        .execute(tx.conn())?;
    Ok(found.into_iter().map(|(id, kind)| (CommandId::from_store(id), kind)).collect())
}

/// Deletes orders that have been over since before that moment, at most `limit`; returns how many. One that waits for a person stays.
///
/// # Errors
/// Only the database's own.
pub fn purge_commands(tx: &mut Tx<'_>, before: Time, limit: i64) -> Result<usize> {
    let over = [State::Cancelled, State::Done, State::Failed].map(|state| state.as_str());
    let old = commands::state.eq_any(over).and(commands::updated_at.lt(before.0));
    Ok(delete_some!(tx, commands, id: String, old, limit))
}
