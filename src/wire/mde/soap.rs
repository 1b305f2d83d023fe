//! The SOAP 1.2 envelope of all three services (MS-MDE2 3.1 to 3.4), read by namespace, whatever the prefixes.

use super::super::Malformed;
use super::super::xml::{Element, Limits, Writer};
use super::fault::Fault;
use super::{ADDRESSING, CONFIGURATION, DIAGNOSTICS, SECURITY, SOAP, UTILITY, decode_base64, encode_base64};

/// What an operation is called in the `Action` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// MS-MDE2 Discover.
    Discover,
    /// MS-XCEP GetPolicies.
    GetPolicies,
    /// MS-WSTEP RequestSecurityToken.
    RequestToken,
}

impl Operation {
    /// The action of the request.
    #[must_use]
    pub fn request_action(self) -> &'static str {
        match self {
            Self::Discover => "http://schemas.microsoft.com/windows/management/2012/01/enrollment/IDiscoveryService/Discover",
            Self::GetPolicies => "http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy/IPolicy/GetPolicies",
            Self::RequestToken => "http://schemas.microsoft.com/windows/pki/2009/01/enrollment/RST/wstep",
        }
    }

    /// The action of the answer, faults included.
    #[must_use]
    pub fn answer_action(self) -> &'static str {
        match self {
            Self::Discover => "http://schemas.microsoft.com/windows/management/2012/01/enrollment/IDiscoveryService/DiscoverResponse",
            Self::GetPolicies => "http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy/IPolicy/GetPoliciesResponse",
            Self::RequestToken => "http://schemas.microsoft.com/windows/pki/2009/01/enrollment/RSTRC/wstep",
        }
    }
}

/// What a request proves itself with (WS-Security header, MS-MDE2 3.3.1).
#[derive(Clone, PartialEq, Eq)]
pub enum Security {
    /// Nothing, or a user name without a password: discovery, and renewal over mutual TLS.
    None,
    /// A one-time token of the sign-in page (`DeviceEnrollmentUserToken`), decoded.
    Token(Vec<u8>),
    /// A JWT in compact form, decoded.
    Jwt(Vec<u8>),
    /// User name and password in clear (TLS protects them).
    UserName {
        /// What was typed as the name.
        name: String,
        /// What was typed as the password.
        password: String,
    },
    /// A kind of token that this server does not take, such as X.509; the text names it.
    Other(String),
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Token(_) => f.write_str("Token([secret])"),
            Self::Jwt(_) => f.write_str("Jwt([secret])"),
            Self::UserName { name, .. } => write!(f, "UserName({name:?}, [secret])"),
            Self::Other(kind) => write!(f, "Other({kind:?})"),
        }
    }
}

const USER_TOKEN: &str = "http://schemas.microsoft.com/5.0.0.0/ConfigurationManager/Enrollment/DeviceEnrollmentUserToken";
const JWT_TOKEN: &str = "urn:ietf:params:oauth:token-type:jwt";
const PASSWORD_TEXT: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordText";
/// `EncodingType` of base64 in WS-Security.
pub const BASE64_BINARY: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd#base64binary";

impl Security {
    fn read(header: Option<&Element>) -> Result<Self, Malformed> {
        let Some(security) = header.and_then(|h| h.child(SECURITY, "Security")) else { return Ok(Self::None) };
        if let Some(token) = security.child(SECURITY, "BinarySecurityToken") {
            let kind = token.attribute_anyhow("ValueType").unwrap_or_default().trim();
            let text = token.text();
            if text.trim().is_empty() {
                return Ok(Self::None);
            }
            return match kind {
                USER_TOKEN => Ok(Self::Token(decode_base64(&text, "BinarySecurityToken")?)),
                JWT_TOKEN => Ok(Self::Jwt(decode_base64(&text, "BinarySecurityToken")?)),
                other => Ok(Self::Other(other.to_owned())),
            };
        }
        let Some(token) = security.child(SECURITY, "UsernameToken") else { return Ok(Self::None) };
        let name = token.child(SECURITY, "Username").map(|e| e.text().trim().to_owned()).unwrap_or_default();
        let password = token.child(SECURITY, "Password");
        let text = password.map(|e| e.text().trim().to_owned()).unwrap_or_default();
        // Whatever type it says it is: without a password it proves nothing, as in a renewal.
        if text.is_empty() {
            return Ok(Self::None);
        }
        let kind = password.and_then(|p| p.attribute_anyhow("Type")).map(str::trim).unwrap_or_default();
        if !kind.is_empty() && !kind.ends_with("PasswordText") {
            return Ok(Self::Other(kind.to_owned()));
        }
        Ok(Self::UserName { name, password: text })
    }

    fn write(&self, w: &mut Writer<'static>) {
        if matches!(self, Self::None) {
            return;
        }
        w.open("wsse:Security").attribute("s:mustUnderstand", "1");
        match self {
            Self::Token(bytes) => binary_token(w, USER_TOKEN, bytes),
            Self::Jwt(bytes) => binary_token(w, JWT_TOKEN, bytes),
            Self::Other(kind) => binary_token(w, kind, b"?"),
            Self::UserName { name, password } => {
                w.open("wsse:UsernameToken").attribute("u:Id", "uuid-1").leaf("wsse:Username", name);
                w.open("wsse:Password").attribute("wsse:Type", PASSWORD_TEXT).text(password).close().close();
            }
            Self::None => {}
        }
        w.close();
    }
}

fn binary_token(w: &mut Writer<'static>, kind: &str, bytes: &[u8]) {
    w.open("wsse:BinarySecurityToken").attribute("ValueType", kind).attribute("EncodingType", BASE64_BINARY);
    w.text(&encode_base64(bytes)).close();
}

/// A request's envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The `Action` header.
    pub action: String,
    /// The `MessageID` header, verbatim: it may hold blanks and line ends.
    pub message_id: Option<String>,
    /// The security header; an error when it is there and cannot be read, so that this gets its own fault.
    pub security: Result<Security, Malformed>,
    /// The first element of the body.
    pub body: Element,
}

impl Request {
    /// Reads an envelope.
    ///
    /// # Errors
    /// When it is not a SOAP 1.2 envelope with one element in its body, or exceeds the limits for enrolment messages.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (header, body) = open(bytes)?;
        let text = |local: &str| header.as_ref().and_then(|h| h.child(ADDRESSING, local)).map(|e| e.text().into_owned());
        Ok(Self {
            action: text("Action").unwrap_or_default().trim().to_owned(),
            message_id: text("MessageID"),
            security: Security::read(header.as_ref()),
            body,
        })
    }

    /// Whether the request is of that operation.
    #[must_use]
    pub fn is(&self, operation: Operation) -> bool {
        self.action == operation.request_action()
    }
}

/// Writes a request; `body` writes what stands inside `s:Body`.
#[must_use]
pub fn encode_request(
    operation: Operation,
    message_id: &str,
    to: &str,
    security: &Security,
    body: impl FnOnce(&mut Writer<'static>),
) -> Vec<u8> {
    let mut w = envelope();
    w.open("s:Header");
    action(&mut w, operation.request_action());
    w.leaf("a:MessageID", message_id);
    w.open("a:ReplyTo").leaf("a:Address", "http://www.w3.org/2005/08/addressing/anonymous").close();
    w.open("a:To").attribute("s:mustUnderstand", "1").text(to).close();
    security.write(&mut w);
    w.close().open("s:Body");
    body(&mut w);
    w.finish()
}

/// What an answer's header says besides its action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerHeader {
    /// The request's `MessageID`, verbatim.
    pub relates_to: Option<String>,
    /// A correlation id that server logs carry, too.
    pub activity_id: String,
    /// `Created` and `Expires` of the security timestamp, RFC 3339 with milliseconds: token answers only.
    pub timestamp: Option<(String, String)>,
}

/// Writes an answer; `body` writes what stands inside `s:Body`.
#[must_use]
pub fn encode_answer(operation: Operation, header: &AnswerHeader, body: impl FnOnce(&mut Writer<'static>)) -> Vec<u8> {
    let mut w = envelope();
    w.open("s:Header");
    action(&mut w, operation.answer_action());
    w.open("ActivityId").attribute("CorrelationId", &header.activity_id).attribute("xmlns", DIAGNOSTICS);
    w.text(&header.activity_id).close();
    if let Some(id) = &header.relates_to {
        w.leaf("a:RelatesTo", id);
    }
    if let Some((created, expires)) = &header.timestamp {
        w.open("wsse:Security").attribute("s:mustUnderstand", "1").open("u:Timestamp").attribute("u:Id", "_0");
        w.leaf("u:Created", created).leaf("u:Expires", expires).close().close();
    }
    w.close().open("s:Body");
    body(&mut w);
    w.finish()
}

/// An answer as a device reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The `Action` header.
    pub action: String,
    /// The `RelatesTo` header.
    pub relates_to: Option<String>,
    /// The first element of the body, or the fault that stands there.
    pub body: Result<Element, Fault>,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is not a SOAP 1.2 envelope, or holds a fault that cannot be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (header, body) = open(bytes)?;
        let text = |local: &str| header.as_ref().and_then(|h| h.child(ADDRESSING, local)).map(|e| e.text().into_owned());
        let body = if body.is(SOAP, "Fault") { Err(Fault::read(&body)?) } else { Ok(body) };
        Ok(Self { action: text("Action").unwrap_or_default().trim().to_owned(), relates_to: text("RelatesTo"), body })
    }
}

fn open(bytes: &[u8]) -> Result<(Option<Element>, Element), Malformed> {
    let envelope = Element::parse(bytes, Limits::SOAP)?;
    if !envelope.is(SOAP, "Envelope") {
        return Err(Malformed::new("not a SOAP 1.2 envelope", "Envelope"));
    }
    let header = envelope.child(SOAP, "Header").cloned();
    let body = envelope.child(SOAP, "Body").ok_or_else(|| Malformed::new("missing", "Envelope/Body"))?;
    let first = body.elements().next().cloned().ok_or_else(|| Malformed::new("empty", "Envelope/Body"))?;
    Ok((header, first))
}

fn envelope() -> Writer<'static> {
    let mut w = Writer::with_capacity(4096);
    w.open("s:Envelope").attribute("xmlns:s", SOAP).attribute("xmlns:a", ADDRESSING);
    w.attribute("xmlns:u", UTILITY).attribute("xmlns:wsse", SECURITY);
    w
}

fn action(w: &mut Writer<'static>, action: &str) {
    w.open("a:Action").attribute("s:mustUnderstand", "1").text(action).close();
}

/// `CM/DeviceEnrollmentToken`: the type of token that a device asks for.
pub(super) fn configuration(name: &str) -> String {
    format!("{CONFIGURATION}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn securities() -> impl Strategy<Value = Security> {
        prop_oneof![
            Just(Security::None),
            proptest::collection::vec(any::<u8>(), 1..60).prop_map(Security::Token),
            proptest::collection::vec(any::<u8>(), 1..60).prop_map(Security::Jwt),
            ("[!-~]{1,20}", "[!-~]{1,20}").prop_map(|(name, password)| Security::UserName { name, password }),
        ]
    }

    proptest! {
        #[test]
        fn requests_round_trip(security in securities(), id in "[ -~\n]{0,40}") {
            let bytes = encode_request(Operation::GetPolicies, &id, "https://h/", &security, |w| { w.leaf("x", "y"); });
            let read = Request::decode(&bytes).unwrap();
            prop_assert!(read.is(Operation::GetPolicies));
            prop_assert_eq!(read.message_id, Some(id));
            prop_assert_eq!(read.security, Ok(security));
            prop_assert_eq!(read.body.text(), "y");
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::decode(&bytes);
            let _ = Answer::decode(&bytes);
        }
    }

    #[test]
    fn a_user_name_without_a_password_is_nothing_whatever_its_type() {
        let security = Security::UserName { name: "ana".into(), password: "secret".into() };
        let text = encode_request(Operation::GetPolicies, "m", "t", &security, |w| {
            w.leaf("x", "");
        });
        let text = String::from_utf8(text).unwrap();
        let read = |text: &str| Request::decode(text.as_bytes()).unwrap().security.unwrap();
        let with = |kind: &str, password: &str| text.replace(PASSWORD_TEXT, kind).replace(">secret<", &format!(">{password}<"));
        for kind in [PASSWORD_TEXT, "", "#PasswordDigest"] {
            assert_eq!(read(&with(kind, "")), Security::None, "{kind}");
            assert_eq!(read(&with(kind, " \n")), Security::None, "{kind}");
        }
        assert_eq!(read(&with("", "secret")), security);
        assert_eq!(read(&with("#PasswordDigest", "secret")), Security::Other("#PasswordDigest".into()));
    }

    #[test]
    fn secrets_do_not_print() {
        let shown = format!("{:?}", Security::UserName { name: "ana".into(), password: "hunter2".into() });
        assert!(shown.contains("ana") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_security_header_that_cannot_be_read_spoils_only_itself() {
        let text = String::from_utf8(encode_request(Operation::GetPolicies, "m", "t", &Security::Token(b"abc".to_vec()), |w| {
            w.leaf("x", "");
        }))
        .unwrap();
        let broken = Request::decode(text.replace("YWJj", "***").as_bytes()).unwrap();
        assert!(broken.security.is_err());
        assert_eq!(broken.message_id.as_deref(), Some("m"));
    }

    #[test]
    fn a_soap_1_1_envelope_is_refused() {
        let text = "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body><x/></s:Body></s:Envelope>";
        assert!(Request::decode(text.as_bytes()).is_err());
    }
}
