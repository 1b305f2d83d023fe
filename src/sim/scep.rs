//! A SCEP client.
