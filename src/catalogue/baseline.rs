//! Baselines: ready profiles that come with the program.

use serde::Deserialize;
use serde_json::Value;

use super::Files;

/// A ready profile. The document's shape is the profile's own; who applies it reads it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The file's name without folder and extension: `windows-hello-for-business`.
    #[serde(skip)]
    pub file: String,
    /// Name for people.
    pub display_name: String,
    /// `configuration` or `compliance`.
    pub kind: String,
    /// The platform's word: `windows`.
    pub platform: String,
    /// The profile's content.
    pub document: Value,
}

/// All baselines, by file name.
///
/// # Errors
/// Names the file that is wrong.
pub fn baselines() -> Result<Vec<Baseline>, String> {
    let mut all = Vec::new();
    for name in Files::iter() {
        let Some(file) = name.strip_prefix("baselines/").and_then(|name| name.strip_suffix(".toml")) else { continue };
        let data = Files::get(&name).ok_or_else(|| format!("{name} is not there"))?.data;
        let text = std::str::from_utf8(&data).map_err(|e| format!("{name}: {e}"))?;
        let baseline: Baseline = toml::from_str(text).map_err(|e| format!("{name}: {e}"))?;
        all.push(Baseline { file: file.to_owned(), ..baseline });
    }
    all.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(all)
}
