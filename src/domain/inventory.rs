//! Lists that a device answers: what is on it, bounded, with the keys that somebody looks at.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::wire::plist::Value;

/// Most entries of a list that are kept.
const MOST: usize = 2_000;
/// Longest text in an entry, in characters.
const LONGEST: usize = 256;

words! {
    /// What a list is of.
    Kind {
        /// Applications that are installed.
        Applications = "applications",
        /// Users with an account.
        Users = "users",
        /// Updates of the system that are on offer.
        Updates = "updates",
        /// How far updates are.
        UpdateStatus = "update-status",
        /// Provisioning profiles.
        ProvisioningProfiles = "provisioning-profiles",
        /// Books that the server gave.
        Books = "books",
        /// Extensions of applications, as a user of a Mac sees them.
        Extensions = "extensions",
        /// What is forbidden.
        Restrictions = "restrictions",
        /// How the content cache of a Mac is.
        ContentCaching = "content-caching",
        /// At which addresses another Mac can switch it.
        LightsOut = "lights-out",
    }
}

impl Kind {
    /// The keys of an entry that are kept, under Apple's names.
    #[must_use]
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Applications => &["Name", "Identifier", "Version", "ShortVersion", "BundleSize"],
            Self::Users => &[
                "UserName",
                "FullName",
                "UID",
                "UserGUID",
                "IsLoggedIn",
                "HasSecureToken",
                "MobileAccount",
                "HasDataToSync",
                "DataQuota",
                "DataUsed",
            ],
            Self::Updates => &[
                "HumanReadableName",
                "ProductKey",
                "Version",
                "Build",
                "IsCritical",
                "IsMajorOSUpdate",
                "RestartRequired",
                "DeferredUntil",
                "RequiresBootstrapToken",
                "IsSecurityResponse",
                "SupplementalOSVersionExtra",
            ],
            Self::UpdateStatus => {
                &["ProductKey", "Status", "IsDownloaded", "DownloadPercentComplete", "DeferralsRemaining", "NextScheduledInstall"]
            }
            Self::ProvisioningProfiles => &["Name", "UUID", "ExpiryDate"],
            Self::Books => &["Title", "Author", "Version", "Kind", "State", "PersistentID", "iTunesStoreID"],
            Self::Extensions => &["DisplayName", "Identifier", "ExtensionPoint"],
            Self::Restrictions => &["Restriction", "Value", "Kind", "Profile"],
            Self::ContentCaching => &["Name", "Value"],
            Self::LightsOut => &["Interface", "Address", "LOMProtocolVersion"],
        }
    }
}

/// A list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// The entries.
    pub entries: Vec<Map<String, Json>>,
    /// How many more there were.
    #[serde(default)]
    pub left_out: usize,
}

impl List {
    /// What is kept of a list. What is no dictionary, and values that are none of a key's, are passed over.
    #[must_use]
    pub fn of(items: &[Value], kind: Kind) -> Self {
        let entry = |item: &Value| {
            let dict = item.as_dict()?;
            let kept = |key: &&str| {
                let value = match dict.get(key)? {
                    Value::String(text) => Json::from(text.chars().take(LONGEST).collect::<String>()),
                    Value::Array(_) | Value::Dict(_) | Value::Data(_) => return None,
                    scalar => scalar.to_json(),
                };
                Some(((*key).to_owned(), value))
            };
            Some(kind.keys().iter().filter_map(kept).collect())
        };
        Self { entries: items.iter().take(MOST).filter_map(entry).collect(), left_out: items.len().saturating_sub(MOST) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::plist::Dict;

    #[test]
    fn lists_are_bounded_and_hold_only_what_is_looked_at() {
        let app = Dict::new().with("Name", "x".repeat(9_999)).with("Unheard", "y").with("Version", vec![Value::from(1)]);
        let items = vec![Value::Dict(app); MOST + 3];
        let list = List::of(&items, Kind::Applications);
        assert_eq!((list.entries.len(), list.left_out), (MOST, 3));
        assert_eq!(list.entries[0].keys().collect::<Vec<_>>(), ["Name"]);
        assert_eq!(list.entries[0]["Name"].as_str().unwrap().len(), LONGEST);
        assert_eq!(List::of(&[Value::from(1)], Kind::Users), List::default());
    }
}
