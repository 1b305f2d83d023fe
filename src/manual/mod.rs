//! Design pages and decision records, shown beside the types they are about.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

/// Why things are as they are: one record per decision.
pub mod decisions {
    #[doc = include_str!("decisions/0001-tls-stack.md")]
    pub mod tls_stack {}
    #[doc = include_str!("decisions/0002-store-and-write-path.md")]
    pub mod store_and_write_path {}
    #[doc = include_str!("decisions/0003-layout.md")]
    pub mod layout {}
    #[doc = include_str!("decisions/0004-ids-and-time.md")]
    pub mod ids_and_time {}
    #[doc = include_str!("decisions/0005-error-faces.md")]
    pub mod error_faces {}
    #[doc = include_str!("decisions/0006-sealed-secrets.md")]
    pub mod sealed_secrets {}
    #[doc = include_str!("decisions/0007-catalogue-above-wire.md")]
    pub mod catalogue_above_wire {}
    #[doc = include_str!("decisions/0008-certificate-hierarchy.md")]
    pub mod certificate_hierarchy {}
    #[doc = include_str!("decisions/0009-idle-path.md")]
    pub mod idle_path {}
    #[doc = include_str!("decisions/0010-contested-hardware.md")]
    pub mod contested_hardware {}
    #[doc = include_str!("decisions/0011-scep-registration-authority.md")]
    pub mod scep_registration_authority {}
    #[doc = include_str!("decisions/0012-marked-audit-head.md")]
    pub mod marked_audit_head {}
    #[doc = include_str!("decisions/0013-api-document.md")]
    pub mod api_document {}
    #[doc = include_str!("decisions/0014-changes-by-triggers.md")]
    pub mod changes_by_triggers {}
    #[doc = include_str!("decisions/0015-orders-over-https.md")]
    pub mod orders_over_https {}
}
