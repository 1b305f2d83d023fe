//! Pre-signed OCSP answers.
