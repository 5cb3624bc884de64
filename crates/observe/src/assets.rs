//! The files of the dashboard, which are in the binary.

/// A file, as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    pub(crate) content_type: &'static str,
    pub(crate) bytes: &'static [u8],
}

/// What the pages of the dashboard may load: from here, and nothing else.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// The file with this path; `/` is the dashboard.
pub(crate) fn find(path: &str) -> Option<Asset> {
    let name = if path == "/" { "index.html" } else { path.strip_prefix("/assets/")? };
    let (_, bytes) = FILES.iter().find(|(file, _)| *file == name)?;
    let content_type = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    };
    Some(Asset { content_type, bytes })
}

macro_rules! files {
    ($($name:literal,)*) => {
        &[$(($name, include_bytes!(concat!("../assets/", $name)))),*]
    };
}

/// Each file with its path below `assets/`.
const FILES: &[(&str, &[u8])] = files![
    "index.html",
    "dashboard.css",
    "fork.css",
    "favicon.svg",
    "api.js",
    "bundles.js",
    "confirm.js",
    "crashes.js",
    "details.js",
    "dialog.js",
    "dom.js",
    "fork.js",
    "format.js",
    "geometry.js",
    "groups.js",
    "history.js",
    "main.js",
    "outcome.js",
    "panels.js",
    "plots.js",
    "steer.js",
    "stream.js",
    "table.js",
    "targets.js",
    "theme.js",
    "tines.js",
    "vendor/uplot/uPlot.iife.min.js",
    "vendor/uplot/uPlot.min.css",
    "vendor/uplot/LICENSE",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// All files below a folder, as paths relative to the first one.
    fn below(folder: &Path, top: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => below(&path, top, found),
                false => found.push(path.strip_prefix(top).expect("below").display().to_string()),
            }
        }
    }

    #[test]
    fn every_file_is_served() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let mut files = Vec::new();
        below(&top, &top, &mut files);
        files.retain(|file| !file.ends_with("README.md"));
        files.sort();
        let mut served: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        served.sort_unstable();
        assert_eq!(served, files);
    }

    #[test]
    fn pages_load_only_what_is_served() {
        for (name, bytes) in FILES.iter().filter(|(name, _)| !name.starts_with("vendor/")) {
            let text = String::from_utf8_lossy(bytes);
            let named = text.split(['"', '\'']).filter(|word| word.starts_with("/assets/"));
            for path in named {
                assert!(find(path).is_some(), "{name} names {path}");
            }
            let relative = text.split(['"', '\'']).filter_map(|word| word.strip_prefix("./"));
            for path in relative {
                assert!(find(&format!("/assets/{path}")).is_some(), "{name} imports {path}");
            }
            for elsewhere in ["http://", "https://", "//cdn"] {
                let allowed = "http://www.w3.org/";
                assert!(!text.replace(allowed, "").contains(elsewhere), "{name} names another host");
            }
        }
    }

    #[test]
    fn paths_name_files() {
        assert_eq!(find("/"), find("/assets/index.html"));
        assert_eq!(find("/").map(|asset| asset.content_type), Some("text/html; charset=utf-8"));
        for path in ["/index.html", "/assets/", "/assets/../index.html", "/assets", ""] {
            assert_eq!(find(path), None, "{path}");
        }
    }
}
