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
// Areas: AUT sign-in and tokens, CRT certificates and CA, ENR enrolment, MGT management sessions, PRF profiles and assignments,
// SCP SCEP, SIG signals, USR directory.
refusals! {
    CertificateNotOurs = "CRT0001", "the client certificate was not issued by this server's authority for a device";
    CertificateRevoked = "CRT0002", "the client certificate is revoked; enrol the device again";
    DeadLetterSuperseded = "SIG0001", "a newer signal about the same subject has been delivered; sending the old one now would mislead";
    EnrollmentEnded = "ENR0001", "the enrolment has ended; enrol the device again";
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
