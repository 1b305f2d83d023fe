//! `/policies/authenticationMethodsPolicy`: what the organisation says about the ways to sign in.

use serde_json::{Map, Value, json};

use crate::domain::access::{Action, Need, Scope};
use crate::domain::passkey::{self, Enforcement, KeyRestrictions};
use crate::domain::tap::Rules;
use crate::http::graph::answer::{Answer, base, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::route::{Call, routes};
use crate::service::identity::policy;
use crate::wire::odata::edm;
use crate::wire::odata::quoted;

const READ: Need =
    Need { scopes: &[Scope::PolicyReadAll, Scope::PolicyReadWriteAuthenticationMethod], action: Some(Action::MethodPoliciesRead) };
const WRITE: Need = Need { scopes: &[Scope::PolicyReadWriteAuthenticationMethod], action: Some(Action::MethodPoliciesUpdate) };

const POLICY: &str = "authenticationMethodsPolicy";
const CONFIGURATIONS: &str = "authenticationMethodsPolicy/authenticationMethodConfigurations";

/// Whose word counts when makers must prove models. Graph has no property for it: there Microsoft's word counts.
const AUTHORITIES: &str = "@muster.attestationAuthorities";

routes! {
    Get "policies/authenticationMethodsPolicy", READ => show_all;
    Get "policies/authenticationMethodsPolicy/authenticationMethodConfigurations", READ => list_configurations;
    Get "policies/authenticationMethodsPolicy/authenticationMethodConfigurations/{id}", READ => show;
    Patch "policies/authenticationMethodsPolicy/authenticationMethodConfigurations/{id}", WRITE => change;
}

/// The ways that have a configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Passkey,
    Pass,
}

impl Way {
    const ALL: [Self; 2] = [Self::Passkey, Self::Pass];

    /// The id of its configuration.
    fn id(self) -> &'static str {
        match self {
            Self::Passkey => "Fido2",
            Self::Pass => "TemporaryAccessPass",
        }
    }

    fn type_name(self) -> &'static str {
        match self {
            Self::Passkey => "#microsoft.graph.fido2AuthenticationMethodConfiguration",
            Self::Pass => "#microsoft.graph.temporaryAccessPassAuthenticationMethodConfiguration",
        }
    }

    fn named(call: &Call<'_>) -> Result<Self> {
        let id = call.key(0)?;
        Self::ALL.into_iter().find(|way| way.id().eq_ignore_ascii_case(id)).ok_or_else(GraphProblem::not_found)
    }

    async fn load(self, call: &Call<'_>) -> Result<Map<String, Value>> {
        let shown = match self {
            Self::Passkey => passkey_json(&policy::load_passkey(call.app).await?),
            Self::Pass => pass_json(policy::load_tap(call.app).await?),
        };
        let mut whole = object! { "@odata.type": self.type_name(), "id": self.id(), "excludeTargets": Value::Array(Vec::new()) };
        whole.extend(shown);
        Ok(whole)
    }
}

fn state(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

/// Everybody: no rule is for some people only.
fn targets() -> Value {
    json!([{ "targetType": "group", "id": "all_users", "isRegistrationRequired": false }])
}

fn pass_json(rules: Rules) -> Map<String, Value> {
    object! {
        "state": state(rules.enabled),
        "defaultLength": rules.default_length,
        "defaultLifetimeInMinutes": rules.default_lifetime_in_minutes,
        "isUsableOnce": rules.is_usable_once,
        "maximumLifetimeInMinutes": rules.maximum_lifetime_in_minutes,
        "minimumLifetimeInMinutes": rules.minimum_lifetime_in_minutes,
        "includeTargets": targets(),
    }
}

fn passkey_json(policy: &passkey::Policy) -> Map<String, Value> {
    let restrictions = &policy.key_restrictions;
    let mut whole = object! {
        "state": state(policy.enabled),
        "isAttestationEnforced": policy.is_attestation_enforced,
        "isSelfServiceRegistrationAllowed": policy.is_self_service_registration_allowed,
        "keyRestrictions": json!({
            "isEnforced": restrictions.is_enforced,
            "enforcementType": restrictions.enforcement_type.as_str(),
            "aaGuids": restrictions.aa_guids,
        }),
        "includeTargets": targets(),
    };
    if !policy.attestation_authorities.is_empty() {
        whole.insert(AUTHORITIES.into(), json!(policy.attestation_authorities));
    }
    whole
}

async fn configurations(call: &Call<'_>) -> Result<Vec<Map<String, Value>>> {
    let mut all = Vec::new();
    for way in Way::ALL {
        all.push(way.load(call).await?);
    }
    Ok(all)
}

async fn show_all(call: Call<'_>) -> Result<Answer> {
    let root = base(&call.app.config, call.request.version);
    let whole = object! {
        "@odata.context": format!("{root}/$metadata#{POLICY}/$entity"),
        "id": POLICY,
        "description": "The ways in which people sign in, and what holds for each.",
        "displayName": "Authentication Methods Policy",
        "lastModifiedDateTime": policy::last_modified(call.app).await?.map(|at| edm::time(at.0)),
        "policyMigrationState": "migrationComplete",
        "policyVersion": "1.5",
        "reconfirmationInDays": Value::Null,
        "authenticationMethodConfigurations@odata.context": format!("{root}/$metadata#{CONFIGURATIONS}"),
        "authenticationMethodConfigurations": configurations(&call).await?,
    };
    Ok(Answer::ok(Value::Object(whole)))
}

async fn list_configurations(call: Call<'_>) -> Result<Answer> {
    list::fixed(&call, CONFIGURATIONS, configurations(&call).await?)
}

async fn show(call: Call<'_>) -> Result<Answer> {
    let shown = Way::named(&call)?.load(&call).await?;
    list::fixed_single(&call, CONFIGURATIONS, shown)
}

async fn change(call: Call<'_>) -> Result<Answer> {
    let way = Way::named(&call)?;
    if !call.reach.is_all() {
        return Err(GraphProblem::forbidden("Whoever is bound to groups does not say what holds for everybody."));
    }
    let body: Map<String, Value> = call.request.json()?;
    let given = Given::read(way, &body)?;
    match way {
        Way::Passkey => policy::change_passkey(call.app, move |policy| given.over_passkey(policy), &call.by()).await?,
        Way::Pass => policy::change_tap(call.app, move |rules| given.over_pass(rules), &call.by()).await?,
    }
    Ok(Answer::done())
}

/// What a body says; what it does not say stays as it is.
#[derive(Default)]
struct Given {
    enabled: Option<bool>,
    default_length: Option<usize>,
    default_lifetime: Option<i64>,
    minimum_lifetime: Option<i64>,
    maximum_lifetime: Option<i64>,
    usable_once: Option<bool>,
    attestation: Option<bool>,
    self_service: Option<bool>,
    authorities: Option<Vec<String>>,
    restricted: Option<bool>,
    enforcement: Option<Enforcement>,
    aa_guids: Option<Vec<String>>,
}

fn invalid(name: &str, expected: &str) -> GraphProblem {
    GraphProblem::invalid(format!("The value of '{name}' is not {expected}."))
}

fn unknown(name: &str) -> GraphProblem {
    GraphProblem::bad(format!("The property '{}' does not exist, or cannot be written.", quoted(name)))
}

fn truth(name: &str, value: &Value) -> Result<Option<bool>> {
    value.as_bool().map(Some).ok_or_else(|| invalid(name, "true or false"))
}

fn number(name: &str, value: &Value) -> Result<Option<i64>> {
    value.as_i64().map(Some).ok_or_else(|| invalid(name, "a number"))
}

fn texts(name: &str, value: &Value) -> Result<Option<Vec<String>>> {
    let all = value.as_array().ok_or_else(|| invalid(name, "a list of texts"))?;
    all.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(|| invalid(name, "a list of texts"))).collect::<Result<_>>().map(Some)
}

impl Given {
    fn read(way: Way, body: &Map<String, Value>) -> Result<Self> {
        let mut given = Self::default();
        for (name, value) in body {
            match (way, name.as_str()) {
                (_, "state") => {
                    given.enabled = Some(match value.as_str() {
                        Some("enabled") => true,
                        Some("disabled") => false,
                        _ => return Err(invalid(name, "enabled or disabled")),
                    });
                }
                (_, "id") if value.as_str().is_some_and(|id| id.eq_ignore_ascii_case(way.id())) => {}
                (_, "@odata.type") if value.as_str().is_some_and(|name| name == way.type_name()) => {}
                (_, "id" | "@odata.type") => return Err(invalid(name, "that of this configuration")),
                (_, "includeTargets") => check_everybody(value)?,
                (_, "excludeTargets") if value.as_array().is_some_and(Vec::is_empty) => {}
                (_, "excludeTargets") => return Err(invalid(name, "empty: what is said here holds for everybody")),
                (Way::Pass, "defaultLength") => {
                    given.default_length = number(name, value)?.map(|length| usize::try_from(length).unwrap_or_default());
                }
                (Way::Pass, "defaultLifetimeInMinutes") => given.default_lifetime = number(name, value)?,
                (Way::Pass, "minimumLifetimeInMinutes") => given.minimum_lifetime = number(name, value)?,
                (Way::Pass, "maximumLifetimeInMinutes") => given.maximum_lifetime = number(name, value)?,
                (Way::Pass, "isUsableOnce") => given.usable_once = truth(name, value)?,
                (Way::Passkey, "isAttestationEnforced") => given.attestation = truth(name, value)?,
                (Way::Passkey, "isSelfServiceRegistrationAllowed") => given.self_service = truth(name, value)?,
                (Way::Passkey, "keyRestrictions") => given.restrict(value)?,
                (Way::Passkey, AUTHORITIES) => given.authorities = texts(name, value)?,
                (_, name) if name.contains("@odata.") => {}
                (_, name) => return Err(unknown(name)),
            }
        }
        Ok(given)
    }

    fn restrict(&mut self, value: &Value) -> Result<()> {
        let members = value.as_object().ok_or_else(|| invalid("keyRestrictions", "an object"))?;
        for (name, value) in members {
            match name.as_str() {
                "isEnforced" => self.restricted = truth(name, value)?,
                "enforcementType" => {
                    let word = value.as_str().and_then(Enforcement::parse);
                    self.enforcement = Some(word.ok_or_else(|| invalid(name, "allow or block"))?);
                }
                "aaGuids" => self.aa_guids = texts(name, value)?,
                name if name.contains("@odata.") => {}
                name => return Err(unknown(name)),
            }
        }
        Ok(())
    }

    fn over_pass(&self, rules: Rules) -> Rules {
        Rules {
            enabled: self.enabled.unwrap_or(rules.enabled),
            default_lifetime_in_minutes: self.default_lifetime.unwrap_or(rules.default_lifetime_in_minutes),
            minimum_lifetime_in_minutes: self.minimum_lifetime.unwrap_or(rules.minimum_lifetime_in_minutes),
            maximum_lifetime_in_minutes: self.maximum_lifetime.unwrap_or(rules.maximum_lifetime_in_minutes),
            default_length: self.default_length.unwrap_or(rules.default_length),
            is_usable_once: self.usable_once.unwrap_or(rules.is_usable_once),
        }
    }

    fn over_passkey(&self, policy: passkey::Policy) -> passkey::Policy {
        let before = policy.key_restrictions;
        passkey::Policy {
            enabled: self.enabled.unwrap_or(policy.enabled),
            is_self_service_registration_allowed: self.self_service.unwrap_or(policy.is_self_service_registration_allowed),
            is_attestation_enforced: self.attestation.unwrap_or(policy.is_attestation_enforced),
            attestation_authorities: self.authorities.clone().unwrap_or(policy.attestation_authorities),
            key_restrictions: KeyRestrictions {
                is_enforced: self.restricted.unwrap_or(before.is_enforced),
                enforcement_type: self.enforcement.unwrap_or(before.enforcement_type),
                aa_guids: self.aa_guids.clone().unwrap_or(before.aa_guids),
            },
        }
    }
}

/// Holds the people whom a body names against all of them, which is all that there is.
fn check_everybody(value: &Value) -> Result<()> {
    let all =
        |one: &Value| one["id"].as_str().is_some_and(|id| id.eq_ignore_ascii_case("all_users")) && one["isRegistrationRequired"] != true;
    match value.as_array().map(Vec::as_slice) {
        Some([one]) if all(one) => Ok(()),
        _ => Err(invalid("includeTargets", "all_users: what is said here holds for everybody")),
    }
}
