//! The entity sets, one file each: its properties, its JSON, its routes.

mod assignment;
mod audit_events;
mod authentication;
mod compliance_policies;
mod configurations;
mod devices;
mod groups;
mod managed_devices;
mod me;
mod organization;
mod roles;
mod users;

use super::route::Route;

/// Every route. What is not here is not reachable.
pub const TABLE: &[&[Route]] = &[
    audit_events::ROUTES,
    authentication::ROUTES,
    compliance_policies::ROUTES,
    configurations::ROUTES,
    devices::ROUTES,
    groups::ROUTES,
    managed_devices::ROUTES,
    me::ROUTES,
    organization::ROUTES,
    roles::ROUTES,
    users::ROUTES,
];
