//! The columns of a file: by the names that the API has for properties, and by those of Entra ID's forms.

use std::collections::HashMap;

use super::{LONGEST, MOST_ROWS, Report};
use crate::wire::csv::{self, Row};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Column {
    AccountEnabled,
    /// Entra ID's forms ask whether signing in is blocked.
    AccountBlocked,
    Department,
    Description,
    DisplayName,
    DistinguishedName,
    EmployeeId,
    ExternalId,
    GivenName,
    JobTitle,
    Mail,
    Member,
    MobilePhone,
    OfficeLocation,
    PreferredLanguage,
    SamAccountName,
    SecurityIdentifier,
    Surname,
    UsageLocation,
    UserPrincipalName,
}

pub(super) const OF_USERS: &[(&str, Column)] = &[
    ("accountenabled", Column::AccountEnabled),
    ("department", Column::Department),
    ("displayname", Column::DisplayName),
    ("employeeid", Column::EmployeeId),
    ("externalid", Column::ExternalId),
    ("givenname", Column::GivenName),
    ("jobtitle", Column::JobTitle),
    ("mail", Column::Mail),
    ("mobile", Column::MobilePhone),
    ("mobilephone", Column::MobilePhone),
    ("officelocation", Column::OfficeLocation),
    ("onpremisesdistinguishedname", Column::DistinguishedName),
    ("onpremisessamaccountname", Column::SamAccountName),
    ("onpremisessecurityidentifier", Column::SecurityIdentifier),
    ("physicaldeliveryofficename", Column::OfficeLocation),
    ("preferredlanguage", Column::PreferredLanguage),
    ("surname", Column::Surname),
    ("upn", Column::UserPrincipalName),
    ("usagelocation", Column::UsageLocation),
    ("username", Column::UserPrincipalName),
    ("userprincipalname", Column::UserPrincipalName),
];
/// What Entra ID's tables have and a directory like this has not.
pub(super) const NOT_OF_USERS: &[&str] = &[
    "agegroup",
    "alternateemailaddress",
    "city",
    "companyname",
    "consentprovidedforminor",
    "country",
    "createddatetime",
    "creationtype",
    "directorysynced",
    "id",
    "identityissuer",
    "invitationstate",
    "legalagegroupclassification",
    "objectid",
    "passwordprofile",
    "postalcode",
    "state",
    "streetaddress",
    "telephonenumber",
    "usertype",
];
pub(super) const OF_GROUPS: &[(&str, Column)] = &[
    ("description", Column::Description),
    ("displayname", Column::DisplayName),
    ("externalid", Column::ExternalId),
    ("group", Column::DisplayName),
    ("member", Column::Member),
    ("memberobjectidorupn", Column::Member),
    ("name", Column::DisplayName),
    ("userprincipalname", Column::Member),
];

/// The rows of a file below its header, and which column is where.
pub(super) struct Table {
    columns: Vec<Option<Column>>,
    /// The rows.
    pub(super) rows: Vec<Row>,
}

impl Table {
    /// Reads a file, or says what is wrong with it as a whole.
    pub(super) fn read(text: &str, known: &[(&str, Column)], others: &[&str], needed: (Column, &str)) -> Result<Self, Report> {
        let mut report = Report::default();
        let fail = |line, why: &str| {
            let mut report = Report::default();
            report.refuse(line, why);
            report
        };
        if text.len() > LONGEST {
            return Err(fail(1, "the file is longer than 8 MiB; divide it"));
        }
        let mut rows = csv::parse(text).map_err(|wrong| fail(wrong.line, wrong.what))?;
        // Entra ID's forms begin with their version.
        if rows.first().and_then(|row| row.cells.first()).is_some_and(|cell| cell.trim().to_ascii_lowercase().starts_with("version:")) {
            rows.remove(0);
        }
        if rows.is_empty() {
            return Err(fail(1, "the file is empty; its first line names the columns"));
        }
        let header = rows.remove(0);
        if rows.len() > MOST_ROWS {
            return Err(fail(header.line, "the file has more than 20000 rows; divide it"));
        }
        let mut columns = Vec::new();
        for cell in &header.cells {
            let name = bare(cell);
            let found = known.iter().find(|(known, _)| *known == name).map(|(_, column)| *column);
            let blocked = cell.trim().to_ascii_lowercase().starts_with("block sign in");
            let found = if blocked && found == Some(Column::AccountEnabled) { Some(Column::AccountBlocked) } else { found };
            if found.is_none() && !name.is_empty() && !others.contains(&name.as_str()) {
                report.refuse(header.line, format!("there is no column \"{}\"", short(cell)));
            }
            if found.is_some() && columns.contains(&found) {
                report.refuse(header.line, format!("the column \"{}\" is there twice", short(cell)));
            }
            columns.push(found);
        }
        if !columns.contains(&Some(needed.0)) {
            report.refuse(header.line, format!("the column {} is missing", needed.1));
        }
        if !report.wrong.is_empty() {
            return Err(report);
        }
        // The example of Entra ID's forms, which people leave where it is.
        rows.retain(|row| !row.cells.first().is_some_and(|cell| cell.trim().starts_with("Example:")));
        Ok(Self { columns, rows })
    }

    /// What a row says; cells without anything say nothing.
    pub(super) fn said<'a>(&self, row: &'a Row) -> Result<HashMap<Column, &'a str>, String> {
        if row.cells.len() != self.columns.len() {
            return Err(format!("the row has {} cells, the header {}", row.cells.len(), self.columns.len()));
        }
        if row.cells.iter().any(|cell| cell.contains('\0')) {
            return Err("the row has the letter U+0000, which no text here has".into());
        }
        let pairs = self.columns.iter().zip(&row.cells).filter_map(|(column, cell)| column.map(|column| (column, cell.trim())));
        Ok(pairs.filter(|(_, cell)| !cell.is_empty()).collect())
    }
}

/// The name of a column: what stands in brackets in Entra ID's forms, else all of it, in lower case.
fn bare(cell: &str) -> String {
    let inner = cell.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(inner, _)| inner);
    inner.unwrap_or(cell).trim().to_ascii_lowercase()
}

pub(super) fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect()
}
