//! Types, rules and state machines: pure functions over values; `now` is a parameter.

/// Declares an enum that is stored and shown as a fixed word per variant.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// All variants, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that is stored and shown.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub mod access;
pub mod acme;
pub mod apple;
pub mod application;
pub mod assignment;
pub mod audit;
pub mod authority;
pub mod autopilot;
pub mod certificate;
pub mod command;
pub mod compliance;
pub mod desired;
pub mod device;
pub mod dm_session;
pub mod enrollment;
pub mod fact;
pub mod grant;
pub mod group;
pub mod inventory;
pub mod oauth;
pub mod passkey;
pub mod pfx;
pub mod profile;
pub mod readiness;
pub mod refusal;
pub mod registration;
pub mod restriction;
pub mod scep;
pub mod session;
pub mod sign_in;
pub mod signal;
pub mod subscription;
pub mod tap;
pub mod throttle;
pub mod user;
pub mod work;

pub use refusal::Refusal;
