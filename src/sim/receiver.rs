//! A signal receiver that verifies what it gets.
