//! The request for a token and its answer (MS-WSTEP 3.1.4, MS-MDE2 3.4): a certificate request with what the device says of itself,
//! and the provisioning document.

use std::collections::BTreeMap;

use super::super::Malformed;
use super::super::xml::{Element, Writer};
use super::soap::{AnswerHeader, BASE64_BINARY, Operation, Security, configuration, encode_answer, encode_request};
use super::{AUTHORIZATION, ENROLLMENT, SECURITY, TRUST, decode_base64, encode_base64};

/// Most context items of a request; the reader's own bound is wider.
const MOST_ITEMS: usize = 500;

/// What a device wants to have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestType {
    /// A first certificate.
    Issue,
    /// A new certificate for the one it shows.
    Renew,
}

/// What the device sends to be certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Csr {
    /// A PKCS#10 request, DER.
    Pkcs10(Vec<u8>),
    /// A PKCS#7 message around a PKCS#10 request, DER: signed by the certificate that is renewed.
    Pkcs7(Vec<u8>),
}

/// The request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestToken {
    /// What to do.
    pub request_type: RequestType,
    /// The certificate request.
    pub csr: Csr,
    /// What the device says of itself, in its order; names may repeat.
    pub context: Vec<(String, String)>,
}

impl RequestToken {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// When it is not a request for a token, or the certificate request is missing or not base64.
    pub fn decode(body: &Element) -> Result<Self, Malformed> {
        if !body.is(TRUST, "RequestSecurityToken") {
            return Err(Malformed::new("not a RequestSecurityToken", "Body"));
        }
        let kind = body.child(TRUST, "RequestType").map(|e| e.text().trim().to_owned()).unwrap_or_default();
        let request_type = match kind.rsplit('/').next() {
            Some("Issue") => RequestType::Issue,
            Some("Renew") => RequestType::Renew,
            _ => return Err(Malformed::new("neither Issue nor Renew", "RequestType")),
        };
        let token = body.child(SECURITY, "BinarySecurityToken").ok_or_else(|| Malformed::new("missing", "BinarySecurityToken"))?;
        let kind = token.attribute_anyhow("ValueType").unwrap_or_default().trim();
        let bytes = decode_base64(&token.text(), "BinarySecurityToken")?;
        let csr = match kind.rsplit('#').next() {
            Some("PKCS10") => Csr::Pkcs10(unwrap_again(bytes)),
            Some("PKCS7") => Csr::Pkcs7(unwrap_again(bytes)),
            _ => return Err(Malformed::new("neither PKCS10 nor PKCS7", "BinarySecurityToken/@ValueType")),
        };
        let items = body.child(AUTHORIZATION, "AdditionalContext").into_iter().flat_map(|c| c.all(AUTHORIZATION, "ContextItem"));
        let mut context = Vec::new();
        for item in items {
            if context.len() >= MOST_ITEMS {
                return Err(Malformed::new("too many items", "AdditionalContext"));
            }
            let Some(name) = item.attribute_anyhow("Name") else { continue };
            let value = item.child(AUTHORIZATION, "Value").map(|e| e.text().trim().to_owned()).unwrap_or_default();
            context.push((name.trim().to_owned(), value));
        }
        Ok(Self { request_type, csr, context })
    }

    /// Writes the whole request.
    #[must_use]
    pub fn encode(&self, message_id: &str, to: &str, security: &Security) -> Vec<u8> {
        let (kind, der) = match &self.csr {
            Csr::Pkcs10(der) => ("PKCS10", der),
            Csr::Pkcs7(der) => ("PKCS7", der),
        };
        let verb = match self.request_type {
            RequestType::Issue => "Issue",
            RequestType::Renew => "Renew",
        };
        encode_request(Operation::RequestToken, message_id, to, security, |w| {
            w.open("wst:RequestSecurityToken").attribute("xmlns:wst", TRUST);
            w.leaf("wst:TokenType", &configuration("DeviceEnrollmentToken")).leaf("wst:RequestType", &format!("{TRUST}/{verb}"));
            w.open("wsse:BinarySecurityToken").attribute("ValueType", &format!("{ENROLLMENT}#{kind}"));
            w.attribute("EncodingType", BASE64_BINARY).text(&encode_base64(der)).close();
            w.open("ac:AdditionalContext").attribute("xmlns:ac", AUTHORIZATION);
            for (name, value) in &self.context {
                w.open("ac:ContextItem").attribute("Name", name).leaf("ac:Value", value).close();
            }
            w.close().close();
        })
    }

    /// The first value of an item; `None` when it is missing or empty.
    #[must_use]
    pub fn item(&self, name: &str) -> Option<&str> {
        self.context.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All items as name to values, in the device's order within a name.
    #[must_use]
    pub fn multimap(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut map: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in &self.context {
            map.entry(name).or_default().push(value);
        }
        map
    }
}

/// Takes off the second layer of base64 that a renewal started by hand has (MS-MDE2 leaves it open): DER begins with 0x30 0x8x, which
/// is never two letters of base64.
fn unwrap_again(bytes: Vec<u8>) -> Vec<u8> {
    let is_text = bytes.iter().all(|b| b.is_ascii_alphanumeric() || b.is_ascii_whitespace() || b"+/=-_".contains(b));
    if bytes.is_empty() || !is_text {
        return bytes;
    }
    std::str::from_utf8(&bytes).ok().and_then(|text| decode_base64(text, "").ok()).unwrap_or(bytes)
}

/// Writes the whole answer around a provisioning document.
#[must_use]
pub fn encode_answer_with(document: &[u8], header: &AnswerHeader) -> Vec<u8> {
    encode_answer(Operation::RequestToken, header, |w: &mut Writer<'static>| {
        w.open("RequestSecurityTokenResponseCollection").attribute("xmlns", TRUST).open("RequestSecurityTokenResponse");
        w.leaf("TokenType", &configuration("DeviceEnrollmentToken"));
        w.open("DispositionMessage").attribute("xmlns", ENROLLMENT).close();
        w.open("RequestedSecurityToken").open("BinarySecurityToken").attribute("xmlns", SECURITY);
        w.attribute("ValueType", &configuration("DeviceEnrollmentProvisionDoc")).attribute("EncodingType", BASE64_BINARY);
        w.text(&encode_base64(document)).close().close();
        w.open("RequestID").attribute("xmlns", ENROLLMENT).text("0").close().close().close();
    })
}

/// Reads the provisioning document out of the body of an answer.
///
/// # Errors
/// When it is not an answer to a request for a token, or holds no document.
pub fn decode_answer(body: &Element) -> Result<Vec<u8>, Malformed> {
    if !body.is(TRUST, "RequestSecurityTokenResponseCollection") {
        return Err(Malformed::new("not a RequestSecurityTokenResponseCollection", "Body"));
    }
    let token = body.path(&[(TRUST, "RequestSecurityTokenResponse"), (TRUST, "RequestedSecurityToken"), (SECURITY, "BinarySecurityToken")]);
    let token = token.ok_or_else(|| Malformed::new("missing", "RequestedSecurityToken/BinarySecurityToken"))?;
    decode_base64(&token.text(), "BinarySecurityToken")
}

#[cfg(test)]
mod tests {
    use super::super::soap::{Answer, Request};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn requests_round_trip(
            der in proptest::collection::vec(any::<u8>(), 0..80),
            renew in any::<bool>(),
            context in proptest::collection::vec(("[A-Za-z]{1,9}", "[!-~]{0,12}"), 0..6),
        ) {
            let der = [&[0x30, 0x82][..], &der].concat();
            let (request_type, csr) =
                if renew { (RequestType::Renew, Csr::Pkcs7(der)) } else { (RequestType::Issue, Csr::Pkcs10(der)) };
            let request = RequestToken { request_type, csr, context };
            let read = Request::decode(&request.encode("m", "t", &Security::None)).unwrap();
            prop_assert!(read.is(Operation::RequestToken));
            prop_assert_eq!(RequestToken::decode(&read.body).unwrap(), request);
        }

        #[test]
        fn answers_round_trip(document in proptest::collection::vec(any::<u8>(), 0..80)) {
            let header = AnswerHeader { timestamp: Some(("2026-01-01T00:00:00.000Z".into(), "b".into())), ..AnswerHeader::default() };
            let answer = Answer::decode(&encode_answer_with(&document, &header)).unwrap();
            prop_assert_eq!(decode_answer(&answer.body.unwrap()).unwrap(), document);
        }
    }

    #[test]
    fn repeated_items_are_all_kept() {
        let context = vec![("MAC".into(), "1".into()), ("X".into(), String::new()), ("MAC".into(), "2".into())];
        let request = RequestToken { request_type: RequestType::Issue, csr: Csr::Pkcs10(vec![0x30, 0x80]), context };
        assert_eq!(request.multimap().get("MAC"), Some(&vec!["1", "2"]));
        assert_eq!(request.item("MAC"), Some("1"));
        assert_eq!(request.item("X"), None);
    }

    #[test]
    fn a_second_layer_of_base64_is_taken_off() {
        let der = vec![0x30, 0x82, 1, 2, 3, 4];
        let text = encode_base64(&der).into_bytes();
        assert_eq!(unwrap_again(text), der);
        assert_eq!(unwrap_again(der.clone()), der);
    }
}
