//! What payloads and declarations are made of on a channel.

use crate::catalogue::OsVersion;
use crate::catalogue::payload::System;
use crate::domain::apple::content::single_sign_on::IdentityService;
use crate::domain::apple::content::{self, Target};
use crate::domain::apple::profile::Names;
use crate::domain::certificate::Variables;
use crate::domain::pfx::Pfx;
use crate::service::apple::turn::Turn;
use crate::service::apple::{assets, single_sign_on};

/// It, for one turn.
pub(super) struct Ground {
    system: System,
    version: OsVersion,
    user_enrollment: bool,
    names: Names,
    root: Vec<u8>,
    issuing: Vec<u8>,
    escrow: Option<Vec<u8>>,
    scep_url: String,
    asset_url: String,
    authority: String,
    identity_service: IdentityService,
    variables: Variables,
    now: crate::clock::Time,
}

impl Ground {
    /// `None` while the device's version is not known: what depends on it waits.
    pub(super) fn of(turn: &Turn<'_>) -> Option<Self> {
        let system = content::system(turn.device.platform)?;
        let version = OsVersion::parse(turn.device.os_version.as_deref()?)?;
        // Who of those that are signed in to a Mac is who in the directory nobody here knows.
        let person = turn.known.user.as_ref().filter(|_| turn.user().is_none());
        Some(Self {
            system,
            version,
            user_enrollment: turn.known.enrollment.is_user_enrollment(),
            names: turn.names.clone(),
            root: turn.authority.chain.last()?.clone(),
            issuing: turn.authority.certificate.clone(),
            escrow: turn.escrow_certificate().ok(),
            scep_url: format!("{}/scep/{}", turn.app.config.web_url(), turn.authority.name),
            asset_url: assets::url(&turn.app.config, &turn.channel.user_key),
            authority: turn.authority.name.clone(),
            identity_service: single_sign_on::identity_service(turn.app),
            variables: Variables::of(person, Some(&turn.device)),
            now: turn.now,
        })
    }

    pub(super) fn system(&self) -> System {
        self.system
    }

    pub(super) fn version(&self) -> OsVersion {
        self.version
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn identity_service(&self) -> &IdentityService {
        &self.identity_service
    }

    pub(super) fn variables(&self) -> &Variables {
        &self.variables
    }

    /// For a profile of that identifier, with the generations of its payloads.
    pub(super) fn target<'g>(
        &'g self,
        identifier: &'g str,
        generation: &'g (dyn Fn(&str) -> String + Sync),
        imported: &'g [Pfx],
    ) -> Target<'g> {
        Target {
            system: self.system,
            version: self.version,
            user_enrollment: self.user_enrollment,
            names: &self.names,
            identifier,
            generation,
            root: &self.root,
            issuing: &self.issuing,
            escrow: self.escrow.as_deref(),
            scep_url: &self.scep_url,
            asset_url: &self.asset_url,
            authority: &self.authority,
            identity_service: &self.identity_service,
            variables: &self.variables,
            imported,
            now: self.now,
        }
    }
}
