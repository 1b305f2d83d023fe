//! The catalogue: settings, facts and compliance rules as rows of the TOML files under `profiles/`.
