//! Applications: the manifest that says where one comes from and what its parts hash to, and how devices call the state of one.

use crate::wire::Malformed;
use crate::wire::plist::{self, Dict, Limits, Value};

/// What Apple calls the asset that is the application itself.
const PACKAGE: &str = "software-package";
/// Most parts of a package.
const MOST_PARTS: usize = 100_000;

/// Where an application comes from (manifest of `InstallApplication` and `InstallEnterpriseApplication`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Where the package is, https.
    pub url: String,
    /// Bytes of each part but the last.
    pub part_size: i64,
    /// SHA-256 of each part, in lower-case hex.
    pub sha256s: Vec<String>,
    /// The bundle identifier.
    pub bundle_id: String,
    /// The version.
    pub version: String,
    /// Name for people.
    pub title: String,
}

impl Manifest {
    /// As a dictionary, which some commands carry.
    #[must_use]
    pub fn to_dict(&self) -> Dict {
        let hashes: Vec<Value> = self.sha256s.iter().map(|hash| Value::from(hash.as_str())).collect();
        let asset =
            Dict::new().with("kind", PACKAGE).with("url", self.url.as_str()).with("sha256-size", self.part_size).with("sha256s", hashes);
        let metadata = Dict::new()
            .with("kind", "software")
            .with("bundle-identifier", self.bundle_id.as_str())
            .with("bundle-version", self.version.as_str())
            .with("title", self.title.as_str());
        let item = Dict::new().with("assets", vec![Value::Dict(asset)]).with("metadata", metadata);
        Dict::new().with("items", vec![Value::Dict(item)])
    }

    /// As a document.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        plist::encode(&Value::Dict(self.to_dict()))
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When it is no manifest of one application with hashes of SHA-256.
    pub fn decode(document: &[u8]) -> Result<Self, Malformed> {
        Self::from_dict(&plist::decode_dict(document, Limits::MESSAGE)?)
    }

    /// Reads a dictionary.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn from_dict(dict: &Dict) -> Result<Self, Malformed> {
        let wrong = |at: &'static str| Malformed::new("is missing or wrong", at);
        let item = dict.array("items").and_then(|items| items.first()).and_then(Value::as_dict).ok_or_else(|| wrong("items"))?;
        let mut assets = item.array("assets").unwrap_or_default().iter().filter_map(Value::as_dict);
        let asset = assets.find(|asset| asset.string("kind") == Some(PACKAGE)).ok_or_else(|| wrong("assets"))?;
        let metadata = item.dict("metadata").ok_or_else(|| wrong("metadata"))?;
        let text = |dict: &Dict, at: &'static str| dict.string(at).map(str::to_owned).ok_or_else(|| wrong(at));
        let hashes = asset.array("sha256s").filter(|hashes| !hashes.is_empty() && hashes.len() <= MOST_PARTS);
        let hashes = hashes.and_then(|hashes| hashes.iter().map(|hash| hash.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
        let sha256s = hashes.ok_or_else(|| wrong("sha256s"))?;
        if !sha256s.iter().all(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(wrong("sha256s"));
        }
        Ok(Self {
            url: text(asset, "url")?,
            part_size: asset.integer("sha256-size").filter(|size| *size > 0).ok_or_else(|| wrong("sha256-size"))?,
            sha256s,
            bundle_id: text(metadata, "bundle-identifier")?,
            version: text(metadata, "bundle-version")?,
            title: text(metadata, "title")?,
        })
    }

    /// Whether a package is the one that is meant: every part has its hash.
    #[must_use]
    pub fn fits(&self, package: &[u8]) -> bool {
        let Some(size) = usize::try_from(self.part_size).ok().filter(|size| *size > 0) else { return false };
        let parts = package.chunks(size);
        parts.len() == self.sha256s.len()
            && parts.zip(&self.sha256s).all(|(part, hash)| hex::encode(openssl::sha::sha256(part)).eq_ignore_ascii_case(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let hash = |part: &[u8]| hex::encode(openssl::sha::sha256(part));
        Manifest {
            url: "https://example.org/a.pkg".into(),
            part_size: 4,
            sha256s: vec![hash(b"abcd"), hash(b"ef")],
            bundle_id: "org.example.a".into(),
            version: "1.2".into(),
            title: "A".into(),
        }
    }

    #[test]
    fn a_manifest_is_read_back_and_knows_its_package() {
        let manifest = manifest();
        assert_eq!(Manifest::decode(&manifest.encode()).unwrap(), manifest);
        assert!(manifest.fits(b"abcdef"));
        for other in [&b"abcdeg"[..], b"abcd", b"abcdefg", b"", b"abcdefghi"] {
            assert!(!manifest.fits(other), "{other:?}");
        }
    }

    #[test]
    fn what_has_no_hashes_or_no_name_is_no_manifest() {
        for broken in [
            Manifest { sha256s: Vec::new(), ..manifest() },
            Manifest { part_size: 0, ..manifest() },
            Manifest { sha256s: vec!["0".into()], ..manifest() },
        ] {
            assert!(Manifest::decode(&broken.encode()).is_err(), "{broken:?}");
        }
        assert!(Manifest::from_dict(&Dict::new()).is_err());
    }
}
