//! Certificates: what may be issued (the grant), templates and their variables, states.
