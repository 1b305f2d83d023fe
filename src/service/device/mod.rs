//! Devices: listing and explaining them, and how they leave.

mod list;
mod retire;

pub use list::{Explanation, Overview, ProfileState, Reason, explain, list, show};
pub use retire::{UNENROLL, end_in, ended_by_order, ended_by_user, give_up, retire};
