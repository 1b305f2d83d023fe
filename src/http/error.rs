//! How refusals look on the faces that are not a protocol's own.
