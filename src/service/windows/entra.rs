//! Enrolment tokens of an organisation whose identity stays at Microsoft: verification of the JWT.
