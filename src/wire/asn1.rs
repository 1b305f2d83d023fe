//! Shared ASN.1 pieces: raw names, algorithm identifiers, object identifiers, BER to DER.
