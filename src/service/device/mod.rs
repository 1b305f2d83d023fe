//! Devices: listing and explaining them, what they are told to do, and how they leave.

mod list;
mod order;
mod retire;

pub use list::{Explanation, Overview, ProfileState, Reason, explain, list, show};
pub use order::{Custom, Order, cancel, command, orders, sync};
pub use retire::{end_in, ended_by_order, ended_by_user, give_up, give_up_device, retire};
