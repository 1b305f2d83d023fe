//! Who is at the other end: client certificate or proxy header.
