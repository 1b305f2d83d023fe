//! What is said of the person who signed in (OpenID Connect Core, section 5.3).

use serde_json::{Value, json};

use super::access_token::{self, Denied, Verdict};
use super::id_token::names;
use crate::app::App;
use crate::service::Result;
use crate::store::users;
use crate::wire::jwt::Compact;

/// The claims that the access token's scopes allow; `Err` when it is none of a person with the scope `openid`.
///
/// # Errors
/// When the database fails.
pub async fn show(app: &App, token: &str) -> Result<std::result::Result<Value, Denied>> {
    let caller = match access_token::verify(app, token).await? {
        Verdict::Good(caller) => caller,
        Verdict::Denied(denied, _) => return Ok(Err(denied)),
    };
    // It was judged above; here it is only read again, for words that are no permissions of the API.
    let words = Compact::parse(token).ok().and_then(|token| token.text("scp").map(str::to_owned)).unwrap_or_default();
    let has = |word: &str| words.split(' ').any(|known| known == word);
    let Some(id) = caller.person().filter(|_| has("openid")).cloned() else { return Ok(Err(Denied::Invalid)) };
    let user = app.store.look_up(move |conn| users::load_user(conn, &id)).await?;
    let mut claims = names(&user, has("profile"), has("email"));
    claims.insert("sub".into(), json!(user.id));
    Ok(Ok(Value::Object(claims)))
}
