//! Sign-in pages.
