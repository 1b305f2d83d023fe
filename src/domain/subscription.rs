//! Subscriptions to changes (Graph's change notifications): what may be subscribed to, for how long, and what is told.

use serde::{Deserialize, Serialize};

use crate::clock::{DAY, HOUR, MINUTE, Time};
use crate::domain::access::{Action, Need, Scope};
use crate::ids::{ApplicationId, GrantId, SubscriptionId, UserId};

/// The longest life, in milliseconds.
pub const LONGEST: i64 = 3 * DAY;
/// The shortest life: less is lengthened, as in Graph.
pub const SHORTEST: i64 = 45 * MINUTE;
/// How long before its end, or before half its life is left, its owner is told to renew it.
pub const WARN: i64 = 12 * HOUR;
/// How many an application has at most in its own name, and in that of each person.
pub const MOST: usize = 100;
/// The longest `clientState`.
pub const LONGEST_STATE: usize = 128;

/// What is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// People.
    User,
    /// Groups and who belongs to them.
    Group,
    /// Devices of the directory.
    Device,
    /// Managed devices.
    ManagedDevice,
}

impl Kind {
    /// Each with the address of its set.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::User, "users"),
        (Self::Group, "groups"),
        (Self::Device, "devices"),
        (Self::ManagedDevice, "deviceManagement/managedDevices"),
    ];

    /// How it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Device => "device",
            Self::ManagedDevice => "managedDevice",
        }
    }

    /// What is stored so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().map(|(kind, _)| kind).find(|kind| kind.as_str() == text)
    }

    /// The address of the set.
    #[must_use]
    pub fn path(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("", |(_, path)| path)
    }

    /// What whoever reads it needs.
    #[must_use]
    pub const fn need(self) -> Need {
        match self {
            Self::User => Need {
                scopes: &[Scope::UserReadAll, Scope::UserReadWriteAll, Scope::DirectoryReadAll, Scope::DirectoryReadWriteAll],
                action: Some(Action::DirectoryRead),
            },
            Self::Group => Need {
                scopes: &[Scope::GroupReadAll, Scope::GroupReadWriteAll, Scope::DirectoryReadAll, Scope::DirectoryReadWriteAll],
                action: Some(Action::DirectoryRead),
            },
            Self::Device => Need {
                scopes: &[Scope::DeviceReadAll, Scope::DeviceReadWriteAll, Scope::DirectoryReadAll, Scope::DirectoryReadWriteAll],
                action: Some(Action::DirectoryRead),
            },
            Self::ManagedDevice => Need {
                scopes: &[Scope::ManagedDevicesReadAll, Scope::ManagedDevicesReadWriteAll],
                action: Some(Action::ManagedDevicesRead),
            },
        }
    }

    /// What Graph calls an object of it.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::User => "#Microsoft.Graph.User",
            Self::Group => "#Microsoft.Graph.Group",
            Self::Device => "#Microsoft.Graph.Device",
            Self::ManagedDevice => "#Microsoft.Graph.ManagedDevice",
        }
    }
}

/// The set, and perhaps the one object of it, that a resource names: `users`, `/groups/ID`, `users('ID')`.
#[must_use]
pub fn resource(text: &str) -> Option<(Kind, Option<String>)> {
    let bare = text.trim().trim_start_matches('/').trim_end_matches('/');
    let bare = ["v1.0/", "beta/"].into_iter().find_map(|root| bare.strip_prefix(root)).unwrap_or(bare);
    Kind::ALL.into_iter().find_map(|(kind, path)| {
        let begin = bare.get(..path.len()).filter(|begin| begin.eq_ignore_ascii_case(path))?;
        let rest = bare.get(begin.len()..)?;
        let id = match (rest.strip_prefix('/'), rest.strip_prefix("('").and_then(|rest| rest.strip_suffix("')"))) {
            _ if rest.is_empty() => return Some((kind, None)),
            (Some(id), _) | (_, Some(id)) => id,
            _ => return None,
        };
        let id = SubscriptionId::parse(id)?.to_string();
        Some((kind, Some(id)))
    })
}

/// What may happen to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ChangeType {
    /// It is new, or back.
    Created,
    /// It is another than before.
    Updated,
    /// It is gone.
    Deleted,
}

impl ChangeType {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }

    /// Those that a list such as `created,updated` names; `None` when it is none.
    #[must_use]
    pub fn list(text: &str) -> Option<Vec<Self>> {
        let word = |word: &str| [Self::Created, Self::Updated, Self::Deleted].into_iter().find(|one| one.as_str() == word);
        let mut all = text.split(',').map(|part| word(part.trim())).collect::<Option<Vec<_>>>()?;
        all.sort_unstable();
        all.dedup();
        Some(all).filter(|all| !all.is_empty())
    }
}

/// The list as it is written.
#[must_use]
pub fn words(types: &[ChangeType]) -> String {
    types.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(",")
}

/// Who wants to hear of which changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// Whose it is.
    pub application: ApplicationId,
    /// In whose name it was made; `None` for the application in its own.
    pub user: Option<UserId>,
    /// By what that person gave the application: it lives as long as that.
    pub grant: Option<GrantId>,
    /// The resource as it was written.
    pub resource: String,
    /// The set.
    pub kind: Kind,
    /// The one object.
    pub object: Option<String>,
    /// Of which changes.
    pub types: Vec<ChangeType>,
    /// Where they are told.
    pub notification_url: String,
    /// Where is told what happens to the subscription itself.
    pub lifecycle_url: Option<String>,
    /// What each message repeats, sealed.
    pub sealed_state: Option<Vec<u8>>,
    /// Since when.
    pub created_at: Time,
    /// Until when.
    pub expires_at: Time,
    /// When its owner was told to renew it.
    pub warned_at: Option<Time>,
}

impl Subscription {
    /// Whether it wants to hear that of an object.
    #[must_use]
    pub fn wants(&self, kind: Kind, id: &str, change: ChangeType, now: Time) -> bool {
        now < self.expires_at && self.kind == kind && self.object.as_deref().is_none_or(|own| own == id) && self.types.contains(&change)
    }

    /// From when on its owner is told to renew it.
    #[must_use]
    pub fn warn_at(&self) -> Time {
        let life = self.expires_at.since(self.created_at);
        self.expires_at.plus(-WARN.min(life / 4))
    }
}

/// The end of a subscription that was asked to end then; `None` when that is over or too far away.
#[must_use]
pub fn end(asked: Time, now: Time) -> Option<Time> {
    let life = asked.since(now);
    // A minute for clocks that are ahead of ours.
    (life > 0 && life <= LONGEST + MINUTE).then(|| now.plus(life.max(SHORTEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_a_set_or_one_object_of_it() {
        let id = "0191d5a0-0000-7000-8000-000000000001";
        for (text, expected) in [
            ("users", Some((Kind::User, None))),
            ("/Groups/", Some((Kind::Group, None))),
            ("v1.0/devices", Some((Kind::Device, None))),
            ("deviceManagement/managedDevices", Some((Kind::ManagedDevice, None))),
            (&format!("users/{id}"), Some((Kind::User, Some(id.to_owned())))),
            (&format!("groups('{id}')"), Some((Kind::Group, Some(id.to_owned())))),
            ("usersx", None),
            ("users/ana", None),
            ("users/../groups", None),
            ("me/messages", None),
            ("", None),
        ] {
            assert_eq!(resource(text), expected, "{text}");
        }
    }

    #[test]
    fn changes_are_a_list_of_words() {
        assert_eq!(ChangeType::list("updated, created,updated"), Some(vec![ChangeType::Created, ChangeType::Updated]));
        for wrong in ["", "changed", "created,", "Created"] {
            assert_eq!(ChangeType::list(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_life_is_lengthened_to_the_shortest_and_refused_beyond_the_longest() {
        let now = Time(1_000_000);
        assert_eq!(end(now.plus(MINUTE), now), Some(now.plus(SHORTEST)));
        assert_eq!(end(now.plus(2 * DAY), now), Some(now.plus(2 * DAY)));
        assert_eq!(end(now.plus(LONGEST + 2 * MINUTE), now), None);
        assert_eq!(end(now, now), None);
    }
}
