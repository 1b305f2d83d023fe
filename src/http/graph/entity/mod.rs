//! The entity sets, one file each: its properties, its JSON, its routes.

mod apple_push;
mod assignment;
mod audit_events;
mod authentication;
mod autopilot;
mod cloud_authorities;
mod compliance_policies;
mod configuration_policies;
mod configurations;
mod deleted_items;
mod dep_settings;
mod device_secrets;
mod device_states;
mod devices;
mod enrollment_configurations;
mod groups;
mod leaf_certificates;
mod managed_devices;
mod me;
mod memberships;
mod method_policies;
mod organization;
mod profile_set;
mod roles;
mod sign_ins;
mod standings;
mod subscriptions;
mod user_pfx_certificates;
mod users;

use super::route::Route;

/// Every route. What is not here is not reachable.
pub const TABLE: &[&[Route]] = &[
    apple_push::ROUTES,
    audit_events::ROUTES,
    authentication::ROUTES,
    autopilot::ROUTES,
    cloud_authorities::ROUTES,
    compliance_policies::ROUTES,
    configuration_policies::ROUTES,
    configurations::ROUTES,
    deleted_items::ROUTES,
    dep_settings::ROUTES,
    device_secrets::ROUTES,
    device_states::ROUTES,
    devices::ROUTES,
    enrollment_configurations::ROUTES,
    groups::ROUTES,
    leaf_certificates::ROUTES,
    managed_devices::ROUTES,
    me::ROUTES,
    memberships::ROUTES,
    method_policies::ROUTES,
    organization::ROUTES,
    roles::ROUTES,
    sign_ins::ROUTES,
    subscriptions::ROUTES,
    user_pfx_certificates::ROUTES,
    users::ROUTES,
];
