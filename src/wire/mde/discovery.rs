//! Discovery (MS-MDE2 3.1): where to sign in, ask for the policy and enrol.

use super::super::Malformed;
use super::super::xml::{Element, Writer};
use super::DISCOVERY;
use super::soap::{AnswerHeader, Operation, Security, encode_answer, encode_request};

/// How a device proves who its user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthPolicy {
    /// User name and password in the security header.
    OnPremise,
    /// A token of a sign-in page.
    Federated,
    /// A client certificate's signature.
    Certificate,
}

impl AuthPolicy {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::OnPremise, Self::Federated, Self::Certificate];

    /// As it stands in the message.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnPremise => "OnPremise",
            Self::Federated => "Federated",
            Self::Certificate => "Certificate",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|known| known.as_str() == text.trim()).copied()
    }
}

/// A version of the enrolment protocol, such as 4.0 or 9.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the dot.
    pub major: u32,
    /// After the dot.
    pub minor: u32,
}

impl Version {
    /// A version.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    fn parse(text: &str) -> Option<Self> {
        // Versions to come may look otherwise after the first dot; only what stands before it decides.
        let mut parts = text.trim().split('.');
        let major = parts.next()?.parse().ok()?;
        Some(Self { major, minor: parts.next().and_then(|minor| minor.parse().ok()).unwrap_or(0) })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    /// What the user typed: a mail address, `DOMAIN\user`, or nothing.
    pub email_address: String,
    /// The newest dialect that the device speaks.
    pub request_version: Version,
    /// `CIMClient_Windows` on PCs.
    pub device_type: String,
    /// Version of the operating system.
    pub application_version: String,
    /// SKU number of the edition.
    pub os_edition: String,
    /// The ways of signing in that the device can, in its order; unknown ones are left out.
    pub auth_policies: Vec<AuthPolicy>,
}

impl Discover {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// When it is not a Discover request or has no readable version.
    pub fn decode(body: &Element) -> Result<Self, Malformed> {
        if !is(body, "Discover") {
            return Err(Malformed::new("not a Discover request", "Body"));
        }
        let request = child(body, "request").ok_or_else(|| Malformed::new("missing", "Discover/request"))?;
        let text = |local: &str| child(request, local).map(|e| e.text().trim().to_owned());
        let version = text("RequestVersion").ok_or_else(|| Malformed::new("missing", "request/RequestVersion"))?;
        let request_version = Version::parse(&version).ok_or_else(|| Malformed::new("not a version", "request/RequestVersion"))?;
        let policies = child(request, "AuthPolicies");
        let offered = policies.into_iter().flat_map(Element::elements).filter(|e| e.name.local == "AuthPolicy");
        Ok(Self {
            email_address: text("EmailAddress").unwrap_or_default(),
            request_version,
            device_type: text("DeviceType").unwrap_or_default(),
            application_version: text("ApplicationVersion").unwrap_or_default(),
            os_edition: text("OSEdition").unwrap_or_default(),
            auth_policies: offered.filter_map(|e| AuthPolicy::parse(&e.text())).collect(),
        })
    }

    /// Writes the whole request.
    #[must_use]
    pub fn encode(&self, message_id: &str, to: &str) -> Vec<u8> {
        encode_request(Operation::Discover, message_id, to, &Security::None, |w| {
            w.open("Discover").attribute("xmlns", DISCOVERY).open("request");
            w.leaf("EmailAddress", &self.email_address).leaf("RequestVersion", &self.request_version.to_string());
            w.leaf("DeviceType", &self.device_type).leaf("ApplicationVersion", &self.application_version);
            w.leaf("OSEdition", &self.os_edition).open("AuthPolicies");
            for policy in &self.auth_policies {
                w.leaf("AuthPolicy", policy.as_str());
            }
            w.close().close().close();
        })
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoverResult {
    /// The way of signing in that the device shall use.
    pub auth_policy: AuthPolicy,
    /// The dialect that the server speaks.
    pub enrollment_version: Version,
    /// Where to ask for the policy.
    pub policy_url: String,
    /// Where to enrol.
    pub enrollment_url: String,
    /// Where to sign in; only with [`AuthPolicy::Federated`].
    pub authentication_url: Option<String>,
}

impl DiscoverResult {
    /// Writes the whole answer.
    #[must_use]
    pub fn encode(&self, header: &AnswerHeader) -> Vec<u8> {
        encode_answer(Operation::Discover, header, |w: &mut Writer<'static>| {
            w.open("DiscoverResponse").attribute("xmlns", DISCOVERY).open("DiscoverResult");
            w.leaf("AuthPolicy", self.auth_policy.as_str()).leaf("EnrollmentVersion", &self.enrollment_version.to_string());
            w.leaf("EnrollmentPolicyServiceUrl", &self.policy_url).leaf("EnrollmentServiceUrl", &self.enrollment_url);
            if let Some(url) = &self.authentication_url {
                w.leaf("AuthenticationServiceUrl", url);
            }
            w.close().close();
        })
    }

    /// Reads the body of an answer.
    ///
    /// # Errors
    /// When a value that must be there is missing or unknown.
    pub fn decode(body: &Element) -> Result<Self, Malformed> {
        let result = is(body, "DiscoverResponse").then(|| child(body, "DiscoverResult")).flatten();
        let result = result.ok_or_else(|| Malformed::new("missing", "DiscoverResponse/DiscoverResult"))?;
        let text =
            |local: &'static str| child(result, local).map(|e| e.text().trim().to_owned()).ok_or_else(|| Malformed::new("missing", local));
        Ok(Self {
            auth_policy: AuthPolicy::parse(&text("AuthPolicy")?).ok_or_else(|| Malformed::new("unknown", "AuthPolicy"))?,
            enrollment_version: Version::parse(&text("EnrollmentVersion")?)
                .ok_or_else(|| Malformed::new("not a version", "EnrollmentVersion"))?,
            policy_url: text("EnrollmentPolicyServiceUrl")?,
            enrollment_url: text("EnrollmentServiceUrl")?,
            authentication_url: text("AuthenticationServiceUrl").ok(),
        })
    }
}

/// Whether the element is in the discovery namespace, with or without the slash.
fn is(element: &Element, local: &str) -> bool {
    let namespace = &*element.name.namespace;
    namespace.strip_suffix('/').unwrap_or(namespace) == DISCOVERY && element.name.local == local
}

fn child<'e>(element: &'e Element, local: &str) -> Option<&'e Element> {
    element.elements().find(|e| is(e, local))
}

#[cfg(test)]
mod tests {
    use super::super::soap::{Answer, Request};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn requests_round_trip(
            email_address in "[!-~]{0,20}", major in 0u32..100, minor in 0u32..10, os_edition in "[0-9]{0,3}",
            policies in proptest::collection::vec(0usize..3, 0..4),
        ) {
            let discover = Discover {
                email_address,
                request_version: Version::new(major, minor),
                device_type: "CIMClient_Windows".into(),
                application_version: "10.0.26100.1".into(),
                os_edition,
                auth_policies: policies.into_iter().map(|n| AuthPolicy::ALL[n]).collect(),
            };
            let read = Request::decode(&discover.encode("m", "https://h/")).unwrap();
            prop_assert!(read.is(Operation::Discover));
            prop_assert_eq!(Discover::decode(&read.body).unwrap(), discover);
        }
    }

    #[test]
    fn versions_to_come_are_read_as_far_as_they_can() {
        let read = |text| Version::parse(text).map(|version| (version.major, version.minor));
        assert_eq!([read("4.0"), read(" 9.0 "), read("12.3")], [Some((4, 0)), Some((9, 0)), Some((12, 3))]);
        assert_eq!([read("10"), read("9."), read("9.0.1"), read("11.x")], [Some((10, 0)), Some((9, 0)), Some((9, 0)), Some((11, 0))]);
        assert_eq!([read(""), read("x"), read("-1.0"), read(".5")], [None; 4]);
    }

    #[test]
    fn answers_round_trip() {
        for authentication_url in [None, Some("https://h/a?b=1&c=2".to_owned())] {
            let result = DiscoverResult {
                auth_policy: AuthPolicy::Federated,
                enrollment_version: Version::new(4, 0),
                policy_url: "https://h/p".into(),
                enrollment_url: "https://h/e".into(),
                authentication_url,
            };
            let header = AnswerHeader { relates_to: Some(" urn:uuid:1\n".into()), activity_id: "x".into(), timestamp: None };
            let answer = Answer::decode(&result.encode(&header)).unwrap();
            assert_eq!(answer.relates_to.as_deref(), Some(" urn:uuid:1\n"));
            assert_eq!(DiscoverResult::decode(&answer.body.unwrap()).unwrap(), result);
        }
    }
}
