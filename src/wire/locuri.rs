//! OMA-DM node addresses (LocURI): parsing, encoding, comparing.
