//! Discovery, policy and request token, as the device sees them.
