//! The tables as diesel sees them; `migrations/` makes them. A test compares the two. One list, as long as there are columns.

diesel::table! {
    meta (key) {
        key -> Text,
        value -> Text,
    }
}

diesel::table! {
    users (id) {
        id -> Text,
        upn -> Text,
        display_name -> Text,
        mail -> Nullable<Text>,
        sam_account_name -> Nullable<Text>,
        security_identifier -> Nullable<Text>,
        distinguished_name -> Nullable<Text>,
        enabled -> Bool,
        given_name -> Nullable<Text>,
        surname -> Nullable<Text>,
        job_title -> Nullable<Text>,
        department -> Nullable<Text>,
        office_location -> Nullable<Text>,
        mobile_phone -> Nullable<Text>,
        employee_id -> Nullable<Text>,
        usage_location -> Nullable<Text>,
        preferred_language -> Nullable<Text>,
        external_id -> Nullable<Text>,
        created_at -> BigInt,
        updated_at -> BigInt,
        deleted_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    groups (id) {
        id -> Text,
        display_name -> Text,
        description -> Text,
        membership_rule -> Nullable<Text>,
        rule_subject -> Nullable<Text>,
        rule_followed_at -> BigInt,
        external_id -> Nullable<Text>,
        mail_nickname -> Nullable<Text>,
        created_at -> BigInt,
        deleted_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    group_members (group_id, member_kind, member_id) {
        group_id -> Text,
        member_kind -> Text,
        member_id -> Text,
        added_at -> BigInt,
    }
}

diesel::table! {
    deleted_members (group_id, member_kind, member_id) {
        group_id -> Text,
        member_kind -> Text,
        member_id -> Text,
        added_at -> BigInt,
    }
}

diesel::table! {
    taps (id) {
        id -> Text,
        user_id -> Text,
        mac -> Binary,
        one_time -> Bool,
        starts_at -> BigInt,
        expires_at -> BigInt,
        used_at -> Nullable<BigInt>,
        created_at -> BigInt,
    }
}

diesel::table! {
    throttles (key) {
        key -> Text,
        failures -> BigInt,
        window_started_at -> BigInt,
        blocked_until -> BigInt,
    }
}

diesel::table! {
    enrollment_tokens (token_hash) {
        token_hash -> Text,
        user_id -> Text,
        platform -> Text,
        mode -> Nullable<Text>,
        method -> Text,
        tap_id -> Nullable<Text>,
        expires_at -> BigInt,
        used_at -> Nullable<BigInt>,
        created_at -> BigInt,
    }
}

diesel::table! {
    method_policies (method) {
        method -> Text,
        policy -> Text,
        updated_at -> BigInt,
    }
}

diesel::table! {
    passkeys (id) {
        id -> Text,
        user_id -> Text,
        credential_id -> Text,
        credential -> Text,
        display_name -> Text,
        aa_guid -> Text,
        model -> Text,
        attested -> Bool,
        attestation_certificates -> Text,
        created_at -> BigInt,
        last_used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    ceremonies (token_hash) {
        token_hash -> Text,
        kind -> Text,
        user_id -> Nullable<Text>,
        state -> Text,
        expires_at -> BigInt,
    }
}

diesel::table! {
    web_sessions (token_hash) {
        token_hash -> Text,
        user_id -> Text,
        method -> Text,
        method_id -> Text,
        authenticated_at -> BigInt,
        last_seen_at -> BigInt,
        fresh_until -> BigInt,
        ends_at -> BigInt,
    }
}

diesel::table! {
    break_glass (user_id) {
        user_id -> Text,
        named_at -> BigInt,
        last_used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    oauth_grants (id) {
        id -> Text,
        application_id -> Text,
        user_id -> Text,
        client -> Text,
        redirect_uri -> Nullable<Text>,
        scopes -> Text,
        challenge -> Nullable<Text>,
        nonce -> Nullable<Text>,
        code_hash -> Text,
        method -> Text,
        method_id -> Text,
        signed_in_at -> BigInt,
        method_ends_at -> Nullable<BigInt>,
        generation -> BigInt,
        rotated_at -> BigInt,
        created_at -> BigInt,
        code_ends_at -> BigInt,
        ends_at -> BigInt,
    }
}

diesel::table! {
    device_codes (code_hash) {
        code_hash -> Text,
        user_code -> Text,
        application_id -> Text,
        scopes -> Text,
        origin -> Text,
        created_at -> BigInt,
        ends_at -> BigInt,
        asked_at -> BigInt,
        wait_seconds -> BigInt,
        declined -> Bool,
    }
}

diesel::table! {
    sign_ins (id) {
        id -> Text,
        created_at -> BigInt,
        user_id -> Text,
        user_principal_name -> Text,
        user_display_name -> Text,
        app_id -> Text,
        app_display_name -> Text,
        resource_id -> Text,
        resource_display_name -> Text,
        ip_address -> Text,
        client_app_used -> Text,
        user_agent -> Text,
        correlation_id -> Text,
        is_interactive -> Bool,
        method -> Text,
        error_code -> BigInt,
        failure_reason -> Text,
    }
}

diesel::table! {
    applications (id) {
        id -> Text,
        client_id -> Text,
        display_name -> Text,
        enabled -> Bool,
        public -> Bool,
        redirects -> Text,
        logout_redirects -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    application_credentials (id) {
        id -> Text,
        application_id -> Text,
        display_name -> Text,
        secret_sha256 -> Nullable<Binary>,
        token_sha256 -> Nullable<Binary>,
        hint -> Text,
        certificate -> Nullable<Binary>,
        starts_at -> BigInt,
        ends_at -> BigInt,
    }
}

diesel::table! {
    application_grants (application_id, kind, scope) {
        application_id -> Text,
        kind -> Text,
        scope -> Text,
        granted_by -> Text,
        granted_at -> BigInt,
    }
}

diesel::table! {
    used_assertions (hash) {
        hash -> Text,
        expires_at -> BigInt,
    }
}

diesel::table! {
    roles (id) {
        id -> Text,
        display_name -> Text,
        description -> Text,
        actions -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    role_assignments (id) {
        id -> Text,
        role_id -> Text,
        display_name -> Text,
        description -> Text,
        everywhere -> Bool,
        created_at -> BigInt,
    }
}

diesel::table! {
    role_members (assignment_id, kind, principal_id) {
        assignment_id -> Text,
        kind -> Text,
        principal_id -> Text,
    }
}

diesel::table! {
    role_reaches (assignment_id, group_id) {
        assignment_id -> Text,
        group_id -> Text,
    }
}

diesel::table! {
    devices (id) {
        id -> Text,
        display_name -> Text,
        platform -> Text,
        user_id -> Nullable<Text>,
        hardware_id -> Nullable<Text>,
        entra_device_id -> Nullable<Text>,
        serial_number -> Nullable<Text>,
        manufacturer -> Nullable<Text>,
        model -> Nullable<Text>,
        os_version -> Nullable<Text>,
        os_edition -> Nullable<Text>,
        state -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    enrollments (id) {
        id -> Text,
        device_id -> Text,
        platform -> Text,
        kind -> Text,
        state -> Text,
        mdm_id -> Text,
        provider_id -> Nullable<Text>,
        user_id -> Nullable<Text>,
        context -> Text,
        channel_uri -> Nullable<Text>,
        sealed_md5 -> Nullable<Binary>,
        nonce -> Nullable<Binary>,
        nonce_expires_at -> Nullable<BigInt>,
        certificate_id -> Nullable<Text>,
        report_hash -> Nullable<Text>,
        work_at -> Nullable<BigInt>,
        waiting_since -> Nullable<BigInt>,
        last_seen_at -> Nullable<BigInt>,
        enrolled_at -> BigInt,
        ended_at -> Nullable<BigInt>,
        dismissed -> Bool,
        version -> BigInt,
    }
}

diesel::table! {
    apple_channels (id) {
        id -> Text,
        enrollment_id -> Text,
        user_key -> Text,
        user_short_name -> Nullable<Text>,
        topic -> Text,
        sealed_push -> Nullable<Binary>,
        token_updated_at -> Nullable<BigInt>,
        push_dead_at -> Nullable<BigInt>,
        push_dead_why -> Nullable<Text>,
        queue -> Text,
        ddm_token -> Nullable<Text>,
        ddm_changed_at -> Nullable<BigInt>,
        capabilities -> Nullable<Text>,
        declared -> Nullable<Text>,
        renewal_asked_at -> Nullable<BigInt>,
        awaiting_since -> Nullable<BigInt>,
        last_seen_at -> Nullable<BigInt>,
        version -> BigInt,
    }
}

diesel::table! {
    apple_sessions (id) {
        id -> Text,
        user_id -> Nullable<Text>,
        platform -> Text,
        udid -> Nullable<Text>,
        serial -> Nullable<Text>,
        mode -> Nullable<Text>,
        account -> Nullable<Text>,
        payload -> Nullable<Text>,
        method -> Text,
        created_at -> BigInt,
        expires_at -> BigInt,
    }
}

diesel::table! {
    apple_management (enrollment_id) {
        enrollment_id -> Text,
        mode -> Nullable<Text>,
        account -> Nullable<Text>,
        payload -> Text,
    }
}

diesel::table! {
    apple_secrets (id) {
        id -> Text,
        enrollment_id -> Text,
        kind -> Text,
        sealed_value -> Binary,
        source -> Nullable<Text>,
        escrowed_at -> BigInt,
    }
}

diesel::table! {
    message_signatures (hash) {
        hash -> Binary,
        expires_at -> BigInt,
    }
}

diesel::table! {
    dm_pieces (id) {
        id -> Text,
        enrollment_id -> Text,
        number -> BigInt,
        sealed_text -> Binary,
    }
}

diesel::table! {
    dm_sessions (enrollment_id) {
        enrollment_id -> Text,
        session_id -> Text,
        msg_id -> BigInt,
        body_hash -> Binary,
        sealed_response -> Binary,
        sealed_state -> Nullable<Binary>,
        version -> BigInt,
        started_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    commands (id) {
        id -> Text,
        enrollment_id -> Text,
        kind -> Text,
        scope -> Text,
        sealed_payload -> Binary,
        state -> Text,
        attempts -> BigInt,
        sealed_result -> Nullable<Binary>,
        not_before -> BigInt,
        created_by -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
        version -> BigInt,
        sealed_large -> Nullable<Binary>,
    }
}

diesel::table! {
    facts (device_id, name) {
        device_id -> Text,
        name -> Text,
        value -> Nullable<Text>,
        status -> BigInt,
        source -> Text,
        observed_at -> BigInt,
        next_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    inventory (device_id, kind) {
        device_id -> Text,
        kind -> Text,
        document -> Text,
        observed_at -> BigInt,
    }
}

diesel::table! {
    profiles (id) {
        id -> Text,
        display_name -> Text,
        kind -> Text,
        platform -> Text,
        version -> BigInt,
        in_settings_catalogue -> Bool,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    profile_versions (id) {
        id -> Text,
        profile_id -> Text,
        version -> BigInt,
        sealed_document -> Binary,
        rules -> Nullable<Text>,
    }
}

diesel::table! {
    assignments (id) {
        id -> Text,
        profile_id -> Text,
        mode -> Text,
        target -> Text,
        group_id -> Nullable<Text>,
        created_at -> BigInt,
    }
}

diesel::table! {
    desired_items (device_id, profile_id) {
        device_id -> Text,
        profile_id -> Text,
        kind -> Text,
        desired_version -> Nullable<BigInt>,
        applied_version -> Nullable<BigInt>,
        state -> Text,
        detail -> Text,
        attempts -> BigInt,
        due_at -> Nullable<BigInt>,
        updated_at -> BigInt,
    }
}

diesel::table! {
    compliance_states (device_id) {
        device_id -> Text,
        state -> Text,
        compliant -> Bool,
        grace_expires_at -> Nullable<BigInt>,
        reevaluate_at -> Nullable<BigInt>,
        detail -> Text,
        evaluated_at -> BigInt,
        changed_at -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    autopilot_devices (id) {
        id -> Text,
        serial -> Text,
        product_key -> Text,
        hardware_hash -> Binary,
        group_tag -> Text,
        user_id -> Nullable<Text>,
        addressable_user_name -> Text,
        display_name -> Text,
        purchase_order -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    autopilot_imports (id) {
        id -> Text,
        import_id -> Text,
        serial -> Text,
        product_key -> Text,
        group_tag -> Text,
        user_principal_name -> Text,
        registration_id -> Nullable<Text>,
        error -> Nullable<Text>,
        created_at -> BigInt,
    }
}

diesel::table! {
    authorities (id) {
        id -> Text,
        name -> Text,
        kind -> Text,
        status -> Text,
        parent_id -> Nullable<Text>,
        key_algorithm -> Text,
        certificate -> Binary,
        sealed_key -> Binary,
        crl_number -> BigInt,
        crl_due_at -> BigInt,
        not_before -> BigInt,
        not_after -> BigInt,
        created_at -> BigInt,
        upper_chain -> Binary,
        display_name -> Text,
        description -> Text,
        updated_at -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    authority_requests (id) {
        id -> Text,
        name -> Text,
        common_name -> Text,
        key_algorithm -> Text,
        sealed_key -> Binary,
        request -> Binary,
        created_at -> BigInt,
        display_name -> Text,
        description -> Text,
        updated_at -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    service_keys (id) {
        id -> Text,
        authority_id -> Text,
        purpose -> Text,
        certificate -> Binary,
        sealed_key -> Binary,
        not_before -> BigInt,
        not_after -> BigInt,
        created_at -> BigInt,
    }
}

diesel::table! {
    apple_push (slot) {
        slot -> Text,
        sealed_key -> Binary,
        request -> Nullable<Binary>,
        certificate -> Nullable<Binary>,
        topic -> Nullable<Text>,
        not_before -> Nullable<BigInt>,
        not_after -> Nullable<BigInt>,
        alarm -> Nullable<Text>,
        alarm_at -> Nullable<BigInt>,
        warned_days -> Nullable<BigInt>,
        created_at -> BigInt,
        account -> Nullable<Text>,
    }
}

diesel::table! {
    apple_packages (id) {
        id -> Text,
        name -> Text,
        title -> Text,
        bundle_id -> Text,
        version -> Text,
        form -> Text,
        size -> BigInt,
        created_at -> BigInt,
    }
}

diesel::table! {
    apple_package_parts (package_id, number) {
        package_id -> Text,
        number -> BigInt,
        sha256 -> Text,
        content -> Binary,
    }
}

diesel::table! {
    apple_content (slot) {
        slot -> Text,
        sealed_token -> Binary,
        location_id -> Text,
        location -> Text,
        organisation -> Text,
        ends_at -> BigInt,
        warned_days -> Nullable<BigInt>,
        wait_until -> Nullable<BigInt>,
        alarm -> Nullable<Text>,
        alarm_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    apple_licences (serial, store_id) {
        serial -> Text,
        store_id -> BigInt,
        state -> Text,
        event -> Nullable<Text>,
        error -> Nullable<Text>,
        changed_at -> BigInt,
    }
}

diesel::table! {
    ade_servers (id) {
        id -> Text,
        name -> Text,
        sealed_key -> Binary,
        certificate -> Binary,
        sealed_token -> Nullable<Binary>,
        token_ends_at -> Nullable<BigInt>,
        warned_days -> Nullable<BigInt>,
        server_uuid -> Nullable<Text>,
        organisation -> Nullable<Text>,
        phase -> Text,
        cursor -> Text,
        generation -> BigInt,
        profile_uuid -> Nullable<Text>,
        profile_hash -> Nullable<Text>,
        synced_at -> Nullable<BigInt>,
        wait_until -> Nullable<BigInt>,
        alarm -> Nullable<Text>,
        alarm_at -> Nullable<BigInt>,
        created_at -> BigInt,
        account -> Nullable<Text>,
    }
}

diesel::table! {
    ade_devices (serial) {
        serial -> Text,
        server_id -> Text,
        model -> Nullable<Text>,
        description -> Nullable<Text>,
        color -> Nullable<Text>,
        asset_tag -> Nullable<Text>,
        os -> Nullable<Text>,
        family -> Nullable<Text>,
        profile_status -> Nullable<Text>,
        profile_uuid -> Nullable<Text>,
        assigned_at -> Nullable<BigInt>,
        migration_deadline -> Nullable<BigInt>,
        generation -> BigInt,
    }
}

diesel::table! {
    certificates (id) {
        id -> Text,
        authority_id -> Text,
        serial -> Text,
        sha1 -> Text,
        sha256 -> Text,
        subject -> Text,
        purpose -> Text,
        status -> Text,
        not_before -> BigInt,
        not_after -> BigInt,
        revoked_at -> Nullable<BigInt>,
        revocation_reason -> Nullable<BigInt>,
        device_id -> Nullable<Text>,
        user_id -> Nullable<Text>,
        enrollment_id -> Nullable<Text>,
        profile_id -> Nullable<Text>,
        superseded_by -> Nullable<Text>,
        grant_document -> Text,
        certificate -> Binary,
        created_at -> BigInt,
        names_hash -> Text,
        last_held_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    acme_clients (hash) {
        hash -> Text,
        device_id -> Text,
        profile_id -> Text,
        payload -> Text,
        grant_document -> Text,
        hardware_bound -> Bool,
        attest -> Bool,
        expires_at -> BigInt,
        used_at -> Nullable<BigInt>,
        created_at -> BigInt,
    }
}

diesel::table! {
    registration_tokens (id) {
        id -> Text,
        device_id -> Text,
        enrollment_id -> Text,
        profile_id -> Text,
        payload -> Text,
        expires_at -> BigInt,
        used_at -> Nullable<BigInt>,
        used_for -> Nullable<Text>,
        created_at -> BigInt,
    }
}

diesel::table! {
    attestation_nonces (nonce) {
        nonce -> Binary,
        enrollment_id -> Text,
        issued_at -> BigInt,
    }
}

diesel::table! {
    issued_keys (certificate_id) {
        certificate_id -> Text,
        device_id -> Text,
        profile_id -> Text,
        payload -> Text,
        sealed_identity -> Binary,
        created_at -> BigInt,
    }
}

diesel::table! {
    imported_pfx (id) {
        id -> Text,
        user_id -> Text,
        purpose -> Text,
        sha256 -> Text,
        thumbprint -> Text,
        subject -> Text,
        not_before -> BigInt,
        not_after -> BigInt,
        sealed_identity -> Binary,
        key_name -> Nullable<Text>,
        provider_name -> Nullable<Text>,
        padding -> Nullable<Text>,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    crls (authority_id) {
        authority_id -> Text,
        number -> BigInt,
        der -> Binary,
        this_update -> BigInt,
        next_update -> BigInt,
    }
}

diesel::table! {
    ocsp_responses (authority_id, serial, hash_algorithm) {
        authority_id -> Text,
        serial -> Text,
        hash_algorithm -> Text,
        der -> Binary,
        this_update -> BigInt,
        next_update -> BigInt,
    }
}

diesel::table! {
    scep_challenges (id) {
        id -> Text,
        authority_id -> Text,
        profile_id -> Nullable<Text>,
        enrollment_id -> Nullable<Text>,
        device_id -> Nullable<Text>,
        user_id -> Nullable<Text>,
        grant_document -> Text,
        needs_approval -> Bool,
        expires_at -> BigInt,
        consumed_at -> Nullable<BigInt>,
        created_at -> BigInt,
    }
}

diesel::table! {
    scep_transactions (authority_id, transaction_id) {
        authority_id -> Text,
        transaction_id -> Text,
        signer_hash -> Text,
        request_hash -> Text,
        challenge_id -> Nullable<Text>,
        state -> Text,
        request -> Binary,
        grant_document -> Text,
        certificate_id -> Nullable<Text>,
        created_at -> BigInt,
        decided_at -> Nullable<BigInt>,
        decided_by -> Nullable<Text>,
        renews -> Nullable<Text>,
    }
}

diesel::table! {
    receivers (id) {
        id -> Text,
        name -> Text,
        endpoint_url -> Text,
        audience -> Text,
        sealed_authorization -> Nullable<Binary>,
        status -> Text,
        status_reason -> Nullable<Text>,
        created_at -> BigInt,
    }
}

diesel::table! {
    signing_keys (kid) {
        kid -> Text,
        algorithm -> Text,
        jwk -> Text,
        sealed_key -> Binary,
        created_at -> BigInt,
        active_from -> BigInt,
        retired_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    outbox (seq) {
        seq -> BigInt,
        topic -> Text,
        order_key -> Text,
        dedup_key -> Text,
        payload -> Text,
        state -> Text,
        attempts -> BigInt,
        last_error -> Nullable<Text>,
        queued_at -> BigInt,
        settled_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    outbox_lanes (order_key) {
        order_key -> Text,
        destination -> Text,
        next_at -> BigInt,
        set_at -> BigInt,
        lease_owner -> Nullable<Text>,
        version -> BigInt,
    }
}

diesel::table! {
    missed_signals (lane) {
        lane -> Text,
        destination -> Text,
        heard -> Nullable<Text>,
        payload -> Text,
    }
}

diesel::table! {
    jobs (name) {
        name -> Text,
        schedule -> Text,
        next_at -> BigInt,
        lease_owner -> Nullable<Text>,
        lease_until -> Nullable<BigInt>,
        last_started_at -> Nullable<BigInt>,
        last_finished_at -> Nullable<BigInt>,
        last_error -> Nullable<Text>,
    }
}

diesel::table! {
    audit (seq) {
        seq -> BigInt,
        at -> BigInt,
        actor -> Text,
        action -> Text,
        target -> Text,
        origin -> Text,
        before -> Nullable<Text>,
        after -> Nullable<Text>,
        previous_hash -> Text,
        hash -> Text,
    }
}

diesel::table! {
    audit_head (id) {
        id -> BigInt,
        seq -> BigInt,
        hash -> Text,
        mark -> Text,
    }
}

diesel::table! {
    changes (kind, id) {
        kind -> Text,
        id -> Text,
        seq -> BigInt,
        made_seq -> BigInt,
    }
}

diesel::table! {
    member_changes (group_id, member_kind, member_id) {
        group_id -> Text,
        member_kind -> Text,
        member_id -> Text,
        seq -> BigInt,
    }
}

diesel::table! {
    subscriptions (id) {
        id -> Text,
        application_id -> Text,
        user_id -> Nullable<Text>,
        grant_id -> Nullable<Text>,
        resource -> Text,
        kind -> Text,
        object_id -> Nullable<Text>,
        change_types -> Text,
        notification_url -> Text,
        lifecycle_url -> Nullable<Text>,
        sealed_client_state -> Nullable<Binary>,
        created_at -> BigInt,
        expires_at -> BigInt,
        warned_at -> Nullable<BigInt>,
    }
}

diesel::joinable!(apple_management -> enrollments (enrollment_id));
diesel::joinable!(apple_secrets -> enrollments (enrollment_id));
diesel::joinable!(imported_pfx -> users (user_id));

diesel::allow_tables_to_appear_in_same_query!(
    meta,
    users,
    groups,
    group_members,
    deleted_members,
    taps,
    throttles,
    enrollment_tokens,
    method_policies,
    passkeys,
    ceremonies,
    web_sessions,
    break_glass,
    oauth_grants,
    device_codes,
    sign_ins,
    applications,
    application_credentials,
    application_grants,
    used_assertions,
    roles,
    role_assignments,
    role_members,
    role_reaches,
    devices,
    enrollments,
    apple_channels,
    apple_sessions,
    apple_management,
    apple_secrets,
    message_signatures,
    dm_pieces,
    dm_sessions,
    commands,
    facts,
    inventory,
    profiles,
    profile_versions,
    assignments,
    desired_items,
    compliance_states,
    authorities,
    service_keys,
    apple_push,
    apple_packages,
    apple_package_parts,
    apple_content,
    apple_licences,
    ade_servers,
    ade_devices,
    certificates,
    acme_clients,
    registration_tokens,
    attestation_nonces,
    issued_keys,
    imported_pfx,
    authority_requests,
    autopilot_devices,
    autopilot_imports,
    crls,
    ocsp_responses,
    scep_challenges,
    scep_transactions,
    receivers,
    signing_keys,
    outbox,
    outbox_lanes,
    missed_signals,
    jobs,
    audit,
    audit_head,
    changes,
    member_changes,
    subscriptions,
);
