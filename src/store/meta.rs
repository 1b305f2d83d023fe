//! Single values of the instance.
