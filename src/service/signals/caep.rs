//! CAEP events as signed security event tokens.
