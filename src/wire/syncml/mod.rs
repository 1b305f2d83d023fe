//! SyncML 1.2 for device management (OMA-DM 1.2, MS-MDM).
