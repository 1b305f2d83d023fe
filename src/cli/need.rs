//! What each order needs that comes from another machine. The matches are exhaustive, down to the subcommands, so that no order can exist that
//! does not say; what is about the server's own files, keys and settings is not for other machines.

use super::device::Give;
use super::{Order, app, apple, audit, autopilot, ca, deleted, device, enroll, files, group, pfx, profile, role, scep, signals, user};
use crate::domain::access::{Action, Need, Scope};
use crate::domain::profile::Kind;

/// From where an order may come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// From another machine, by those who may do all of this everywhere.
    Anywhere(Vec<Need>),
    /// From the server's own machine only.
    LocalOnly,
}

const fn need(scopes: &'static [Scope], action: Action) -> Need {
    Need { scopes, action: Some(action) }
}

const DEVICES_READ: Need = need(&[Scope::ManagedDevicesReadAll, Scope::ManagedDevicesReadWriteAll], Action::ManagedDevicesRead);
const DEVICES_DELETE: Need = need(&[Scope::ManagedDevicesReadWriteAll], Action::ManagedDevicesDelete);
const SECRETS_READ: Need = need(&[Scope::ManagedDevicesPrivileged], Action::SecretsRead);
/// Seeing the secrets of profiles.
pub(super) const PROFILE_SECRETS_READ: Need = need(&[Scope::ConfigurationReadWriteAll], Action::SecretsRead);
/// Seeing people and groups.
pub(super) const DIRECTORY_READ: Need = need(
    &[Scope::UserReadAll, Scope::UserReadWriteAll, Scope::GroupReadAll, Scope::GroupReadWriteAll, Scope::DirectoryReadAll],
    Action::DirectoryRead,
);
/// Changing people.
pub(super) const USERS_WRITE: Need = need(&[Scope::UserReadWriteAll, Scope::DirectoryReadWriteAll], Action::DirectoryUpdate);
/// Changing groups.
pub(super) const GROUPS_WRITE: Need = need(&[Scope::GroupReadWriteAll, Scope::DirectoryReadWriteAll], Action::GroupsUpdate);
const METHODS_READ: Need = need(&[Scope::MethodReadAll, Scope::MethodReadWriteAll], Action::MethodsRead);
const METHODS_WRITE: Need = need(&[Scope::MethodReadWriteAll], Action::MethodsUpdate);
const ROLES_READ: Need = need(&[Scope::RbacReadAll, Scope::RbacReadWriteAll], Action::RolesRead);
const APPLICATIONS_READ: Need = need(&[Scope::ApplicationReadAll, Scope::ApplicationReadWriteAll], Action::ApplicationsRead);
const APPLICATIONS_WRITE: Need = need(&[Scope::ApplicationReadWriteAll], Action::ApplicationsUpdate);
const AUDIT_READ: Need = need(&[Scope::AuditLogReadAll], Action::AuditRead);
const CA_READ: Need = need(&[Scope::CloudCaReadAll, Scope::CloudCaReadWriteAll], Action::AuthoritiesRead);
const CA_CREATE: Need = need(&[Scope::CloudCaReadWriteAll], Action::AuthoritiesCreate);
const CA_UPDATE: Need = need(&[Scope::CloudCaReadWriteAll], Action::AuthoritiesUpdate);
const CA_REVOKE: Need = need(&[Scope::CloudCaReadWriteAll], Action::CertificatesRevoke);
const IDENTITIES_READ: Need = need(&[Scope::ConfigurationReadAll, Scope::ConfigurationReadWriteAll], Action::IdentitiesRead);
const IDENTITIES_WRITE: Need = need(&[Scope::ConfigurationReadWriteAll], Action::IdentitiesUpdate);
const ENROLLMENT_READ: Need = need(&[Scope::ServiceConfigReadAll, Scope::ServiceConfigReadWriteAll], Action::EnrollmentRead);
const ENROLLMENT_WRITE: Need = need(&[Scope::ServiceConfigReadWriteAll], Action::EnrollmentUpdate);
const APPS_READ: Need = need(&[Scope::AppsReadAll, Scope::AppsReadWriteAll], Action::AppsRead);
const APPS_WRITE: Need = need(&[Scope::AppsReadWriteAll], Action::AppsUpdate);
const SIGNALS_READ: Need = need(&[Scope::SignalsReadAll, Scope::SignalsReadWriteAll], Action::SignalsRead);
const SIGNALS_WRITE: Need = need(&[Scope::SignalsReadWriteAll], Action::SignalsUpdate);
const OPERATIONS_READ: Need = need(&[Scope::OperationsReadAll, Scope::OperationsReadWriteAll], Action::OperationsRead);

const fn roles_write(action: Action) -> Need {
    need(&[Scope::RbacReadWriteAll], action)
}

const fn task(action: Action) -> Need {
    need(&[Scope::ManagedDevicesPrivileged], action)
}

fn any(needs: impl Into<Vec<Need>>) -> Place {
    Place::Anywhere(needs.into())
}

impl Order {
    /// From where it may come, and what it needs there.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::App(command) => of_app(command),
            Self::Apple(command) => of_apple(command),
            Self::Audit(audit::Command::List(_) | audit::Command::Verify { .. }) => any([AUDIT_READ]),
            Self::Backup(_) | Self::Keys(_) | Self::Settings => Place::LocalOnly,
            Self::Enroll(enroll::Command::Windows(_) | enroll::Command::Apple(_)) => any([METHODS_WRITE, ENROLLMENT_READ]),
            Self::Ca(command) => of_ca(command),
            // More is asked when it is known what kind of object it is.
            Self::Deleted(deleted::Command::List { .. } | deleted::Command::Restore { .. } | deleted::Command::Purge { .. }) => {
                any([DIRECTORY_READ])
            }
            Self::Device(command) => of_device(command),
            Self::Files(command) => files::place(command),
            Self::Group(command) => of_group(command),
            Self::Policy(command) => of_profile(Kind::Compliance, command),
            Self::Profile(command) => of_profile(Kind::Configuration, command),
            Self::Role(command) => of_role(command),
            Self::Signals(command) => of_signals(command),
            Self::Status => any([OPERATIONS_READ]),
            Self::User(command) => of_user(command),
        }
    }
}

fn of_app(command: &app::Command) -> Place {
    use app::Command as C;
    match command {
        C::List | C::Show { .. } | C::Permissions => any([APPLICATIONS_READ]),
        C::Create(_)
        | C::Enable { .. }
        | C::Disable { .. }
        | C::Delete { .. }
        | C::Secret { .. }
        | C::ScimToken { .. }
        | C::Certificate { .. }
        | C::RemoveCredential { .. }
        | C::Grant { .. } => any([APPLICATIONS_WRITE]),
    }
}

fn of_apple(command: &apple::Command) -> Place {
    use apple::Command as C;
    match command {
        C::Status | C::AdeStatus | C::AdeDevices { .. } | C::AdeDiscovery { show: true, .. } => any([ENROLLMENT_READ]),
        C::Request { .. }
        | C::Import { .. }
        | C::AdeKey { .. }
        | C::AdeToken { .. }
        | C::AdeSync { .. }
        | C::AdeDiscovery { show: false, .. }
        | C::AdeRemove { .. } => any([ENROLLMENT_WRITE]),
        C::ContentStatus { .. } | C::AppList => any([APPS_READ]),
        C::ContentToken { .. } | C::AppRemove { .. } => any([APPS_WRITE]),
        // The file is one of the server's.
        C::AppAdd(_) => Place::LocalOnly,
    }
}

fn of_ca(command: &ca::Command) -> Place {
    use ca::Command as C;
    match command {
        C::List | C::Show { .. } | C::Certificates { .. } | C::Export { .. } | C::Scep(scep::Command::Pending { .. }) => any([CA_READ]),
        C::Create { .. } | C::ImportCertificate { .. } => any([CA_CREATE]),
        // With its private key.
        C::Import { .. } => Place::LocalOnly,
        // A certificate in somebody's name is a way to be that person elsewhere.
        C::Issue(_) | C::Scep(scep::Command::Challenge(_)) => any([CA_UPDATE, METHODS_WRITE]),
        C::Revoke { .. } => any([CA_REVOKE, CA_UPDATE]),
        C::Release { .. } => any([CA_REVOKE]),
        C::Pause { .. } | C::Activate { .. } | C::Crl { .. } => any([CA_UPDATE]),
        C::Scep(scep::Command::Approve(_) | scep::Command::Refuse(_)) => any([CA_UPDATE]),
    }
}

fn of_device(command: &device::Command) -> Place {
    use device::Command as C;
    match command {
        C::List(_) | C::Show { .. } | C::Explain { .. } | C::Orders { .. } | C::Inventory { .. } => any([DEVICES_READ]),
        C::Autopilot(autopilot::Command::List { .. }) => any([ENROLLMENT_READ]),
        C::Autopilot(autopilot::Command::Import { .. } | autopilot::Command::Change { .. } | autopilot::Command::Remove { .. }) => {
            any([ENROLLMENT_WRITE])
        }
        C::Sync { .. } => any([task(Action::RemoteSync)]),
        C::Give(give) => Place::Anywhere(of_give(give)),
        C::Cancel { .. } => any([task(Action::RemoteOther)]),
        C::Secret { .. } => any([SECRETS_READ]),
        C::Retire { give_up: false, .. } => any([task(Action::RemoteRetire)]),
        C::Retire { give_up: true, .. } => any([task(Action::RemoteRetire), DEVICES_DELETE]),
    }
}

/// What an order to a device needs: as the action of the Graph-shaped API that gives it, and of a node that may be any all that nodes can do.
fn of_give(give: &Give) -> Vec<Need> {
    let Some(id) = give.known() else { return vec![task(Action::RemoteOther), task(Action::RemoteWipe), task(Action::RemoteRetire)] };
    let action = match id {
        "reboot" | "shut-down" => Action::RemoteReboot,
        "lock" => Action::RemoteLock,
        "clear-passcode" => Action::RemoteResetPasscode,
        "locate" | "enable-lost-mode" | "disable-lost-mode" | "play-sound" => Action::RemoteLocate,
        "rotate-filevault-key" | "rotate-bitlocker-keys" | "reset-local-administrator-password" | "set-administrator-password" => {
            Action::RemoteRotateKeys
        }
        "unenroll" => Action::RemoteRetire,
        _ if id.starts_with("wipe") || id == "autopilot-reset" => Action::RemoteWipe,
        _ => Action::RemoteOther,
    };
    vec![task(action)]
}

fn of_group(command: &group::Command) -> Place {
    use group::Command as C;
    match command {
        C::List { .. } | C::Show { .. } | C::TestRule { .. } => any([DIRECTORY_READ]),
        // A table may be about anybody and any group, and is taken as a whole.
        C::Import(_) => Place::LocalOnly,
        C::Create { .. } | C::Rule { .. } | C::Delete { .. } | C::Add(_) | C::Remove(_) => any([GROUPS_WRITE]),
    }
}

/// What profiles of a kind need: seeing, making, changing, assigning, deleting them.
pub(super) fn actions(kind: Kind) -> [Need; 5] {
    let write = |action| need(&[Scope::ConfigurationReadWriteAll], action);
    let read = |action| need(&[Scope::ConfigurationReadAll, Scope::ConfigurationReadWriteAll], action);
    match kind {
        Kind::Configuration => [
            read(Action::ProfilesRead),
            write(Action::ProfilesCreate),
            write(Action::ProfilesUpdate),
            write(Action::ProfilesAssign),
            write(Action::ProfilesDelete),
        ],
        Kind::Compliance => [
            read(Action::PoliciesRead),
            write(Action::PoliciesCreate),
            write(Action::PoliciesUpdate),
            write(Action::PoliciesAssign),
            write(Action::PoliciesDelete),
        ],
    }
}

fn of_profile(kind: Kind, command: &profile::Command) -> Place {
    use profile::Command as C;
    let [read, create, update, assign, delete] = actions(kind);
    match command {
        C::List { .. } | C::Known(profile::Known::Ready | profile::Known::Settings(_)) => any([read]),
        C::Show { secrets: false, .. } | C::Export { secrets: false, .. } => any([read]),
        C::Show { secrets: true, .. } | C::Export { secrets: true, .. } => any([read, PROFILE_SECRETS_READ]),
        C::Apply { .. } => any([create, update]),
        C::Rename { .. } => any([update]),
        C::Assign(_) | C::Unassign(_) => any([assign]),
        C::Delete { .. } => any([delete]),
    }
}

fn of_role(command: &role::Command) -> Place {
    use role::Command as C;
    match command {
        C::List | C::Show { .. } => any([ROLES_READ]),
        C::Create { .. } => any([roles_write(Action::RolesCreate)]),
        C::Delete { .. } => any([roles_write(Action::RolesDelete)]),
        C::Assign(_) | C::Unassign { .. } => any([roles_write(Action::RolesAssign)]),
    }
}

fn of_signals(command: &signals::Command) -> Place {
    use signals::{Command as C, KeysCommand as K, ReceiverCommand as R};
    match command {
        C::Receiver(R::List | R::Fate { .. }) | C::Keys(K::List) | C::Outbox { .. } => any([SIGNALS_READ]),
        C::Receiver(R::Add(_) | R::Test { .. } | R::Pause { .. } | R::Resume { .. } | R::Remove { .. }) | C::Retry { .. } => {
            any([SIGNALS_WRITE])
        }
        // Keys of the server.
        C::Keys(K::Replace) => Place::LocalOnly,
    }
}

fn of_user(command: &user::Command) -> Place {
    use user::Command as C;
    let assigning = |gives: bool| if gives { vec![USERS_WRITE, roles_write(Action::RolesAssign)] } else { vec![USERS_WRITE] };
    match command {
        C::List { .. } | C::Show { .. } => any([DIRECTORY_READ]),
        // Certificates carry it, and in Active Directory it says whose account it is; the Graph-shaped API does not write it either.
        C::Create(new) if new.names_account() => Place::LocalOnly,
        C::Change(change) if change.names_account() => Place::LocalOnly,
        C::Create(new) => any(assigning(new.gives_role())),
        C::Change(change) => any(assigning(change.gives_role())),
        C::Enable { .. } | C::Disable { .. } | C::Delete { .. } => any([USERS_WRITE]),
        C::BreakGlass(user::BreakGlass::List) => any([METHODS_READ]),
        C::BreakGlass(user::BreakGlass::Add { .. } | user::BreakGlass::Remove { .. }) => Place::LocalOnly,
        // As of groups.
        C::Import(_) => Place::LocalOnly,
        C::Pfx(pfx::Command::List { .. } | pfx::Command::Key) => any([IDENTITIES_READ]),
        C::Pfx(pfx::Command::Import(_) | pfx::Command::Delete { .. }) => any([IDENTITIES_WRITE]),
        C::Tap { .. } => any([METHODS_WRITE]),
    }
}

#[cfg(test)]
mod tests;
