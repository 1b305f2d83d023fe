//! PCs that the organisation registered for Windows Autopilot: what tells them, and what is noted of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Refusal;
use crate::clock::Time;
use crate::ids::{AutopilotId, AutopilotImportId, UserId};

/// Longest serial number.
const LONGEST_SERIAL: usize = 128;
/// Longest of the other texts.
const LONGEST_TEXT: usize = 256;
/// Shortest and longest hardware hash, in bytes: what Windows makes has a few thousand.
const HASH: std::ops::RangeInclusive<usize> = 100..=8192;
/// How a hardware hash begins.
const MAGIC: &[u8] = b"OA";
/// How many PCs one import names at most.
pub const MOST: usize = 1000;

/// A PC that is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Identifier, also the one that the PC's physical ids carry.
    pub id: AutopilotId,
    /// Serial number, as the firmware says it.
    pub serial: String,
    /// Windows' product id; may be empty.
    pub product_key: String,
    /// The hardware hash, decoded; empty when none was given.
    pub hardware_hash: Vec<u8>,
    /// What the organisation tells its PCs apart by; may be empty.
    pub group_tag: String,
    /// Whose it is to be.
    pub user_id: Option<UserId>,
    /// How that person is greeted; may be empty.
    pub addressable_user_name: String,
    /// Name for people; may be empty.
    pub display_name: String,
    /// With which order it was bought; may be empty.
    pub purchase_order: String,
    /// When it was registered.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Time,
}

impl Identity {
    /// What a device of the directory that is this PC is known by, as Entra ID has it.
    #[must_use]
    pub fn physical_ids(&self) -> Vec<String> {
        let tag = Some(&self.group_tag).filter(|tag| !tag.is_empty()).map(|tag| format!("[OrderID]:{tag}"));
        std::iter::once(format!("[ZTDID]:{}", self.id)).chain(tag).collect()
    }
}

/// What came of importing one PC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Identifier.
    pub id: AutopilotImportId,
    /// What the importer calls the import; may be empty.
    pub import_id: String,
    /// Serial number.
    pub serial: String,
    /// Windows' product id; may be empty.
    pub product_key: String,
    /// Group tag; may be empty.
    pub group_tag: String,
    /// Whose it was to be; may be empty.
    pub user_principal_name: String,
    /// The PC that it became, or why it became none.
    pub outcome: Result<AutopilotId, Failure>,
    /// When.
    pub created_at: Time,
}

words! {
    /// Why a PC was not registered. The words are Autopilot's where it has one.
    Failure {
        /// It is registered already.
        Present = "ZtdDeviceAlreadyAssigned",
        /// The hardware hash is none.
        Hash = "InvalidZtdHardwareHash",
        /// There is no serial number, or it is none.
        Serial = "InvalidSerialNumber",
        /// A text is too long.
        Text = "InvalidText",
        /// The person is not in the directory.
        User = "UserNotFound",
    }
}

impl Failure {
    /// Its number, Autopilot's where it has one.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Present => 806,
            Self::Hash => 802,
            Self::Serial | Self::Text | Self::User => 400,
        }
    }

    /// As a refusal.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Present => Refusal::AutopilotPresent,
            Self::Hash => Refusal::AutopilotHashInvalid,
            Self::Serial => Refusal::AutopilotSerialInvalid,
            Self::Text => Refusal::AutopilotTextInvalid,
            Self::User => Refusal::UserUnknown,
        }
    }
}

/// What is told of a PC that is to be registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Draft {
    /// What the importer calls the import.
    pub import_id: String,
    /// Serial number.
    pub serial: String,
    /// Windows' product id.
    pub product_key: String,
    /// The hardware hash, Base64.
    pub hardware_hash: String,
    /// Group tag.
    pub group_tag: String,
    /// Whose it is to be: a user name.
    pub user_principal_name: String,
}

impl Draft {
    /// Checks it, trims its texts, and gives the hardware hash; empty when none was given.
    ///
    /// # Errors
    /// [`Failure::Serial`], [`Failure::Hash`], [`Failure::Text`].
    pub fn check(&mut self) -> Result<Vec<u8>, Failure> {
        for text in [&mut self.import_id, &mut self.serial, &mut self.product_key, &mut self.group_tag, &mut self.user_principal_name] {
            let trimmed = text.trim().to_owned();
            *text = trimmed;
        }
        // All of them, since what is refused is noted, too.
        let mut failure = None;
        for text in [&mut self.import_id, &mut self.product_key, &mut self.group_tag, &mut self.user_principal_name] {
            if !is_text(text) {
                *text = text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect();
                failure = Some(Failure::Text);
            }
        }
        if self.serial.is_empty() || self.serial.chars().count() > LONGEST_SERIAL || self.serial.chars().any(char::is_control) {
            self.serial = self.serial.chars().filter(|c| !c.is_control()).take(LONGEST_SERIAL).collect();
            failure = Some(Failure::Serial);
        }
        match failure {
            Some(failure) => Err(failure),
            None => read_hash(&self.hardware_hash).ok_or(Failure::Hash),
        }
    }
}

/// Whether a text can be noted of a PC.
#[must_use]
pub fn is_text(text: &str) -> bool {
    text.chars().count() <= LONGEST_TEXT && !text.chars().any(char::is_control)
}

/// A hardware hash in Base64. What is in it only Microsoft reads; that it is one is seen at its length and its beginning. An empty text is an
/// empty hash.
fn read_hash(text: &str) -> Option<Vec<u8>> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if bare.is_empty() {
        return Some(Vec::new());
    }
    STANDARD.decode(bare).ok().filter(|bytes| HASH.contains(&bytes.len()) && bytes.starts_with(MAGIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(hash: &[u8]) -> Draft {
        Draft { serial: " 5CG1 ".into(), hardware_hash: STANDARD.encode(hash), ..Draft::default() }
    }

    #[test]
    fn hashes_are_told_by_length_and_beginning() {
        let mut whole = b"OA".to_vec();
        whole.resize(3000, 7);
        let mut good = draft(&whole);
        assert_eq!(good.check(), Ok(whole.clone()));
        assert_eq!(good.serial, "5CG1");
        assert_eq!(Draft { hardware_hash: String::new(), ..good.clone() }.check(), Ok(Vec::new()));
        for bad in [b"OA".to_vec(), vec![7; 3000], [whole.as_slice(), &[0; 8000]].concat()] {
            assert_eq!(draft(&bad).check(), Err(Failure::Hash));
        }
        assert_eq!(Draft { hardware_hash: "T0F*".into(), ..good }.check(), Err(Failure::Hash));
    }

    #[test]
    fn texts_are_bounded_and_cut_where_they_are_refused() {
        for serial in ["", " ", "a\u{7}b", &"x".repeat(200)] {
            let mut bad = Draft { serial: serial.into(), ..Draft::default() };
            assert_eq!(bad.check(), Err(Failure::Serial), "{serial:?}");
            assert!(bad.serial.len() <= LONGEST_SERIAL);
        }
        let mut bad = Draft { serial: "x".into(), group_tag: "t".repeat(300), ..Draft::default() };
        assert_eq!(bad.check(), Err(Failure::Text));
        assert_eq!(bad.group_tag.len(), LONGEST_TEXT);
    }
}
