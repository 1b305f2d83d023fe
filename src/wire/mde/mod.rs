//! Windows enrolment on the wire: MS-MDE2 discovery, MS-XCEP policy, MS-WSTEP tokens, SOAP faults.
