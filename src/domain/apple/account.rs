//! Accounts that Setup Assistant makes.

/// Longest short name of an account, in bytes.
pub const LONGEST: usize = 31;

/// Whether a Mac takes that for the short name of an account.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    starts && name.len() <= LONGEST && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_macs_take() {
        for good in ["admin", "_mdm", "it-admin.2"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "Admin", "2nd", "a b", "a/b", &"a".repeat(32)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
