//! Passkeys: what is kept of one, and which ones the organisation takes.

use super::Refusal;
use crate::clock::Time;
use crate::ids::{PasskeyId, UserId};

/// How many passkeys a person may have.
pub const MOST: usize = 20;
/// Longest name of one, in characters.
pub const LONGEST_NAME: usize = 60;

/// A passkey as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passkey {
    /// Identifier.
    pub id: PasskeyId,
    /// Whose it is.
    pub user_id: UserId,
    /// The authenticator's own name for it, base64url.
    pub credential_id: String,
    /// Public key, counter and flags, as the library keeps them.
    pub credential: String,
    /// What its owner calls it.
    pub display_name: String,
    /// The model of the authenticator (AAGUID). It is the authenticator's own word unless [`attested`](Self::attested).
    pub aa_guid: String,
    /// What the model is called.
    pub model: String,
    /// Whether its maker has proved the model.
    pub attested: bool,
    /// The certificates of that proof, as they came: base64 of DER.
    pub attestation_certificates: Vec<String>,
    /// When it was registered.
    pub created_at: Time,
    /// When it last signed in.
    pub last_used_at: Option<Time>,
}

words! {
    /// What a list of models is for.
    Enforcement {
        /// Only these are taken.
        Allow = "allow",
        /// These are not taken.
        Block = "block",
    }
}

/// Which models are taken.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct KeyRestrictions {
    /// Whether the list holds.
    pub is_enforced: bool,
    /// What it is for.
    pub enforcement_type: Enforcement,
    /// The models, as lower-case UUIDs.
    pub aa_guids: Vec<String>,
}

impl Default for KeyRestrictions {
    fn default() -> Self {
        Self { is_enforced: false, enforcement_type: Enforcement::Block, aa_guids: Vec::new() }
    }
}

/// What the organisation says about passkeys.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Whether people sign in with passkeys and register them.
    pub enabled: bool,
    /// Whether people register passkeys themselves.
    pub is_self_service_registration_allowed: bool,
    /// Whether the maker of an authenticator must prove its model. That leaves out passkeys that are synchronised between devices.
    pub is_attestation_enforced: bool,
    /// Whose word counts then: certificates of makers, PEM.
    pub attestation_authorities: Vec<String>,
    /// Which models are taken.
    pub key_restrictions: KeyRestrictions,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            enabled: true,
            is_self_service_registration_allowed: true,
            is_attestation_enforced: false,
            attestation_authorities: Vec::new(),
            key_restrictions: KeyRestrictions::default(),
        }
    }
}

impl Policy {
    /// Holds the policy against itself.
    ///
    /// # Errors
    /// [`Refusal::PasskeyPolicyInvalid`].
    pub fn check(mut self) -> Result<Self, Refusal> {
        let restrictions = &mut self.key_restrictions;
        for aaguid in &mut restrictions.aa_guids {
            *aaguid = PasskeyId::parse(aaguid).ok_or(Refusal::PasskeyPolicyInvalid)?.to_string();
        }
        let listed = restrictions.is_enforced && restrictions.enforcement_type == Enforcement::Allow && !restrictions.aa_guids.is_empty();
        // A maker's certificate vouches for all its models, old ones with known faults, too: the models are named.
        if self.is_attestation_enforced && (self.attestation_authorities.is_empty() || !listed) {
            return Err(Refusal::PasskeyPolicyInvalid);
        }
        Ok(self)
    }

    /// Whether an authenticator of that model is taken.
    #[must_use]
    pub fn takes(&self, aaguid: &str) -> bool {
        let restrictions = &self.key_restrictions;
        let listed = restrictions.aa_guids.iter().any(|known| known == aaguid);
        !restrictions.is_enforced || listed == (restrictions.enforcement_type == Enforcement::Allow)
    }
}

/// Models that are met often, by the names that their makers give them. A model that is not here is shown by its AAGUID.
const MODELS: [(&str, &str); 9] = [
    ("00000000-0000-0000-0000-000000000000", "Passkey"),
    ("08987058-cadc-4b81-b6e1-30de50dcbe96", "Windows Hello"),
    ("6028b017-b1d4-4c02-b4b3-afcdafc96bb2", "Windows Hello"),
    ("7fd635b3-2ef9-4542-8d9d-164f2c771efc", "macOS Platform Credential"),
    ("9ddd1817-af5a-4672-a2b9-3e3dd95000a9", "Windows Hello"),
    ("adce0002-35bc-c60a-648b-0b25f1f05503", "Chrome on Mac"),
    ("dd4ec289-e01d-41c9-bb89-70fa845d4bf2", "iCloud Keychain (managed)"),
    ("ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4", "Google Password Manager"),
    ("fbfc3007-154e-4ecc-8c0b-6e020557d7bd", "iCloud Keychain"),
];

/// What a model is called.
#[must_use]
pub fn model(aaguid: &str) -> &'static str {
    MODELS.iter().find(|(known, _)| *known == aaguid).map_or("Security key", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "7fd635b3-2ef9-4542-8d9d-164f2c771efc";
    const OTHER: &str = "08987058-cadc-4b81-b6e1-30de50dcbe96";

    fn listed(enforcement_type: Enforcement) -> Policy {
        let key_restrictions = KeyRestrictions { is_enforced: true, enforcement_type, aa_guids: vec![ONE.to_uppercase()] };
        Policy { key_restrictions, ..Policy::default() }
    }

    #[test]
    fn a_list_allows_or_blocks_and_without_one_all_are_taken() {
        assert!(Policy::default().takes(ONE));
        let allow = listed(Enforcement::Allow).check().unwrap();
        assert!(allow.takes(ONE) && !allow.takes(OTHER));
        let block = listed(Enforcement::Block).check().unwrap();
        assert!(!block.takes(ONE) && block.takes(OTHER));
        let mut off = allow;
        off.key_restrictions.is_enforced = false;
        assert!(off.takes(OTHER));
    }

    #[test]
    fn an_enforced_attestation_names_makers_and_models() {
        let enforced = |policy: Policy| Policy { is_attestation_enforced: true, ..policy };
        assert_eq!(enforced(Policy::default()).check().unwrap_err().code(), "AUT0014");
        assert_eq!(enforced(listed(Enforcement::Allow)).check().unwrap_err().code(), "AUT0014");
        let made = Policy { attestation_authorities: vec!["PEM".into()], ..listed(Enforcement::Allow) };
        assert!(enforced(made).check().is_ok());
        let mut bad = listed(Enforcement::Allow);
        bad.key_restrictions.aa_guids = vec!["x".into()];
        assert!(bad.check().is_err());
    }

    #[test]
    fn models_are_sorted_and_named() {
        assert!(MODELS.is_sorted());
        assert_eq!((model(ONE), model("x")), ("macOS Platform Credential", "Security key"));
    }
}
