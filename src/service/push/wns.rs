//! Windows Push Notification Services.
