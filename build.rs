//! Tells cargo about folders that macros embed, which it would not notice by itself.
fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=profiles");
}
