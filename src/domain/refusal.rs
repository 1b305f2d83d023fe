//! Every "no" that the product says, with a stable code.

/// Declares the closed list of refusals: variant, stable code, and the sentence that names the fix.
macro_rules! refusals {
    ($($variant:ident = $code:literal, $text:literal;)+) => {
        /// A named refusal. The code is stable; the text may change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $(#[doc = $text] $variant,)+
        }

        impl Refusal {
            /// All refusals, in alphabetical order of their names.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable code, such as `ENR0001`.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// What is refused, and what to do about it.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code(), self.text())
    }
}

impl std::error::Error for Refusal {}

// Keep the names in alphabetical order; a code is never used twice and never reused.
// Areas: ACC access, ADE Apple Business Manager, APN Apple push, APP applications, AUD the audit log, AUT sign-in and tokens, CMD orders to devices, CRT certificates and CA, DIR users, groups and rules, ENR enrolment, KEY master keys, MGT management sessions, OAU applications and OAuth, ORD orders from other machines, PFX imported identities, PRF profiles and assignments,
// REG registration at the identity service, SCP SCEP, SIG signals, USR directory, WAP Windows Autopilot.
refusals! {
    AccountDisabled = "AUT0001", "the account is disabled; an administrator can enable it";
    AccountEnrollmentOff = "ENR0035", "devices of this platform do not enrol in this way by account (apple.account); enrol by a link, or ask your administrator";
    AdeAccessDenied = "ADE0006", "Apple Business Manager does not take the server token (any more); download another one for the same server and bring it with `muster apple ade-token`";
    AdeListEndless = "ADE0008", "Apple Business Manager says again and again that more follows, and names no devices; what it named is kept, and it is asked again with the next reading. If that goes on, ask Apple";
    AdeNameInvalid = "ADE0001", "a server of Apple Business Manager is named with 1 to 40 lower-case letters, digits and hyphens";
    AdeServerChanged = "ADE0004", "the token is for another server of Apple Business Manager than the one before it; `--replace` takes it and reads the list of devices anew";
    AdeServerUnknown = "ADE0002", "no server of Apple Business Manager has that name; `muster apple ade-status` shows those that are there, `muster apple ade-key` makes one";
    AdeTermsOpen = "ADE0005", "Apple has new terms: an administrator has to accept them in Apple Business Manager";
    AdeTokenMissing = "ADE0007", "the server has no token yet: give its certificate (`muster apple ade-key`) to Apple Business Manager and bring what it gives with `muster apple ade-token`";
    AdeTokenRefused = "ADE0003", "the server token is not taken; the reason says why";
    AppPackageInUse = "APP0008", "profiles hand the package out: take it out of them or delete them first";
    AppPackageInvalid = "APP0001", "the package is not taken; the reason says why";
    AppPackageNameTaken = "APP0002", "there is a package of that name already; `--replace` puts this one in its place";
    AppPackageTooLarge = "APP0003", "a package has at most 2 GiB";
    AppPackageUnknown = "APP0004", "no package is called so; `muster apple app-list` shows those that are there";
    AppTokenMissing = "APP0005", "there is no content token: download it in Apple Business Manager and bring it with `muster apple content-token`";
    AppTokenRefused = "APP0006", "the content token is not taken (any more); download another one and bring it with `muster apple content-token`";
    AppTokenTaken = "APP0007", "the content token is in the hands of another device management, or of another location than the one before it; `--replace` takes it";
    ApplicationBuiltIn = "OAU0006", "the application comes with the product: it can be disabled and enabled, and nothing else of it changes";
    ApplicationTooManyParts = "OAU0002", "an application has at most 64 redirect URIs and 20 secrets and certificates; take some away";
    AssignmentBeyondReach = "ACC0014", "your role reaches certain groups only, and the assignment is to others; assign it to those groups";
    AuditHeadDiffers = "AUD0004", "the newest row of the audit log is not the one that was written last";
    AuditHeadForeign = "AUD0006", "the head of the audit log was not written by a server that holds the master key: rows may have been made anew; compare with a backup";
    AuditHeadMissing = "AUD0009", "the end of the audit log is missing in the database: somebody took it away; restore a backup";
    AuditNoteDiffers = "AUD0007", "the audit log has another row there than the one that was noted: it was made anew; compare with a backup";
    AuditNoteInvalid = "AUD0010", "a noted place is NUMBER:HASH, as `muster audit verify` shows the head; numbers begin at 1, and the hash has 64 hexadecimal digits";
    AuditNoteMissing = "AUD0008", "the audit log ends before the row that was noted: its end was cut off, or an older backup was restored";
    AuditRowAdded = "AUD0005", "the row was added to the audit log from outside";
    AuditRowAltered = "AUD0003", "the row of the audit log was altered";
    AuditRowMissing = "AUD0001", "the row of the audit log is missing";
    AuditRowMoved = "AUD0002", "the row of the audit log does not follow the one before it";
    AuthorityCertificateRefused = "CRT0040", "the certificate or its chain does not fit the authority; the reason says what to ask the outside authority for";
    AuthorityImported = "CRT0050", "the authority has its certificate already; nothing is left to import (muster ca show NAME)";
    AuthorityIsAnchor = "CRT0051", "a root cannot be revoked: nobody above it could say so; revoke the authorities below it, take the root from where it is trusted, and make another hierarchy";
    AuthorityIsRoot = "CRT0044", "a root with an issuing authority below it signs authorities only; issue from the one below it";
    AuthorityKept = "CRT0054", "an authority that has its certificate is kept: what it issued must be judged until it ends; pause it, or revoke it for good";
    AuthorityNameInvalid = "CRT0024", "an authority's name has 1 to 40 lower-case letters, digits and hyphens";
    AuthorityNameTaken = "CRT0048", "there is an authority of that name already; choose another name";
    AuthorityNotActive = "CRT0011", "the authority is paused or revoked and issues nothing; activate it or use another one";
    AuthorityNotHeld = "CRT0042", "an authority cannot be put on hold; pause it, or revoke it for good";
    AuthorityRequested = "CRT0052", "the authority waits for its certificate: import it (muster ca import-certificate), or discard the request (muster ca revoke NAME)";
    AuthorityRevocationUnconfirmed = "CRT0053", "with an authority all that it issued falls; say --yes to revoke it for good";
    AuthorityTooShort = "CRT0012", "the authority ends too soon to issue a useful certificate; renew the authority";
    AuthorizationNotSendable = "SIG0004", "the authorization value holds characters that an HTTP header cannot carry";
    AutopilotFileInvalid = "WAP0001", "this is no table of devices as Get-WindowsAutopilotInfo writes it; the reason says what is missing";
    AutopilotHashInvalid = "WAP0002", "this is no hardware hash: take it from the device with Get-WindowsAutopilotInfo, whole";
    AutopilotPresent = "WAP0003", "a device with that serial number is registered already; change that one, or remove it first";
    AutopilotSerialInvalid = "WAP0004", "a device has a serial number of at most 128 characters, as its firmware says it";
    AutopilotTextInvalid = "WAP0005", "group tags and names have at most 256 characters and no control characters";
    BreakGlassNamed = "USR0015", "the account is kept for emergencies; take it off that list first (muster user break-glass remove)";
    BreakGlassTooMany = "USR0016", "there are ten accounts for emergencies, each of them a way around the policies; take one off the list first";
    CertificateExpired = "CRT0028", "the client certificate is not in its validity; renew it or enrol the device again";
    CertificateHeld = "CRT0049", "a certificate in the same place is on hold, or one that took this one's place was; release or revoke it, then ask with a new challenge";
    CertificateKeyRefused = "CRT0013", "the key is too short, of a kind that is not accepted, or malformed; make an RSA key of 2048 bits or more, or a P-256 or P-384 key, as the profile allows";
    CertificateNameInvalid = "CRT0015", "a name for the certificate is malformed; correct the value in the directory or the profile";
    CertificateNameMissing = "CRT0016", "the certificate would have no name; give the profile a subject or a subject alternative name";
    CertificateNameNotPermitted = "CRT0041", "the name constraints of the authority forbid a name of the certificate; take it out of the profile, or use another authority";
    CertificateNameTooLong = "CRT0017", "a name is longer than certificates allow; shorten it, or allow long names in the profile";
    CertificateNotHeld = "CRT0018", "only a certificate on hold can be released";
    CertificateNotOurs = "CRT0001", "the client certificate was not issued by this server's authority for a device";
    CertificateRequestInvalid = "CRT0047", "this is no certificate request (PKCS#10) that proves possession of its key; make one, with openssl req -new for example";
    CertificateRevoked = "CRT0002", "the client certificate is revoked; enrol the device again";
    CertificateRevokedBefore = "CRT0019", "the certificate is revoked already";
    CertificateSidMissing = "CRT0045", "the user has no SID in the directory, so the security extension would be missing; add the SID to the user, or do without the extension";
    CertificateUsageForbidden = "CRT0014", "the extended key usage is reserved for the authority itself; take it out of the profile";
    CertificateUsageInvalid = "CRT0046", "an extended key usage is no object identifier; write it dotted, such as 1.3.6.1.5.5.7.3.2";
    ChannelNotAllowed = "SIG0005", "the push channel is not https on a host of the push service (windows.wns.channel_hosts)";
    CredentialInvalid = "OAU0004", "this is no certificate in PEM or DER with an RSA key of 2048 bits or more, or one on P-256";
    CsrInvalid = "ENR0002", "the certificate request cannot be read or its self-signature is wrong; the device has to make a new one";
    CsrWeakKey = "ENR0003", "the certificate request's key is too weak; use RSA with at least 2048 bits";
    DeadLetterSuperseded = "SIG0001", "a newer signal about the same subject was delivered, waits, or made this one needless; sending the old one now would mislead";
    DeviceCapReached = "ENR0004", "the user has as many devices as allowed; retire one first";
    DeviceKindUnsupported = "ENR0023", "Apple TVs, Apple Watches and Apple Vision devices are not managed by this server; enrol a Mac, an iPhone or an iPad";
    DeviceNotManaged = "CMD0004", "the device is leaving or has left; enrol it again";
    DeviceOfAnother = "ENR0017", "the device is enrolled for another person; an administrator has to retire it first";
    DeviceRetired = "MGT0024", "an administrator has retired the device; it removes what this server gave it, and can enrol again";
    DeviceTokenTooLarge = "ENR0039", "the device gives a token or an address that is larger than any real one; something else than a device speaks, or it has to be erased";
    EnrollmentConfigurationFixed = "ENR0040", "the configuration file of the server says who may enrol (enrollment, windows.devices_per_user); change it there";
    EnrollmentDataInvalid = "ENR0005", "the terms-of-use answer is missing, expired or not ours; start the enrolment again";
    EnrollmentEnded = "ENR0001", "the enrolment has ended; enrol the device again";
    EnrollmentMaintenance = "ENR0006", "enrolment is closed for maintenance; try again later";
    EnrollmentModeForeign = "ENR0036", "the device enrols in another way than its profile is for; get a new profile on the device itself";
    EnrollmentNeedsSignIn = "ENR0025", "devices enrol from Setup Assistant only when a person signs in (apple.automated.require_sign_in)";
    EnrollmentSessionOver = "ENR0018", "the enrolment profile is too old, was used or is not ours; get a new one";
    EnrollmentUpdateRefused = "ENR0037", "the enrolment profile would change its server, topic, mode, account or rights, which devices refuse; enrol the device again instead";
    GroupDynamic = "DIR0001", "a rule says who belongs to the group; change the rule, or take it away first";
    GroupMemberUnknown = "USR0011", "the member does not exist; create the user, or enrol the device, first";
    GroupNameTaken = "USR0014", "there is a group of that name already; choose another name, or change that one";
    GroupRuleInvalid = "DIR0002", "the rule of the group is not taken; the reason says where and why";
    GroupRuleWithRole = "DIR0003", "a group that gives a role has no rule: whoever changes people or devices would give out roles";
    ImportRefused = "DIR0005", "nothing of the file was imported; mend the lines and import it again";
    MachineInfoForeign = "ENR0027", "the description of the device is not signed by a device that Apple made; enrol from the device itself";
    MachineInfoIncomplete = "ENR0028", "the description of the device lacks its identifier or serial number";
    MachineInfoInvalid = "ENR0029", "the description of the device is no message with one signature that holds; something between the device and the server changes messages";
    MachineInfoMissing = "ENR0030", "the device does not describe itself; this page is for Setup Assistant, elsewhere enrol at /enroll/apple";
    ManagementCredentialsWrong = "MGT0005", "the device's MD5 credentials are wrong, stale or used; it gets a new challenge, and if that fails, too, enrol it again";
    ManagementMessageOutOfOrder = "MGT0001", "the message does not follow the last one of its session; the device has to start a new session";
    ManagementProtocolUnsupported = "MGT0002", "the message is written for another protocol than OMA-DM 1.x";
    ManagementSessionUnknown = "MGT0003", "the message belongs to a session that is not known; the device has to start a new session";
    ManagementSourceMismatch = "MGT0004", "the message names another device than its certificate; look for a copied certificate, or enrol the device again";
    MasterKeyInUse = "KEY0001", "something is, or may yet be, sealed under an old master key; wait a minute and run the command again";
    MasterKeyNotInFile = "KEY0002", "the master keys come from MUSTER_MASTER_KEY; add a line ending in ` next` with the new key there on every node, restart each, then rotate; or move them to a file";
    MasterKeyNotPrepared = "KEY0003", "there may be other nodes, which would be cut off; run `muster keys prepare`, copy the key file to every node, then rotate";
    MessageSignatureForeign = "MGT0021", "the message is signed by another certificate than the connection's; look for a copied device, or enrol it again";
    MessageSignatureInvalid = "MGT0020", "the message's signature cannot be read or does not fit the message; something between the device and the server changes messages";
    MessageSignatureOld = "MGT0022", "the message was signed too long ago or in the future, or does not say when; set the device's clock";
    MessageSignatureUsed = "MGT0023", "the signed message was received before; the device has to sign it again";
    MethodPoliciesClosed = "AUT0021", "passes and passkeys cannot both be off: nobody could sign in; leave one of them on";
    MethodsOfSuperior = "ACC0013", "the person has a role that allows more than you may do everywhere; an administrator has to do that";
    NameInvalid = "PRF0004", "a name has 1 to 128 characters and no control characters";
    OrderBeyondRole = "ORD0001", "none of your roles allows the order, or the application that gives it may not do that in your name; ask an administrator";
    OrderBound = "ORD0002", "your roles reach only the members of some groups, and the order is about all; give it over the Graph-shaped API, or ask an administrator";
    OrderLocalOnly = "ORD0003", "the order is given on the server's own machine only: it is about the server's files, keys or settings, or about accounts for emergencies";
    OrderNeedsAutomated = "CMD0011", "only Macs that enrolled from Setup Assistant know the order; the device does not say that it did";
    OrderNeedsIntel = "CMD0008", "only Macs with an Intel processor have a firmware password; those with Apple silicon have the recovery lock";
    OrderNeedsLostMode = "CMD0009", "the device is not marked as lost; order enable-lost-mode first and wait until it has been done";
    OrderNeedsRecoveryKey = "CMD0014", "no recovery key of the Mac is kept, and only a key that is kept can be replaced: give it a profile with FileVault and the escrow of its key; where FileVault was on before, run `sudo fdesetup changerecovery -personal` on the Mac once the profile is there";
    OrderNeedsSetup = "CMD0012", "the device does not wait in Setup Assistant";
    OrderNeedsSharedIpad = "CMD0010", "only iPads that several users share know the order; the device does not say that it is one";
    OrderNeedsSilicon = "CMD0006", "only Macs with Apple silicon know the order";
    OrderNeedsSupervision = "CMD0007", "the device obeys the order only when it is supervised: enrol it from Setup Assistant by Apple Business Manager, or with Apple Configurator";
    OrderNeedsUser = "CMD0015", "the order is for a user of the device, and the device has no such user whose account is managed (apple.user_channels); user=NAME says which one is meant where there are several";
    OrderNotConfirmed = "CMD0002", "the order takes something away from the device; confirm it (--yes)";
    OrderNotForUserEnrollment = "CMD0013", "the device is its user's own (user enrolment by account) and obeys no such order; retire it to take away what the organisation gave";
    OrderOver = "CMD0005", "the order is over; nothing is left to take back";
    OrderUnknown = "CMD0001", "the device's platform has no such order; muster device orders --known shows them";
    OrderUnreadable = "ORD0004", "the order cannot be read: the program is of another version than the server; install the server's";
    OrderUnsupported = "CMD0003", "the device's version or edition of the operating system does not know the order";
    OsTooNew = "ENR0026", "the operating system is newer than the organisation allows yet; ask your administrator";
    OsTooOld = "ENR0007", "the operating system is older than the organisation allows; update it first";
    OsVersionUnknown = "ENR0034", "the device does not say which version of its operating system it has, and the organisation lets only versions up to a newest one enrol; ask your administrator";
    OutboundAddressPrivate = "SIG0002", "the address is not public; only public addresses are allowed unless signals.allow_private_receivers is set";
    OutboundUrlNotAllowed = "SIG0003", "the URL must be https, without user name, password or fragment";
    PasskeyCeremonyOver = "AUT0010", "it took too long, or was finished before; begin again";
    PasskeyModelForbidden = "AUT0011", "the organisation does not take passkeys of this model; use another device or security key";
    PasskeyNeedsName = "AUT0012", "passkeys need a server with a DNS name; set web.url";
    PasskeyNotOffered = "AUT0013", "the organisation does not let people register passkeys, or use them; ask your administrator";
    PasskeyPolicyInvalid = "AUT0014", "models are named by their AAGUID (a UUID); enforced attestation needs certificates of makers (PEM) and a list of allowed models";
    PasskeyRefused = "AUT0015", "the passkey does not fit; try again, or use another one";
    PasskeyTooMany = "AUT0016", "a person has at most 20 passkeys; remove one first";
    PermissionBeyondGiver = "ACC0015", "what an application may do in its own name is given, and made usable by secrets and certificates, by those only who may do everything everywhere; ask an administrator";
    PermissionOfPerson = "ACC0012", "the permission is about the person who signed in, and an application in its own name is none; choose the one that ends in .All";
    PermissionUnknown = "ACC0011", "there is no such permission; `muster app permissions` shows all";
    PersonalDeviceRefused = "ENR0031", "only devices that the organisation lists may enrol; an administrator can add the serial number (enrollment.serial_numbers)";
    PfxNotOneIdentity = "PFX0002", "the file does not hold exactly one private key with its certificate and a chain of at most eight";
    PfxOther = "PFX0006", "the file holds another certificate than the one that was named";
    PfxPasswordLocked = "PFX0005", "the password is not encrypted for this server's key as it has to be; `muster user pfx key` shows the key";
    PfxPresent = "PFX0003", "the person has an identity with this certificate already; delete it first to bring it again";
    PfxTooMany = "PFX0004", "the person has as many imported identities as allowed; delete those that nobody needs";
    PfxUnreadable = "PFX0001", "the file does not open: the password is wrong, it is no PKCS#12, or it is encrypted by RC2, which is not safe; export it anew";
    PlatformRefused = "ENR0032", "the organisation does not let devices of this platform enrol";
    PolicyNotOffered = "ENR0008", "the device offers no way of signing in that this server supports";
    ProfileAddressRefused = "PRF0001", "the address is not one of a node that may be used: begin with ./Device/, ./User/ or ./Vendor/";
    ProfileEntryTwice = "PRF0002", "the profile has the same entry twice; keep one";
    ProfileKindMixed = "PRF0003", "rules and settings do not go into one profile; make a compliance policy and a configuration profile";
    ProfileNameTaken = "PRF0011", "there is a profile of that name already; choose another name, or change that one";
    ProfilePayloadRefused = "PRF0005", "a payload is of a type that does not exist, has a wrong name, or says what it may not";
    ProfilePlatformUnsupported = "PRF0006", "the catalogue has nothing of this kind for the platform";
    ProfileRuleUnknown = "PRF0007", "the catalogue has no such compliance rule";
    ProfileSecretMasked = "PRF0012", "the profile has a mask in the place of a secret; write the secret there, or begin with `muster profile export --secrets`";
    ProfileServiceChallenge = "ENR0033", "the device does not give the challenge back that it was given; open the link or sign in again on the device";
    ProfileSettingUnknown = "PRF0008", "the catalogue has no such setting in this scope";
    ProfileTooLarge = "PRF0009", "the profile has too many entries; make two of it";
    ProfileValueRefused = "PRF0010", "a value is not one of those that are allowed";
    ProtocolTooOld = "ENR0014", "the device speaks a version of the enrolment protocol before 3.0; update it first";
    PushCertificateMissing = "APN0001", "there is no Apple push certificate; an administrator makes a request with muster apple push-csr and brings its certificate with push-cert";
    PushCertificateRefused = "APN0002", "the file is no push certificate for a key of this server; the reason says what is wrong";
    PushTopicChanged = "APN0003", "the certificate has another topic, and every device would have to enrol again; choose Renew at the entry of the old one, with the same Apple Account";
    PushTopicForeign = "APN0005", "the device listens to another push topic than that of this server's certificate; enrol it again with a new profile";
    PushTopicNotConfirmed = "APN0006", "with another topic no device that is enrolled is woken any more, and each has to enrol again; confirm that (--yes)";
    PushVendorRefused = "APN0004", "the vendor's key and chain cannot sign a request; the reason says what is wrong";
    ReceiverNameTaken = "SIG0006", "there is a receiver of that name already; choose another name, or change that one";
    RedirectRefused = "ENR0015", "the answer would go to an address that is no Windows application; start the enrolment from Windows";
    RedirectUriInvalid = "OAU0001", "a redirect URI is absolute, without fragment and wildcard, https or on loopback; programs on a device may have a scheme of their own";
    RegistrationDeviceForeign = "REG0004", "the token was given to another device; take the one from this device's own profile";
    RegistrationDeviceGone = "REG0005", "the device is not managed (any more); enrol it again, and it gets another token";
    RegistrationTokenExpired = "REG0002", "the token has expired; the device gets another one with its profile";
    RegistrationTokenUnknown = "REG0001", "the token is none of this server's, or was taken back";
    RegistrationTokenUsed = "REG0003", "the token was used for another key; the device gets another one with its profile";
    RenewalCertificateExpired = "ENR0009", "the certificate to renew has expired or is not valid yet; enrol the device again";
    RenewalSignerForeign = "ENR0010", "the renewal is not signed by a certificate of this server; enrol the device again";
    RenewalSignerMismatch = "ENR0011", "the renewal is signed by another certificate than the connection's";
    RenewalTooEarly = "ENR0012", "the certificate is not due for renewal yet";
    RenewalTooMany = "ENR0024", "the device has renewed its certificate several times and used none of the new ones; revoke them or enrol the device again (scep.live_certificates)";
    RestoreNameTaken = "DIR0004", "the name was given to somebody else meanwhile; rename them, then restore";
    RoleActionUnknown = "ACC0004", "there is no such resource action; the list of the built-in Administrator shows all";
    RoleBeyondGiver = "ACC0008", "the role allows what you may not do yourself everywhere; ask an administrator";
    RoleBuiltIn = "ACC0002", "the roles that come with the product cannot be changed; make one of your own";
    RoleEmpty = "ACC0001", "a role allows at least one thing; name resource actions";
    RoleGroupUnknown = "ACC0007", "the group does not exist; look the id up";
    RoleInUse = "ACC0005", "the role is assigned to somebody; take the assignments away first";
    RoleLastAdministrator = "ACC0009", "nobody would be left who may do everything; give the role to somebody else first";
    RoleMemberUnknown = "ACC0006", "whoever shall have the role does not exist; look the id up";
    RoleNameTaken = "ACC0003", "there is a role of that name already; choose another name";
    RoleTooMany = "ACC0010", "there are as many roles as an organisation may have; delete those that nobody needs";
    ScepBusy = "SCP0005", "other requests for the same thing kept coming first; the client has to send the message again";
    ScepHolderGone = "SCP0004", "the device has left, its user is disabled, or it should not have the profile any more; refuse the request";
    ScepRenewalTooEarly = "SCP0002", "the certificate is not near its end; renew it later, or ask with a challenge (scep.renewal_percent)";
    ScepRenewalTooMany = "SCP0003", "there are as many such certificates as allowed; revoke those that are not needed (scep.live_certificates)";
    ScepTransactionDecided = "SCP0001", "the request was decided before; nothing is left to decide";
    ScimPermissionMissing = "OAU0005", "the application may not provision users and groups: give it SynchronizationData-User.Upload first (`muster app grant`)";
    SecretLifetime = "OAU0003", "a secret lives from one hour to two years";
    SecurityHeaderInvalid = "ENR0013", "the security header of the request cannot be read";
    SignInFailed = "AUT0002", "user name or pass is wrong, or the pass has expired or was used; ask for a new Temporary Access Pass";
    SignInStale = "AUT0017", "for this you must have signed in within the last minutes; sign in again";
    SsoExtensionUnset = "PRF0013", "the organisation's extension for single sign-on is not configured; set apple.sso.macos_extension or apple.sso.ios_extension to TEAMID.bundle.id of your build";
    SubscriptionEnd = "SIG0008", "a subscription ends within three days from now; renew it before that";
    SubscriptionInvalid = "SIG0007", "a subscription names users, groups, devices, deviceManagement/managedDevices or one object of these, changes among created, updated and deleted, and a state of at most 128 characters";
    SubscriptionNotAllowed = "SIG0011", "whoever subscribes to changes must be allowed to read all objects of the kind";
    SubscriptionTooMany = "SIG0009", "an application has at most 100 subscriptions in its own name, and in each person's; delete some";
    SubscriptionUnvalidated = "SIG0010", "the address has to answer the validation request within 10 seconds: 200, text/plain, the decoded validationToken and nothing else";
    TapForOneself = "AUT0009", "nobody makes a Temporary Access Pass for themselves over the API; another administrator has to, or the command line on the server";
    TapLength = "AUT0004", "a Temporary Access Pass has 8 to 48 letters";
    TapLifetime = "AUT0005", "a Temporary Access Pass lives from 10 minutes to 30 days";
    TapLifetimeForbidden = "AUT0019", "the organisation allows other lifetimes of Temporary Access Passes only; choose one between its minimum and maximum";
    TapPolicyInvalid = "AUT0020", "lifetimes are 10 minutes to 30 days, minimum <= default <= maximum, and a pass has 8 to 48 letters";
    TemplateInvalid = "CRT0020", "the certificate template does not parse; see the named field";
    TemplateValueRefused = "CRT0043", "the value of a variable would make another name of it: in a host name a variable gives one label (only {{FullyQualifiedDomainName}} gives several), and only {{OnPremisesSecurityIdentifier}} says whose account it is; correct the value or the template";
    TemplateVariableMissing = "CRT0021", "a variable of the certificate template has no value for this user or device";
    TemplateVariableOfUser = "CRT0022", "a device certificate cannot use a variable of the user; make it a user certificate";
    TemplateVariableUnknown = "CRT0023", "the certificate template names a variable that does not exist";
    TokenExpired = "AUT0008", "the token has expired; sign in again";
    TokenInvalid = "AUT0006", "the token is wrong, expired, used or of another organisation; sign in again";
    TokenServiceUnknown = "ENR0019", "the device asks for a token of a service that this server does not serve";
    UserChannelRefused = "ENR0020", "only the device itself keeps an unlock or bootstrap token here, not one of its users";
    UserChannelsOff = "ENR0021", "the users of devices are not managed by this server (apple.user_channels)";
    UserChannelsTooMany = "ENR0022", "the device has as many managed users as allowed; remove users that it does not need";
    UserEnrollmentRefused = "ENR0038", "a device that is its user's own entrusts no tokens to the server";
    UserInUse = "USR0010", "the user still has devices or certificates, which must stay accounted for: the user stays among what is deleted";
    UserNameInvalid = "USR0012", "a user principal name looks like name@domain and is at most 256 characters long";
    UserNameTaken = "USR0013", "there is a user of that name already; choose another name, or change that one";
    UserUnknown = "ENR0016", "the person is not in the directory of this server; an administrator can add the user";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_names_are_sorted() {
        let codes: BTreeSet<_> = Refusal::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Refusal::ALL.len());
        let names: Vec<_> = Refusal::ALL.iter().map(|r| format!("{r:?}")).collect();
        assert!(names.is_sorted(), "refusals are kept in alphabetical order");
    }
}
