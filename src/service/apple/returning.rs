//! Return to service: an iPhone or iPad that is erased comes back by itself, with the Wi-Fi and the enrolment profile that it takes along.

use serde_json::json;

use super::enroll;
use super::ground::Ground;
use super::turn::Turn;
use crate::app::App;
use crate::domain::apple::content::{self, Built, identity};
use crate::domain::apple::escrow::Kind;
use crate::domain::apple::profile::About;
use crate::domain::profile::Payload;
use crate::ids::EnrollmentId;
use crate::service::effect::Effect;
use crate::service::repeats::Act;
use crate::service::{Error, Result};
use crate::store::apple::ade;
use crate::store::profiles;
use crate::wire::apple::checkin::Return;
use crate::wire::plist::Data;

/// What a profile for the Wi-Fi may have: nothing that needs a certificate of its own, which only an enrolled device gets.
const PLAIN: [&str; 2] = ["com.apple.wifi.managed", "trusted-certificate"];
/// How the enrolment that follows was known.
const METHOD: &str = "return-to-service";

/// What a device is answered that is in the mode of Setup Assistant's profile and asks how to come back; `false`: it is not to.
///
/// # Errors
/// [`Error::Unavailable`] without authority; the database's own.
pub(super) async fn asked(app: &App, enrollment: &EnrollmentId, origin: &str) -> Result<Return> {
    super::turn::retried(async || {
        let Some(mut turn) = Turn::read(app, enrollment, crate::store::apple::channels::DEVICE, origin).await? else {
            return Ok(Return::default());
        };
        let settings = &app.config.apple.automated;
        let wifi = Some(settings.return_to_service_wifi.clone()).filter(|name| !name.is_empty());
        let ordered =
            turn.known.orders.iter().any(|order| order.operation.keys().is_some_and(|keys| keys.contains_key(super::commands::RETURN)));
        if !settings.profile.return_to_service && !ordered {
            return Ok(Return::default());
        }
        let mut back = match turn.comes_back(wifi.as_deref()).await? {
            Ok(back) => back,
            Err(why) => {
                tracing::warn!(device = %turn.device.id, why, "a device that asks how to return to service is told not to");
                return Ok(Return::default());
            }
        };
        back.bootstrap_token = turn.open_secret(Kind::Bootstrap).await?.map(|token| Data(token.expose().to_vec()));
        // A device may ask as often as it likes.
        let (act, now) = (Act::new(enrollment, "enrollment.return", &[]), app.now());
        let news = app.repeats.is_news(&act, now);
        if news {
            if back.bootstrap_token.is_some() {
                turn.note_reading(Kind::Bootstrap, "ReturnToService");
            }
            let object = format!("enrollment:{}", turn.known.enrollment.id);
            let after = json!({ "wifi": wifi, "profile": back.mdm_profile.is_some(), "bootstrap_token": back.bootstrap_token.is_some() });
            turn.audit("enrollment.return", object, &after);
        }
        turn.commit().await?;
        if news {
            app.repeats.written(act, now);
        }
        Ok(back)
    })
    .await
}

impl Turn<'_> {
    /// How the device comes back: with the Wi-Fi of the profile of that name, and with an enrolment profile of its own where it would not get
    /// one by itself.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without authority; the database's own. Inside: why it cannot come back, for people.
    pub(super) async fn comes_back(&mut self, wifi: Option<&str>) -> Result<std::result::Result<Return, String>> {
        let mut back = Return { enabled: true, ..Return::default() };
        if let Some(name) = wifi {
            match self.wifi_profile(name).await? {
                Ok(document) => back.wifi_profile = Some(Data(document)),
                Err(why) => return Ok(Err(format!("wifi: {why}"))),
            }
        }
        if self.known.user.as_ref().is_some_and(|user| !user.enabled) {
            return Ok(Err("the device's user is disabled: nobody can enrol it".into()));
        }
        // A page on which a person signs in needs a person.
        let serial = self.device.serial_number.clone().unwrap_or_default();
        let listed = self.app.store.read(move |conn| ade::is_listed(conn, &serial)).await?;
        if !listed || self.app.config.apple.automated.require_sign_in {
            let begun = match enroll::returning(self.app, &self.known.enrollment, &self.device, METHOD).await {
                Ok(begun) => begun,
                Err(Error::Refused(refusal)) => return Ok(Err(refusal.to_string())),
                Err(other) => return Err(other),
            };
            self.effects.push(Effect::Challenge(Box::new(begun.challenge)));
            self.effects.push(Effect::Session(Box::new(begun.session)));
            back.mdm_profile = Some(Data(begun.document));
        }
        Ok(Ok(back))
    }

    /// The profile of that name, as a device installs it before it knows anybody.
    async fn wifi_profile(&self, name: &str) -> Result<std::result::Result<Vec<u8>, String>> {
        let (sealer, wanted, platform) = (self.app.sealer(), name.to_owned(), self.device.platform);
        let found = self.app.store.read(move |conn| profiles::find_profile_by_name(conn, &sealer, &wanted)).await?;
        let Some(profile) = found.filter(|profile| profile.platform == platform) else {
            return Ok(Err(format!("there is no profile called {name} for {platform}")));
        };
        let payloads: &[Payload] = &profile.document.payloads;
        let foreign = payloads.iter().find(|payload| !PLAIN.contains(&payload.kind.as_str()));
        if let Some(foreign) = foreign {
            return Ok(Err(format!("{name} has {}; only {} can be taken along", foreign.kind, PLAIN.join(" and "))));
        }
        if !payloads.iter().any(|payload| payload.kind == PLAIN[0]) {
            return Ok(Err(format!("{name} has no {}", PLAIN[0])));
        }
        let Some(ground) = Ground::of(self) else { return Ok(Err("the version of the device is not known yet".into())) };
        if let Err((at, why)) = identity::wanted(payloads, ground.variables()) {
            return Ok(Err(format!("{at}: {why}")));
        }
        let identifier = ground.names().profile(&profile.id);
        let generation = |_: &str| String::new();
        let built: std::result::Result<Built, _> = content::build(payloads, &ground.target(&identifier, &generation, &[]), self.catalogue);
        Ok(match built {
            Ok(built) => {
                let about = About { display_name: profile.display_name.clone(), ..About::default() };
                Ok(ground.names().assemble(&identifier, &about, built.parts).encode())
            }
            Err((at, why)) => Err(format!("{at}: {why}")),
        })
    }
}
