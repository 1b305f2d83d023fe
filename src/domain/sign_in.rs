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

    /// The browser and its version, as far as it says so; empty when it does not.
    #[must_use]
    pub fn browser(&self) -> String {
        let agent = self.user_agent.as_str();
        // Each claims to be those before it, too: the most particular one comes first.
        let known = BROWSERS.iter().find_map(|(mark, name)| Some((*name, agent.split_once(mark)?.1)));
        let safari = || Some(("Safari", agent.split_once("Version/").filter(|_| agent.contains(" Safari/"))?.1));
        let Some((name, rest)) = known.or_else(safari) else { return String::new() };
        let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').take(LONGEST_VERSION).collect();
        format!("{name} {version}").trim_end().to_owned()
    }

    /// The operating system that the browser says it runs on; empty when it does not.
    #[must_use]
    pub fn operating_system(&self) -> &'static str {
        SYSTEMS.iter().find(|(mark, _)| self.user_agent.contains(mark)).map_or("", |(_, name)| name)
    }
}

/// How browsers call themselves, and what people call them.
const BROWSERS: [(&str, &str); 8] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("OPR/", "Opera"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
];
/// The same of systems; an iPhone says that it is like a Mac, and Android that it is a Linux.
const SYSTEMS: [(&str, &str); 6] =
    [("iPhone", "Ios"), ("iPad", "Ios"), ("Android", "Android"), ("Windows", "Windows"), ("Mac OS X", "MacOs"), ("Linux", "Linux")];
/// Longest version that is shown.
const LONGEST_VERSION: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_and_systems_are_told_by_what_they_call_themselves() {
        let shown = |agent: &str| {
            let row = SignIn { user_agent: agent.into(), ..SignIn::new("tap", "Pages", "::1", Time(0)) };
            (row.browser(), row.operating_system())
        };
        let webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
        for (agent, browser, system) in [
            (
                format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/120.0.0.0 Safari/537.36 Edg/120.0.1.2"),
                "Edge 120.0.1.2",
                "Windows",
            ),
            (format!("Mozilla/5.0 (X11; Linux x86_64) {webkit} Chrome/120.0.0.0 Safari/537.36"), "Chrome 120.0.0.0", "Linux"),
            (format!("Mozilla/5.0 (Linux; Android 14) {webkit} Chrome/119.0 Mobile Safari/537.36"), "Chrome 119.0", "Android"),
            ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:121.0) Gecko/20100101 Firefox/121.0".into(), "Firefox 121.0", "MacOs"),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/604.1"
                    .into(),
                "Safari 17.1",
                "Ios",
            ),
            ("Edg/x".into(), "Edge", ""),
            ("curl/8.5".into(), "", ""),
            (String::new(), "", ""),
        ] {
            assert_eq!(shown(&agent), (browser.to_owned(), system), "{agent}");
        }
    }
}
