//! Permissions of applications, by the names that Microsoft Graph has for them (its permissions reference), and a few of our own for what
//! Graph has no shape for.

words! {
    /// A permission. What a caller may do with it is said by each route.
    Scope {
        /// Applications and what they may do.
        ApplicationReadAll = "Application.Read.All",
        /// The same, and changing them.
        ApplicationReadWriteAll = "Application.ReadWrite.All",
        /// Sign-in log and audit log.
        AuditLogReadAll = "AuditLog.Read.All",
        /// Recovery keys of BitLocker.
        BitlockerKeyReadAll = "BitlockerKey.Read.All",
        /// Devices of the directory.
        DeviceReadAll = "Device.Read.All",
        /// The same, and changing them.
        DeviceReadWriteAll = "Device.ReadWrite.All",
        /// Passwords of local administrators.
        DeviceLocalCredentialReadAll = "DeviceLocalCredential.Read.All",
        /// Of which devices they are kept.
        DeviceLocalCredentialReadBasicAll = "DeviceLocalCredential.ReadBasic.All",
        /// Applications for devices.
        AppsReadAll = "DeviceManagementApps.Read.All",
        /// The same, and changing them.
        AppsReadWriteAll = "DeviceManagementApps.ReadWrite.All",
        /// Authorities and their certificates.
        CloudCaReadAll = "DeviceManagementCloudCA.Read.All",
        /// The same, and changing them.
        CloudCaReadWriteAll = "DeviceManagementCloudCA.ReadWrite.All",
        /// Profiles and policies.
        ConfigurationReadAll = "DeviceManagementConfiguration.Read.All",
        /// The same, and changing them.
        ConfigurationReadWriteAll = "DeviceManagementConfiguration.ReadWrite.All",
        /// Orders that take something away from a device, or restart it.
        ManagedDevicesPrivileged = "DeviceManagementManagedDevices.PrivilegedOperations.All",
        /// Managed devices.
        ManagedDevicesReadAll = "DeviceManagementManagedDevices.Read.All",
        /// The same, and changing them.
        ManagedDevicesReadWriteAll = "DeviceManagementManagedDevices.ReadWrite.All",
        /// Roles and the audit log of device management.
        RbacReadAll = "DeviceManagementRBAC.Read.All",
        /// The same, and changing roles.
        RbacReadWriteAll = "DeviceManagementRBAC.ReadWrite.All",
        /// Enrolment, and what Apple gives.
        ServiceConfigReadAll = "DeviceManagementServiceConfig.Read.All",
        /// The same, and changing them.
        ServiceConfigReadWriteAll = "DeviceManagementServiceConfig.ReadWrite.All",
        /// Users, groups and devices.
        DirectoryReadAll = "Directory.Read.All",
        /// The same, and changing them.
        DirectoryReadWriteAll = "Directory.ReadWrite.All",
        /// Groups.
        GroupReadAll = "Group.Read.All",
        /// The same, and changing them.
        GroupReadWriteAll = "Group.ReadWrite.All",
        /// Who belongs to groups.
        GroupMemberReadAll = "GroupMember.Read.All",
        /// The same, and changing it.
        GroupMemberReadWriteAll = "GroupMember.ReadWrite.All",
        /// Jobs, the outbox, readiness.
        OperationsReadAll = "Muster.Operations.Read.All",
        /// The same, and changing them.
        OperationsReadWriteAll = "Muster.Operations.ReadWrite.All",
        /// Signals and their receivers.
        SignalsReadAll = "Muster.Signals.Read.All",
        /// The same, and changing them.
        SignalsReadWriteAll = "Muster.Signals.ReadWrite.All",
        /// The organisation.
        OrganizationReadAll = "Organization.Read.All",
        /// Policies of the organisation, those of sign-in among them.
        PolicyReadAll = "Policy.Read.All",
        /// Changing the policy of authentication methods.
        PolicyReadWriteAuthenticationMethod = "Policy.ReadWrite.AuthenticationMethod",
        /// Reports.
        ReportsReadAll = "Reports.Read.All",
        /// Provisioning people from elsewhere (SCIM).
        SynchronizationDataUserUpload = "SynchronizationData-User.Upload",
        /// The person who signed in.
        UserRead = "User.Read",
        /// People.
        UserReadAll = "User.Read.All",
        /// The same, and changing them.
        UserReadWriteAll = "User.ReadWrite.All",
        /// Ending what people are signed in to.
        UserRevokeSessionsAll = "User.RevokeSessions.All",
        /// Changing the person who signed in.
        UserReadWrite = "User.ReadWrite",
        /// Authentication methods of the person who signed in.
        MethodRead = "UserAuthenticationMethod.Read",
        /// Authentication methods of everybody.
        MethodReadAll = "UserAuthenticationMethod.Read.All",
        /// Changing those of the person who signed in.
        MethodReadWrite = "UserAuthenticationMethod.ReadWrite",
        /// Changing those of everybody.
        MethodReadWriteAll = "UserAuthenticationMethod.ReadWrite.All",
    }
}

impl Scope {
    /// Whether only a person can lend it: it is about the person who signed in.
    #[must_use]
    pub fn is_of_a_person(self) -> bool {
        matches!(self, Self::UserRead | Self::UserReadWrite | Self::MethodRead | Self::MethodReadWrite)
    }

    /// Whether any person may lend it, without an administrator's consent.
    #[must_use]
    pub fn needs_no_consent(self) -> bool {
        self == Self::UserRead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_read_back() {
        let words: std::collections::BTreeSet<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
        assert_eq!(words.len(), Scope::ALL.len());
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(*scope));
        }
    }
}
