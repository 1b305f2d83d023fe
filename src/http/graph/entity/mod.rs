//! The entity sets, one file each: its properties, its JSON, its routes.

mod assignment;
mod audit_events;
mod authentication;
mod compliance_policies;
mod configuration_policies;
mod configurations;
mod deleted_items;
mod device_secrets;
mod devices;
mod groups;
mod managed_devices;
mod me;
mod method_policies;
mod organization;
mod profile_set;
mod roles;
mod sign_ins;
mod subscriptions;
mod user_pfx_certificates;
mod users;

use super::route::Route;

/// Every route. What is not here is not reachable.
pub const TABLE: &[&[Route]] = &[
    audit_events::ROUTES,
    authentication::ROUTES,
    compliance_policies::ROUTES,
    configuration_policies::ROUTES,
    configurations::ROUTES,
    deleted_items::ROUTES,
    device_secrets::ROUTES,
    devices::ROUTES,
    groups::ROUTES,
    managed_devices::ROUTES,
    me::ROUTES,
    method_policies::ROUTES,
    organization::ROUTES,
    roles::ROUTES,
    sign_ins::ROUTES,
    subscriptions::ROUTES,
    user_pfx_certificates::ROUTES,
    users::ROUTES,
];
