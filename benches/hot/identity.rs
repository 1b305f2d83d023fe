//! Tokens: what an access token costs beside the signature in it, and what it costs to judge one.

use divan::Bencher;
use muster::domain::access::Scope;
use muster::domain::application::{Application, Grants};
use muster::service::application::{self, New};
use muster::service::directory::By;
use muster::service::identity::oauth::access_token::{Proved, verify};
use muster::service::identity::oauth::{client_credentials, keys};

use super::authority::House;

fn application(house: &House) -> Application {
    house.runtime.block_on(async {
        let by = By::local("bench");
        let made = application::create(&house.app, New { display_name: "Bench".into(), ..New::default() }, &by).await.unwrap();
        let grants = Grants { own: [Scope::UserReadAll].into(), ..Grants::default() };
        application::grant(&house.app, &made.id, grants, &by).await.unwrap();
        made
    })
}

/// The limit: the RSA signature of a token, and nothing else.
#[divan::bench]
fn token_signature(bencher: Bencher<'_, '_>) {
    let house = House::new("p-256");
    application(&house);
    let key = house.runtime.block_on(keys::active(&house.app)).unwrap();
    let input = "x".repeat(900);
    bencher.bench_local(|| house.runtime.block_on(key.sign(input.clone())).unwrap());
}

/// A token for an application that has proved itself.
#[divan::bench]
fn token_issue(bencher: Bencher<'_, '_>) {
    let house = House::new("p-256");
    let made = application(&house);
    let scope = format!("{}/.default", house.app.config.web_url());
    bencher.bench_local(|| {
        house.runtime.block_on(client_credentials::grant(&house.app, (&made, Proved::Secret), Some(&scope), None)).unwrap()
    });
}

/// Who calls, by the token.
#[divan::bench]
fn token_judge(bencher: Bencher<'_, '_>) {
    let house = House::new("p-256");
    let made = application(&house);
    let scope = format!("{}/.default", house.app.config.web_url());
    let grant = client_credentials::grant(&house.app, (&made, Proved::Secret), Some(&scope), None);
    let token = house.runtime.block_on(grant).unwrap().text;
    bencher.bench_local(|| house.runtime.block_on(verify(&house.app, &token)).unwrap());
}
