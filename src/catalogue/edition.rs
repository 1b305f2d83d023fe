//! Editions of Windows, as far as settings tell them apart.

use serde::Deserialize;

/// A family of editions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Home, in all its languages.
    Home,
    /// Enterprise for several sessions at once.
    MultiSession,
}

impl Family {
    /// Its SKU numbers (`OSEdition`, MS-MDE2 2.2.9.2; `GetProductInfo`).
    #[must_use]
    pub fn skus(self) -> &'static [u32] {
        match self {
            Self::Home => &[98, 99, 100, 101],
            Self::MultiSession => &[175],
        }
    }
}

/// Whether an edition, by its SKU number as a device says it, is one of `all` (empty: any) and of none of the families `but`. What is no
/// number is not known, and may be any.
pub(super) fn is_among(edition: &str, all: &[u32], but: &[Family]) -> bool {
    let Ok(sku) = edition.trim().parse::<u32>() else { return true };
    (all.is_empty() || all.contains(&sku)) && !but.iter().any(|family| family.skus().contains(&sku))
}
