//! Administrator's orders to a device as a state machine.
