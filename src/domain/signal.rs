//! Signals: verdict and credential changes on their way to consumers.
