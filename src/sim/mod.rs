//! Simulated devices and receivers. They import the wire and the catalogue, never service, store or domain: what they know of the
//! server is what it sends.

pub mod apns;
pub mod apple;
pub mod device;
pub mod fleet;
pub mod http;
pub mod listener;
pub mod measure;
pub mod receiver;
pub mod scep;
pub mod windows;
