//! Scheduled jobs: one file each; leased, so that one node runs each.
