//! `/deviceManagement/deviceEnrollmentConfigurations`: what of the configuration says who may enrol. The configuration file says it, so it
//! is read here and changed there.

use serde_json::{Map, Value, json};

use super::apple_push::{READ, WRITE, check_writer};
use crate::config::Restriction;
use crate::domain::Refusal;
use crate::http::graph::answer::{Answer, object};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list;
use crate::http::graph::request::Version;
use crate::http::graph::route::{Call, routes};
use crate::wire::odata::edm;

const SET: &str = "deviceManagement/deviceEnrollmentConfigurations";

routes! {
    Get "deviceManagement/deviceEnrollmentConfigurations", READ => list_all;
    Get "deviceManagement/deviceEnrollmentConfigurations/{id}", READ => show;
    Patch "deviceManagement/deviceEnrollmentConfigurations/{id}", WRITE => change;
    Get "deviceManagement/deviceEnrollmentConfigurations/{id}/assignments", READ => assignments;
}

fn platform(rules: &Restriction) -> Value {
    json!({
        "platformBlocked": !rules.allowed,
        "personalDeviceEnrollmentBlocked": !rules.personal,
        "osMinimumVersion": Some(&rules.minimum_os_version).filter(|version| !version.is_empty()),
        "osMaximumVersion": Some(&rules.maximum_os_version).filter(|version| !version.is_empty()),
    })
}

/// No device of the platform enrols here.
fn none() -> Value {
    json!({
        "platformBlocked": true,
        "personalDeviceEnrollmentBlocked": true,
        "osMinimumVersion": Value::Null,
        "osMaximumVersion": Value::Null,
    })
}

/// What all have, under an id that ends as Intune's does.
fn common(call: &Call<'_>, ending: &str, kind: &str, name: &str, description: &str) -> Map<String, Value> {
    let mut whole = object! {
        "@odata.type": format!("#microsoft.graph.{kind}"),
        "id": format!("{}_{ending}", call.app.tenant),
        "createdDateTime": edm::NEVER,
        "description": description,
        "displayName": name,
        "lastModifiedDateTime": edm::NEVER,
        "priority": 0,
        "version": 1,
    };
    if call.request.version == Version::Beta {
        whole.insert("roleScopeTagIds".into(), json!(["0"]));
        let word: String = ending.chars().enumerate().map(|(at, c)| if at == 0 { c.to_ascii_lowercase() } else { c }).collect();
        whole.insert("deviceEnrollmentConfigurationType".into(), word.into());
    }
    whole
}

fn all(call: &Call<'_>) -> Vec<Map<String, Value>> {
    let (config, rules) = (&call.app.config, &call.app.config.enrollment);
    let mut limit = common(
        call,
        "DefaultLimit",
        "deviceEnrollmentLimitConfiguration",
        "Devices of a person",
        "How many PCs a person may have (windows.devices_per_user); 0 is any number.",
    );
    limit.insert("limit".into(), config.windows.devices_per_user.into());
    let mut platforms = common(
        call,
        "DefaultPlatformRestrictions",
        "deviceEnrollmentPlatformRestrictionsConfiguration",
        "Platforms",
        "Which devices may enrol (enrollment.windows, enrollment.macos, enrollment.ios).",
    );
    platforms.extend(object! {
        "androidRestriction": none(),
        "iosRestriction": platform(&rules.ios),
        "macOSRestriction": platform(&rules.macos),
        "windowsMobileRestriction": none(),
        "windowsRestriction": platform(&rules.windows),
    });
    let mut hello = common(
        call,
        "DefaultWindowsHelloForBusiness",
        "deviceEnrollmentWindowsHelloForBusinessConfiguration",
        "Windows Hello for Business",
        "Nothing is said to everybody: profiles configure Windows Hello for Business.",
    );
    // Of the PIN nothing is said, so nothing is shown.
    hello.extend(object! { "enhancedBiometricsState": "notConfigured", "state": "notConfigured" });
    vec![limit, platforms, hello]
}

async fn list_all(call: Call<'_>) -> Result<Answer> {
    list::fixed(&call, SET, all(&call))
}

fn named(call: &Call<'_>) -> Result<Map<String, Value>> {
    let id = call.key(0)?;
    let same = |one: &Map<String, Value>| one.get("id").and_then(Value::as_str).is_some_and(|own| own.eq_ignore_ascii_case(id));
    all(call).into_iter().find(same).ok_or_else(GraphProblem::not_found)
}

async fn show(call: Call<'_>) -> Result<Answer> {
    list::fixed_single(&call, SET, named(&call)?)
}

/// A file says them, which nobody writes from here.
async fn change(call: Call<'_>) -> Result<Answer> {
    check_writer(&call)?;
    named(&call)?;
    Err(Refusal::EnrollmentConfigurationFixed.into())
}

/// They hold for everybody.
async fn assignments(call: Call<'_>) -> Result<Answer> {
    let of = named(&call)?;
    let everybody = object! {
        "@odata.type": "#microsoft.graph.enrollmentConfigurationAssignment",
        "id": of.get("id"),
        "target": json!({ "@odata.type": "#microsoft.graph.allLicensedUsersAssignmentTarget" }),
    };
    list::fixed(&call, "deviceManagement/deviceEnrollmentConfigurations/assignments", vec![everybody])
}
