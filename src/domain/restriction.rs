//! Which devices the organisation lets enrol.

use std::cmp::Ordering;

use super::Refusal;

/// What may enrol of one platform.
#[derive(Clone, Copy, Debug)]
pub struct Restriction<'a> {
    /// Devices of the platform may.
    pub allowed: bool,
    /// The oldest version; empty means any.
    pub minimum: &'a str,
    /// The newest version, with all that begin with it; empty means any.
    pub maximum: &'a str,
    /// Devices may that the organisation does not list as its own.
    pub personal: bool,
}

impl Restriction<'_> {
    /// Judges a device by the version that it has (`None`: it does not say) and whether the organisation lists it as its own.
    ///
    /// # Errors
    /// [`Refusal::PlatformRefused`], [`Refusal::OsTooOld`], [`Refusal::OsVersionUnknown`], [`Refusal::OsTooNew`],
    /// [`Refusal::PersonalDeviceRefused`].
    pub fn judge(&self, os_version: Option<&str>, listed: bool) -> Result<(), Refusal> {
        let version = os_version.unwrap_or_default();
        if !self.allowed {
            return Err(Refusal::PlatformRefused);
        }
        if is_older(version, self.minimum) {
            return Err(Refusal::OsTooOld);
        }
        if !self.maximum.is_empty() {
            // Who says nothing that is a number could have any.
            if !version.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
                return Err(Refusal::OsVersionUnknown);
            }
            if is_beyond(version, self.maximum) {
                return Err(Refusal::OsTooNew);
            }
        }
        if !self.personal && !listed {
            return Err(Refusal::PersonalDeviceRefused);
        }
        Ok(())
    }
}

/// Whether a version is older than the least one; never when that is empty.
#[must_use]
pub fn is_older(version: &str, least: &str) -> bool {
    !least.is_empty() && numbers(version) < numbers(least)
}

fn is_beyond(version: &str, most: &str) -> bool {
    let most = numbers(most);
    numbers(version).into_iter().take(most.len()).cmp(most.iter().copied()) == Ordering::Greater
}

/// The numbers of a version; what follows them (`16.1 (a)`) counts for nothing.
fn numbers(version: &str) -> Vec<u64> {
    let plain = version.split_whitespace().next().unwrap_or_default();
    plain.split('.').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Restriction<'_> = Restriction { allowed: true, minimum: "", maximum: "", personal: true };

    #[test]
    fn what_is_not_restricted_enrols() {
        assert_eq!(ANY.judge(None, false), Ok(()));
        assert_eq!(ANY.judge(Some("16.1 (a)"), false), Ok(()));
    }

    #[test]
    fn versions_are_held_between_two_ends() {
        let rules = Restriction { minimum: "15.1", maximum: "26", ..ANY };
        let judge = |version| rules.judge(Some(version), false);
        assert_eq!(judge("15.0.1"), Err(Refusal::OsTooOld));
        for good in ["15.1", "15.1.1", "15.10", "26", "26.3.1", "16.1 (a)"] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
        assert_eq!(judge("27.0"), Err(Refusal::OsTooNew));
        assert_eq!(rules.judge(None, true), Err(Refusal::OsTooOld), "who says nothing has nothing");
        let newest = Restriction { minimum: "", ..rules };
        for unknown in [None, Some(""), Some(" "), Some("newest")] {
            assert_eq!(newest.judge(unknown, true).unwrap_err().code(), "ENR0034", "{unknown:?}");
        }
        assert!(is_older("10.0.9999.1", "10.0.19041") && !is_older("10.0.19041.1", "10.0.19041"));
        assert!(is_older("9.3", "10") && !is_older("10", "9.3") && !is_older("1", ""));
    }

    #[test]
    fn platforms_and_personal_devices_are_refused_by_name() {
        assert_eq!(Restriction { allowed: false, ..ANY }.judge(Some("26"), true), Err(Refusal::PlatformRefused));
        let listed = Restriction { personal: false, ..ANY };
        assert_eq!(listed.judge(None, false), Err(Refusal::PersonalDeviceRefused));
        assert_eq!(listed.judge(None, true), Ok(()));
    }
}
