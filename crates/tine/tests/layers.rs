//! The layout of the library: each folder imports from those below it only, no files import each
//! other in a circle, and a type name occurs once.

use std::path::{Path, PathBuf};

#[path = "../../../tests/layers/mod.rs"]
mod layers;

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn imports_run_one_way() {
    let order = [
        "error",
        "jail",
        "lifecycle",
        "system",
        "net",
        "log",
        "watch",
        "admission",
        "ipc",
        "connection",
        "program",
        "settings",
        "processes",
        "server",
        "testing",
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

#[test]
fn the_top_of_the_library_has_at_most_sixteen_entries() {
    let entries: Vec<_> = std::fs::read_dir(src()).expect("the sources").collect();
    assert!(entries.len() <= 16, "{} entries", entries.len());
}
