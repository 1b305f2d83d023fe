//! Packages of applications: what they are, and their content part by part.

use std::collections::BTreeSet;

use diesel::prelude::*;

use crate::clock::Time;
use crate::domain::apple::package::{Form, Package};
use crate::ids::PackageId;
use crate::store::schema::{apple_package_parts as parts, apple_packages as packages};
use crate::store::{Conn, Error, Result, Tx};

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = packages)]
struct Row {
    id: String,
    name: String,
    title: String,
    bundle_id: String,
    version: String,
    form: String,
    size: i64,
    created_at: i64,
}

impl Row {
    fn of(package: &Package, name: &str) -> Self {
        Self {
            id: package.id.to_string(),
            name: name.to_owned(),
            title: package.title.clone(),
            bundle_id: package.bundle_id.clone(),
            version: package.version.clone(),
            form: package.form.as_str().into(),
            size: package.size,
            created_at: package.created_at.0,
        }
    }

    fn read(self) -> Result<Package> {
        Ok(Package {
            id: PackageId::from_store(self.id),
            name: self.name,
            title: self.title,
            bundle_id: self.bundle_id,
            version: self.version,
            form: Form::parse(&self.form).ok_or_else(|| Error::corrupt("apple_packages.form"))?,
            size: self.size,
            created_at: Time(self.created_at),
        })
    }
}

/// Begins to take a package in: nobody finds it by its name yet.
///
/// # Errors
/// Only the database's own.
pub fn insert_package(tx: &mut Tx<'_>, package: &Package) -> Result<()> {
    diesel::insert_into(packages::table).values(Row::of(package, package.id.as_str())).execute(tx.conn())?;
    Ok(())
}

/// Keeps the next part of a package that is being taken in.
///
/// # Errors
/// Only the database's own.
pub fn insert_part(tx: &mut Tx<'_>, package: &PackageId, number: i64, sha256: &str, content: &[u8]) -> Result<()> {
    let row = (parts::package_id.eq(package.as_str()), parts::number.eq(number), parts::sha256.eq(sha256), parts::content.eq(content));
    diesel::insert_into(parts::table).values(row).execute(tx.conn())?;
    Ok(())
}

/// A package that is whole takes its name, and the place of the one that had it.
///
/// # Errors
/// Only the database's own.
pub fn complete_package(tx: &mut Tx<'_>, package: &Package) -> Result<()> {
    if let Some(old) = find_package(tx.conn(), &package.name)? {
        delete_package(tx, &old.id)?;
    }
    diesel::update(packages::table.find(package.id.as_str()))
        .set((packages::name.eq(&package.name), packages::size.eq(package.size)))
        .execute(tx.conn())?;
    Ok(())
}

/// The package of a name.
///
/// # Errors
/// Only the database's own.
pub fn find_package(conn: &mut Conn, name: &str) -> Result<Option<Package>> {
    let row: Option<Row> = packages::table.filter(packages::name.eq(name)).select(Row::as_select()).first(conn).optional()?;
    row.map(Row::read).transpose()
}

/// The packages of some names.
///
/// # Errors
/// Only the database's own.
pub fn list_named(conn: &mut Conn, names: &BTreeSet<String>) -> Result<Vec<Package>> {
    let rows: Vec<Row> = packages::table.filter(packages::name.eq_any(names)).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Row::read).collect()
}

/// A package by its identifier.
///
/// # Errors
/// Only the database's own.
pub fn load_package(conn: &mut Conn, id: &PackageId) -> Result<Option<Package>> {
    let row: Option<Row> = packages::table.find(id.as_str()).select(Row::as_select()).first(conn).optional()?;
    row.map(Row::read).transpose()
}

/// All packages that are whole, by name.
///
/// # Errors
/// Only the database's own.
pub fn list_packages(conn: &mut Conn) -> Result<Vec<Package>> {
    let rows: Vec<Row> =
        packages::table.filter(packages::name.ne(packages::id)).order(packages::name.asc()).select(Row::as_select()).load(conn)?;
    rows.into_iter().map(Row::read).collect()
}

/// The hashes of a package's parts, in order.
///
/// # Errors
/// Only the database's own.
pub fn list_hashes(conn: &mut Conn, id: &PackageId) -> Result<Vec<String>> {
    Ok(parts::table.filter(parts::package_id.eq(id.as_str())).order(parts::number.asc()).select(parts::sha256).load(conn)?)
}

/// One part of a package.
///
/// # Errors
/// Only the database's own.
pub fn find_part(conn: &mut Conn, id: &PackageId, number: i64) -> Result<Option<Vec<u8>>> {
    Ok(parts::table.find((id.as_str(), number)).select(parts::content).first(conn).optional()?)
}

/// Deletes a package with its parts.
///
/// # Errors
/// Only the database's own.
pub fn delete_package(tx: &mut Tx<'_>, id: &PackageId) -> Result<()> {
    diesel::delete(parts::table.filter(parts::package_id.eq(id.as_str()))).execute(tx.conn())?;
    diesel::delete(packages::table.find(id.as_str())).execute(tx.conn())?;
    Ok(())
}

/// Deletes what was begun before that time and never became whole.
///
/// # Errors
/// Only the database's own.
pub fn delete_unfinished(tx: &mut Tx<'_>, before: Time) -> Result<()> {
    let ids: Vec<String> = packages::table
        .filter(packages::name.eq(packages::id))
        .filter(packages::created_at.lt(before.0))
        .select(packages::id)
        .load(tx.conn())?;
    ids.into_iter().try_for_each(|id| delete_package(tx, &PackageId::from_store(id)))
}
