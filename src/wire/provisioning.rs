//! The Windows provisioning document (wap-provisioningdoc).
