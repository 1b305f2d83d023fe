//! Issued certificates as the API lists them.

use crate::app::App;
use crate::clock::Time;
use crate::domain::access::Reach;
use crate::ids::AuthorityId;
use crate::service::page::{self, Found};
use crate::store;
use crate::store::certificates::leaf::{AUTHORITY, LEAVES, STORED_STATUS, list_leaves};
use crate::store::odata::Within;
use crate::wire::odata::Wrong;
use crate::wire::odata::filter::{Comparison, Expr, Literal};
use crate::wire::odata::query::Query;

pub use crate::store::certificates::leaf::Leaf;

/// The state of a certificate for the API: stored, but for the end.
const STATUS: &str = "certificateStatus";
const END: &str = "validityEndDateTime";

/// A page of certificates, of one authority or of all.
///
/// # Errors
/// [`page::Error::Wrong`] when the query asks for what they have not.
pub async fn page_leaves(
    app: &App,
    query: &Query,
    authority: Option<&AuthorityId>,
    reach: &Reach,
    limit: u32,
) -> Result<Found<Leaf>, page::Error> {
    let meant = query.filter.clone().map(|filter| at_moment(filter, app.now())).transpose().map_err(page::Error::Wrong)?;
    let mut within = page::within(reach);
    within.extend(authority.map(|id| Within::Equal(AUTHORITY, id.to_string())));
    let load = |conn: &mut store::Conn, ids: &[String]| {
        Ok(list_leaves(conn, ids)?.into_iter().map(|leaf| (leaf.certificate.id.to_string(), leaf)).collect())
    };
    page::find_meant(app, &LEAVES, (query, meant), within, limit, load).await
}

/// The filter with the states that depend on the moment spelt out.
fn at_moment(filter: Expr, now: Time) -> Result<Expr, Wrong> {
    let both = |a: Expr, b: Expr| Expr::And(Box::new(a), Box::new(b));
    let stored = |word: &str| Expr::Compare(STORED_STATUS.into(), Comparison::Equal, Literal::Text(word.into()));
    let state = |word: &str| match word.to_ascii_lowercase().as_str() {
        "active" => Ok(both(stored("active"), Expr::Compare(END.into(), Comparison::Greater, Literal::Time(now.0)))),
        "expired" => Ok(both(stored("active"), Expr::Compare(END.into(), Comparison::LessOrEqual, Literal::Time(now.0)))),
        "revoked" => Ok(stored("revoked")),
        _ => Err(Wrong::new("'certificateStatus' is compared with one of active, revoked, expired.")),
    };
    let is = |literal: &Literal| match literal {
        Literal::Text(word) => state(word),
        _ => state(""),
    };
    Ok(match filter {
        Expr::And(a, b) => both(at_moment(*a, now)?, at_moment(*b, now)?),
        Expr::Or(a, b) => Expr::Or(Box::new(at_moment(*a, now)?), Box::new(at_moment(*b, now)?)),
        Expr::Not(inner) => Expr::Not(Box::new(at_moment(*inner, now)?)),
        Expr::Compare(name, comparison, literal) if name.eq_ignore_ascii_case(STATUS) => match comparison {
            Comparison::Equal => is(&literal)?,
            Comparison::NotEqual => Expr::Not(Box::new(is(&literal)?)),
            _ => return Err(Wrong::new("'certificateStatus' is compared with a word, by eq or ne.")),
        },
        Expr::In(name, values) if name.eq_ignore_ascii_case(STATUS) => {
            let mut any = values.iter().map(is).collect::<Result<Vec<_>, _>>()?.into_iter();
            let first = any.next().ok_or_else(|| Wrong::new("in is followed by values."))?;
            any.fold(first, |all, one| Expr::Or(Box::new(all), Box::new(one)))
        }
        // Ours alone: callers do not know of it.
        Expr::Compare(name, ..) | Expr::In(name, _) | Expr::Match(_, name, _) if name.eq_ignore_ascii_case(STORED_STATUS) => {
            return Err(Wrong::new(format!("The property '{STORED_STATUS}' cannot be filtered by.")));
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_spelt_out() {
        let meant = |text: &str| at_moment(Expr::parse(text).unwrap(), Time(7)).map_err(|wrong| wrong.0);
        assert_eq!(meant("certificateStatus eq 'Active'"), meant("certificateStatus in ('active')"));
        let both = meant("not (certificateStatus ne 'expired' or serialNumber eq 'a')").unwrap();
        assert!(format!("{both:?}").contains("Time(7)"));
        for wrong in
            ["certificateStatus eq 'unknown'", "certificateStatus gt 'active'", "storedStatus eq 'held'", "certificateStatus eq null"]
        {
            assert!(meant(wrong).is_err(), "{wrong}");
        }
    }
}
