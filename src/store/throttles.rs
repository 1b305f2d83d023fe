//! Failed sign-ins, counted for all nodes.
