//! Certificate enrolment policy (MS-XCEP 3.1.4.1): what key the device shall make.

use super::super::Malformed;
use super::super::xml::{Element, Writer};
use super::POLICY;
use super::soap::{AnswerHeader, Operation, Security, encode_answer, encode_request};

const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// The request; nothing in it changes the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetPolicies {
    /// Maker of the device's TPM, when it says so.
    pub tpm_manufacturer: Option<String>,
    /// Firmware of the device's TPM, when it says so.
    pub tpm_firmware: Option<String>,
}

impl GetPolicies {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// When it is not a GetPolicies request.
    pub fn decode(body: &Element) -> Result<Self, Malformed> {
        if !body.is(POLICY, "GetPolicies") {
            return Err(Malformed::new("not a GetPolicies request", "Body"));
        }
        let client = body.child(POLICY, "client");
        let text =
            |local: &str| client.and_then(|c| c.child(POLICY, local)).map(|e| e.text().trim().to_owned()).filter(|text| !text.is_empty());
        Ok(Self { tpm_manufacturer: text("TPMManufacturer"), tpm_firmware: text("TPMFirmwareVersion") })
    }

    /// Writes the whole request.
    #[must_use]
    pub fn encode(&self, message_id: &str, to: &str, security: &Security) -> Vec<u8> {
        encode_request(Operation::GetPolicies, message_id, to, security, |w| {
            w.open("GetPolicies").attribute("xmlns", POLICY).attribute("xmlns:xsi", XSI).open("client");
            nil(w, "lastUpdate");
            nil(w, "preferredLanguage");
            if let Some(text) = &self.tpm_manufacturer {
                w.leaf("TPMManufacturer", text);
            }
            if let Some(text) = &self.tpm_firmware {
                w.leaf("TPMFirmwareVersion", text);
            }
            w.close();
            nil(w, "requestFilter");
            w.close();
        })
    }
}

/// The answer: one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Identifier of the policy.
    pub policy_id: String,
    /// Name of the policy.
    pub common_name: String,
    /// Life of the certificate, in seconds.
    pub validity_seconds: u64,
    /// How long before its end it is renewed, in seconds.
    pub renewal_seconds: u64,
    /// Shortest RSA key, in bits.
    pub minimal_key_length: u32,
    /// Where the key may live, the preferred place first.
    pub crypto_providers: Vec<String>,
    /// OID of the digest that signs the request, dotted.
    pub hash_oid: String,
}

/// OID of SHA-256.
pub const SHA256: &str = "2.16.840.1.101.3.4.2.1";

impl Policy {
    /// Writes the whole answer, in the schema's order.
    #[must_use]
    pub fn encode(&self, header: &AnswerHeader) -> Vec<u8> {
        encode_answer(Operation::GetPolicies, header, |w| self.write(w))
    }

    fn write(&self, w: &mut Writer<'static>) {
        w.open("GetPoliciesResponse").attribute("xmlns", POLICY).attribute("xmlns:xsi", XSI).open("response");
        w.leaf("policyID", &self.policy_id);
        for name in ["policyFriendlyName", "nextUpdateHours", "policiesNotChanged"] {
            nil(w, name);
        }
        w.open("policies").open("policy").leaf("policyOIDReference", "0");
        nil(w, "cAs");
        w.open("attributes").leaf("commonName", &self.common_name).leaf("policySchema", "3");
        w.open("certificateValidity").leaf("validityPeriodSeconds", &self.validity_seconds.to_string());
        w.leaf("renewalPeriodSeconds", &self.renewal_seconds.to_string()).close();
        w.open("permission").leaf("enroll", "true").leaf("autoEnroll", "false").close();
        w.open("privateKeyAttributes").leaf("minimalKeyLength", &self.minimal_key_length.to_string());
        for name in ["keySpec", "keyUsageProperty", "permissions", "algorithmOIDReference"] {
            nil(w, name);
        }
        w.open("cryptoProviders");
        for provider in &self.crypto_providers {
            w.leaf("provider", provider);
        }
        w.close().close();
        w.open("revision").leaf("majorRevision", "101").leaf("minorRevision", "0").close();
        for name in ["supersededPolicies", "privateKeyFlags", "subjectNameFlags", "enrollmentFlags", "generalFlags"] {
            nil(w, name);
        }
        w.leaf("hashAlgorithmOIDReference", "0");
        for name in ["rARequirements", "keyArchivalAttributes", "extensions"] {
            nil(w, name);
        }
        w.close().close().close().close();
        nil(w, "cAs");
        w.open("oIDs").open("oID").leaf("value", &self.hash_oid).leaf("group", "1").leaf("oIDReferenceID", "0");
        w.leaf("defaultName", "szOID_NIST_sha256").close().close().close();
    }

    /// Reads the body of an answer.
    ///
    /// # Errors
    /// When a value that must be there is missing.
    pub fn decode(body: &Element) -> Result<Self, Malformed> {
        if !body.is(POLICY, "GetPoliciesResponse") {
            return Err(Malformed::new("not a GetPoliciesResponse", "Body"));
        }
        let find = |path: &[&'static str]| {
            let names: Vec<_> = path.iter().map(|local| (POLICY, *local)).collect();
            body.path(&names).ok_or_else(|| Malformed::new("missing", path.join("/")))
        };
        let text = |path: &[&'static str]| find(path).map(|e| e.text().trim().to_owned());
        let number = |path: &[&'static str]| text(path)?.parse::<u64>().map_err(|_| Malformed::new("not a number", path.join("/")));
        let attributes = ["response", "policies", "policy", "attributes"];
        let below = |rest: &[&'static str]| attributes.iter().chain(rest).copied().collect::<Vec<_>>();
        let reference = text(&below(&["hashAlgorithmOIDReference"]))?;
        let oids = find(&["oIDs"])?;
        let hash = oids.all(POLICY, "oID").find(|oid| oid.child(POLICY, "oIDReferenceID").is_some_and(|e| e.text().trim() == reference));
        let hash = hash.and_then(|oid| oid.child(POLICY, "value")).ok_or_else(|| Malformed::new("no such reference", "oIDs"))?;
        let length = number(&below(&["privateKeyAttributes", "minimalKeyLength"]))?;
        Ok(Self {
            policy_id: text(&["response", "policyID"])?,
            common_name: text(&below(&["commonName"]))?,
            validity_seconds: number(&below(&["certificateValidity", "validityPeriodSeconds"]))?,
            renewal_seconds: number(&below(&["certificateValidity", "renewalPeriodSeconds"]))?,
            minimal_key_length: u32::try_from(length).map_err(|_| Malformed::new("too long", "minimalKeyLength"))?,
            crypto_providers: find(&below(&["privateKeyAttributes", "cryptoProviders"]))?
                .all(POLICY, "provider")
                .map(|e| e.text().trim().to_owned())
                .collect(),
            hash_oid: hash.text().trim().to_owned(),
        })
    }
}

fn nil(w: &mut Writer<'static>, name: &'static str) {
    w.open(name).attribute("xsi:nil", "true").close();
}

#[cfg(test)]
mod tests {
    use super::super::soap::{Answer, Request};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn policies_round_trip(
            policy_id in "[!-~]{1,20}", validity in any::<u32>(), renewal in any::<u32>(), length in 1024u32..9000,
            providers in proptest::collection::vec("[A-Za-z][A-Za-z ]{0,10}[a-z]", 0..3),
        ) {
            let policy = Policy {
                policy_id,
                common_name: "CEPUnitTest".into(),
                validity_seconds: validity.into(),
                renewal_seconds: renewal.into(),
                minimal_key_length: length,
                crypto_providers: providers,
                hash_oid: SHA256.into(),
            };
            let answer = Answer::decode(&policy.encode(&AnswerHeader::default())).unwrap();
            prop_assert_eq!(Policy::decode(&answer.body.unwrap()).unwrap(), policy);
        }

        #[test]
        fn requests_round_trip(maker in proptest::option::of("[!-~]{1,9}"), firmware in proptest::option::of("[!-~]{1,9}")) {
            let request = GetPolicies { tpm_manufacturer: maker, tpm_firmware: firmware };
            let read = Request::decode(&request.encode("m", "t", &Security::None)).unwrap();
            prop_assert_eq!(GetPolicies::decode(&read.body).unwrap(), request);
        }
    }
}
