//! Open OMA-DM sessions.
