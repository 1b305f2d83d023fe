//! Who may do what over the API: permissions that an application was given (scopes), what a person's roles allow (actions), and to which
//! devices and people that reaches.
//!
//! A delegated call may do what both the application's scopes and the person's roles allow; an application that calls in its own name may
//! do what its scopes allow. A route names a [`Need`]; [`Caller::reach`] answers it.

mod action;
mod role;
mod scope;

pub use action::Action;
pub use role::{ADMINISTRATOR, Assignment, BUILT_IN, MOST_ROLES, Principal, Role};
pub use scope::Scope;

use std::collections::BTreeSet;
use std::fmt;

use crate::clock::Time;
use crate::ids::{ApplicationId, GrantId, GroupId, RoleId, UserId};

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// One of these permissions, by which an application may call it.
    pub scopes: &'static [Scope],
    /// What a role of the person must allow beside that; `None` where everybody may do it to what is their own.
    pub action: Option<Action>,
}

/// What a caller has not that a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The application may call it, and no role of the person allows it.
    Role(Action),
    /// The application has none of these permissions.
    Permission(&'static [Scope]),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(action) => write!(f, "none of the person's roles allows {}", action.as_str()),
            Self::Permission(scopes) => {
                let names: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
                write!(f, "the application has none of the permissions {}", names.join(", "))
            }
        }
    }
}

/// To which objects a right extends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To all.
    All,
    /// To the members of these groups.
    Groups(BTreeSet<GroupId>),
}

impl Reach {
    /// Whether it is without bounds.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// What either reaches.
    #[must_use]
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Groups(mut one), Self::Groups(two)) => {
                one.extend(two);
                Self::Groups(one)
            }
            _ => Self::All,
        }
    }
}

/// In whose name a call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An application in its own.
    Application,
    /// A person, through an application.
    Person(UserId),
}

/// Who calls, with what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The application.
    pub application: ApplicationId,
    /// Its client id.
    pub client_id: String,
    /// In whose name.
    pub identity: Identity,
    /// What the application may do in that name.
    pub scopes: BTreeSet<Scope>,
    /// The person's roles, each with where it reaches.
    pub roles: Vec<(Role, Reach)>,
    /// When the person signed in.
    pub signed_in_at: Option<Time>,
    /// What the person gave the application when they did.
    pub grant: Option<GrantId>,
}

impl Caller {
    /// How far what the caller asks for reaches; `None` when it may not do it at all.
    #[must_use]
    pub fn reach(&self, need: Need) -> Option<Reach> {
        if !need.scopes.iter().any(|scope| self.scopes.contains(scope)) {
            return None;
        }
        match (&self.identity, need.action) {
            (Identity::Application, _) | (Identity::Person(_), None) => Some(Reach::All),
            (Identity::Person(_), Some(action)) => self.allows(action),
        }
    }

    /// How far what the caller asks for reaches.
    ///
    /// # Errors
    /// What the caller has not that it takes.
    pub fn check(&self, need: Need) -> Result<Reach, Lack> {
        self.reach(need).ok_or_else(|| match need.action {
            Some(action) if need.scopes.iter().any(|scope| self.scopes.contains(scope)) => Lack::Role(action),
            _ => Lack::Permission(need.scopes),
        })
    }

    /// How far an action reaches by the person's roles alone; an application that calls in its own name has none and is bound by its scopes.
    #[must_use]
    pub fn allows(&self, action: Action) -> Option<Reach> {
        if self.identity == Identity::Application {
            return Some(Reach::All);
        }
        let granted = self.roles.iter().filter(|(role, _)| role.allows(action)).map(|(_, reach)| reach.clone());
        granted.reduce(Reach::or)
    }

    /// The person; `None` for an application in its own name.
    #[must_use]
    pub fn person(&self) -> Option<&UserId> {
        match &self.identity {
            Identity::Application => None,
            Identity::Person(id) => Some(id),
        }
    }

    /// How the audit log names the caller.
    #[must_use]
    pub fn actor(&self) -> String {
        match &self.identity {
            Identity::Application => format!("app:{}", self.client_id),
            Identity::Person(id) => format!("user:{id}"),
        }
    }
}

/// Whether somebody with these rights may give the role away, which must hold nothing that the giver has not: without bounds, for whoever gets
/// the role might be anywhere. An application in its own name needs the permission to change roles.
#[must_use]
pub fn may_give(giver: &Caller, role: &Role) -> bool {
    match giver.identity {
        Identity::Application => giver.scopes.contains(&Scope::RbacReadWriteAll),
        Identity::Person(_) => role.actions().all(|action| giver.allows(action) == Some(Reach::All)),
    }
}

/// Whether somebody with these roles may do anything, anywhere, that they might not with those before.
#[must_use]
pub fn rises(before: &[(Role, Reach)], after: &[(Role, Reach)]) -> bool {
    let of = |held: &[(Role, Reach)], action| {
        held.iter().filter(|(role, _)| role.allows(action)).map(|(_, reach)| reach.clone()).reduce(Reach::or)
    };
    Action::ALL.iter().any(|&action| match (of(before, action), of(after, action)) {
        (_, None) | (Some(Reach::All), _) => false,
        (None, Some(_)) | (Some(Reach::Groups(_)), Some(Reach::All)) => true,
        (Some(Reach::Groups(before)), Some(Reach::Groups(after))) => !after.is_subset(&before),
    })
}

/// The id of a built-in role, as a typed one.
#[must_use]
pub fn administrator() -> RoleId {
    RoleId::from_store(ADMINISTRATOR.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> GroupId {
        GroupId::from_store(name.into())
    }

    #[test]
    fn who_may_do_more_or_the_same_further_away_rises() {
        let held = |word: &str, reach: Reach| vec![(Role::built_in(word).unwrap(), reach)];
        let near = || Reach::Groups([group("a")].into());
        let both = Reach::Groups([group("a"), group("b")].into());
        assert!(rises(&[], &held("read-only", near())));
        assert!(rises(&held("read-only", near()), &held("read-only", both.clone())));
        assert!(rises(&held("read-only", both.clone()), &held("read-only", Reach::All)));
        assert!(rises(&held("read-only", Reach::All), &held("helpdesk", near())), "other actions");
        assert!(!rises(&held("read-only", both), &held("read-only", near())));
        assert!(!rises(&held("administrator", Reach::All), &held("helpdesk", Reach::All)));
        assert!(!rises(&held("read-only", near()), &[]));
        assert!(!rises(&[], &[]));
    }

    fn caller(identity: Identity, scopes: &[Scope], roles: Vec<(Role, Reach)>) -> Caller {
        Caller {
            application: ApplicationId::from_store("a".into()),
            client_id: "c".into(),
            identity,
            scopes: scopes.iter().copied().collect(),
            roles,
            signed_in_at: None,
            grant: None,
        }
    }

    const READ: Need =
        Need { scopes: &[Scope::ManagedDevicesReadAll, Scope::ManagedDevicesReadWriteAll], action: Some(Action::ManagedDevicesRead) };
    const WIPE: Need = Need { scopes: &[Scope::ManagedDevicesPrivileged], action: Some(Action::RemoteWipe) };

    #[test]
    fn an_application_is_bound_by_its_scopes() {
        let app = caller(Identity::Application, &[Scope::ManagedDevicesReadWriteAll], Vec::new());
        assert_eq!(app.reach(READ), Some(Reach::All));
        assert_eq!(app.reach(WIPE), None);
        assert_eq!(app.actor(), "app:c");
    }

    #[test]
    fn a_person_needs_the_scope_and_the_role() {
        let id = UserId::new();
        let person = |scopes: &[Scope], roles| caller(Identity::Person(id.clone()), scopes, roles);
        let reader = || Role::built_in("read-only").unwrap();
        let all = [Scope::ManagedDevicesReadAll, Scope::ManagedDevicesPrivileged];
        assert_eq!(person(&all, Vec::new()).reach(READ), None, "no role");
        assert_eq!(person(&[], vec![(reader(), Reach::All)]).reach(READ), None, "no scope");
        assert_eq!(person(&all, vec![(reader(), Reach::All)]).reach(READ), Some(Reach::All));
        assert_eq!(person(&all, vec![(reader(), Reach::All)]).reach(WIPE), None, "a reader wipes nothing");
        let own = Need { action: None, ..READ };
        assert_eq!(person(&all, Vec::new()).reach(own), Some(Reach::All));
    }

    #[test]
    fn reaches_add_up() {
        let one = Reach::Groups([group("1")].into());
        let two = Reach::Groups([group("2")].into());
        let reader = Role::built_in("read-only").unwrap();
        let person = |roles| caller(Identity::Person(UserId::new()), READ.scopes, roles);
        assert_eq!(
            person(vec![(reader.clone(), one.clone()), (reader.clone(), two)]).reach(READ),
            Some(Reach::Groups([group("1"), group("2")].into()))
        );
        assert_eq!(person(vec![(reader.clone(), one), (reader, Reach::All)]).reach(READ), Some(Reach::All));
    }

    #[test]
    fn nobody_gives_more_than_they_have() {
        let administrator = Role::built_in("administrator").unwrap();
        let reader = Role::built_in("read-only").unwrap();
        let person = |role: &Role, reach| caller(Identity::Person(UserId::new()), &[], vec![(role.clone(), reach)]);
        assert!(may_give(&person(&administrator, Reach::All), &administrator));
        assert!(may_give(&person(&administrator, Reach::All), &reader));
        assert!(!may_give(&person(&reader, Reach::All), &administrator));
        assert!(!may_give(&person(&administrator, Reach::Groups([group("1")].into())), &reader), "not from within bounds");
        let app = |scopes: &[Scope]| caller(Identity::Application, scopes, Vec::new());
        assert!(!may_give(&app(&[Scope::GroupMemberReadWriteAll, Scope::MethodReadWriteAll]), &reader));
        assert!(may_give(&app(&[Scope::RbacReadWriteAll]), &administrator));
    }
}
