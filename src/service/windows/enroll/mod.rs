//! Windows enrolment (MS-MDE2): discovery, policy, request token, renewal. [`answer`] takes a SOAP request and gives the SOAP answer;
//! whatever is wrong becomes the fault that Windows understands, and one audit row.

mod authenticate;
mod csr;
mod fault;
mod invite;
mod issue;
mod renew;

use std::net::IpAddr;

use crate::app::App;
use crate::clock::{DAY, MINUTE, Time};
use crate::domain::Refusal;
use crate::domain::audit::Entry;
use crate::service::{Error, Result};
use crate::store::audit;
use crate::wire::Malformed;
use crate::wire::mde::discovery::{AuthPolicy, Discover, DiscoverResult, Version};
use crate::wire::mde::soap::{AnswerHeader, Operation, Request, Security};
use crate::wire::mde::wstep::{self, RequestToken, RequestType};
use crate::wire::mde::xcep::{GetPolicies, Policy, SHA256};

pub use invite::{Invitation, TokenInvitation, deep_link, invite, invite_with_token};

/// Largest request of the enrolment services, in bytes.
pub const LARGEST_REQUEST: usize = 256 * 1024;
/// Path of the discovery service, which Windows prescribes.
pub const DISCOVERY_PATH: &str = "/EnrollmentServer/Discovery.svc";
/// Path of the policy service.
pub const POLICY_PATH: &str = "/EnrollmentServer/Policy.svc";
/// Path of the enrolment service.
pub const ENROLLMENT_PATH: &str = "/EnrollmentServer/Enrollment.svc";
/// Path of the sign-in page.
pub const AUTHENTICATION_PATH: &str = "/EnrollmentServer/Authenticate";
/// Path of the management server.
pub const MANAGEMENT_PATH: &str = "/ManagementServer/MDM.svc";

/// The dialect that we speak at most.
const DIALECT: Version = Version::new(4, 0);
/// The oldest dialect that we understand.
const OLDEST: Version = Version::new(3, 0);
/// How far the clocks of device and server may differ in the answer's timestamp.
const TIMESTAMP: i64 = 5 * MINUTE;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The address.
    pub address: IpAddr,
    /// The client certificate of the connection, DER.
    pub certificate: Option<Vec<u8>>,
    /// A proxy stands in between that passes no certificate on, and the configuration takes a device's signature for it.
    pub signs: bool,
    /// Correlation id of the request: it reaches the device's event log in faults.
    pub trace_id: String,
}

impl Caller {
    fn origin(&self) -> String {
        self.address.to_string()
    }
}

/// Answers a SOAP request; the answer goes out with HTTP status 200 even when it is a fault.
pub async fn answer(app: &App, operation: Operation, bytes: &[u8], caller: &Caller) -> Vec<u8> {
    let request = Request::decode(bytes);
    let mut header = AnswerHeader { relates_to: None, activity_id: caller.trace_id.clone(), timestamp: None };
    let outcome = match request {
        Ok(request) => {
            header.relates_to.clone_from(&request.message_id);
            match operation {
                _ if !request.is(operation) => Err(Malformed::new("the action of another service", "Header/Action").into()),
                Operation::Discover => discover(app, &request).map(|result| result.encode(&header)),
                Operation::GetPolicies => policies(app, &request, caller).await.map(|policy| policy.encode(&header)),
                Operation::RequestToken => match request_token(app, &request, caller).await {
                    Ok(document) => {
                        let now = app.now();
                        header.timestamp = Some((timestamp(now), timestamp(now.plus(TIMESTAMP))));
                        Ok(wstep::encode_answer_with(&document, &header))
                    }
                    Err(error) => Err(error),
                },
            }
        }
        Err(malformed) => Err(malformed.into()),
    };
    match outcome {
        Ok(answer) => answer,
        Err(error) => {
            record_refusal(app, operation, &error, caller).await;
            fault::of(&error, &caller.trace_id).encode(operation, &header)
        }
    }
}

/// MS-MDE2 3.1: where everything is. Any version from 3.0 on is welcome.
fn discover(app: &App, request: &Request) -> Result<DiscoverResult> {
    let discover = Discover::decode(&request.body)?;
    if discover.request_version < OLDEST {
        return Err(Refusal::ProtocolTooOld.into());
    }
    let ours = [AuthPolicy::Federated, AuthPolicy::OnPremise];
    let auth_policy = ours.into_iter().find(|policy| discover.auth_policies.contains(policy)).ok_or(Refusal::PolicyNotOffered)?;
    let device = app.config.device_url();
    let authentication_url = (auth_policy == AuthPolicy::Federated).then(|| format!("{}{AUTHENTICATION_PATH}", app.config.web_url()));
    Ok(DiscoverResult {
        auth_policy,
        enrollment_version: discover.request_version.min(DIALECT),
        policy_url: format!("{device}{POLICY_PATH}"),
        enrollment_url: format!("{device}{ENROLLMENT_PATH}"),
        authentication_url,
    })
}

/// MS-XCEP: what key to make. Only for who may enrol or renew.
async fn policies(app: &App, request: &Request, caller: &Caller) -> Result<Policy> {
    GetPolicies::decode(&request.body)?;
    let given = security(request)?;
    // A device that renews may say a name and rubbish with it; its certificate is what counts.
    let renews = match given {
        Security::None => false,
        _ => caller.certificate.is_some() && renew::identify(app, caller).await.is_ok(),
    };
    match given {
        _ if renews => {}
        // There is nothing secret in the policy; who renews proves it with the request.
        Security::None if caller.signs => {}
        Security::None => drop(renew::identify(app, caller).await?),
        _ => drop(authenticate::authenticate(app, given, caller).await?),
    }
    let seconds = |days: u32| u64::try_from(i64::from(days) * DAY / 1000).unwrap_or_default();
    Ok(Policy {
        policy_id: app.tenant.to_string(),
        common_name: "Muster device identity".into(),
        validity_seconds: seconds(app.config.windows.identity_days),
        renewal_seconds: seconds(app.config.windows.renewal_days),
        minimal_key_length: csr::LEAST_BITS,
        crypto_providers: vec!["Microsoft Platform Crypto Provider".into(), "Microsoft Software Key Storage Provider".into()],
        hash_oid: SHA256.into(),
    })
}

/// MS-WSTEP: the provisioning document.
async fn request_token(app: &App, request: &Request, caller: &Caller) -> Result<Vec<u8>> {
    let token = RequestToken::decode(&request.body)?;
    match token.request_type {
        RequestType::Issue => {
            let authenticated = authenticate::authenticate(app, security(request)?, caller).await?;
            issue::issue(app, &token, authenticated, caller).await
        }
        RequestType::Renew => renew::renew(app, &token, caller).await,
    }
}

fn security(request: &Request) -> Result<&Security> {
    request.security.as_ref().map_err(|_| Error::Refused(Refusal::SecurityHeaderInvalid))
}

/// `YYYY-MM-DDThh:mm:ss.sssZ`.
fn timestamp(at: Time) -> String {
    use time::macros::format_description;
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    at.to_utc().format(form).unwrap_or_default()
}

async fn record_refusal(app: &App, operation: Operation, error: &Error, caller: &Caller) {
    let code = match error {
        // Sign-in has its own rows, and none while it is throttled.
        Error::Refused(Refusal::SignInFailed) | Error::Throttled(_) => return,
        Error::Refused(refusal) | Error::Invalid(refusal, _) => refusal.code(),
        Error::Malformed(_) => "malformed",
        other => {
            tracing::error!(error = ?other, trace.id = %caller.trace_id, "enrolment failed");
            return;
        }
    };
    metrics::counter!("muster_enrollment_refusals_total", "code" => code).increment(1);
    let now = app.now();
    if !app.strangers.note(&caller.origin(), code, now) {
        return;
    }
    let reason = fault::cut(&error.to_string());
    let state = serde_json::json!({ "code": code, "operation": format!("{operation:?}"), "reason": reason, "trace": caller.trace_id });
    let entry = Entry::new("anonymous", "enrollment.refused", "enrollment:new", caller.origin()).after(&state);
    if let Err(error) = app.store.write(move |tx| audit::append(tx, &entry, now)).await {
        tracing::error!(%error, "the audit row of a refused enrolment was not written");
    }
}
