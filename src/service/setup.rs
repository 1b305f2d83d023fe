//! The first start: tenant, authorities, administrator.
