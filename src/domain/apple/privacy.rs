//! What a profile may say of the privacy of a Mac's users: some things nobody but they can allow.

use serde_json::{Map, Value};

/// The payload.
const POLICY: &str = "com.apple.TCC.configuration-profile-policy";
/// What only the user allows.
const OF_USERS: [&str; 2] = ["Camera", "Microphone"];
/// What users who are no administrators may be let allow.
const OF_STANDARD_USERS: [&str; 2] = ["ListenEvent", "ScreenCapture"];

/// Checks a payload, when it is of privacy. Its keys have been checked.
///
/// # Errors
/// What cannot be allowed.
pub fn check(kind: &str, body: &Map<String, Value>) -> Result<(), String> {
    let services = body.get("Services").and_then(Value::as_object).filter(|_| kind == POLICY);
    for (service, rules) in services.into_iter().flatten() {
        let by_standard_users = OF_STANDARD_USERS.contains(&service.as_str());
        if !by_standard_users && !OF_USERS.contains(&service.as_str()) {
            continue;
        }
        for rule in rules.as_array().into_iter().flatten() {
            let authorization = rule.get("Authorization").and_then(Value::as_str);
            let left_to_users = by_standard_users && authorization == Some("AllowStandardUserToSetSystemService");
            let allows = authorization.map_or(rule.get("Allowed") == Some(&Value::Bool(true)), |word| word != "Deny");
            if allows && !left_to_users {
                return Err(format!("Services/{service}: only the user can allow it; a profile can deny it"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_only_users_allow_no_profile_does() {
        let standard = json!({ "Authorization": "AllowStandardUserToSetSystemService" });
        for (service, rule, good) in [
            ("Camera", json!({ "Allowed": true }), false),
            ("Camera", json!({ "Allowed": false }), true),
            ("Microphone", standard.clone(), false),
            ("ScreenCapture", standard, true),
            ("ScreenCapture", json!({ "Allowed": true, "Authorization": "Allow" }), false),
            ("ListenEvent", json!({ "Allowed": true, "Authorization": "Deny" }), true),
            ("AddressBook", json!({ "Allowed": true }), true),
        ] {
            let body = json!({ "Services": { service: [rule] } });
            assert_eq!(check(POLICY, body.as_object().unwrap()).is_ok(), good, "{body}");
        }
    }
}
