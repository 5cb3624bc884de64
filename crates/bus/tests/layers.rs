//! The layout of the bus: each file imports from those below it only, none import each other in a
//! circle, and a type name occurs once.

use std::path::{Path, PathBuf};

#[path = "../../../tests/layers/mod.rs"]
mod layers;

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn imports_run_one_way() {
    let order = [
        "names samples",
        "messages",
        "channel offset pieces",
        "events",
        "connect",
        "agent coordinator fleet",
        "lib",
    ];
    let complaints = layers::check(&src(), &order);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn type_names_occur_once() {
    let complaints = layers::duplicate_types(&src());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
