//! A row of the sign-in log.

use crate::clock::Time;
use crate::domain::user::User;
use crate::ids::SignInId;

/// One try to sign in, in the words of Microsoft Graph's `signIn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// Identifier.
    pub id: SignInId,
    /// When.
    pub created_at: Time,
    /// Who; empty when nobody is called so.
    pub user_id: String,
    /// Their user name then.
    pub user_principal_name: String,
    /// Their name then.
    pub user_display_name: String,
    /// At which application; empty for our own pages.
    pub app_id: String,
    /// Its name.
    pub app_display_name: String,
    /// For which interface.
    pub resource_id: String,
    /// Its name.
    pub resource_display_name: String,
    /// From where.
    pub ip_address: String,
    /// With what kind of program.
    pub client_app_used: String,
    /// How it calls itself.
    pub user_agent: String,
    /// The client's name for the request, or ours.
    pub correlation_id: String,
    /// Whether a person took part.
    pub is_interactive: bool,
    /// How: `tap` or `passkey`.
    pub method: String,
    /// 0, or the number of the failure (`AADSTS…`).
    pub error_code: i64,
    /// Why it failed, for administrators.
    pub failure_reason: String,
}

impl SignIn {
    /// A success of nobody yet, at our own pages.
    #[must_use]
    pub fn new(method: &str, app: &str, address: &str, now: Time) -> Self {
        Self {
            id: SignInId::new(),
            created_at: now,
            user_id: String::new(),
            user_principal_name: String::new(),
            user_display_name: String::new(),
            app_id: String::new(),
            app_display_name: app.to_owned(),
            resource_id: String::new(),
            resource_display_name: String::new(),
            ip_address: address.to_owned(),
            client_app_used: "Browser".into(),
            user_agent: String::new(),
            correlation_id: String::new(),
            is_interactive: true,
            method: method.to_owned(),
            error_code: 0,
            failure_reason: String::new(),
        }
    }

    /// Of that user.
    #[must_use]
    pub fn of(mut self, user: Option<&User>) -> Self {
        if let Some(user) = user {
            self.user_id = user.id.to_string();
            self.user_principal_name.clone_from(&user.upn);
            self.user_display_name.clone_from(&user.display_name);
        }
        self
    }

    /// A failure.
    #[must_use]
    pub fn failed(mut self, number: u32, reason: &str) -> Self {
        self.error_code = i64::from(number);
        self.failure_reason = reason.to_owned();
        self
    }
}
