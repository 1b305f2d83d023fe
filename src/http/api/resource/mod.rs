//! The resources, one file each: what they show, what they take, their routes.

mod authorities;
mod certificates;
mod devices;
mod jobs;
mod outbox;
mod receivers;
mod scep;
mod signals;
mod status;

use super::route::Route;

/// Every route. What is not here is not reachable.
pub const TABLE: &[&[Route]] = &[
    authorities::ROUTES,
    certificates::ROUTES,
    devices::ROUTES,
    jobs::ROUTES,
    outbox::ROUTES,
    receivers::ROUTES,
    scep::ROUTES,
    signals::ROUTES,
    status::ROUTES,
];
