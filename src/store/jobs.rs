//! Scheduled jobs and their leases.
