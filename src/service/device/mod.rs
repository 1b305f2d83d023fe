//! Devices: listing and explaining them, what they are told to do, and how they leave.

pub(in crate::service) mod hardware;
mod list;
pub mod managed;
mod notes;
mod order;
mod own;
mod readiness;
mod renewed;
mod retire;
mod secret;

pub use list::{
    Contested, ContestedSerial, ENROLLING, Explanation, Overview, ProfileState, Reason, contested, contested_serials, explain, inventory,
    list, show,
};
pub(in crate::service) use notes::NOT_NOW;
pub use order::{Custom, LONGEST_FILE, Order, cancel, command, orders, sync};
pub use own::{OwnDevice, list_own};
pub use readiness::readiness;
pub use renewed::confirm_renewal;
pub use retire::{Ending, Leaving, checked_out_in, end_in, end_silent, end_unfinished, give_up, give_up_device, left_in, retire, wiped_in};
pub use secret::{Kept, LocalAdmin, find_local_admin, page_local_admins, reveal, secrets};
