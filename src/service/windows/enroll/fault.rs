//! Which fault says what to the device.

use crate::domain::Refusal;
use crate::service::Error;
use crate::wire::mde::fault::{Code, ErrorType, Fault};

/// The fault for an error. Our own failures show nothing but the trace id.
pub(super) fn of(error: &Error, trace_id: &str) -> Fault {
    let (code, error_type) = match error {
        Error::Malformed(_) => (Code::MessageFormat, None),
        Error::Throttled(_) => (Code::Authentication, None),
        Error::Internal(_) => (Code::InternalServiceFault, None),
        Error::Unavailable(_) | Error::Conflict(_) | Error::NotFound(_) => (Code::EnrollmentServer, None),
        Error::Refused(refusal) | Error::Invalid(refusal, _) => of_refusal(*refusal),
    };
    let reason = match error {
        // The same words for a wrong pass and for too many of them.
        Error::Throttled(_) => Refusal::SignInFailed.text().to_owned(),
        Error::Refused(refusal) | Error::Invalid(refusal, _) => refusal.text().to_owned(),
        Error::Malformed(malformed) => malformed.to_string(),
        _ => "the server failed; its log has the reason under this trace id".to_owned(),
    };
    Fault { code, error_type, reason, trace_id: trace_id.to_owned() }
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
        Refusal::OsTooOld => (Code::Authorization, Some(ErrorType::DeviceNotSupported)),
        Refusal::PolicyNotOffered | Refusal::ProtocolTooOld => (Code::Authorization, Some(ErrorType::NotSupported)),
        Refusal::EnrollmentMaintenance => (Code::EnrollmentServer, Some(ErrorType::InMaintenance)),
        Refusal::EnrollmentDataInvalid => (Code::Authorization, Some(ErrorType::InvalidEnrollmentData)),
        Refusal::RenewalTooEarly => (Code::Authorization, Some(ErrorType::NotEligibleToRenew)),
        Refusal::AccountDisabled | Refusal::UserUnknown => (Code::Authorization, None),
        // What is left says no to the certificate: key, request, authority.
        _ => (Code::CertificateRequest, None),
    }
}
