//! Compliance: from facts and rules to a verdict.
//!
//! Three layers: facts are what a device reported; a setting's result is a function of facts and one rule; the device's verdict is a
//! function of the results, the clock, the organisation's settings and the verdict before (grace and error hold have a memory).

mod evaluate;
mod state;

pub use evaluate::{BUILT_IN, Enforced, Input, Person, Policy, Rules, evaluate};
pub use state::{ERROR_HOLD, PENDING_HOLD, PolicyResult, SettingResult, State, Status, Verdict};
