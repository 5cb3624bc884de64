//! Checks the layout of a crate from its sources: no circle of imports, folders that import
//! downwards only, and type names that occur once. Include it in a test with `#[path]`.
//!
//! It reads paths, not types: `use` items and paths in code that begin with `crate`, `self`,
//! `super` or the name of a child module. `mod` lines are no imports. A path that names a
//! re-exported item counts for the file that re-exports it, which in turn imports the file that
//! defines the item. Code made by macros is not seen; a file with `#[path]` is not understood and
//! rejected.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

mod source;

use source::{imports, types};

/// The name of the crate root in complaints and in `layers`.
const ROOT: &str = "lib";

/// Checks the sources below `src`. `layers` lists the files and folders at its top, from the lowest
/// layer to the highest; several names in a row (separated by spaces) are one layer, and must not
/// import each other. Returns complaints, one for each upward import and each circle.
///
/// # Panics
/// If a source cannot be read.
#[must_use]
pub fn check(src: &Path, layers: &[&str]) -> Vec<String> {
    let files = read(src);
    let graph = graph(&files);
    let mut complaints = unlisted(&files, layers);
    complaints.extend(upward(&graph, layers));
    complaints.extend(circles(&graph));
    complaints
}

/// Finds type names (of structs, enums, unions and traits) that several modules of the crate
/// define. Inline modules, such as tests, do not count. Returns a complaint for each name.
///
/// # Panics
/// If a source cannot be read.
#[must_use]
pub fn duplicate_types(src: &Path) -> Vec<String> {
    let mut homes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (module, text) in &read(src) {
        for name in types(text) {
            homes.entry(name).or_default().push(show(module));
        }
    }
    homes.retain(|_, modules| modules.len() > 1);
    homes.iter().map(|(name, modules)| format!("{name} is defined in {}", modules.join(", "))).collect()
}

/// The sources of a crate, by module path: `["plan", "script"]` for both `plan/script.rs` and
/// `plan/script/mod.rs`; empty for the root.
type Files = BTreeMap<Vec<String>, String>;

/// The modules that each module imports.
type Graph = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

fn read(src: &Path) -> Files {
    let mut files = Files::new();
    read_folder(src, &[], &mut files);
    files
}

fn read_folder(folder: &Path, module: &[String], files: &mut Files) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let inner = |name: String| [module, &[name]].concat();
        if path.is_dir() {
            read_folder(&path, &inner(name), files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            let is_folder = name == "mod" || module.is_empty() && name == ROOT;
            files.insert(if is_folder { module.to_vec() } else { inner(name) }, text);
        }
    }
}

fn graph(files: &Files) -> Graph {
    files
        .iter()
        .map(|(module, text)| {
            let found = imports(text, module, &|path| files.contains_key(path));
            let found = found.iter().map(|path| longest_module(files, path));
            (module.clone(), found.filter(|import| import != module).collect())
        })
        .collect()
}

/// Finds the file that a path leads to: the longest part of it that is a module.
fn longest_module(files: &Files, path: &[String]) -> Vec<String> {
    let lengths = (0..=path.len()).rev();
    let found = lengths.map(|length| &path[..length]).find(|path| files.contains_key(*path));
    found.unwrap_or_default().to_vec()
}

fn show(module: &[String]) -> String {
    if module.is_empty() { ROOT.to_owned() } else { module.join("::") }
}

/// The entry at the top that a module is in.
fn top(module: &[String]) -> &str {
    module.first().map_or(ROOT, String::as_str)
}

fn layer_of(layers: &[&str], name: &str) -> Option<usize> {
    layers.iter().position(|layer| layer.split_whitespace().any(|one| one == name))
}

fn unlisted(files: &Files, layers: &[&str]) -> Vec<String> {
    let present: BTreeSet<&str> = files.keys().map(|module| top(module)).collect();
    let listed: BTreeSet<&str> = layers.iter().flat_map(|layer| layer.split_whitespace()).collect();
    let missing = present.difference(&listed).map(|name| format!("{name} is in no layer"));
    let gone = listed.difference(&present).map(|name| format!("{name} is a layer without sources"));
    missing.chain(gone).collect()
}

fn upward(graph: &Graph, layers: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (module, imports) in graph {
        for import in imports.iter().filter(|import| top(import) != top(module)) {
            let (own, other) = (layer_of(layers, top(module)), layer_of(layers, top(import)));
            if own <= other {
                complaints.push(format!("{} imports upwards from {}", show(module), show(import)));
            }
        }
    }
    complaints
}

/// Finds circles: groups of files each of which imports, over others, itself.
fn circles(graph: &Graph) -> Vec<String> {
    let reached: BTreeMap<_, _> = graph.keys().map(|module| (module, reachable(graph, module))).collect();
    let mut groups = BTreeSet::new();
    for (module, others) in &reached {
        if others.contains(*module) {
            let is_back =
                |other: &&Vec<String>| reached.get(other).is_some_and(|back| back.contains(*module));
            groups.insert(others.iter().filter(is_back).map(|module| show(module)).collect::<Vec<_>>());
        }
    }
    groups.into_iter().map(|group| format!("a circle of imports: {}", group.join(", "))).collect()
}

fn reachable(graph: &Graph, from: &[String]) -> BTreeSet<Vec<String>> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<Vec<String>> = graph[from].iter().cloned().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module.clone()) {
            next.extend(graph[&module].iter().cloned());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(files: &[(&str, &str)], layers: &[&str]) -> Vec<String> {
        let module =
            |name: &str| name.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let files: Files = files.iter().map(|(name, text)| (module(name), (*text).to_owned())).collect();
        let graph = graph(&files);
        [unlisted(&files, layers), upward(&graph, layers), circles(&graph)].concat()
    }

    #[test]
    fn imports_downwards_are_allowed_and_others_are_complained_of() {
        let root = ("", "mod a; mod b; mod c; use c::C;");
        let layers = ["a b", "c", "lib"];
        let sound = [root, ("a", ""), ("b", ""), ("c", "use crate::a::A; use crate::b::B;")];
        assert_eq!(complaints(&sound, &layers), Vec::<String>::new());
        let upward = [root, ("a", "use crate::c::C;"), ("b", ""), ("c", "")];
        assert_eq!(complaints(&upward, &layers), ["a imports upwards from c"]);
        let sideways = [root, ("a", "use crate::b::B;"), ("b", ""), ("c", "")];
        assert_eq!(complaints(&sideways, &layers), ["a imports upwards from b"]);
        let of_the_root = [root, ("a", ""), ("b", ""), ("c", "use crate::C;")];
        assert_eq!(complaints(&of_the_root, &layers)[0], "c imports upwards from lib");
        let unlisted = [root, ("a", ""), ("c", ""), ("d", "")];
        assert_eq!(complaints(&unlisted, &layers), ["d is in no layer", "b is a layer without sources"]);
    }

    #[test]
    fn a_circle_within_a_folder_is_complained_of() {
        let files = [
            ("a", "pub mod x; pub mod y; pub mod z;"),
            ("a/x", "use super::y::Y;"),
            ("a/y", "fn f() { crate::a::z::g() }"),
            ("a/z", "use crate::a::x::X;"),
        ];
        assert_eq!(complaints(&files, &["a"]), ["a circle of imports: a::x, a::y, a::z"]);
        let parent = [("a", "mod x; use x::X;"), ("a/x", "use super::Y;")];
        assert_eq!(complaints(&parent, &["a"]), ["a circle of imports: a, a::x"]);
    }
}
