//! Signal receivers.
