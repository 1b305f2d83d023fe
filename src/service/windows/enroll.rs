//! Windows enrolment (MS-MDE2): discovery, policy, request token, renewal.
