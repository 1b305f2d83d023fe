//! Codes and refresh tokens are exchanged for tokens in a person's name (RFC 6749, sections 4.1.3 and 6).
//!
//! A refresh token is made of the grant's name and a number under a key of this instance, so that nothing of it is stored but which number
//! is the newest.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::sha::sha256;
use serde_json::{Value, json};

use super::access_token::{self, Order, Person, Proved};
use super::{Error, Result, asked, id_token};
use crate::app::App;
use crate::clock::Time;
use crate::domain::application::{Application, Client};
use crate::domain::audit::Entry;
use crate::domain::grant::{Asked, Grant, Worth};
use crate::domain::oauth::Failure;
use crate::domain::user::User;
use crate::ids::GrantId;
use crate::secret::{hmac_sha256, same};
use crate::service::identity::{instance_key, session};
use crate::store::sealed::REFRESH_KEY;
use crate::store::{audit, grants, users};
use crate::wire::form::Form;

/// How a refresh token begins. Some clients take one without a point for something else.
const VERSION: &str = "1";

/// A client that asks, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The application.
    pub application: &'a Application,
    /// How it proved itself.
    pub proved: Proved,
    /// The address.
    pub origin: &'a str,
}

/// Exchanges a code.
///
/// # Errors
/// [`Failure::GrantInvalid`], [`Failure::GrantExpired`], [`Failure::CodeUsed`], [`Failure::VerifierWrong`], [`Failure::RedirectMismatch`],
/// [`Failure::SecretMissing`], [`Failure::AccountDisabled`].
pub async fn code(app: &App, asker: Asker<'_>, form: &Form) -> Result<Value> {
    let code = form.get("code").ok_or_else(|| Error::of(Failure::ParameterMissing, "code"))?;
    let hash = session::hash(code);
    let grant = app.store.look_up(move |conn| grants::find_by_code(conn, &hash)).await?.ok_or(Failure::GrantInvalid)?;
    check_owner(&grant, asker)?;
    // RFC 6749, section 4.1.3: sent where it was asked to be sent. A code of another device went nowhere and is not for here.
    let uri = grant.redirect_uri.as_deref().ok_or(Failure::GrantInvalid)?;
    if form.get("redirect_uri") != Some(uri) {
        return Err(Failure::RedirectMismatch.into());
    }
    // RFC 7636, section 4.6; and RFC 9700, section 2.1.1: no verifier where none was announced.
    match (&grant.challenge, form.get("code_verifier")) {
        (None, None) => {}
        (Some(challenge), Some(verifier)) if fits(challenge, verifier) => {}
        _ => return Err(Failure::VerifierWrong.into()),
    }
    exchange(app, asker, grant, form).await
}

/// Exchanges the code of a grant once, by whatever way it came.
pub(super) async fn exchange(app: &App, asker: Asker<'_>, grant: Grant, form: &Form) -> Result<Value> {
    let now = app.now();
    if grant.generation == 0 && now >= grant.code_ends_at {
        return Err(Failure::GrantExpired.into());
    }
    // What may be refused is refused before the code is used up.
    let ready = Ready::new(app, asker, &grant, None, form).await?;
    let claimed = grant.clone();
    let first = grant.generation == 0 && app.store.write(move |tx| grants::claim_next(tx, &claimed, now)).await?;
    if !first {
        // RFC 9700, section 4.2.4: somebody else may have been first, and what he got ends.
        take_back(app, &grant, "code", asker.origin).await?;
        return Err(Failure::CodeUsed.into());
    }
    answer(app, asker, &Grant { generation: 1, rotated_at: now, ..grant }, ready, form).await
}

/// RFC 7636, section 4.1 and 4.6.
fn fits(challenge: &str, verifier: &str) -> bool {
    let formed = (43..=128).contains(&verifier.len()) && verifier.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    formed && same(URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes())).as_bytes(), challenge.as_bytes())
}

/// The application is the one that it was given to, and proved itself where it can.
fn check_owner(grant: &Grant, asker: Asker<'_>) -> Result<()> {
    if grant.application != asker.application.id {
        return Err(Failure::GrantInvalid.into());
    }
    if grant.client == Client::Web && asker.proved == Proved::Not && !asker.application.public {
        return Err(Failure::SecretMissing.into());
    }
    Ok(())
}

/// Exchanges a refresh token for the next one and an access token.
///
/// # Errors
/// [`Failure::GrantInvalid`], also for one that was exchanged long ago, which takes the grant back; [`Failure::GrantExpired`],
/// [`Failure::AccountDisabled`].
pub async fn refresh(app: &App, asker: Asker<'_>, form: &Form) -> Result<Value> {
    let shown = form.get("refresh_token").ok_or_else(|| Error::of(Failure::ParameterMissing, "refresh_token"))?;
    let (id, number) = read(app, shown).await?;
    let wanted = match (form.get("scope"), form.get("resource")) {
        (None, None) => None,
        (scope, resource) => Some(asked::read(app, scope, resource)?),
    };
    let mut grant = load(app, &id).await?;
    check_owner(&grant, asker)?;
    let now = app.now();
    if now >= grant.ends_at {
        return Err(Failure::GrantExpired.into());
    }
    // What may be refused is refused before the token is used up: the client goes on with it.
    let ready = match grant.worth(number, now) {
        Worth::Stale => None,
        Worth::Newest | Worth::Again => Some(Ready::new(app, asker, &grant, wanted, form).await?),
    };
    // Two who show the newest at once get the same next one.
    if grant.worth(number, now) == Worth::Newest {
        let claimed = grant.clone();
        if app.store.write(move |tx| grants::claim_next(tx, &claimed, now)).await? {
            grant = Grant { generation: number + 1, rotated_at: now, ..grant };
        } else {
            grant = load(app, &id).await?;
        }
    }
    let good = grant.generation == number + 1 && grant.worth(number, now) != Worth::Stale;
    let Some(ready) = ready.filter(|_| good) else {
        take_back(app, &grant, "refresh-token", asker.origin).await?;
        return Err(Failure::GrantInvalid.into());
    };
    answer(app, asker, &grant, ready, form).await
}

async fn load(app: &App, id: &GrantId) -> Result<Grant> {
    let id = id.clone();
    let found = app.store.look_up(move |conn| grants::find_grant(conn, &id)).await?;
    Ok(found.ok_or(Failure::GrantInvalid)?)
}

/// Ends what a refresh or access token is of (RFC 7009): it and all tokens that came of it open nothing from now on. A token that is none, or
/// is another application's, ends nothing and is no error (section 2.2).
///
/// # Errors
/// [`Failure::ParameterMissing`]; [`Failure::TokenNotEnded`] for a token that an application got in its own name.
pub async fn revoke(app: &App, asker: Asker<'_>, form: &Form) -> Result<()> {
    let shown = form.get("token").ok_or_else(|| Error::of(Failure::ParameterMissing, "token"))?;
    let id = match read(app, shown).await {
        Ok((id, _)) => id,
        Err(_) => match access_token::find_grant(app, shown).await? {
            Some(Some(id)) => id,
            Some(None) => return Err(Failure::TokenNotEnded.into()),
            None => return Ok(()),
        },
    };
    let wanted = id.clone();
    let Some(grant) = app.store.look_up(move |conn| grants::find_grant(conn, &wanted)).await? else { return Ok(()) };
    if check_owner(&grant, asker).is_err() {
        return Ok(());
    }
    let actor = format!("user:{}", grant.user);
    let state = json!({ "grant": grant.id, "application": asker.application.client_id });
    end(app, id, Entry::new(&actor, "grant.revoke", &actor, asker.origin).before(&state)).await
}

/// What was exchanged before is in two hands: the grant ends for both.
async fn take_back(app: &App, grant: &Grant, what: &str, origin: &str) -> Result<()> {
    let subject = format!("user:{}", grant.user);
    let state = json!({ "grant": grant.id, "application": grant.application, "shownAgain": what });
    end(app, grant.id.clone(), Entry::new("anonymous", "grant.stolen", subject, origin).before(&state)).await
}

/// Ends a grant, if it is still there: all tokens of it open nothing from now on.
async fn end(app: &App, id: GrantId, entry: Entry) -> Result<()> {
    let now = app.now();
    app.store
        .write(move |tx| {
            if grants::delete_grant(tx, &id)? {
                audit::append(tx, &entry, now)?;
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// What the tokens of a grant will say, after everything was checked that may be refused.
struct Ready {
    user: User,
    asked: Asked,
    allowed: Vec<&'static str>,
    capabilities: Vec<String>,
}

impl Ready {
    async fn new(app: &App, asker: Asker<'_>, grant: &Grant, wanted: Option<Asked>, form: &Form) -> Result<Self> {
        let id = grant.user.clone();
        let user = app.store.look_up(move |conn| users::load_user(conn, &id)).await?;
        if !user.enabled {
            return Err(Failure::AccountDisabled.into());
        }
        // An administrator's consent holds for the application, so a later request may name other permissions of it; identity was given
        // once.
        let asked = match wanted {
            None => grant.asked.clone(),
            Some(wanted) => Asked {
                openid: wanted.openid && grant.asked.openid,
                profile: wanted.profile && grant.asked.profile,
                email: wanted.email && grant.asked.email,
                offline: grant.asked.offline,
                ..wanted
            },
        };
        let consented = asked::consented(app, &asker.application.id).await?;
        let missing = asked.missing(&consented);
        if !missing.is_empty() {
            let words: Vec<_> = missing.iter().map(|scope| scope.as_str()).collect();
            return Err(Error::of(Failure::ConsentMissing, words.join(", ")));
        }
        let allowed = asked.allowed(&consented);
        Ok(Self { user, asked, allowed, capabilities: access_token::capabilities(form.get("claims"))? })
    }
}

/// The tokens of a grant (RFC 6749, section 5.1; OpenID Connect Core, section 3.1.3.3).
async fn answer(app: &App, asker: Asker<'_>, grant: &Grant, ready: Ready, form: &Form) -> Result<Value> {
    let Ready { user, asked, allowed, capabilities } = ready;
    let person = Person {
        id: user.id.clone(),
        upn: user.upn.clone(),
        display_name: user.display_name.clone(),
        amr: grant.method.amr().iter().map(|&word| word.to_owned()).collect(),
        signed_in_at: grant.signed_in_at,
        grant: grant.id.clone(),
        ends_at: grant.method_ends_at,
    };
    let order = Order {
        application: asker.application,
        proved: asker.proved,
        person: Some(&person),
        scopes: &allowed,
        capabilities: &capabilities,
    };
    let mut answer = access_token::answer(&access_token::issue(app, &order).await?);
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("scope".into(), allowed.join(" ").into());
        if asked.offline {
            fields.insert("refresh_token".into(), write(app, &grant.id, grant.generation).await?.into());
            fields.insert("refresh_token_expires_in".into(), remaining(grant, app.now()).into());
        }
        if asked.openid {
            let granted = Grant { asked, ..grant.clone() };
            fields.insert("id_token".into(), id_token::issue(app, asker.application, &granted, &user).await?.into());
        }
        if form.get("client_info") == Some("1") {
            fields.insert("client_info".into(), id_token::client_info(app, &user).into());
        }
    }
    Ok(answer)
}

fn remaining(grant: &Grant, now: Time) -> i64 {
    grant.end_after(now).since(now) / crate::clock::SECOND
}

/// The refresh token of that number.
async fn write(app: &App, grant: &GrantId, number: i64) -> Result<String> {
    let key = instance_key(app, REFRESH_KEY).await?;
    let body = format!("{VERSION}.{grant}.{number}");
    let mac = hmac_sha256(key.expose(), body.as_bytes())?;
    Ok(format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac)))
}

async fn read(app: &App, text: &str) -> Result<(GrantId, i64)> {
    let wrong = || Error::from(Failure::GrantInvalid);
    let (body, mac) = text.rsplit_once('.').ok_or_else(wrong)?;
    let shown = URL_SAFE_NO_PAD.decode(mac).map_err(|_| wrong())?;
    let key = instance_key(app, REFRESH_KEY).await?;
    if !same(&hmac_sha256(key.expose(), body.as_bytes())?, &shown) {
        return Err(wrong());
    }
    let mut parts = body.split('.');
    let (Some(VERSION), Some(id), Some(number), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    Ok((GrantId::parse(id).ok_or_else(wrong)?, number.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn the_example_of_rfc_7636_fits() {
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert!(fits(challenge, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert!(!fits(challenge, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXK"));
        assert!(!fits(challenge, challenge), "a plain challenge");
        assert!(!fits("47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", ""), "of nothing");
    }
}
