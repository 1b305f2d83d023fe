//! Configurations that are in force only where a condition holds: with a simulated Mac that decides for itself.

use muster::domain::Refusal;
use muster::domain::desired::State;
use muster::service::Error;
use muster::service::profile::{self, Draft};
use muster::sim::apple::{Device, Machine};
use muster::wire::apple::ddm::Kind;

use crate::apple_enroll::{enrolled, live, on};
use crate::support::windows::{House, by};

const ECHO: &str = "com.apple.configuration.management.test";

/// One configuration for everybody, and one for the second floor.
fn draft(floor: &str, names: &str, predicate: &str) -> Draft {
    let text = format!(
        "display_name = \"floors\"\nkind = \"configuration\"\nplatform = \"macos\"\n\
         [[document.payloads]]\ntype = \"com.apple.management.properties\"\nname = \"properties\"\nfloor = \"{floor}\"\n\
         [[document.payloads]]\ntype = \"{ECHO}\"\nname = \"everywhere\"\nEcho = \"everywhere\"\n\
         [[document.payloads]]\ntype = \"{ECHO}\"\nname = \"upstairs\"\nEcho = \"upstairs\"\n\
         [[document.payloads]]\ntype = \"com.apple.activation.simple\"\nname = \"second-floor\"\n\
         StandardConfigurations = {names}\nPredicate = \"{predicate}\"\n"
    );
    Draft::parse(&text).unwrap()
}

/// What is in force, by what it echoes.
fn in_force(mac: &Device) -> Vec<String> {
    let held = mac.declarations.held.iter().filter(|((kind, _), held)| *kind == Kind::Configuration && held.status.active);
    let mut all: Vec<String> = held.filter_map(|(_, held)| Some(held.declaration.payload.get("Echo")?.as_str()?.to_owned())).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_with_a_condition_is_in_force_only_where_it_holds() {
    const CONDITION: &str = "@property(floor) == 'second'";
    let house = on(House::new().await).await;
    let profile = house.assign(draft("first", "[\"upstairs\"]", CONDITION)).await;
    let mut mac = enrolled(&house, Machine::mac(1)).await;
    mac.settle().await.unwrap();
    let id = live(&house, &mac.machine.udid).await.unwrap().device_id;
    let state = async || house.items(&id).await.into_iter().find(|loaded| loaded.item.profile_id == profile).unwrap().item.state;
    assert_eq!(in_force(&mac), ["everywhere"]);
    let refused: Vec<_> =
        mac.declarations.held.values().filter(|held| held.status.valid != muster::wire::apple::ddm::Valid::Valid).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(state().await, State::Verified, "what is for nobody here is as it was declared");

    for (floor, expected) in [("second", vec!["everywhere", "upstairs"]), ("third", vec!["everywhere"])] {
        profile::apply(&house.server.app, draft(floor, "[\"upstairs\"]", CONDITION), &by()).await.unwrap();
        mac.settle().await.unwrap();
        assert_eq!(in_force(&mac), expected);
        assert_eq!(state().await, State::Verified);
    }

    for (names, predicate, why) in [
        ("[\"downstairs\"]", CONDITION, "the profile has no configuration called downstairs"),
        ("[\"properties\"]", CONDITION, "the profile has no configuration called properties"),
        ("[]", CONDITION, "names none"),
        ("[\"upstairs\"]", "@property(floor) === 'second'", "Predicate"),
        ("[\"upstairs\"]", "floor == 'second'", "Predicate"),
    ] {
        match profile::apply(&house.server.app, draft("first", names, predicate), &by()).await {
            Err(Error::Invalid(Refusal::ProfilePayloadRefused, said)) => assert!(said.contains(why), "{said}"),
            other => panic!("{names} {predicate}: {other:?}"),
        }
    }
}
