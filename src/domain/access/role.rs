//! Roles: named sets of actions, five of them built in; and who has them where.

use std::collections::BTreeSet;

use super::{Action, Reach};
use crate::domain::Refusal;
use crate::ids::{ApplicationId, GroupId, RoleAssignmentId, RoleId, UserId};

/// Id of the built-in role that allows everything.
pub const ADMINISTRATOR: &str = "0a5d1c52-0001-4000-8000-000000000005";

/// How many roles an organisation makes for itself at most.
pub const MOST_ROLES: usize = 200;

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Identifier.
    pub id: RoleId,
    /// Name for people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// Whether it came with the product: it cannot be changed.
    pub built_in: bool,
    allowed: BTreeSet<Action>,
}

/// A role that comes with the product.
#[derive(Debug)]
pub struct BuiltIn {
    /// Its fixed id.
    pub id: &'static str,
    /// Its word at the command line.
    pub word: &'static str,
    /// Name for people.
    pub display_name: &'static str,
    /// For people.
    pub description: &'static str,
    allows: fn(Action) -> bool,
}

/// The roles that come with the product, from the least to the most.
pub const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        id: "0a5d1c52-0001-4000-8000-000000000001",
        word: "read-only",
        display_name: "Read Only Operator",
        description: "Sees everything but secrets and changes nothing.",
        allows: is_read,
    },
    BuiltIn {
        id: "0a5d1c52-0001-4000-8000-000000000002",
        word: "helpdesk",
        display_name: "Help Desk Operator",
        description: "Sees everything but secrets, helps people back in, and gives devices orders that take nothing away.",
        allows: |action| {
            is_read(action)
                || matches!(
                    action,
                    Action::RemoteSync
                        | Action::RemoteReboot
                        | Action::RemoteLock
                        | Action::RemoteResetPasscode
                        | Action::RemoteLocate
                        | Action::ManagedDevicesUpdate
                        | Action::MethodsUpdate
                )
        },
    },
    BuiltIn {
        id: "0a5d1c52-0001-4000-8000-000000000003",
        word: "policy-manager",
        display_name: "Policy and Profile Manager",
        description: "Makes profiles and compliance policies and assigns them to groups.",
        allows: |action| {
            is_read(action)
                || matches!(
                    action,
                    Action::PoliciesAssign
                        | Action::PoliciesCreate
                        | Action::PoliciesDelete
                        | Action::PoliciesUpdate
                        | Action::ProfilesAssign
                        | Action::ProfilesCreate
                        | Action::ProfilesDelete
                        | Action::ProfilesUpdate
                        | Action::AppsUpdate
                )
        },
    },
    BuiltIn {
        id: "0a5d1c52-0001-4000-8000-000000000004",
        word: "certificate-manager",
        display_name: "Certificate Manager",
        description: "Runs the authorities, revokes certificates, and brings identities for people.",
        allows: |action| {
            is_read(action)
                || matches!(
                    action,
                    Action::AuthoritiesCreate | Action::AuthoritiesUpdate | Action::CertificatesRevoke | Action::IdentitiesUpdate
                )
        },
    },
    BuiltIn {
        id: ADMINISTRATOR,
        word: "administrator",
        display_name: "Administrator",
        description: "May do everything.",
        allows: |_| true,
    },
];

/// What only shows, and shows no secret.
fn is_read(action: Action) -> bool {
    action.as_str().ends_with("_Read")
}

impl Role {
    /// The built-in role of that word or id.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let found = BUILT_IN.iter().find(|role| role.word == name || role.id.eq_ignore_ascii_case(name))?;
        Some(Self {
            id: RoleId::from_store(found.id.into()),
            display_name: found.display_name.into(),
            description: found.description.into(),
            built_in: true,
            allowed: Action::ALL.iter().copied().filter(|action| (found.allows)(*action)).collect(),
        })
    }

    /// A role that an organisation made for itself.
    ///
    /// # Errors
    /// [`Refusal::RoleEmpty`] when it allows nothing.
    pub fn custom(id: RoleId, display_name: String, description: String, allowed: BTreeSet<Action>) -> Result<Self, Refusal> {
        if allowed.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        Ok(Self { id, display_name, description, built_in: false, allowed })
    }

    /// Whether it allows that.
    #[must_use]
    pub fn allows(&self, action: Action) -> bool {
        self.allowed.contains(&action)
    }

    /// What it allows.
    pub fn actions(&self) -> impl Iterator<Item = Action> + '_ {
        self.allowed.iter().copied()
    }
}

/// Who can have a role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Principal {
    /// A person.
    User(UserId),
    /// Everybody in a group.
    Group(GroupId),
    /// An application.
    Application(ApplicationId),
}

/// That somebody has a role somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Identifier.
    pub id: RoleAssignmentId,
    /// The role.
    pub role: RoleId,
    /// Name for people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// Who has it.
    pub members: BTreeSet<Principal>,
    /// Where it reaches.
    pub reach: Reach,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_roles_grow_and_only_the_administrator_sees_secrets() {
        let role = |word| Role::built_in(word).unwrap();
        let reads: BTreeSet<Action> = role("read-only").actions().collect();
        assert!(reads.contains(&Action::ManagedDevicesRead) && !reads.contains(&Action::SecretsRead));
        for built_in in BUILT_IN {
            let actions: BTreeSet<Action> = role(built_in.word).actions().collect();
            assert!(actions.is_superset(&reads), "{}", built_in.word);
            assert_eq!(actions.contains(&Action::SecretsRead), built_in.id == ADMINISTRATOR, "{}", built_in.word);
            assert_eq!(actions.contains(&Action::RolesAssign), built_in.id == ADMINISTRATOR, "{}", built_in.word);
            assert_eq!(Role::built_in(built_in.id), Role::built_in(built_in.word));
        }
        assert_eq!(role("administrator").actions().count(), Action::ALL.len());
        assert!(!role("helpdesk").allows(Action::RemoteWipe) && !role("helpdesk").allows(Action::RemoteRetire));
    }

    #[test]
    fn a_role_that_allows_nothing_is_refused() {
        let refused = Role::custom(RoleId::new(), "x".into(), String::new(), BTreeSet::new()).unwrap_err();
        assert_eq!(refused.code(), "ACC0001");
    }
}
