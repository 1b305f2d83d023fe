//! What a token may be for: our own API, under the names that clients have for it.

use crate::config::Config;

/// The application id of Microsoft Graph, by which some clients ask for it whatever its address.
pub const GRAPH: &str = "00000003-0000-0000-c000-000000000000";

/// Whether the text names our API: its URL with or without the port (some clients drop it) and a slash at the end, `api://` with the
/// organisation's id, or Microsoft Graph's id.
#[must_use]
pub fn is_api(config: &Config, tenant: &str, text: &str) -> bool {
    let text = text.strip_suffix('/').unwrap_or(text);
    let same = |known: &str| known.eq_ignore_ascii_case(text);
    let url = config.web_url();
    let without_port = format!("https://{}", config.web_host());
    same(&url) || same(&without_port) || same(GRAPH) || same("https://graph.microsoft.com") || same(&format!("api://{tenant}"))
}

/// The scope that asks for everything that was granted: `RESOURCE/.default`; gives the resource.
#[must_use]
pub fn default_of(scope: &str) -> Option<&str> {
    scope.strip_suffix("/.default")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_api_has_several_names() {
        let mut config = Config::default();
        config.web.url = Some("https://mdm.example:8443".into());
        for name in [
            "https://mdm.example:8443",
            "https://mdm.example:8443/",
            "https://MDM.example",
            "api://t",
            GRAPH,
            "https://graph.microsoft.com",
        ] {
            assert!(is_api(&config, "t", name), "{name}");
        }
        for name in ["", "https://mdm.example.evil", "https://mdm.example:8444", "http://mdm.example", "api://u", "https://vault.example"] {
            assert!(!is_api(&config, "t", name), "{name}");
        }
        assert_eq!(default_of("https://mdm.example/.default"), Some("https://mdm.example"));
        assert_eq!(default_of("User.Read"), None);
    }
}
