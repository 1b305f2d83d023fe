//! On whose behalf an order is carried out, and what is asked of somebody at another machine: the same as over the Graph-shaped API. Whoever
//! sits at the server's own machine may read its database anyway, and is asked for nothing.

use std::collections::BTreeSet;
use std::convert::Infallible;

use crate::app::App;
use crate::domain::Refusal;
use crate::domain::access::{ADMINISTRATOR, Caller, Need, Reach, Role, Scope};
use crate::domain::user::User;
use crate::ids::{GroupId, UserId};
use crate::service::directory::{self, By};
use crate::service::{Error, Result, application, role};

/// On whose behalf.
#[derive(Clone, Debug)]
pub struct Who {
    /// As the audit log has it.
    pub by: By,
    caller: Option<Caller>,
}

impl Who {
    /// Somebody at the server's own machine.
    #[must_use]
    pub fn local(actor: &str) -> Self {
        Self { by: By::local(actor), caller: None }
    }

    /// Somebody at another one.
    #[must_use]
    pub fn remote(caller: Caller, origin: String) -> Self {
        Self { by: By { actor: caller.actor(), origin }, caller: Some(caller) }
    }

    /// Who gives a role away; `None` at the server's own machine.
    pub(super) fn giver(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// Whether they may do that, everywhere.
    pub(super) fn check(&self, need: Need) -> Result<()> {
        let Some(caller) = &self.caller else { return Ok(()) };
        match caller.check(need) {
            Ok(Reach::All) => Ok(()),
            Ok(Reach::Groups(_)) => Err(Refusal::OrderBound.into()),
            Err(lack) => Err(Error::Invalid(Refusal::OrderBeyondRole, lack.to_string())),
        }
    }

    /// Whether they may make somebody an administrator, or take that away.
    pub(super) fn check_giver_of_administrator(&self) -> Result<()> {
        Role::built_in(ADMINISTRATOR).map_or(Ok(()), |role| role::check_giver(self.giver(), &role))
    }

    /// Whether they may give an application these permissions in its own name, or the means to use them.
    pub(super) fn check_giver_of_permissions(&self, own: &BTreeSet<Scope>) -> Result<()> {
        self.giver().map_or(Ok(()), |caller| application::check_giver(caller, own))
    }

    /// Whether they may give the person a way in.
    pub(super) async fn check_giver_of_pass(&self, app: &App, user: &UserId) -> Result<()> {
        match self.giver() {
            Some(caller) => role::check_giver_of_pass(app, caller, user).await,
            None => Ok(()),
        }
    }

    /// Whether they may change how the person signs in, or who that is.
    pub(super) async fn check_helper(&self, app: &App, user: &UserId) -> Result<()> {
        match self.giver() {
            Some(caller) => role::check_helper(app, caller, user).await,
            None => Ok(()),
        }
    }

    /// Changes who the person is, as whoever may help them.
    pub(super) async fn change_person(&self, app: &App, user: &UserId, edit: impl Fn(&mut User) + Send + 'static) -> Result<()> {
        let change = move |before: &User| {
            let mut after = before.clone();
            edit(&mut after);
            Ok::<_, Infallible>(after)
        };
        let outcome = match self.giver() {
            Some(caller) => role::change_person(app, caller, user, &self.by, change).await?,
            None => directory::change_user(app, user, &self.by, move |_, before| Ok(change(before))).await?,
        };
        outcome.map_err(|never| match never {})
    }

    /// Whether they may say who belongs to the group.
    pub(super) async fn check_group(&self, app: &App, group: &GroupId) -> Result<()> {
        match self.giver() {
            Some(caller) => role::check_group(app, caller, group).await,
            None => Ok(()),
        }
    }
}
