//! Which fault says what to the device.

use crate::domain::Refusal;
use crate::service::Error;
use crate::store;
use crate::wire::mde::fault::{Code, ErrorType, Fault};

/// Longest reason of a malformed message, in letters.
const LONGEST_REASON: usize = 200;

/// The fault for an error. Our own failures show nothing but the trace id.
pub(super) fn of(error: &Error, trace_id: &str) -> Fault {
    let (code, error_type) = match error {
        Error::Malformed(_) => (Code::MessageFormat, None),
        Error::Throttled(_) => (Code::Authentication, None),
        // The device tries again after this one.
        Error::Internal(cause) if cause.is::<store::Error>() => (Code::EnrollmentServer, None),
        Error::Internal(_) => (Code::InternalServiceFault, None),
        Error::Unavailable(_) | Error::Conflict(_) | Error::NotFound(_) | Error::Unknown(_) => (Code::EnrollmentServer, None),
        Error::Refused(refusal) | Error::Invalid(refusal, _) => of_refusal(*refusal),
    };
    let reason = match error {
        // The same words for a wrong pass and for too many of them.
        Error::Throttled(_) => Refusal::SignInFailed.to_string(),
        Error::Refused(refusal) | Error::Invalid(refusal, _) => refusal.to_string(),
        Error::Malformed(malformed) => cut(&malformed.to_string()),
        _ => "the server failed; its log has the reason under this trace id".to_owned(),
    };
    Fault { code, error_type, reason, trace_id: trace_id.to_owned() }
}

/// What a stranger wrote may be in an error's text: only the beginning of it goes anywhere.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(LONGEST_REASON).collect()
}

fn of_refusal(refusal: Refusal) -> (Code, Option<ErrorType>) {
    match refusal {
        Refusal::SecurityHeaderInvalid => (Code::InvalidSecurity, None),
        Refusal::SignInFailed
        | Refusal::TokenInvalid
        | Refusal::CertificateNotOurs
        | Refusal::CertificateRevoked
        | Refusal::EnrollmentEnded
        | Refusal::RenewalCertificateExpired
        | Refusal::RenewalSignerForeign
        | Refusal::RenewalSignerMismatch => (Code::Authentication, None),
        Refusal::DeviceCapReached => (Code::Authorization, Some(ErrorType::DeviceCapReached)),
        Refusal::OsTooOld | Refusal::OsTooNew | Refusal::OsVersionUnknown | Refusal::PersonalDeviceRefused | Refusal::PlatformRefused => {
            (Code::Authorization, Some(ErrorType::DeviceNotSupported))
        }
        Refusal::PolicyNotOffered | Refusal::ProtocolTooOld => (Code::Authorization, Some(ErrorType::NotSupported)),
        Refusal::EnrollmentMaintenance => (Code::EnrollmentServer, Some(ErrorType::InMaintenance)),
        Refusal::EnrollmentDataInvalid => (Code::Authorization, Some(ErrorType::InvalidEnrollmentData)),
        Refusal::CertificateHeld | Refusal::RenewalTooEarly | Refusal::RenewalTooMany => {
            (Code::Authorization, Some(ErrorType::NotEligibleToRenew))
        }
        Refusal::AccountDisabled | Refusal::UserUnknown => (Code::Authorization, None),
        // What is left says no to the certificate: key, request, authority.
        _ => (Code::CertificateRequest, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Malformed;

    #[test]
    fn a_failing_database_is_the_servers_and_the_reason_is_short() {
        let failed = Error::from(store::Error::corrupt("devices.platform"));
        assert_eq!(of(&failed, "t").code, Code::EnrollmentServer);
        assert_eq!(of(&Error::internal(std::io::Error::other("x")), "t").code, Code::InternalServiceFault);
        let long = of(&Malformed::new("x".repeat(5000), "y").into(), "t");
        assert_eq!((long.code, long.reason.chars().count()), (Code::MessageFormat, LONGEST_REASON));
    }
}
