//! Typed identifiers: UUIDv7 text, so that they sort by creation and never mix.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new identifier.
            #[must_use]
            #[allow(clippy::new_without_default, reason = "an id is made on purpose, never by default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7().to_string())
            }

            /// Takes a UUID text (any case, with or without braces); `None` for anything else.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::try_parse(text.trim()).ok().map(|id| Self(id.to_string()))
            }

            /// The lower-case hyphenated text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// An identifier read back from the store, which only holds what `new` and `parse` made.
            #[must_use]
            pub fn from_store(text: String) -> Self {
                Self(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

ids! {
    /// The organisation (one per instance).
    TenantId,
    /// A person.
    UserId,
    /// A group of users and devices.
    GroupId,
    /// A directory device.
    DeviceId,
    /// The management relation of a device.
    EnrollmentId,
    /// A named set of settings, or a compliance policy.
    ProfileId,
    /// The link of a profile to whom it is for.
    AssignmentId,
    /// A certification authority.
    AuthorityId,
    /// An issued certificate.
    CertificateId,
    /// A PC that is registered for Windows Autopilot.
    AutopilotId,
    /// What came of registering one.
    AutopilotImportId,
    /// An identity that was imported for a person.
    PfxId,
    /// A Temporary Access Pass.
    TapId,
    /// A passkey.
    PasskeyId,
    /// One try to sign in.
    SignInId,
    /// What a person gave an application.
    GrantId,
    /// Who wants to hear of changes.
    SubscriptionId,
    /// One thing queued for a device.
    CommandId,
    /// A signal receiver.
    ReceiverId,
    /// This server as Apple Business Manager knows it.
    AdeServerId,
    /// A package of an application.
    PackageId,
    /// A program that calls the API.
    ApplicationId,
    /// A secret or certificate of such a program.
    CredentialId,
    /// A role.
    RoleId,
    /// That somebody has a role somewhere.
    RoleAssignmentId,
}
