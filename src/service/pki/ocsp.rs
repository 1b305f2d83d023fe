//! Answering OCSP.
