//! How a simulated device erases itself, and what it takes along to come back by itself (return to service).

use super::connect::{Reply, UNUSABLE, is_pin};
use super::profiles::{self, Refused};
use super::{After, Device, Error};
use crate::catalogue::OsVersion;
use crate::catalogue::payload::System;
use crate::wire::apple::checkin::{Answer, Message, Return, ReturnToService};
use crate::wire::apple::enroll::MDM;
use crate::wire::plist::{self, Dict};

/// What a Mac may do when it cannot erase itself in the quick way.
const BEHAVIOURS: [&str; 4] = ["Default", "DoNotObliterate", "ObliterateWithWarning", "Always"];
/// What only iPhones and iPads are told.
const OF_PHONES: [&str; 3] = ["PreserveDataPlan", "DisallowProximitySetup", "ReturnToService"];

fn unusable(why: &str) -> Refused {
    Refused::command(UNUSABLE, why)
}

impl Device {
    /// `EraseDevice`: done when the answer has been sent.
    pub(super) fn erase(&mut self, body: &Dict) -> Result<Dict, Reply> {
        let mac = self.machine.system == System::Mac;
        if mac && body.get("PIN").is_some_and(|pin| !is_pin(pin)) {
            return Err(unusable("the PIN has to have six digits").into());
        }
        if body.string("ObliterationBehavior").is_some_and(|word| !mac || !BEHAVIOURS.contains(&word)) {
            return Err(unusable("ObliterationBehavior").into());
        }
        if OF_PHONES.iter().any(|key| mac && body.get(key).is_some()) {
            return Err(unusable("only for iPhones and iPads").into());
        }
        if let Some(back) = body.dict("ReturnToService") {
            if self.machine.version() < (OsVersion { major: 17, minor: 0, build: 0, revision: 0 }) {
                return Err(unusable("ReturnToService is not known").into());
            }
            let back: Return = plist::from_dict(back).map_err(|_| Reply::Unreadable)?;
            self.takes_along(&back)?;
            self.returns = Some(back);
        }
        self.settings.pin = body.string("PIN").map(str::to_owned);
        self.after = After::Erase;
        Ok(Dict::new())
    }

    /// Whether it can come back with that.
    fn takes_along(&self, back: &Return) -> Result<(), Refused> {
        let open = |document: &[u8], kind: &str| {
            let opened = profiles::open(document, &self.trusted())?;
            profiles::check(&opened.profile, &self.machine, false)?;
            let has = opened.profile.payloads().iter().any(|payload| payload.kind == kind);
            if has { Ok(()) } else { Err(unusable(&format!("no {kind} in the profile"))) }
        };
        if let Some(wifi) = &back.wifi_profile {
            open(&wifi.0, "com.apple.wifi.managed")?;
        }
        match &back.mdm_profile {
            Some(profile) => open(&profile.0, MDM),
            // Only Apple Business Manager tells it where to go.
            None if back.enabled && !(self.machine.supervised && self.machine.automated) => Err(unusable("no MDMProfileData")),
            None => Ok(()),
        }
    }

    /// Its user has done, in the mode that the profile of Setup Assistant sets: it asks whether and how to come back, and erases itself when
    /// it is to. Whether it is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn return_to_service(&mut self) -> Result<bool, Error> {
        let Some(Answer::ReturnToService(back)) = self.check_in(Message::ReturnToService(ReturnToService {})).await? else {
            return Ok(false);
        };
        if !back.enabled {
            return Ok(false);
        }
        self.takes_along(&back)?;
        self.returns = Some(back);
        self.forget();
        Ok(true)
    }
}
