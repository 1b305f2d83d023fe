//! What a role can allow, as resource actions in the manner of Intune's role definitions (`Microsoft.Intune_Resource_Verb`); those that
//! Intune has not begin with `Muster_`.

words! {
    /// One thing that a role allows or not.
    Action {
        /// See the audit log and the sign-in log.
        AuditRead = "Microsoft.Intune_Audit_Read",
        /// Make authorities.
        AuthoritiesCreate = "Microsoft.Intune_CloudCA_Create",
        /// See authorities and certificates.
        AuthoritiesRead = "Microsoft.Intune_CloudCA_Read",
        /// Revoke certificates.
        CertificatesRevoke = "Microsoft.Intune_CloudCA_RevokeLeafCertificates",
        /// Pause, renew, revoke and delete authorities.
        AuthoritiesUpdate = "Microsoft.Intune_CloudCA_Update",
        /// Assign compliance policies. (The resource is spelt so.)
        PoliciesAssign = "Microsoft.Intune_DeviceCompliancePolices_Assign",
        /// Make compliance policies.
        PoliciesCreate = "Microsoft.Intune_DeviceCompliancePolices_Create",
        /// Delete compliance policies.
        PoliciesDelete = "Microsoft.Intune_DeviceCompliancePolices_Delete",
        /// See compliance policies.
        PoliciesRead = "Microsoft.Intune_DeviceCompliancePolices_Read",
        /// Change compliance policies.
        PoliciesUpdate = "Microsoft.Intune_DeviceCompliancePolices_Update",
        /// Assign profiles.
        ProfilesAssign = "Microsoft.Intune_DeviceConfigurations_Assign",
        /// Make profiles.
        ProfilesCreate = "Microsoft.Intune_DeviceConfigurations_Create",
        /// Delete profiles.
        ProfilesDelete = "Microsoft.Intune_DeviceConfigurations_Delete",
        /// See profiles.
        ProfilesRead = "Microsoft.Intune_DeviceConfigurations_Read",
        /// Change profiles.
        ProfilesUpdate = "Microsoft.Intune_DeviceConfigurations_Update",
        /// See how devices enrol, and what Apple and Microsoft give for it.
        EnrollmentRead = "Microsoft.Intune_EnrollmentProgramToken_Read",
        /// Change that.
        EnrollmentUpdate = "Microsoft.Intune_EnrollmentProgramToken_Update",
        /// Take a managed device out of the list.
        ManagedDevicesDelete = "Microsoft.Intune_ManagedDevices_Delete",
        /// See managed devices.
        ManagedDevicesRead = "Microsoft.Intune_ManagedDevices_Read",
        /// Change what is noted of a managed device.
        ManagedDevicesUpdate = "Microsoft.Intune_ManagedDevices_Update",
        /// See applications for devices.
        AppsRead = "Microsoft.Intune_MobileApps_Read",
        /// Change applications for devices.
        AppsUpdate = "Microsoft.Intune_MobileApps_Update",
        /// See the organisation's settings.
        OrganizationRead = "Microsoft.Intune_Organization_Read",
        /// Change the organisation's settings.
        OrganizationUpdate = "Microsoft.Intune_Organization_Update",
        /// See the secrets that devices entrusted to the server.
        SecretsRead = "Microsoft.Intune_RemoteTasks_GetFileVaultKey",
        /// Find, ring and lock a device that is lost.
        RemoteLocate = "Microsoft.Intune_RemoteTasks_LocateDevice",
        /// Lock a device.
        RemoteLock = "Microsoft.Intune_RemoteTasks_RemoteLock",
        /// Restart a device or switch it off.
        RemoteReboot = "Microsoft.Intune_RemoteTasks_RebootNow",
        /// Take a device's code away.
        RemoteResetPasscode = "Microsoft.Intune_RemoteTasks_ResetPasscode",
        /// Have a device leave.
        RemoteRetire = "Microsoft.Intune_RemoteTasks_Retire",
        /// Replace the recovery keys and local passwords of a device.
        RemoteRotateKeys = "Microsoft.Intune_RemoteTasks_RotateFileVaultKey",
        /// Have a device come now.
        RemoteSync = "Microsoft.Intune_RemoteTasks_SyncDevice",
        /// Erase a device.
        RemoteWipe = "Microsoft.Intune_RemoteTasks_Wipe",
        /// Any other order to a device.
        RemoteOther = "Microsoft.Intune_RemoteTasks_CustomOrder",
        /// Assign roles.
        RolesAssign = "Microsoft.Intune_Roles_Assign",
        /// Make roles.
        RolesCreate = "Microsoft.Intune_Roles_Create",
        /// Delete roles.
        RolesDelete = "Microsoft.Intune_Roles_Delete",
        /// See roles and who has them.
        RolesRead = "Microsoft.Intune_Roles_Read",
        /// Change roles.
        RolesUpdate = "Microsoft.Intune_Roles_Update",
        /// See applications that call the API.
        ApplicationsRead = "Muster_Applications_Read",
        /// Register, change and delete them, and consent to what they ask for.
        ApplicationsUpdate = "Muster_Applications_Update",
        /// See people, groups and devices of the directory.
        DirectoryRead = "Muster_Directory_Read",
        /// Make, change and delete groups and say who belongs to them.
        GroupsUpdate = "Muster_Groups_Update",
        /// See which identities were brought for people; nobody sees their keys.
        IdentitiesRead = "Muster_ImportedIdentities_Read",
        /// Bring and delete them.
        IdentitiesUpdate = "Muster_ImportedIdentities_Update",
        /// See what the organisation says about the ways to sign in.
        MethodPoliciesRead = "Muster_MethodPolicies_Read",
        /// Change it.
        MethodPoliciesUpdate = "Muster_MethodPolicies_Update",
        /// See people's authentication methods.
        MethodsRead = "Muster_Methods_Read",
        /// Give people a pass to sign in with, and take methods away.
        MethodsUpdate = "Muster_Methods_Update",
        /// See jobs, the outbox and readiness.
        OperationsRead = "Muster_Operations_Read",
        /// Change them.
        OperationsUpdate = "Muster_Operations_Update",
        /// See signals and their receivers.
        SignalsRead = "Muster_Signals_Read",
        /// Change them.
        SignalsUpdate = "Muster_Signals_Update",
        /// Make, change and delete people and devices of the directory.
        DirectoryUpdate = "Muster_Directory_Update",
    }
}
