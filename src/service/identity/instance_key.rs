//! Keys that an instance makes for itself once: peppers and the like, sealed in `meta`.

use crate::app::App;
use crate::secret::{Secret, random};
use crate::service::{Error, Result};
use crate::store::meta;

/// The instance's own 256-bit key called `name` (one of [`crate::store::sealed::META`]), made when it is first asked for.
pub(crate) async fn instance_key(app: &App, name: &'static str) -> Result<Secret> {
    instance_secret(app, name, || Ok(Secret::new(random::<32>()?.to_vec()))).await
}

/// The same for a secret of any form, as `make` makes it.
pub(crate) async fn instance_secret(
    app: &App,
    name: &'static str,
    make: impl FnOnce() -> Result<Secret> + Send + 'static,
) -> Result<Secret> {
    let stored = app.store.read(move |c| meta::find_value(c, name)).await?;
    let stored = match stored {
        Some(stored) => stored,
        None => {
            let made = tokio::task::spawn_blocking(make).await.map_err(Error::internal)??;
            let fresh = hex::encode(app.sealer().seal(name, made.expose())?);
            // Another node may be faster: what is stored first stays.
            app.store.write(move |tx| meta::insert_value_once(tx, name, &fresh)).await?
        }
    };
    let sealed = hex::decode(&stored).map_err(Error::internal)?;
    Ok(app.sealer().open(name, &sealed)?)
}
