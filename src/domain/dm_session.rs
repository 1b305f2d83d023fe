//! The OMA-DM session as a pure state machine.
