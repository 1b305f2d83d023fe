//! The resources, one file each: what they show, what they take, their routes.

mod devices;
mod jobs;
mod outbox;
mod status;

use super::route::Route;

/// Every route. What is not here is not reachable.
pub const TABLE: &[&[Route]] = &[devices::ROUTES, jobs::ROUTES, outbox::ROUTES, status::ROUTES];
