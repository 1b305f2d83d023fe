//! Users and groups from tables (CSV): everything in a file, or nothing. What is there already is changed where the file says otherwise, so
//! that a file can be imported again.

mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use self::table::{Column, NOT_OF_USERS, OF_GROUPS, OF_USERS, Table, short};
use super::members::{self, Change};
use super::{By, check_name, check_user, judge, shown};
use crate::app::App;
use crate::clock::Time;
use crate::domain::Refusal;
use crate::domain::group::{Group, Member};
use crate::domain::user::{Details, User};
use crate::ids::{DeviceId, GroupId, UserId};
use crate::service::desired::{Changed, recompute_in};
use crate::service::identity::break_glass;
use crate::service::{Error, Result, push, role};
use crate::store::targets::{Turn, take_turn};
use crate::store::{self, Tx, audit, compliance, devices, group_rules, groups, users, web_sessions};

/// Longest file, in bytes.
pub const LONGEST: usize = 8 * 1024 * 1024;
/// How many rows a file has at most.
pub const MOST_ROWS: usize = 20_000;

/// What a row came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was otherwise.
    Changed,
    /// It was so already.
    Unchanged,
}

/// What came of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What became of whom, by the line of the file: a user principal name, or the name of a group.
    pub rows: Vec<(usize, String, Outcome)>,
    /// How many joined groups.
    pub joined: usize,
    /// What is wrong, by the line.
    pub wrong: BTreeMap<usize, Vec<String>>,
}

impl Report {
    fn refuse(&mut self, line: usize, why: impl Into<String>) {
        self.wrong.entry(line).or_default().push(why.into());
    }

    /// How many rows came to that.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.rows.iter().filter(|(.., one)| *one == outcome).count()
    }

    fn checked(self) -> Result<Self> {
        if self.wrong.is_empty() {
            return Ok(self);
        }
        let lines = self.wrong.iter().flat_map(|(line, why)| why.iter().map(move |why| format!("line {line}: {why}")));
        Err(Error::Invalid(Refusal::ImportRefused, lines.collect::<Vec<_>>().join("\n")))
    }
}

/// A row of a file of users.
struct Told {
    line: usize,
    upn: String,
    said: HashMap<Column, String>,
    enabled: Option<bool>,
}

impl Told {
    /// Writes what the row says over a user.
    fn write(&self, user: &mut User) {
        let details = &mut user.details;
        let places = [
            (&mut user.mail, Column::Mail),
            (&mut user.sam_account_name, Column::SamAccountName),
            (&mut user.security_identifier, Column::SecurityIdentifier),
            (&mut user.distinguished_name, Column::DistinguishedName),
            (&mut details.given_name, Column::GivenName),
            (&mut details.surname, Column::Surname),
            (&mut details.job_title, Column::JobTitle),
            (&mut details.department, Column::Department),
            (&mut details.office_location, Column::OfficeLocation),
            (&mut details.mobile_phone, Column::MobilePhone),
            (&mut details.employee_id, Column::EmployeeId),
            (&mut details.usage_location, Column::UsageLocation),
            (&mut details.preferred_language, Column::PreferredLanguage),
            (&mut details.external_id, Column::ExternalId),
        ];
        for (place, column) in places {
            if let Some(text) = self.said.get(&column) {
                *place = Some(text.clone());
            }
        }
        if let Some(name) = self.said.get(&Column::DisplayName) {
            user.display_name.clone_from(name);
        }
        user.enabled = self.enabled.unwrap_or(user.enabled);
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Some(true),
        "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn why(error: &Error) -> String {
    match error {
        Error::Invalid(refusal, detail) => format!("{}: {detail:?}: {}", refusal.code(), refusal.text()),
        other => other.to_string(),
    }
}

/// What the rows say, those that can be understood.
fn told(table: &Table, report: &mut Report) -> Vec<Told> {
    let (mut all, mut seen) = (Vec::new(), HashMap::new());
    for row in &table.rows {
        let said = match table.said(row) {
            Ok(said) => said,
            Err(why) => {
                report.refuse(row.line, why);
                continue;
            }
        };
        let Some(upn) = said.get(&Column::UserPrincipalName) else {
            report.refuse(row.line, "the user principal name is missing");
            continue;
        };
        let upn = upn.to_lowercase();
        if let Some(other) = seen.insert(upn.clone(), row.line) {
            report.refuse(row.line, format!("\"{}\" is on line {other}, too", short(&upn)));
        }
        let mut enabled = None;
        for (column, good) in [(Column::AccountEnabled, true), (Column::AccountBlocked, false)] {
            if let Some(text) = said.get(&column) {
                match truth(text) {
                    Some(value) => enabled = Some(value == good),
                    None => report.refuse(row.line, format!("\"{}\" is neither true nor false, yes nor no", short(text))),
                }
            }
        }
        all.push(Told { line: row.line, upn, said: said.into_iter().map(|(column, text)| (column, text.to_owned())).collect(), enabled });
    }
    all
}

/// How a transaction that is taken back tells what it would have done.
type Cell<T> = Arc<Mutex<Option<T>>>;

fn put<T>(cell: &Cell<T>, value: Option<T>) {
    *cell.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

fn take<T>(cell: &Cell<T>) -> Option<T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Writes a file of users; with `dry_run` only says what would come of it.
///
/// # Errors
/// `DIR0005` with all that is wrong, by the line.
pub async fn users(app: &App, text: &str, dry_run: bool, by: &By) -> Result<Report> {
    let table = match Table::read(text, OF_USERS, NOT_OF_USERS, (Column::UserPrincipalName, "userPrincipalName")) {
        Ok(table) => table,
        Err(report) => return report.checked(),
    };
    let mut report = Report::default();
    let rows = told(&table, &mut report);
    let (by, now, push) = (by.clone(), app.now(), push::wns::enabled(&app.config));
    let cell: Cell<(Report, Vec<UserId>)> = Arc::default();
    let (begun, told) = (report, Arc::clone(&cell));
    let done = app
        .store
        .write(move |tx| {
            // It may run more than once.
            put(&told, None);
            take_turn(tx, Turn::Shared)?;
            let (mut report, mut switched, mut entries) = (begun.clone(), Vec::new(), Vec::new());
            for row in &rows {
                match write_user(tx, row, &by, now) {
                    Ok((outcome, entry, id)) => {
                        report.rows.push((row.line, row.upn.clone(), outcome));
                        entries.extend(entry);
                        switched.extend(id);
                    }
                    Err(Stop::Row(why)) => report.refuse(row.line, why),
                    Err(Stop::Store(error)) => return Err(error),
                }
            }
            for id in group_rules::list_groups(tx.conn())? {
                let group = groups::load_group(tx.conn(), &id)?;
                if group_rules::follow_all(tx, &group, now)? > 0 {
                    recompute_in(tx, Changed::Group(&id), push, now)?;
                }
            }
            let fine = report.wrong.is_empty() && !dry_run;
            if fine {
                entries.iter().try_for_each(|entry| audit::append(tx, entry, now))?;
            }
            put(&told, Some((report, switched)));
            // Nothing of it is kept then: the caller reads what it came to from the cell.
            if fine { Ok(()) } else { Err(store::Error::NotFound) }
        })
        .await;
    match (done, take(&cell)) {
        (Ok(()), Some((report, switched))) => {
            app.outbox.notify_waiters();
            for id in &switched {
                judge(app, id).await;
            }
            Ok(report)
        }
        (Err(store::Error::NotFound), Some((report, _))) => report.checked(),
        (done, _) => Err(done.err().unwrap_or(store::Error::Busy).into()),
    }
}

/// Why a row is not written.
enum Stop {
    /// It is wrong.
    Row(String),
    /// The database failed.
    Store(store::Error),
}

impl From<store::Error> for Stop {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Refused(refusal) => Self::Row(refusal.to_string()),
            other => Self::Store(other),
        }
    }
}

type Written = (Outcome, Option<crate::domain::audit::Entry>, Option<UserId>);

/// Writes a user; what is left is the entry of the audit log, and whose devices are to be judged.
fn write_user(tx: &mut Tx<'_>, row: &Told, by: &By, now: Time) -> std::result::Result<Written, Stop> {
    let Some(before) = users::find_user_by_upn(tx.conn(), &row.upn)? else {
        let mut user = User {
            id: UserId::new(),
            upn: row.upn.clone(),
            display_name: row.upn.clone(),
            mail: None,
            sam_account_name: None,
            security_identifier: None,
            distinguished_name: None,
            enabled: true,
            details: Details::default(),
        };
        row.write(&mut user);
        check_user(&user).map_err(|error| Stop::Row(why(&error)))?;
        users::insert_user(tx, &user, now)?;
        return Ok((Outcome::Created, Some(by.entry("user.create", format!("user:{}", user.id)).after(&shown(&user))), None));
    };
    let mut user = before.clone();
    row.write(&mut user);
    if user == before {
        return Ok((Outcome::Unchanged, None, None));
    }
    check_user(&user).map_err(|error| Stop::Row(why(&error)))?;
    users::update_user(tx, &user, now)?;
    let switched = user.enabled != before.enabled;
    if switched && !user.enabled {
        break_glass::check_not_named(tx, &user.id)?;
        if role::is_administrator(tx, &user.id)? {
            role::check_administrators(tx)?;
        }
        web_sessions::delete_of_user(tx, &user.id)?;
    }
    if switched {
        compliance::update_due_of_user(tx, &user.id, now)?;
    }
    let entry = by.entry("user.update", format!("user:{}", user.id)).before(&shown(&before)).after(&shown(&user));
    Ok((Outcome::Changed, Some(entry), switched.then_some(user.id)))
}

/// A group of a file.
#[derive(Clone, Default)]
struct Gathered {
    line: usize,
    name: String,
    description: Option<String>,
    external_id: Option<String>,
    /// Who is to belong to it, by the line.
    members: Vec<(usize, String)>,
}

/// The groups of a file, in its order: a row names a group, and may name a member.
fn gathered(table: &Table, report: &mut Report) -> Vec<Gathered> {
    let (mut all, mut places): (Vec<Gathered>, HashMap<String, usize>) = (Vec::new(), HashMap::new());
    for row in &table.rows {
        let said = match table.said(row) {
            Ok(said) => said,
            Err(why) => {
                report.refuse(row.line, why);
                continue;
            }
        };
        let Some(name) = said.get(&Column::DisplayName) else {
            report.refuse(row.line, "the group is missing");
            continue;
        };
        let place = *places.entry((*name).to_owned()).or_insert_with(|| {
            all.push(Gathered { line: row.line, name: (*name).to_owned(), ..Gathered::default() });
            all.len() - 1
        });
        let Some(group) = all.get_mut(place) else { continue };
        let told = [(&mut group.description, Column::Description), (&mut group.external_id, Column::ExternalId)];
        for (place, column) in told {
            let Some(text) = said.get(&column) else { continue };
            if place.as_deref().is_some_and(|before| before != *text) {
                report.refuse(row.line, format!("the group has another description or external id on line {}", group.line));
            } else {
                *place = Some((*text).to_owned());
            }
        }
        if let Some(member) = said.get(&Column::Member) {
            group.members.push((row.line, (*member).to_owned()));
        }
    }
    all
}

/// Writes a file of groups and members; with `dry_run` only says what would come of it. Nobody is taken out of a group.
///
/// # Errors
/// `DIR0005` with all that is wrong, by the line.
pub async fn groups(app: &App, text: &str, dry_run: bool, by: &By) -> Result<Report> {
    let table = match Table::read(text, OF_GROUPS, &[], (Column::DisplayName, "group")) {
        Ok(table) => table,
        Err(report) => return report.checked(),
    };
    let mut report = Report::default();
    let all = gathered(&table, &mut report);
    let (by, now, push) = (by.clone(), app.now(), push::wns::enabled(&app.config));
    let cell: Cell<Report> = Arc::default();
    let (begun, told) = (report, Arc::clone(&cell));
    let done = app
        .store
        .write(move |tx| {
            put(&told, None);
            take_turn(tx, Turn::Shared)?;
            let (mut report, mut notes) = (begun.clone(), Vec::new());
            for group in &all {
                match write_group(tx, group, &mut report, push, now) {
                    Ok(note) => notes.push(note),
                    Err(Stop::Row(why)) => report.refuse(group.line, why),
                    Err(Stop::Store(error)) => return Err(error),
                }
            }
            let fine = report.wrong.is_empty() && !dry_run;
            if fine {
                for (before, group, moved) in &notes {
                    let target = format!("group:{}", group.id);
                    match before {
                        None => audit::append(tx, &by.entry("group.create", target).after(&json!(group)), now)?,
                        Some(before) if before != group => {
                            audit::append(tx, &by.entry("group.update", target).before(&json!(before)).after(&json!(group)), now)?;
                        }
                        Some(_) => {}
                    }
                    moved.note(tx, &group.id, &by, now)?;
                }
            }
            put(&told, Some(report));
            // Nothing of it is kept then, as with users.
            if fine { Ok(()) } else { Err(store::Error::NotFound) }
        })
        .await;
    match (done, take(&cell)) {
        (Ok(()), Some(report)) => {
            app.outbox.notify_waiters();
            Ok(report)
        }
        (Err(store::Error::NotFound), Some(report)) => report.checked(),
        (done, _) => Err(done.err().unwrap_or(store::Error::Busy).into()),
    }
}

/// What a group was, what it is, and who came.
type Note = (Option<Group>, Group, members::Moved);

fn write_group(tx: &mut Tx<'_>, told: &Gathered, report: &mut Report, push: bool, now: Time) -> std::result::Result<Note, Stop> {
    check_name(&told.name).map_err(|error| Stop::Row(why(&error)))?;
    if GroupId::parse(&told.name).is_some() {
        return Err(Stop::Row("a name that looks like an id would name another group".into()));
    }
    for text in [&told.description, &told.external_id].into_iter().flatten() {
        if text.chars().count() > 1024 || text.chars().any(char::is_control) {
            return Err(Stop::Row("the description or the external id is too long, or has control characters".into()));
        }
    }
    let before = groups::find_group_by_name(tx.conn(), &told.name)?;
    let mut group = before.clone().unwrap_or_else(|| Group {
        id: GroupId::new(),
        display_name: told.name.clone(),
        description: String::new(),
        rule: None,
        external_id: None,
        mail_nickname: None,
    });
    group.description = told.description.clone().unwrap_or(group.description);
    group.external_id = told.external_id.clone().or(group.external_id);
    match &before {
        None => groups::insert_group(tx, &group, now)?,
        Some(before) if *before != group => groups::update_group(tx, &group)?,
        Some(_) => {}
    }
    let mut add = BTreeSet::new();
    for (line, name) in &told.members {
        match find_member(tx, name)? {
            Some(member) => drop(add.insert(member)),
            None => report.refuse(*line, format!("\"{}\": {}", short(name), Refusal::GroupMemberUnknown)),
        }
    }
    let moved = match add.is_empty() {
        true => members::Moved::default(),
        false => members::change_in(tx, &group, &[Change::Add(add.into_iter().collect())], push, now)?,
    };
    let outcome = match &before {
        None => Outcome::Created,
        Some(before) if *before != group || moved.count() > 0 => Outcome::Changed,
        Some(_) => Outcome::Unchanged,
    };
    report.joined += moved.came();
    report.rows.push((told.line, told.name.clone(), outcome));
    Ok((before, group, moved))
}

/// The member that is named: a user principal name, or the id of a user or device.
fn find_member(tx: &mut Tx<'_>, name: &str) -> store::Result<Option<Member>> {
    if let Some(user) = users::find_user_by_upn(tx.conn(), name)? {
        return Ok(Some(Member::User(user.id)));
    }
    let Some(id) = UserId::parse(name) else { return Ok(None) };
    if !users::list_by_ids(tx.conn(), &[id.to_string()])?.is_empty() {
        return Ok(Some(Member::User(id)));
    }
    let Some(device) = DeviceId::parse(name) else { return Ok(None) };
    Ok(devices::find_device(tx.conn(), &device)?.map(|_| Member::Device(device)))
}
