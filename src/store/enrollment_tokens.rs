//! One-time proofs of a sign-in that devices show while enrolling.
