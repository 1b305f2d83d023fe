//! What policies and configurations have in common: they are profiles, and are listed, shown, deleted and assigned alike.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::assignment;
use crate::domain::assignment::Assignment;
use crate::http::graph::answer::{Answer, base, entity};
use crate::http::graph::error::{GraphProblem, Result};
use crate::http::graph::list::{self, MANAGEMENT};
use crate::http::graph::route::Call;
use crate::ids::ProfileId;
use crate::service::page::Found;
use crate::service::profile;
use crate::service::profile_sets::{self, Dated, Which};
use crate::wire::odata::query::Query;

/// What may be expanded: its name, what of it may be expanded, and how it is shown.
pub(super) type Expanded = (&'static str, &'static [&'static str], fn(&Dated) -> Value);

/// A set of profiles below one address.
pub(super) struct ProfileSet {
    /// Which profiles.
    pub(super) which: Which,
    /// The address below the root.
    pub(super) path: &'static str,
    /// The type of its assignments.
    pub(super) assignment: &'static str,
    /// A profile as JSON, whole.
    pub(super) json: fn(&Call<'_>, &Dated) -> Map<String, Value>,
    /// What may be expanded beside the assignments.
    pub(super) expand: &'static [Expanded],
    /// Whether every object has every property: then what is selected has to exist.
    pub(super) uniform: bool,
    /// The property that says whether there are assignments, where there is one.
    pub(super) is_assigned: Option<&'static str>,
}

impl ProfileSet {
    /// The profile that the address names.
    pub(super) async fn named(&self, call: &Call<'_>) -> Result<Dated> {
        Ok(profile_sets::find_profile(call.app, self.which, call.key(0)?).await?)
    }

    /// The same, to be changed: as the caller saw it, where they say what they saw.
    pub(super) async fn seen(&self, call: &Call<'_>) -> Result<Dated> {
        let found = self.named(call).await?;
        call.request.check_seen(&(self.json)(call, &found))?;
        Ok(found)
    }

    /// A profile with what the query expands and selects.
    fn shaped(&self, call: &Call<'_>, query: &Query, found: &Dated, assigned: &[Assignment]) -> Result<Map<String, Value>> {
        let mut whole = (self.json)(call, found);
        if let Some(property) = self.is_assigned {
            whole.insert(property.to_owned(), (!assigned.is_empty()).into());
        }
        let expanded = |name: &str| name == "assignments" || self.expand.iter().any(|(known, ..)| *known == name);
        let known = |name: &str| name == "*" || name.contains('@') || whole.contains_key(name) || expanded(name);
        let unknown = query.select.iter().find(|name| !known(name));
        if let Some(unknown) = unknown.filter(|_| self.uniform) {
            return Err(GraphProblem::bad(format!("Could not find a property named '{unknown}'.")));
        }
        if !query.select.is_empty() && !query.select.iter().any(|name| name == "*") {
            whole.retain(|name, _| name == "id" || name.contains('@') || query.select.iter().any(|wanted| wanted == name));
        }
        for expand in &query.expand {
            let value = match self.expand.iter().find(|(name, ..)| *name == expand.property) {
                Some((.., show)) => show(found),
                None => assigned.iter().map(|one| Value::Object(assignment::json(one, self.assignment))).collect(),
            };
            let of = |one: &Value| list::picked(one.as_object().cloned().unwrap_or_default(), &expand.query.select).map(Value::Object);
            let all = value.as_array().into_iter().flatten().map(of).collect::<Result<Vec<_>>>()?;
            whole.insert(expand.property.clone(), Value::Array(all));
        }
        Ok(whole)
    }

    /// The assignments of profiles, where they are shown.
    async fn assignments(&self, call: &Call<'_>, query: &Query, all: &[Dated]) -> Result<HashMap<ProfileId, Vec<Assignment>>> {
        if self.is_assigned.is_none() && !query.expand.iter().any(|expand| expand.property == "assignments") {
            return Ok(HashMap::new());
        }
        let mut of: HashMap<ProfileId, Vec<Assignment>> = HashMap::new();
        let ids = all.iter().map(|one| one.profile.id.to_string()).collect();
        for one in profile_sets::assignments_of_all(call.app, ids).await? {
            of.entry(one.profile_id.clone()).or_default().push(one);
        }
        Ok(of)
    }

    /// The query of a call, as far as it can be held against the set before anything is read.
    fn query(&self, call: &Call<'_>) -> Result<Query> {
        let query = Query::parse(&call.request.query)?;
        let own = self.expand.iter().map(|(name, inner, _)| (*name, *inner));
        let expandable: Vec<list::Expandable> = own.chain([("assignments", &[] as &[&str])]).collect();
        list::check_expands(&query, &expandable)?;
        match query.delta_token {
            Some(_) => Err(GraphProblem::bad("The query option '$deltatoken' is not possible for this set.")),
            None => Ok(query),
        }
    }

    /// A page.
    pub(super) async fn list(&self, call: &Call<'_>) -> Result<Answer> {
        let query = self.query(call)?;
        let found = profile_sets::page_profiles(call.app, self.which, &query, &call.reach, list::limit(&query, MANAGEMENT)).await?;
        let assigned = self.assignments(call, &query, &found.objects).await?;
        let of = |one: &Dated| assigned.get(&one.profile.id).map(Vec::as_slice).unwrap_or_default();
        let objects = found.objects.iter().map(|one| self.shaped(call, &query, one, of(one))).collect::<Result<_>>()?;
        Ok(list::collection(&call.app.config, call.request, self.path, &query, Found { objects, next: found.next, count: found.count }))
    }

    /// How many fit.
    pub(super) async fn count(&self, call: &Call<'_>) -> Result<Answer> {
        let query = Query { count: true, ..self.query(call)? };
        let found = profile_sets::page_profiles(call.app, self.which, &query, &call.reach, 1).await?;
        Ok(Answer::text(found.count.unwrap_or_default().to_string()))
    }

    /// A profile as an answer of its own.
    async fn whole(&self, call: &Call<'_>, query: &Query, found: Dated) -> Result<Value> {
        let all = [found];
        let assigned = self.assignments(call, query, &all).await?;
        let [found] = &all;
        let own = assigned.get(&found.profile.id).map(Vec::as_slice).unwrap_or_default();
        Ok(entity(&call.app.config, call.request, self.path, self.shaped(call, query, found, own)?))
    }

    /// The one that the address names.
    pub(super) async fn show(&self, call: &Call<'_>) -> Result<Answer> {
        let query = self.query(call)?;
        list::check_single(&query)?;
        let found = self.named(call).await?;
        Ok(Answer::ok(self.whole(call, &query, found).await?))
    }

    /// One that was made or changed, as it is now.
    pub(super) async fn changed(&self, call: &Call<'_>, id: &ProfileId) -> Result<Answer> {
        let found = profile_sets::find_profile(call.app, self.which, id.as_str()).await?;
        Ok(Answer::ok(self.whole(call, &Query::default(), found).await?))
    }

    /// The same with 201 and where it is.
    pub(super) async fn created(&self, call: &Call<'_>, id: &ProfileId) -> Result<Answer> {
        let found = profile_sets::find_profile(call.app, self.which, id.as_str()).await?;
        let location = format!("{}/{}/{id}", base(&call.app.config, call.request.version), self.path);
        Ok(Answer::created(location, self.whole(call, &Query::default(), found).await?))
    }

    /// Takes one away.
    pub(super) async fn delete(&self, call: &Call<'_>) -> Result<Answer> {
        assignment::check_unbound(&call.reach)?;
        let found = self.named(call).await?;
        profile::delete(call.app, &found.profile.id, &call.by()).await?;
        Ok(Answer::done())
    }

    fn context(&self, found: &Dated) -> String {
        format!("{}('{}')/assignments", self.path, found.profile.id)
    }

    /// Whom one is for.
    pub(super) async fn show_assignments(&self, call: &Call<'_>) -> Result<Answer> {
        let found = self.named(call).await?;
        assignment::show(call, &found, self.assignment, &self.context(&found)).await
    }

    /// Says whom one is for.
    pub(super) async fn assign(&self, call: &Call<'_>) -> Result<Answer> {
        let found = self.named(call).await?;
        assignment::assign(call, &found, self.assignment, &self.context(&found)).await
    }
}
