//! Compares the public API with `public-api.txt`, so that a change of it is seen in a review.
//!
//! The list is made from the sources: from each `pub use` of `lib.rs` to the definition, with
//! public fields, variants, methods, constants and trait impls. It leaves out auto traits, blanket
//! impls, and what is `#[doc(hidden)]`. To accept a change, run the test with
//! `UPDATE_PUBLIC_API=1`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Field, Fields, ImplItem, Item, ItemImpl, Meta, Token, TraitItem, Type, UseTree, Visibility,
};

/// Crates whose items `tine` exports: each has a list of its own, is a macro, or is not of tine.
const OTHER_CRATES: [&str; 3] = ["tine_shared", "tine_derive", "zerocopy"];

#[test]
fn the_public_api_is_the_reviewed_one() {
    compare(Path::new(env!("CARGO_MANIFEST_DIR")), "tine");
}

#[test]
fn the_public_api_of_shared_state_is_the_reviewed_one() {
    compare(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), "tine::shared");
}

/// Compares the public API of the crate in a folder, which users see under this path.
fn compare(root: &Path, path: &str) {
    let mut sources = Sources::default();
    sources.read(&root.join("src/lib.rs"), &root.join("src"), &mut Vec::new());
    let found = sources.api(path).join("\n") + "\n";
    let file = root.join("public-api.txt");
    if std::env::var_os("UPDATE_PUBLIC_API").is_some() {
        std::fs::write(&file, &found).expect("the list is writable");
    }
    let reviewed = std::fs::read_to_string(&file).expect("the list is readable");
    let (found, reviewed): (BTreeSet<&str>, BTreeSet<&str>) =
        (found.lines().collect(), reviewed.lines().collect());
    let added: Vec<&&str> = found.difference(&reviewed).collect();
    let removed: Vec<&&str> = reviewed.difference(&found).collect();
    assert!(
        added.is_empty() && removed.is_empty(),
        "the public API differs from public-api.txt (UPDATE_PUBLIC_API=1 accepts it):\nadded: {added:#?}\nremoved: {removed:#?}"
    );
}

/// The items of all modules, by the path of the module.
#[derive(Default)]
struct Sources {
    modules: BTreeMap<Vec<String>, Vec<Item>>,
}

impl Sources {
    /// Reads a file and the modules below it; `folder` has the files of those.
    fn read(&mut self, file: &Path, folder: &Path, path: &mut Vec<String>) {
        let text = std::fs::read_to_string(file).expect("a source file");
        let items = syn::parse_file(&text).expect("Rust").items;
        self.add(items, folder, path);
    }

    fn add(&mut self, items: Vec<Item>, folder: &Path, path: &mut Vec<String>) {
        for item in &items {
            let Item::Mod(module) = item else { continue };
            if is_test(&module.attrs) {
                continue;
            }
            let name = module.ident.to_string();
            path.push(name.clone());
            match &module.content {
                Some((_, items)) => self.add(items.clone(), &folder.join(&name), path),
                None => self.read(&file_of(folder, &name), &folder.join(&name), path),
            }
            path.pop();
        }
        self.modules.insert(path.clone(), items);
    }

    /// The lines of the list, sorted.
    fn api(&self, path: &str) -> Vec<String> {
        let exports = self.exports(&[], path);
        let names: BTreeSet<String> = exports.iter().map(|export| export.item_name.clone()).collect();
        let mut lines = BTreeSet::new();
        for export in &exports {
            export.lines(&mut lines);
        }
        let types = self.local_types();
        for item in self.modules.values().flatten() {
            match item {
                Item::Impl(block) => lines_of_impl(block, &names, &types, &mut lines),
                Item::Macro(call) if call.mac.path.is_ident("named") => {
                    let name = call.mac.tokens.clone().into_iter().next().expect("a type").to_string();
                    if names.contains(&name) {
                        lines.insert(format!("{name}::NAMES: &[&str]"));
                        lines.insert(format!("impl Display for {name}"));
                        lines.insert(format!("impl FromStr for {name}"));
                    }
                }
                _ => {}
            }
        }
        lines.into_iter().collect()
    }

    /// The names of all types that are defined in the crate.
    fn local_types(&self) -> BTreeSet<String> {
        let name = |item: &Item| match item {
            Item::Struct(item) => Some(item.ident.to_string()),
            Item::Enum(item) => Some(item.ident.to_string()),
            _ => None,
        };
        self.modules.values().flatten().filter_map(name).collect()
    }

    /// What a module exports, its public modules included.
    fn exports(&self, module: &[String], prefix: &str) -> Vec<Export<'_>> {
        let mut exports = Vec::new();
        for item in &self.modules[module] {
            match item {
                Item::Use(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                    for (path, alias) in leaves(&item.tree, &mut Vec::new()) {
                        exports.extend(self.find(module, &path, &format!("{prefix}::{alias}")));
                    }
                }
                Item::Mod(inner) if is_public(&inner.vis) && !is_hidden(&inner.attrs) => {
                    let path = [module, &[inner.ident.to_string()]].concat();
                    exports.extend(self.exports(&path, &format!("{prefix}::{}", inner.ident)));
                }
                other => {
                    if let Some((name, vis, attrs)) = named(other)
                        && is_public(vis)
                        && !is_hidden(attrs)
                    {
                        let path = format!("{prefix}::{name}");
                        exports.push(Export { path, item_name: name, item: other });
                    }
                }
            }
        }
        exports
    }

    /// The definition that a path of a `use` leads to, or the exports of the module that it is.
    fn find(&self, from: &[String], path: &[String], exported: &str) -> Vec<Export<'_>> {
        let path: Vec<String> = match path.first().map(String::as_str) {
            Some(other) if OTHER_CRATES.contains(&other) => return Vec::new(),
            Some("crate") => path[1..].to_vec(),
            Some("self") => [from, &path[1..]].concat(),
            _ => [from, path].concat(),
        };
        if self.modules.contains_key(&path) {
            return self.exports(&path, exported);
        }
        let (name, module) = path.split_last().expect("a path");
        let items = self.modules.get(module).unwrap_or_else(|| panic!("no module {module:?} for {exported}"));
        for item in items {
            if let Some((found, ..)) = named(item)
                && found == *name
            {
                return vec![Export { path: exported.to_owned(), item_name: found, item }];
            }
            if let Item::Use(item) = item {
                for (path, alias) in leaves(&item.tree, &mut Vec::new()) {
                    if alias == *name {
                        return self.find(module, &path, exported);
                    }
                }
            }
        }
        panic!("{exported} is not defined in {module:?}");
    }
}

/// A public item.
struct Export<'a> {
    path: String,
    item_name: String,
    item: &'a Item,
}

impl Export<'_> {
    fn lines(&self, lines: &mut BTreeSet<String>) {
        let path = &self.path;
        let mut add = |line: String| {
            lines.insert(line);
        };
        match self.item {
            Item::Struct(item) => {
                add(format!("{}struct {path}{}", marks(&item.attrs), tidy(&item.generics)));
                for field in item.fields.iter().filter(|field| is_public(&field.vis)) {
                    let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
                    add(format!("{}::{name}: {}", self.item_name, tidy(&field.ty)));
                }
                derives(&item.attrs, &self.item_name).into_iter().for_each(&mut add);
            }
            Item::Enum(item) => {
                add(format!("{}enum {path}{}", marks(&item.attrs), tidy(&item.generics)));
                for variant in &item.variants {
                    let fields = fields_of(&variant.fields);
                    add(format!("{}::{}{fields}", self.item_name, variant.ident));
                }
                derives(&item.attrs, &self.item_name).into_iter().for_each(&mut add);
            }
            Item::Fn(item) => add(format!("{path}: {}", tidy(&item.sig))),
            Item::Const(item) => add(format!("const {path}: {} = {}", tidy(&item.ty), tidy(&item.expr))),
            Item::Type(item) => add(format!("type {path} = {}", tidy(&item.ty))),
            Item::Trait(item) => {
                add(format!("trait {path}{}", tidy(&item.generics)));
                for inner in &item.items {
                    match inner {
                        TraitItem::Fn(inner) if !is_hidden(&inner.attrs) => {
                            let provided = if inner.default.is_some() { " { .. }" } else { "" };
                            let signature = tidy(&inner.sig);
                            let signature = signature.trim_start_matches("fn ");
                            add(format!("{}::{signature}{provided}", self.item_name));
                        }
                        TraitItem::Const(inner) if !is_hidden(&inner.attrs) => {
                            add(format!("{}::{}: {}", self.item_name, inner.ident, tidy(&inner.ty)));
                        }
                        _ => {}
                    }
                }
            }
            _ => panic!("{path}: this kind of item is new to the list"),
        }
    }
}

fn lines_of_impl(
    block: &ItemImpl,
    exported: &BTreeSet<String>,
    local: &BTreeSet<String>,
    lines: &mut BTreeSet<String>,
) {
    let name = name_of(&block.self_ty);
    let is_exported = exported.contains(&name);
    if let Some((of, _)) = &block.trait_ {
        let of = tidy(of);
        let mentions = |name: &String| of.split(|c: char| !c.is_alphanumeric()).any(|word| word == name);
        if is_exported || (!local.contains(&name) && exported.iter().any(mentions)) {
            let of =
                of.rsplit_once("::").filter(|(path, _)| !path.contains('<')).map_or(&*of, |(_, name)| name);
            lines.insert(format!("impl {of} for {}", tidy(&block.self_ty)));
        }
        return;
    }
    for item in block.items.iter().filter(|_| is_exported) {
        match item {
            ImplItem::Fn(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                let signature = tidy(&item.sig).replace("(mut self", "(self").replace(", mut ", ", ");
                lines.insert(format!("{name}::{}", signature.trim_start_matches("fn ")));
            }
            ImplItem::Const(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                lines.insert(format!("{name}::{}: {}", item.ident, tidy(&item.ty)));
            }
            _ => {}
        }
    }
}

/// The fields of a variant, without their documentation.
fn fields_of(fields: &Fields) -> String {
    let field = |field: &Field| match &field.ident {
        Some(name) => format!("{name}: {}", tidy(&field.ty)),
        None => tidy(&field.ty),
    };
    let all: Vec<String> = fields.iter().map(field).collect();
    match fields {
        Fields::Unit => String::new(),
        Fields::Unnamed(_) => format!("({})", all.join(", ")),
        Fields::Named(_) => format!(" {{ {} }}", all.join(", ")),
    }
}

fn file_of(folder: &Path, name: &str) -> PathBuf {
    let plain = folder.join(format!("{name}.rs"));
    if plain.exists() { plain } else { folder.join(name).join("mod.rs") }
}

/// The paths that a `use` names, each with the name that it gets.
fn leaves(tree: &UseTree, prefix: &mut Vec<String>) -> Vec<(Vec<String>, String)> {
    let full = |prefix: &[String], name: &syn::Ident| [prefix, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            let found = leaves(&path.tree, prefix);
            prefix.pop();
            found
        }
        UseTree::Name(name) => vec![(full(prefix, &name.ident), name.ident.to_string())],
        UseTree::Rename(rename) => vec![(full(prefix, &rename.ident), rename.rename.to_string())],
        UseTree::Group(group) => group.items.iter().flat_map(|tree| leaves(tree, prefix)).collect(),
        UseTree::Glob(_) => Vec::new(),
    }
}

fn named(item: &Item) -> Option<(String, &Visibility, &[Attribute])> {
    let (name, vis, attrs) = match item {
        Item::Struct(item) => (&item.ident, &item.vis, &item.attrs),
        Item::Enum(item) => (&item.ident, &item.vis, &item.attrs),
        Item::Fn(item) => (&item.sig.ident, &item.vis, &item.attrs),
        Item::Const(item) => (&item.ident, &item.vis, &item.attrs),
        Item::Type(item) => (&item.ident, &item.vis, &item.attrs),
        Item::Trait(item) => (&item.ident, &item.vis, &item.attrs),
        _ => return None,
    };
    Some((name.to_string(), vis, attrs))
}

fn name_of(ty: &Type) -> String {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default(),
        Type::Reference(reference) => name_of(&reference.elem),
        _ => String::new(),
    }
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

fn is_hidden(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| attr.path().is_ident("doc") && tidy(&attr.meta).contains("hidden"))
}

fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| attr.path().is_ident("cfg") && tidy(&attr.meta) == "cfg(test)")
}

fn marks(attrs: &[Attribute]) -> &'static str {
    let is_open = attrs.iter().any(|attr| attr.path().is_ident("non_exhaustive"));
    if is_open { "#[non_exhaustive] " } else { "" }
}

fn derives(attrs: &[Attribute], name: &str) -> Vec<String> {
    let derives = attrs.iter().filter(|attr| attr.path().is_ident("derive"));
    let traits = derives.flat_map(|attr| {
        attr.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).expect("names of traits")
    });
    traits.map(|derived| format!("impl {} for {name}", tidy(derived.path()))).collect()
}

/// Tokens as rustfmt would write them on one line, nearly.
fn tidy(tokens: &impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (from, to) in [
        (" ::", "::"),
        (":: ", "::"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        ("& ", "&"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        (" :", ":"),
        ("->(", "-> ("),
        (" ;", ";"),
        (",>", ">"),
        (",)", ")"),
    ] {
        text = text.replace(from, to);
    }
    text
}
