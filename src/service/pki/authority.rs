//! Authorities: making, listing, exporting.
