//! How requests for tokens fail: the words of OAuth 2.0 (RFC 6749, section 5.2; RFC 8628, section 3.5; OpenID Connect Core, section 3.1.2.6),
//! each with the number by which clients of Entra ID know the reason (`AADSTS…`).

/// Declares the closed list of failures: variant, number, word, text for people.
macro_rules! failures {
    ($($variant:ident = $number:literal, $word:literal, $text:literal;)+) => {
        /// Why no token was given.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Failure {
            $(#[doc = $text] $variant,)+
        }

        impl Failure {
            /// All failures.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The number, as in `AADSTS70000`.
            #[must_use]
            pub fn number(self) -> u32 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The word of the protocol.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What is wrong, and what to do about it.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

// The numbers and their meaning are Entra's (its list of sign-in error codes); the texts are ours.
failures! {
    ResourceUnknown = 500011, "invalid_resource", "nothing is known under the resource that is asked for";
    RedirectMismatch = 50011, "invalid_request", "the redirect URI is none of those that are registered for the application";
    TokenNotEnded = 50027, "unsupported_token_type", "a token that an application got in its own name is not ended by itself: it is good for an hour at most";
    AccountDisabled = 50057, "invalid_grant", "the account is disabled";
    SignInNeeded = 50058, "login_required", "nobody is signed in, and the request forbids to ask";
    SignInThrottled = 50053, "invalid_grant", "there were too many wrong tries; wait and try again";
    SignInWrong = 50126, "invalid_grant", "user name or pass is wrong, or the pass has expired or was used";
    CodeUsed = 54005, "invalid_grant", "the code was exchanged before: what came of it has ended";
    ConsentMissing = 65001, "consent_required", "an administrator has not consented to what the application asks for";
    ConsentDeclined = 65004, "access_denied", "the person did not agree to what the application asks for";
    GrantInvalid = 70000, "invalid_grant", "the code or token is wrong, has ended, or was given to somebody else";
    GrantUnsupported = 70003, "unsupported_grant_type", "the grant type is not supported";
    GrantExpired = 70008, "invalid_grant", "the code or token has expired";
    ResponseUnsupported = 700051, "unsupported_response_type", "response_type is code, and response_mode query, fragment or form_post";
    ClientUnauthorized = 700016, "unauthorized_client", "no application with this client_id is registered here, or it is disabled";
    ScopeInvalid = 70011, "invalid_scope", "the scope is not valid; an application in its own name asks for RESOURCE/.default";
    DevicePending = 70016, "authorization_pending", "the person has not finished signing in";
    DeviceCodeInvalid = 70018, "bad_verification_code", "the code is not known";
    DeviceCodeExpired = 70019, "expired_token", "the code has expired";
    DeviceDeclined = 70020, "authorization_declined", "the person declined";
    PollTooFast = 70021, "slow_down", "the application asks too often";
    AssertionInvalid = 700027, "invalid_client", "the client assertion is wrong: its key is not registered, its claims do not fit, it has expired, or it was used";
    SecretWrong = 7000215, "invalid_client", "the client secret is wrong";
    SecretMissing = 7000218, "invalid_client", "the application has to prove itself: client_secret or client_assertion is missing";
    SecretExpired = 7000222, "invalid_client", "the client secret or certificate has expired; register another one";
    ClientIsPublic = 700025, "invalid_client", "the application is a public client and shows no secret";
    TenantUnknown = 90002, "invalid_request", "no such organisation is here";
    ParameterMissing = 900144, "invalid_request", "the request lacks a parameter";
    Throttled = 90055, "temporarily_unavailable", "too many requests; wait and try again";
    VerifierWrong = 501481, "invalid_grant", "the code_verifier does not fit the code_challenge";
    Malformed = 9002313, "invalid_request", "the request is malformed";
    ChallengeMissing = 9002325, "invalid_request", "code_challenge with the method S256 is needed (PKCE)";
}

impl Failure {
    /// The HTTP status: 401 where the client failed to prove itself (RFC 6749, section 5.2), 429 when it shall come back, else 400.
    #[must_use]
    pub fn status(self) -> u16 {
        match self.word() {
            "invalid_client" => 401,
            "temporarily_unavailable" => 429,
            _ => 400,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_unique() {
        let numbers: BTreeSet<_> = Failure::ALL.iter().map(|failure| failure.number()).collect();
        assert_eq!(numbers.len(), Failure::ALL.len());
    }
}
