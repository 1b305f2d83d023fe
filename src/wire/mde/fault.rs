//! SOAP faults that Windows understands (MS-MDE2 2.2.9 and 3.x.4). Names are CamelCase exactly as here: the client looks for them with
//! case-sensitive paths.

use super::super::Malformed;
use super::super::xml::{Element, Writer};
use super::soap::{AnswerHeader, Operation, encode_answer};
use super::{ENROLLMENT, SOAP};

/// Declares an enum of protocol names.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As it stands in the message.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

names! {
    /// The fault's subcode; in brackets what the device shows.
    Code {
        /// The message cannot be read (80180001).
        MessageFormat = "s:MessageFormat",
        /// Token or password is wrong (80180002).
        Authentication = "s:Authentication",
        /// The user may not (80180003).
        Authorization = "s:Authorization",
        /// The certificate request is refused, or the CA is down (80180004).
        CertificateRequest = "s:CertificateRequest",
        /// The server cannot, for instance without its database (80180005).
        EnrollmentServer = "s:EnrollmentServer",
        /// The server broke (80180006).
        InternalServiceFault = "a:InternalServiceFault",
        /// The security header cannot be read (80180007).
        InvalidSecurity = "a:InvalidSecurity",
    }
}

names! {
    /// A more exact reason, which wins over the subcode.
    ErrorType {
        /// The user has enough devices (80180013).
        DeviceCapReached = "DeviceCapReached",
        /// The operating system is too old (80180014).
        DeviceNotSupported = "DeviceNotSupported",
        /// The platform or way of signing in is refused (80180015).
        NotSupported = "NotSupported",
        /// The certificate is not due (80180016).
        NotEligibleToRenew = "NotEligibleToRenew",
        /// Try later (80180017).
        InMaintenance = "InMaintenance",
        /// The user has no licence (80180018).
        UserLicense = "UserLicense",
        /// The terms-of-use answer is bad (80180019).
        InvalidEnrollmentData = "InvalidEnrollmentData",
        /// The text is for the user to read (80180032).
        CustomServerError = "CustomServerError",
    }
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The subcode.
    pub code: Code,
    /// The more exact reason.
    pub error_type: Option<ErrorType>,
    /// For people.
    pub reason: String,
    /// Goes into the device's event log: the correlation id of our own log.
    pub trace_id: String,
}

impl Fault {
    /// Writes the fault as the answer to `operation`, to be sent with HTTP status 200.
    #[must_use]
    pub fn encode(&self, operation: Operation, header: &AnswerHeader) -> Vec<u8> {
        encode_answer(operation, header, |w| self.write(w))
    }

    fn write(&self, w: &mut Writer<'static>) {
        w.open("s:Fault").open("s:Code").leaf("s:Value", "s:Receiver").open("s:Subcode").leaf("s:Value", self.code.as_str());
        w.close().close().open("s:Reason").open("s:Text").attribute("xml:lang", "en-us").text(&self.reason).close().close();
        w.open("s:Detail").open("DeviceEnrollmentServiceError").attribute("xmlns", ENROLLMENT);
        // Without the element the client takes the subcode.
        if let Some(error_type) = self.error_type {
            w.leaf("ErrorType", error_type.as_str());
        }
        w.leaf("Message", &self.reason).leaf("TraceId", &self.trace_id).close().close().close();
    }

    /// Reads the element `s:Fault` as a device does.
    pub(super) fn read(fault: &Element) -> Result<Self, Malformed> {
        let code = fault.path(&[(SOAP, "Code"), (SOAP, "Subcode"), (SOAP, "Value")]).map(|e| e.text().trim().to_owned());
        let code = code.ok_or_else(|| Malformed::new("missing", "Fault/Code/Subcode/Value"))?;
        let code = Code::ALL
            .iter()
            .find(|known| bare(known.as_str()) == bare(&code))
            .copied()
            .ok_or_else(|| Malformed::new("unknown fault code", "Fault/Code/Subcode/Value"))?;
        let detail = fault.path(&[(SOAP, "Detail"), (ENROLLMENT, "DeviceEnrollmentServiceError")]);
        let text = |local: &str| detail.and_then(|d| d.child(ENROLLMENT, local)).map(|e| e.text().trim().to_owned());
        let error_type = text("ErrorType").and_then(|t| ErrorType::ALL.iter().find(|known| t.contains(known.as_str())).copied());
        let reason = fault.path(&[(SOAP, "Reason"), (SOAP, "Text")]).map(|e| e.text().into_owned()).unwrap_or_default();
        Ok(Self { code, error_type, reason, trace_id: text("TraceId").unwrap_or_default() })
    }
}

fn bare(code: &str) -> &str {
    code.rsplit(':').next().unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use super::super::soap::Answer;
    use super::*;

    #[test]
    fn every_fault_round_trips_and_names_the_word_that_windows_looks_for() {
        for code in Code::ALL {
            for error_type in [None].into_iter().chain(ErrorType::ALL.iter().copied().map(Some)) {
                let fault = Fault { code: *code, error_type, reason: "Because <of> this".into(), trace_id: "t-1".into() };
                let header = AnswerHeader { relates_to: Some("urn:uuid:1".into()), activity_id: "t-1".into(), timestamp: None };
                let bytes = fault.encode(Operation::RequestToken, &header);
                let answer = Answer::decode(&bytes).unwrap();
                assert_eq!(answer.body, Err(fault));
                assert_eq!(answer.action, Operation::RequestToken.answer_action());
                let text = String::from_utf8(bytes).unwrap();
                assert!(text.contains(&format!("<s:Value>{}</s:Value>", code.as_str())));
                assert_eq!(text.contains("NotEligibleToRenew"), error_type == Some(ErrorType::NotEligibleToRenew));
            }
        }
    }
}
