-- Times are milliseconds since 1970 UTC; ids are UUIDv7 text; sealed_* columns hold AES-256-GCM with the key id in front.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- Directory -------------------------------------------------------------------------------------------------------------------------

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    upn TEXT NOT NULL,
    display_name TEXT NOT NULL,
    mail TEXT,
    sam_account_name TEXT,
    security_identifier TEXT,
    distinguished_name TEXT,
    enabled BOOLEAN NOT NULL,
    given_name TEXT,
    surname TEXT,
    job_title TEXT,
    department TEXT,
    office_location TEXT,
    mobile_phone TEXT,
    employee_id TEXT,
    usage_location TEXT,
    preferred_language TEXT,
    -- What an identity provider that provisions the person calls them.
    external_id TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- Since when nobody finds the row but who restores it.
    deleted_at BIGINT
);
-- Who is deleted keeps no name from others.
CREATE UNIQUE INDEX users_upn_key ON users (upn) WHERE deleted_at IS NULL;
CREATE INDEX users_by_deletion ON users (deleted_at, id) WHERE deleted_at IS NOT NULL;
-- As the API filters and orders: whatever the case.
CREATE INDEX users_by_folded_upn ON users ((lower(upn) COLLATE "C"), id);
CREATE INDEX users_by_folded_name ON users ((lower(display_name) COLLATE "C"), id);
CREATE INDEX users_by_folded_mail ON users ((lower(mail) COLLATE "C"));
CREATE INDEX users_by_folded_department ON users ((lower(department) COLLATE "C"));
CREATE INDEX users_by_external_id ON users (external_id) WHERE external_id IS NOT NULL;

CREATE TABLE groups (
    id TEXT NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    -- Who belongs to it, where a rule says so, and whether that speaks of a 'user' or a 'device'.
    membership_rule TEXT,
    rule_subject TEXT,
    -- Since when the rule was not followed for objects that changed.
    rule_followed_at BIGINT NOT NULL DEFAULT 0,
    -- What an identity provider that provisions the group calls it.
    external_id TEXT,
    -- What a client of the Graph-shaped API calls it, where one did.
    mail_nickname TEXT,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE UNIQUE INDEX groups_display_name_key ON groups (display_name) WHERE deleted_at IS NULL;
CREATE INDEX groups_by_deletion ON groups (deleted_at, id) WHERE deleted_at IS NOT NULL;

CREATE INDEX groups_by_folded_name ON groups ((lower(display_name) COLLATE "C"), id);

CREATE INDEX groups_by_rule ON groups (rule_subject, id) WHERE rule_subject IS NOT NULL;
CREATE INDEX groups_by_external_id ON groups (external_id) WHERE external_id IS NOT NULL;

CREATE TABLE group_members (
    group_id TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    member_kind TEXT NOT NULL,
    member_id TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (group_id, member_kind, member_id)
);
CREATE INDEX group_members_by_member ON group_members (member_kind, member_id);

-- Who belonged to a group when it, or they, were deleted: no query of members has to leave them out.
CREATE TABLE deleted_members (
    group_id TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    member_kind TEXT NOT NULL,
    member_id TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (group_id, member_kind, member_id)
);
CREATE INDEX deleted_members_by_member ON deleted_members (member_kind, member_id);

CREATE TABLE taps (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    mac BYTEA NOT NULL,
    one_time BOOLEAN NOT NULL,
    starts_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX taps_by_user ON taps (user_id);
CREATE INDEX taps_by_expiry ON taps (expires_at);

-- Failed sign-ins per key (user or address), shared by all nodes.
CREATE TABLE throttles (
    key TEXT NOT NULL PRIMARY KEY,
    failures BIGINT NOT NULL,
    window_started_at BIGINT NOT NULL,
    blocked_until BIGINT NOT NULL
);
CREATE INDEX throttles_by_window ON throttles (window_started_at);

-- One-time proofs of a sign-in that a device shows during enrolment; the key is the SHA-256 of the token.
CREATE TABLE enrollment_tokens (
    token_hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    platform TEXT NOT NULL,
    -- The way of enrolling that it is for alone; NULL for those that are not by account.
    mode TEXT,
    method TEXT NOT NULL,
    tap_id TEXT,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX enrollment_tokens_by_expiry ON enrollment_tokens (expires_at);

-- What the organisation says about a way to sign in, as JSON; the defaults hold where there is no row.
CREATE TABLE method_policies (
    method TEXT NOT NULL PRIMARY KEY,
    policy TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Passkeys of people. The key proper is in the credential: public, with what it was made with.
CREATE TABLE passkeys (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- Base64url, as clients name it.
    credential_id TEXT NOT NULL UNIQUE,
    credential TEXT NOT NULL,
    display_name TEXT NOT NULL,
    aa_guid TEXT NOT NULL,
    model TEXT NOT NULL,
    attested BOOLEAN NOT NULL,
    -- JSON: DER in base64, from the leaf on.
    attestation_certificates TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT
);
CREATE INDEX passkeys_by_user ON passkeys (user_id);

-- Registrations and sign-ins by passkey that have begun; the key is the SHA-256 of the token that the page carries.
CREATE TABLE ceremonies (
    token_hash TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX ceremonies_by_expiry ON ceremonies (expires_at);

-- People who are signed in at a browser; the key is the SHA-256 of the token in the cookie.
CREATE TABLE web_sessions (
    token_hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    method TEXT NOT NULL,
    -- The pass or passkey that it began with: it ends with it.
    method_id TEXT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    -- Until when methods may be changed without a new sign-in.
    fresh_until BIGINT NOT NULL,
    ends_at BIGINT NOT NULL
);
CREATE INDEX web_sessions_by_user ON web_sessions (user_id);
CREATE INDEX web_sessions_by_method ON web_sessions (method_id);
CREATE INDEX web_sessions_by_end ON web_sessions (ends_at);

-- Every try to sign in. Names of users are as they were then, and empty for users who do not exist: what was typed may be a secret.
CREATE TABLE sign_ins (
    id TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    user_principal_name TEXT NOT NULL,
    user_display_name TEXT NOT NULL,
    app_id TEXT NOT NULL,
    app_display_name TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    resource_display_name TEXT NOT NULL,
    ip_address TEXT NOT NULL,
    client_app_used TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    is_interactive BOOLEAN NOT NULL,
    method TEXT NOT NULL,
    error_code BIGINT NOT NULL,
    failure_reason TEXT NOT NULL
);
CREATE INDEX sign_ins_by_time ON sign_ins (created_at, id);
CREATE INDEX sign_ins_by_user ON sign_ins (user_id, created_at, id);
CREATE INDEX sign_ins_by_folded_user_name ON sign_ins ((lower(user_principal_name) COLLATE "C"), created_at, id);
CREATE INDEX sign_ins_by_app ON sign_ins (app_id, created_at, id);
CREATE INDEX sign_ins_by_address ON sign_ins (ip_address, created_at, id);
CREATE INDEX sign_ins_by_error ON sign_ins (error_code, created_at, id);

-- Access ----------------------------------------------------------------------------------------------------------------------------

-- Programs that call the API.
CREATE TABLE applications (
    id TEXT NOT NULL PRIMARY KEY,
    client_id TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    -- Keeps no secret, and may sign people in by a code on another device.
    public BOOLEAN NOT NULL,
    -- JSON lists.
    redirects TEXT NOT NULL,
    logout_redirects TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX applications_by_name ON applications (display_name);
-- The command line on other machines: every instance has it.
INSERT INTO applications (id, client_id, display_name, enabled, public, redirects, logout_redirects, created_at, updated_at, version)
VALUES ('0a5d1c52-0002-4000-8000-000000000001', '0a5d1c52-0002-4000-8000-000000000001', 'Muster command line', TRUE, TRUE, '[]', '[]', 0, 0, 1);

CREATE TABLE application_credentials (
    id TEXT NOT NULL PRIMARY KEY,
    application_id TEXT NOT NULL REFERENCES applications (id) ON DELETE CASCADE,
    display_name TEXT NOT NULL,
    -- SHA-256 of a secret, or of a token for provisioning, and its first letters; NULL for certificates.
    secret_sha256 BYTEA,
    token_sha256 BYTEA UNIQUE,
    hint TEXT NOT NULL,
    -- DER; NULL for secrets and tokens.
    certificate BYTEA,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL
);
CREATE INDEX application_credentials_by_application ON application_credentials (application_id);

CREATE TABLE application_grants (
    application_id TEXT NOT NULL REFERENCES applications (id) ON DELETE CASCADE,
    -- own or delegated.
    kind TEXT NOT NULL,
    scope TEXT NOT NULL,
    granted_by TEXT NOT NULL,
    granted_at BIGINT NOT NULL,
    PRIMARY KEY (application_id, kind, scope)
);

-- Assertions with which applications proved themselves, until they have expired anyway: each is good once.
CREATE TABLE used_assertions (
    hash TEXT NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX used_assertions_by_expiry ON used_assertions (expires_at);

-- Accounts that are kept for emergencies.
CREATE TABLE break_glass (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    named_at BIGINT NOT NULL,
    last_used_at BIGINT
);

-- What people gave applications: a code that is exchanged once, and refresh tokens after it, which are made of the row and its generation.
CREATE TABLE oauth_grants (
    id TEXT NOT NULL PRIMARY KEY,
    application_id TEXT NOT NULL REFERENCES applications (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client TEXT NOT NULL,
    -- NULL when the code was on another device.
    redirect_uri TEXT,
    scopes TEXT NOT NULL,
    challenge TEXT,
    nonce TEXT,
    code_hash TEXT NOT NULL UNIQUE,
    method TEXT NOT NULL,
    -- The pass or passkey of the sign-in: the grant ends with it.
    method_id TEXT NOT NULL,
    signed_in_at BIGINT NOT NULL,
    method_ends_at BIGINT,
    -- Number of the newest refresh token; 0 before the code was exchanged.
    generation BIGINT NOT NULL,
    rotated_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    code_ends_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL
);
CREATE INDEX oauth_grants_by_application ON oauth_grants (application_id);
CREATE INDEX oauth_grants_by_user ON oauth_grants (user_id);
CREATE INDEX oauth_grants_by_method ON oauth_grants (method_id);
CREATE INDEX oauth_grants_by_end ON oauth_grants (ends_at);

-- Programs without a browser that wait until somebody types their code elsewhere.
CREATE TABLE device_codes (
    code_hash TEXT NOT NULL PRIMARY KEY,
    user_code TEXT NOT NULL UNIQUE,
    application_id TEXT NOT NULL REFERENCES applications (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    -- The address that asked, for the person to see.
    origin TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    asked_at BIGINT NOT NULL,
    wait_seconds BIGINT NOT NULL,
    declined BOOLEAN NOT NULL
);
CREATE INDEX device_codes_by_application ON device_codes (application_id);
CREATE INDEX device_codes_by_origin ON device_codes (origin, ends_at);
CREATE INDEX device_codes_by_end ON device_codes (ends_at);

-- Roles that the organisation made; those that come with the product are not here.
CREATE TABLE roles (
    id TEXT NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    -- JSON list.
    actions TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE role_assignments (
    id TEXT NOT NULL PRIMARY KEY,
    role_id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    -- Reaches everything, or the groups in role_reaches.
    everywhere BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX role_assignments_by_role ON role_assignments (role_id);

CREATE TABLE role_members (
    assignment_id TEXT NOT NULL REFERENCES role_assignments (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    principal_id TEXT NOT NULL,
    PRIMARY KEY (assignment_id, kind, principal_id)
);
CREATE INDEX role_members_by_principal ON role_members (kind, principal_id);

CREATE TABLE role_reaches (
    assignment_id TEXT NOT NULL REFERENCES role_assignments (id) ON DELETE CASCADE,
    group_id TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    PRIMARY KEY (assignment_id, group_id)
);
CREATE INDEX role_reaches_by_group ON role_reaches (group_id);

-- Devices ---------------------------------------------------------------------------------------------------------------------------

CREATE TABLE devices (
    id TEXT NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL,
    platform TEXT NOT NULL,
    user_id TEXT REFERENCES users (id),
    hardware_id TEXT,
    entra_device_id TEXT,
    serial_number TEXT,
    manufacturer TEXT,
    model TEXT,
    os_version TEXT,
    os_edition TEXT,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX devices_by_user ON devices (user_id);
CREATE INDEX devices_by_folded_name ON devices ((lower(display_name) COLLATE "C"), id);
CREATE INDEX devices_by_folded_serial ON devices ((lower(serial_number) COLLATE "C"));
CREATE INDEX devices_by_serial ON devices (serial_number);
-- Hardware says of itself which it is: of several people who claim the same, each has a device.
CREATE UNIQUE INDEX devices_by_hardware ON devices (hardware_id, user_id);
CREATE INDEX devices_by_entra_id ON devices (entra_device_id);

-- PCs that are registered for Windows Autopilot: devices of the directory with their serial numbers are these.
CREATE TABLE autopilot_devices (
    id TEXT NOT NULL PRIMARY KEY,
    serial TEXT NOT NULL UNIQUE,
    product_key TEXT NOT NULL,
    hardware_hash BYTEA NOT NULL,
    group_tag TEXT NOT NULL,
    user_id TEXT REFERENCES users (id) ON DELETE SET NULL,
    addressable_user_name TEXT NOT NULL,
    display_name TEXT NOT NULL,
    purchase_order TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX autopilot_devices_by_folded_serial ON autopilot_devices ((lower(serial) COLLATE "C"), id);
CREATE INDEX autopilot_devices_by_folded_tag ON autopilot_devices ((lower(group_tag) COLLATE "C"), id);
-- As physical ids of devices.
CREATE INDEX autopilot_devices_by_ztdid ON autopilot_devices ((lower('[ZTDID]:' || id) COLLATE "C"));
CREATE INDEX autopilot_devices_by_order_id ON autopilot_devices ((lower('[OrderID]:' || group_tag) COLLATE "C")) WHERE group_tag <> '';
CREATE INDEX autopilot_devices_by_user ON autopilot_devices (user_id) WHERE user_id IS NOT NULL;

-- What came of registering each, for a while.
CREATE TABLE autopilot_imports (
    id TEXT NOT NULL PRIMARY KEY,
    import_id TEXT NOT NULL,
    serial TEXT NOT NULL,
    product_key TEXT NOT NULL,
    group_tag TEXT NOT NULL,
    user_principal_name TEXT NOT NULL,
    registration_id TEXT,
    error TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX autopilot_imports_by_age ON autopilot_imports (created_at);
CREATE INDEX autopilot_imports_by_folded_serial ON autopilot_imports ((lower(serial) COLLATE "C"), id);

CREATE TABLE enrollments (
    id TEXT NOT NULL PRIMARY KEY,
    device_id TEXT NOT NULL REFERENCES devices (id),
    platform TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    mdm_id TEXT NOT NULL,
    -- The server's name in a Windows device's tree, as it was when the device enrolled.
    provider_id TEXT,
    user_id TEXT REFERENCES users (id),
    context TEXT NOT NULL,
    channel_uri TEXT,
    sealed_md5 BYTEA,
    nonce BYTEA,
    nonce_expires_at BIGINT,
    certificate_id TEXT,
    -- Hash of what the device says of itself in each first message.
    report_hash TEXT,
    -- The earliest moment at which the server has something to ask or tell; NULL while there is nothing.
    work_at BIGINT,
    -- Since when what an Apple device was given waits, because it puts it off or has not answered; NULL while nothing does.
    waiting_since BIGINT,
    last_seen_at BIGINT,
    enrolled_at BIGINT NOT NULL,
    ended_at BIGINT,
    -- An administrator ended it: a device that comes nevertheless is told to leave.
    dismissed BOOLEAN NOT NULL DEFAULT FALSE,
    version BIGINT NOT NULL
);
CREATE INDEX enrollments_by_device ON enrollments (device_id, state);
-- A device has one enrolment at a time.
CREATE UNIQUE INDEX enrollments_current ON enrollments (device_id) WHERE ended_at IS NULL;
CREATE INDEX enrollments_by_mdm_id ON enrollments (mdm_id);
CREATE INDEX enrollments_by_state ON enrollments (state, id);
CREATE INDEX enrollments_by_work ON enrollments (work_at);
CREATE INDEX enrollments_by_wait ON enrollments (waiting_since);

-- Apple: the channels of an enrolment (the device's, and one for each of its users that is managed) with their queues.
CREATE TABLE apple_channels (
    -- The enrolment's id on the device channel, `enrolment/user` on a user channel.
    id TEXT NOT NULL PRIMARY KEY,
    enrollment_id TEXT NOT NULL REFERENCES enrollments (id) ON DELETE CASCADE,
    user_key TEXT NOT NULL,
    user_short_name TEXT,
    topic TEXT NOT NULL,
    -- Token and magic.
    sealed_push BYTEA,
    token_updated_at BIGINT,
    push_dead_at BIGINT,
    -- What the push service said.
    push_dead_why TEXT,
    queue TEXT NOT NULL,
    ddm_token TEXT,
    ddm_changed_at BIGINT,
    capabilities TEXT,
    -- What the device last said of its declarations, as JSON.
    declared TEXT,
    renewal_asked_at BIGINT,
    awaiting_since BIGINT,
    last_seen_at BIGINT,
    version BIGINT NOT NULL
);
CREATE INDEX apple_channels_by_enrollment ON apple_channels (enrollment_id, user_key);
CREATE INDEX apple_channels_dead ON apple_channels (push_dead_why) WHERE push_dead_why IS NOT NULL;

-- Enrolments that have begun: somebody signed in and got a profile. The id is the future enrolment's.
CREATE TABLE apple_sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
    platform TEXT NOT NULL,
    udid TEXT,
    serial TEXT,
    -- What the profile said of the management, as in apple_management; NULL where the device got no such profile yet.
    mode TEXT,
    account TEXT,
    payload TEXT,
    method TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX apple_sessions_by_expiry ON apple_sessions (expires_at);

-- What the profile with which a device enrolled said of its management: nothing of it may ever change.
CREATE TABLE apple_management (
    enrollment_id TEXT NOT NULL PRIMARY KEY REFERENCES enrollments (id) ON DELETE CASCADE,
    -- BYOD or ADDE, and the Managed Apple Account, in an account-driven enrolment.
    mode TEXT,
    account TEXT,
    -- The other keys of the payload com.apple.mdm, as JSON.
    payload TEXT NOT NULL
);

-- What Apple devices entrust to the server.
CREATE TABLE apple_secrets (
    -- `enrolment/kind`.
    id TEXT NOT NULL PRIMARY KEY,
    enrollment_id TEXT NOT NULL REFERENCES enrollments (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    sealed_value BYTEA NOT NULL,
    source TEXT,
    escrowed_at BIGINT NOT NULL
);
CREATE INDEX apple_secrets_by_enrollment ON apple_secrets (enrollment_id, kind);

-- Signatures that stood for a client certificate, until they are too old to be taken anyway: each is good once.
CREATE TABLE message_signatures (
    hash BYTEA NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX message_signatures_by_expiry ON message_signatures (expires_at);

CREATE TABLE dm_sessions (
    enrollment_id TEXT NOT NULL PRIMARY KEY REFERENCES enrollments (id) ON DELETE CASCADE,
    session_id TEXT NOT NULL,
    msg_id BIGINT NOT NULL,
    body_hash BYTEA NOT NULL,
    sealed_response BYTEA NOT NULL,
    sealed_state BYTEA,
    version BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX dm_sessions_by_update ON dm_sessions (updated_at);

-- What has come of a large object that a device is sending.
CREATE TABLE dm_pieces (
    id TEXT NOT NULL PRIMARY KEY,
    enrollment_id TEXT NOT NULL REFERENCES dm_sessions (enrollment_id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    sealed_text BYTEA NOT NULL
);
CREATE INDEX dm_pieces_by_enrollment ON dm_pieces (enrollment_id, number);

-- Orders of an administrator (unenrol, reboot, ...); what profiles want lives in desired_items.
CREATE TABLE commands (
    id TEXT NOT NULL PRIMARY KEY,
    enrollment_id TEXT NOT NULL REFERENCES enrollments (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    scope TEXT NOT NULL,
    sealed_payload BYTEA NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    sealed_result BYTEA,
    not_before BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    -- What is large in the order: read when it is sent, and not with each message of the device.
    sealed_large BYTEA
);
CREATE INDEX commands_by_enrollment ON commands (enrollment_id, state, id);
CREATE INDEX commands_by_update ON commands (state, updated_at);

CREATE TABLE facts (
    device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT,
    status BIGINT NOT NULL,
    source TEXT NOT NULL,
    observed_at BIGINT NOT NULL,
    next_at BIGINT,
    PRIMARY KEY (device_id, name)
);

-- Lists that a device answers (applications, users, updates), as JSON.
CREATE TABLE inventory (
    device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    document TEXT NOT NULL,
    observed_at BIGINT NOT NULL,
    PRIMARY KEY (device_id, kind)
);

-- Desired state ---------------------------------------------------------------------------------------------------------------------

CREATE TABLE profiles (
    id TEXT NOT NULL PRIMARY KEY,
    display_name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    platform TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- The document is sealed: what of it a query asks for stands here.
    in_settings_catalogue BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- What a device was given stays known until the device no longer has it.
CREATE TABLE profile_versions (
    -- `profile/version`.
    id TEXT NOT NULL PRIMARY KEY,
    profile_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- The document without the rules of a compliance policy.
    sealed_document BYTEA NOT NULL,
    -- These rules as JSON: no secrets, and needed wherever a device is judged.
    rules TEXT
);
CREATE UNIQUE INDEX profile_versions_by_profile ON profile_versions (profile_id, version);

CREATE TABLE assignments (
    id TEXT NOT NULL PRIMARY KEY,
    profile_id TEXT NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    mode TEXT NOT NULL,
    target TEXT NOT NULL,
    group_id TEXT REFERENCES groups (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL
);
CREATE INDEX assignments_by_profile ON assignments (profile_id);
CREATE INDEX assignments_by_group ON assignments (group_id);

CREATE TABLE desired_items (
    device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    profile_id TEXT NOT NULL,
    -- The profile's kind: stays known when the profile is deleted.
    kind TEXT NOT NULL,
    -- NULL: the device should not have it (any more).
    desired_version BIGINT,
    -- NULL: the device does not have it (yet).
    applied_version BIGINT,
    state TEXT NOT NULL,
    detail TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    -- When to look at it again: retry, verification, drift check, renewal; NULL: never by itself.
    due_at BIGINT,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (device_id, profile_id)
);
-- Leads through the devices of a profile in order, and counts them by state without the table.
CREATE INDEX desired_items_by_profile ON desired_items (profile_id, device_id, state);

CREATE TABLE compliance_states (
    device_id TEXT NOT NULL PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    compliant BOOLEAN NOT NULL,
    grace_expires_at BIGINT,
    reevaluate_at BIGINT,
    detail TEXT NOT NULL,
    evaluated_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX compliance_states_by_time ON compliance_states (reevaluate_at);
CREATE INDEX compliance_states_by_state ON compliance_states (state);

-- Certificates ----------------------------------------------------------------------------------------------------------------------

CREATE TABLE authorities (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    parent_id TEXT REFERENCES authorities (id),
    key_algorithm TEXT NOT NULL,
    certificate BYTEA NOT NULL,
    sealed_key BYTEA NOT NULL,
    crl_number BIGINT NOT NULL,
    crl_due_at BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    upper_chain BYTEA NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL
);

-- Authorities that wait for an outside authority to sign their certificate.
CREATE TABLE authority_requests (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    common_name TEXT NOT NULL,
    key_algorithm TEXT NOT NULL,
    sealed_key BYTEA NOT NULL,
    request BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    display_name TEXT NOT NULL,
    description TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL
);

-- Certificates with a key of ours: SCEP registration authority, OCSP responder, server.
CREATE TABLE service_keys (
    id TEXT NOT NULL PRIMARY KEY,
    authority_id TEXT NOT NULL REFERENCES authorities (id),
    purpose TEXT NOT NULL,
    certificate BYTEA NOT NULL,
    sealed_key BYTEA NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX service_keys_by_purpose ON service_keys (authority_id, purpose, not_after);

-- Apple's push certificate: `current` is in force, `next` is a key that waits for its certificate.
CREATE TABLE apple_push (
    slot TEXT NOT NULL PRIMARY KEY,
    sealed_key BYTEA NOT NULL,
    request BYTEA,
    certificate BYTEA,
    topic TEXT,
    not_before BIGINT,
    not_after BIGINT,
    alarm TEXT,
    alarm_at BIGINT,
    warned_days BIGINT,
    created_at BIGINT NOT NULL,
    account TEXT
);

-- Packages of applications for Apple devices. One that is still being taken in has its identifier for a name.
CREATE TABLE apple_packages (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    title TEXT NOT NULL,
    bundle_id TEXT NOT NULL,
    version TEXT NOT NULL,
    form TEXT NOT NULL,
    size BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Their content, in parts of the size over which devices check hashes.
CREATE TABLE apple_package_parts (
    package_id TEXT NOT NULL REFERENCES apple_packages (id),
    number BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (package_id, number)
);

-- The content token of Apps and Books (`current`).
CREATE TABLE apple_content (
    slot TEXT NOT NULL PRIMARY KEY,
    sealed_token BYTEA NOT NULL,
    location_id TEXT NOT NULL,
    location TEXT NOT NULL,
    organisation TEXT NOT NULL,
    ends_at BIGINT NOT NULL,
    warned_days BIGINT,
    wait_until BIGINT,
    alarm TEXT,
    alarm_at BIGINT
);

-- Licences of the App Store, by the serial numbers of devices.
CREATE TABLE apple_licences (
    serial TEXT COLLATE "C" NOT NULL,
    store_id BIGINT NOT NULL,
    state TEXT NOT NULL,
    event TEXT,
    error TEXT,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (serial, store_id)
);
CREATE INDEX apple_licences_by_state ON apple_licences (state, store_id, serial);

-- This server as Apple Business Manager knows it: its token, and how far the list of its devices was read.
CREATE TABLE ade_servers (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    sealed_key BYTEA NOT NULL,
    certificate BYTEA NOT NULL,
    sealed_token BYTEA,
    token_ends_at BIGINT,
    warned_days BIGINT,
    server_uuid TEXT,
    organisation TEXT,
    phase TEXT NOT NULL,
    cursor TEXT NOT NULL,
    generation BIGINT NOT NULL,
    profile_uuid TEXT,
    profile_hash TEXT,
    synced_at BIGINT,
    wait_until BIGINT,
    alarm TEXT,
    alarm_at BIGINT,
    created_at BIGINT NOT NULL,
    account TEXT
);

-- The organisation's Apple devices, by that list.
CREATE TABLE ade_devices (
    serial TEXT NOT NULL PRIMARY KEY,
    server_id TEXT NOT NULL REFERENCES ade_servers (id),
    model TEXT,
    description TEXT,
    color TEXT,
    asset_tag TEXT,
    os TEXT,
    family TEXT,
    profile_status TEXT,
    profile_uuid TEXT,
    assigned_at BIGINT,
    migration_deadline BIGINT,
    generation BIGINT NOT NULL
);
CREATE INDEX ade_devices_by_server ON ade_devices (server_id, serial);

CREATE TABLE certificates (
    id TEXT NOT NULL PRIMARY KEY,
    authority_id TEXT NOT NULL REFERENCES authorities (id),
    serial TEXT NOT NULL,
    sha1 TEXT NOT NULL,
    sha256 TEXT NOT NULL UNIQUE,
    subject TEXT COLLATE "C" NOT NULL,
    purpose TEXT NOT NULL,
    status TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    revoked_at BIGINT,
    revocation_reason BIGINT,
    device_id TEXT REFERENCES devices (id),
    user_id TEXT REFERENCES users (id),
    enrollment_id TEXT,
    profile_id TEXT,
    superseded_by TEXT,
    grant_document TEXT NOT NULL,
    certificate BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    names_hash TEXT NOT NULL,
    last_held_at BIGINT,
    UNIQUE (authority_id, serial)
);
CREATE INDEX certificates_by_device ON certificates (device_id, status);
CREATE INDEX certificates_by_user ON certificates (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX certificates_by_serial ON certificates (serial);
CREATE INDEX certificates_by_sha1 ON certificates (sha1);
CREATE INDEX certificates_by_enrollment ON certificates (enrollment_id);
-- Certificates of no device are counted by their names when they renew themselves.
CREATE INDEX certificates_by_names ON certificates (names_hash) WHERE device_id IS NULL;
CREATE INDEX certificates_by_subject ON certificates (subject);
-- Lists of the API.
CREATE INDEX certificates_by_authority ON certificates (authority_id, id);
-- What one took the place of goes with it.
CREATE INDEX certificates_by_successor ON certificates (superseded_by) WHERE superseded_by IS NOT NULL;
-- Few are replaced before they end.
CREATE INDEX certificates_by_replacement ON certificates (status, not_after) WHERE superseded_by IS NOT NULL;
CREATE INDEX certificates_by_revocation ON certificates (authority_id, revoked_at) WHERE revoked_at IS NOT NULL;

-- Identifiers that ACME payloads gave to devices, by the SHA-256 of each; good once.
CREATE TABLE acme_clients (
    hash TEXT NOT NULL PRIMARY KEY,
    device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    profile_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    grant_document TEXT NOT NULL,
    hardware_bound BOOLEAN NOT NULL,
    attest BOOLEAN NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX acme_clients_by_device ON acme_clients (device_id, profile_id);
CREATE INDEX acme_clients_by_expiry ON acme_clients (expires_at);

-- Tokens with which devices register at the identity service; good once. Their texts are not here.
CREATE TABLE registration_tokens (
    id TEXT NOT NULL PRIMARY KEY,
    device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    enrollment_id TEXT NOT NULL,
    profile_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    -- SHA-256 of the key that was registered.
    used_for TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX registration_tokens_by_device ON registration_tokens (device_id, profile_id);
CREATE INDEX registration_tokens_by_expiry ON registration_tokens (expires_at);

-- Codes that enrolments were given for attestations.
CREATE TABLE attestation_nonces (
    nonce BYTEA NOT NULL PRIMARY KEY,
    enrollment_id TEXT NOT NULL REFERENCES enrollments (id) ON DELETE CASCADE,
    issued_at BIGINT NOT NULL
);
CREATE INDEX attestation_nonces_by_enrollment ON attestation_nonces (enrollment_id, issued_at);
CREATE INDEX attestation_nonces_by_issue ON attestation_nonces (issued_at);

-- Keys that were made for a device, until it is seen to have them.
CREATE TABLE issued_keys (
    certificate_id TEXT NOT NULL PRIMARY KEY REFERENCES certificates (id) ON DELETE CASCADE,
    device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    profile_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    -- Key, certificate and chain.
    sealed_identity BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX issued_keys_by_place ON issued_keys (device_id, profile_id, payload);
CREATE INDEX issued_keys_by_creation ON issued_keys (created_at);

-- Identities that an administrator brought as a file for a person.
CREATE TABLE imported_pfx (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    purpose TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    thumbprint TEXT NOT NULL,
    subject TEXT NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    sealed_identity BYTEA NOT NULL,
    key_name TEXT,
    provider_name TEXT,
    padding TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX imported_pfx_by_user ON imported_pfx (user_id, sha256);

CREATE TABLE crls (
    authority_id TEXT NOT NULL PRIMARY KEY REFERENCES authorities (id),
    number BIGINT NOT NULL,
    der BYTEA NOT NULL,
    this_update BIGINT NOT NULL,
    next_update BIGINT NOT NULL
);

CREATE TABLE ocsp_responses (
    authority_id TEXT NOT NULL REFERENCES authorities (id),
    serial TEXT NOT NULL,
    hash_algorithm TEXT NOT NULL,
    der BYTEA NOT NULL,
    this_update BIGINT NOT NULL,
    next_update BIGINT NOT NULL,
    PRIMARY KEY (authority_id, serial, hash_algorithm)
);

CREATE TABLE scep_challenges (
    id TEXT NOT NULL PRIMARY KEY,
    authority_id TEXT NOT NULL REFERENCES authorities (id),
    profile_id TEXT,
    enrollment_id TEXT,
    device_id TEXT,
    user_id TEXT,
    grant_document TEXT NOT NULL,
    needs_approval BOOLEAN NOT NULL,
    expires_at BIGINT NOT NULL,
    consumed_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX scep_challenges_by_expiry ON scep_challenges (expires_at);
CREATE INDEX scep_challenges_by_device ON scep_challenges (device_id, profile_id);

CREATE TABLE scep_transactions (
    authority_id TEXT NOT NULL REFERENCES authorities (id),
    transaction_id TEXT NOT NULL,
    signer_hash TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    challenge_id TEXT,
    state TEXT NOT NULL,
    request BYTEA NOT NULL,
    grant_document TEXT NOT NULL,
    certificate_id TEXT,
    created_at BIGINT NOT NULL,
    decided_at BIGINT,
    decided_by TEXT,
    renews TEXT,
    PRIMARY KEY (authority_id, transaction_id)
);
-- Nearly all are decided at once: those that wait are few.
CREATE INDEX scep_transactions_by_wait ON scep_transactions (created_at) WHERE state = 'pending';
CREATE INDEX scep_transactions_by_creation ON scep_transactions (created_at);
CREATE INDEX scep_transactions_by_challenge ON scep_transactions (challenge_id) WHERE state = 'pending';
CREATE INDEX scep_transactions_by_renewal ON scep_transactions (renews) WHERE state = 'pending';

-- Signals ---------------------------------------------------------------------------------------------------------------------------

CREATE TABLE receivers (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    endpoint_url TEXT NOT NULL,
    audience TEXT NOT NULL,
    sealed_authorization BYTEA,
    status TEXT NOT NULL,
    status_reason TEXT,
    created_at BIGINT NOT NULL
);

CREATE TABLE signing_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    algorithm TEXT NOT NULL,
    jwk TEXT NOT NULL,
    sealed_key BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    active_from BIGINT NOT NULL,
    retired_at BIGINT
);

-- Effects that leave the process after the commit. Rows of one order_key leave one after the other, by seq.
CREATE TABLE outbox (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic TEXT NOT NULL,
    order_key TEXT NOT NULL,
    dedup_key TEXT NOT NULL UNIQUE,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    last_error TEXT,
    -- When it was put in, or put in again by hand.
    queued_at BIGINT NOT NULL,
    settled_at BIGINT
);
CREATE INDEX outbox_order ON outbox (order_key, state, seq);
CREATE INDEX outbox_settled ON outbox (state, settled_at);

-- A lane is an order_key with something to send: it is what nodes lease, so that the rows behind it need no look. A leased lane has its
-- next_at at the lease's end.
CREATE TABLE outbox_lanes (
    order_key TEXT NOT NULL PRIMARY KEY,
    destination TEXT NOT NULL,
    next_at BIGINT NOT NULL,
    -- When next_at was written: later than now when the clock was ahead then.
    set_at BIGINT NOT NULL,
    lease_owner TEXT,
    version BIGINT NOT NULL
);
CREATE INDEX outbox_lanes_due ON outbox_lanes (next_at);
CREATE INDEX outbox_lanes_by_setting ON outbox_lanes (set_at);

-- What the other end of a lane does not know because a message was given up: from then until a later one is delivered.
CREATE TABLE missed_signals (
    lane TEXT NOT NULL PRIMARY KEY,
    destination TEXT NOT NULL,
    heard TEXT,
    payload TEXT NOT NULL
);
CREATE INDEX missed_signals_of ON missed_signals (destination, lane);

CREATE TABLE jobs (
    name TEXT NOT NULL PRIMARY KEY,
    schedule TEXT NOT NULL,
    next_at BIGINT NOT NULL,
    lease_owner TEXT,
    lease_until BIGINT,
    last_started_at BIGINT,
    last_finished_at BIGINT,
    last_error TEXT
);

-- Audit: each row's hash covers the row and the hash before it.
CREATE TABLE audit (
    seq BIGINT NOT NULL PRIMARY KEY CHECK (seq > 0),
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    origin TEXT NOT NULL,
    before TEXT,
    after TEXT,
    previous_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX audit_by_target ON audit (target, seq);
CREATE INDEX audit_by_time ON audit (at);

CREATE TABLE audit_head (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL CHECK (seq >= 0),
    hash TEXT NOT NULL,
    mark TEXT NOT NULL
);
INSERT INTO audit_head (id, seq, hash, mark) VALUES (1, 0, '', '');

-- Changes ---------------------------------------------------------------------------------------------------------------------------
-- What changed last, and in which order: one row for each object, written by the database itself so that no writer can forget it. The number
-- is the transaction's: those of transactions that are over are below the oldest that runs, so that a reader who stops there misses none.

CREATE TABLE changes (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    -- The change that made it, or brought it back; 0 for what was there before.
    made_seq BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX changes_in_order ON changes (kind, seq, id);
CREATE INDEX changes_by_making ON changes (kind, made_seq, id) WHERE made_seq > 0;

CREATE TABLE member_changes (
    group_id TEXT NOT NULL,
    member_kind TEXT NOT NULL,
    member_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (group_id, member_kind, member_id)
);
CREATE INDEX member_changes_in_order ON member_changes (seq, group_id, member_kind, member_id);

CREATE FUNCTION note_change(of_kind TEXT, of_id TEXT, made BOOLEAN) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    number BIGINT := pg_current_xact_id()::text::bigint;
BEGIN
    INSERT INTO changes AS c (kind, id, seq, made_seq) VALUES (of_kind, of_id, number, CASE WHEN made THEN number ELSE 0 END)
    ON CONFLICT (kind, id) DO UPDATE SET seq = number, made_seq = CASE WHEN made THEN number ELSE c.made_seq END
    WHERE c.seq <> number OR made;
END $$;
CREATE FUNCTION note_managed_change(of_device TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    enrollment TEXT;
BEGIN
    FOR enrollment IN SELECT e.id FROM enrollments e WHERE e.device_id = of_device AND e.ended_at IS NULL LOOP
        PERFORM note_change('managedDevice', enrollment, FALSE);
    END LOOP;
END $$;

CREATE FUNCTION users_note() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change('user', COALESCE(NEW.id, OLD.id), TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL));
    -- Managed devices are shown with whose they are.
    IF TG_OP = 'UPDATE' AND (OLD.upn, OLD.mail, OLD.display_name, OLD.deleted_at)
        IS DISTINCT FROM (NEW.upn, NEW.mail, NEW.display_name, NEW.deleted_at) THEN
        PERFORM note_managed_change(d.id) FROM devices d WHERE d.user_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER users_changed AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION users_note();

CREATE FUNCTION groups_note() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change('group', COALESCE(NEW.id, OLD.id), TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND OLD.deleted_at IS NOT NULL AND NEW.deleted_at IS NULL));
    RETURN NULL;
END $$;
CREATE TRIGGER groups_made AFTER INSERT OR DELETE ON groups FOR EACH ROW EXECUTE FUNCTION groups_note();
CREATE TRIGGER groups_changed AFTER UPDATE ON groups FOR EACH ROW
WHEN ((OLD.display_name, OLD.description, OLD.membership_rule, OLD.mail_nickname, OLD.deleted_at)
    IS DISTINCT FROM (NEW.display_name, NEW.description, NEW.membership_rule, NEW.mail_nickname, NEW.deleted_at)) EXECUTE FUNCTION groups_note();

CREATE FUNCTION group_members_note() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
    number BIGINT := pg_current_xact_id()::text::bigint;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO member_changes (group_id, member_kind, member_id, seq) VALUES (NEW.group_id, NEW.member_kind, NEW.member_id, number)
        ON CONFLICT (group_id, member_kind, member_id) DO UPDATE SET seq = number;
    ELSE
        INSERT INTO member_changes (group_id, member_kind, member_id, seq) VALUES (OLD.group_id, OLD.member_kind, OLD.member_id, number)
        ON CONFLICT (group_id, member_kind, member_id) DO UPDATE SET seq = number;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER group_members_changed AFTER INSERT OR DELETE ON group_members FOR EACH ROW EXECUTE FUNCTION group_members_note();

-- A change of a device is one of its enrolment, which is what the API manages.
CREATE FUNCTION devices_note() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change('device', COALESCE(NEW.id, OLD.id), TG_OP = 'INSERT');
    IF TG_OP = 'UPDATE' THEN
        PERFORM note_managed_change(NEW.id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER devices_made AFTER INSERT OR DELETE ON devices FOR EACH ROW EXECUTE FUNCTION devices_note();
CREATE TRIGGER devices_changed AFTER UPDATE ON devices FOR EACH ROW
WHEN ((OLD.display_name, OLD.user_id, OLD.entra_device_id, OLD.serial_number, OLD.manufacturer, OLD.model, OLD.os_version, OLD.os_edition, OLD.state)
    IS DISTINCT FROM
    (NEW.display_name, NEW.user_id, NEW.entra_device_id, NEW.serial_number, NEW.manufacturer, NEW.model, NEW.os_version, NEW.os_edition, NEW.state))
EXECUTE FUNCTION devices_note();

-- A device is known by what is registered of it.
CREATE FUNCTION autopilot_note() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change('device', d.id, FALSE) FROM devices d
        WHERE d.serial_number = COALESCE(NEW.serial, OLD.serial) AND d.platform = 'windows';
    RETURN NULL;
END $$;
CREATE TRIGGER autopilot_devices_made AFTER INSERT ON autopilot_devices FOR EACH ROW EXECUTE FUNCTION autopilot_note();
CREATE TRIGGER autopilot_devices_changed AFTER UPDATE OF group_tag ON autopilot_devices FOR EACH ROW EXECUTE FUNCTION autopilot_note();
CREATE TRIGGER autopilot_devices_gone AFTER DELETE ON autopilot_devices FOR EACH ROW EXECUTE FUNCTION autopilot_note();

CREATE FUNCTION enrollments_note() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change('managedDevice', COALESCE(NEW.id, OLD.id), TG_OP = 'INSERT');
    RETURN NULL;
END $$;
CREATE TRIGGER enrollments_made AFTER INSERT OR DELETE ON enrollments FOR EACH ROW EXECUTE FUNCTION enrollments_note();
CREATE TRIGGER enrollments_changed AFTER UPDATE ON enrollments FOR EACH ROW
WHEN ((OLD.kind, OLD.state, OLD.user_id, OLD.certificate_id, OLD.ended_at)
    IS DISTINCT FROM (NEW.kind, NEW.state, NEW.user_id, NEW.certificate_id, NEW.ended_at)) EXECUTE FUNCTION enrollments_note();

CREATE FUNCTION compliance_states_note() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note_change('device', NEW.device_id, FALSE);
    PERFORM note_managed_change(NEW.device_id);
    RETURN NULL;
END $$;
CREATE TRIGGER compliance_states_made AFTER INSERT ON compliance_states FOR EACH ROW EXECUTE FUNCTION compliance_states_note();
CREATE TRIGGER compliance_states_changed AFTER UPDATE ON compliance_states FOR EACH ROW
WHEN ((OLD.state, OLD.compliant, OLD.grace_expires_at) IS DISTINCT FROM (NEW.state, NEW.compliant, NEW.grace_expires_at))
EXECUTE FUNCTION compliance_states_note();

-- Who wants to hear of changes.
CREATE TABLE subscriptions (
    id TEXT NOT NULL PRIMARY KEY,
    application_id TEXT NOT NULL REFERENCES applications (id) ON DELETE CASCADE,
    -- The person in whose name it was made; NULL for the application in its own.
    user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
    -- By what that person gave the application. It may be gone: who listens is told so when there is something to tell.
    grant_id TEXT,
    resource TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- The one object that it is about; NULL for all.
    object_id TEXT,
    change_types TEXT NOT NULL,
    notification_url TEXT NOT NULL,
    lifecycle_url TEXT,
    sealed_client_state BYTEA,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- When it was said that it ends soon.
    warned_at BIGINT
);
CREATE INDEX subscriptions_by_application ON subscriptions (application_id, id);
CREATE INDEX subscriptions_by_user ON subscriptions (user_id);
CREATE INDEX subscriptions_by_end ON subscriptions (expires_at);
