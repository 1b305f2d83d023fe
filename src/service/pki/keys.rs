//! Unsealed private keys in memory and the keys that serve an authority (RA, OCSP responder, server).
