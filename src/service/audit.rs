//! Writing and verifying the audit log.
