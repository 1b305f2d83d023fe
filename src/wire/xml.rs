//! A bounded, namespace-aware reader and a writer for the small XML documents that devices exchange with us.
