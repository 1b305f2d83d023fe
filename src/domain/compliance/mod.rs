//! Compliance: facts and rules to a verdict.
