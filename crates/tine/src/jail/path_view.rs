//! Paths of processes that see other files, or the same ones at other paths.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The number of links that are followed (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// A file or directory that processes see at a path of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BindPath {
    /// Its path on the system.
    pub(crate) source: PathBuf,
    /// The path that they see.
    pub(crate) at: PathBuf,
}

impl BindPath {
    /// The same path on both sides.
    pub(crate) fn same(path: PathBuf) -> BindPath {
        BindPath { source: path.clone(), at: path }
    }
}

/// What processes see of the system.
#[derive(Clone, Debug, Default)]
pub(crate) struct PathView {
    /// Their root directory, if it is not that of the system.
    pub(crate) root: Option<PathBuf>,
    /// Paths that they see in addition, or instead of what is there.
    pub(crate) binds: Vec<BindPath>,
    /// Directories that are empty at first, and hide what is there otherwise.
    pub(crate) temporary: Vec<PathBuf>,
}

/// Where the system has a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutsidePath {
    pub(crate) path: PathBuf,
    /// What is above it on the system, and not in the view.
    pub(crate) above: PathBuf,
}

impl PathView {
    /// Whether they see nothing of the system there.
    pub(crate) fn hides(&self, path: &Path) -> bool {
        let temporary = depth(path, self.temporary.iter().map(PathBuf::as_path));
        temporary > depth(path, self.binds.iter().map(|bind| bind.at.as_path()))
    }

    /// Whether they see a directory there.
    pub(crate) fn has_directory(&self, path: &Path) -> bool {
        match self.hides(path) {
            // One of the system that is the working directory is there, too.
            true if self.root.is_none() => self.is_temporary(path) || path.is_dir(),
            true => self.is_temporary(path),
            false => self.outside(path).path.is_dir(),
        }
    }

    fn is_temporary(&self, path: &Path) -> bool {
        self.temporary.iter().any(|own| own == path)
    }

    /// Where the system has a path of the view.
    pub(crate) fn outside(&self, path: &Path) -> OutsidePath {
        let longest = self.binds.iter().filter(|bind| path.starts_with(&bind.at));
        if let Some(bind) = longest.max_by_key(|bind| bind.at.as_os_str().len()) {
            let below = path.strip_prefix(&bind.at).unwrap_or(path);
            let path = if below == Path::new("") { bind.source.clone() } else { bind.source.join(below) };
            let above = if bind.source == bind.at { Path::new("") } else { bind.source.as_path() };
            return OutsidePath { path, above: above.to_owned() };
        }
        match &self.root {
            Some(root) => OutsidePath { path: below_root(root, path), above: root.clone() },
            None => OutsidePath { path: path.to_owned(), above: PathBuf::new() },
        }
    }
}

/// The length of the longest of these paths that is another one, or above it.
pub(super) fn depth<'a>(path: &Path, above: impl Iterator<Item = &'a Path>) -> Option<usize> {
    above.filter(|above| path.starts_with(above)).map(|above| above.components().count()).max()
}

/// Where the system has a path that is resolved below another root: links and `..` do not leave it.
/// A path that does not exist there is resolved as far as it does.
fn below_root(root: &Path, path: &Path) -> PathBuf {
    let mut left: Vec<PathBuf> = reversed_parts(path);
    let mut inside = PathBuf::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == Path::new("..") {
            inside.pop();
            continue;
        }
        match fs::read_link(root.join(&inside).join(&part)) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                if target.is_absolute() {
                    inside.clear();
                }
                left.extend(reversed_parts(&target));
            }
            Ok(_) | Err(_) => inside.push(part),
        }
    }
    root.join(inside)
}

fn reversed_parts(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().rev();
    parts
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_parents_stay_below_the_root() {
        let root = std::env::temp_dir().join(format!("tine-below-root-{}", std::process::id()));
        fs::create_dir_all(root.join("usr/bin")).expect("a directory");
        for (target, link) in [
            ("usr/bin", "bin"),
            ("/usr", "absolute"),
            ("../../../..", "usr/up"),
            ("around", "around"),
            ("/bin/tool", "usr/tool"),
        ] {
            symlink(target, root.join(link)).expect("a link");
        }
        for (path, expected) in [
            ("/", ""),
            ("/bin/sh", "usr/bin/sh"),
            ("bin/../sh", "usr/sh"),
            ("/../../etc/passwd", "etc/passwd"),
            ("/absolute/bin/x", "usr/bin/x"),
            ("/usr/up/etc", "etc"),
            ("/usr/tool", "usr/bin/tool"),
            ("/missing/x", "missing/x"),
            ("/around/x", "around/x"),
        ] {
            assert_eq!(below_root(&root, Path::new(path)), root.join(expected), "{path}");
        }
        fs::remove_dir_all(&root).expect("ours");
    }

    #[test]
    fn a_bind_is_seen_before_the_root() {
        let bind = |source: &str, at: &str| BindPath { source: source.into(), at: at.into() };
        let binds = vec![bind("/srv/a", "/app"), bind("/srv/b", "/app/lib"), bind("/etc", "/etc")];
        let view = PathView { root: Some("/nonexistent/root".into()), binds, ..PathView::default() };
        for (path, outside, above) in [
            ("/app", "/srv/a", "/srv/a"),
            ("/app/run", "/srv/a/run", "/srv/a"),
            ("/app/lib/x", "/srv/b/x", "/srv/b"),
            ("/etc/passwd", "/etc/passwd", ""),
            ("/application", "/nonexistent/root/application", "/nonexistent/root"),
        ] {
            let expected = OutsidePath { path: outside.into(), above: above.into() };
            assert_eq!(view.outside(Path::new(path)), expected, "{path}");
        }
        let same = OutsidePath { path: "/bin/sh".into(), above: "".into() };
        assert_eq!(PathView::default().outside(Path::new("/bin/sh")), same);
    }

    #[test]
    fn a_temporary_directory_hides_what_is_there_but_not_a_bind_in_it() {
        let binds = vec![BindPath::same("/usr/share".into()), BindPath::same("/tmp".into())];
        let temporary = ["/usr", "/usr/share/doc", "/tmp"].map(PathBuf::from).into();
        let of_the_system = PathView { binds, temporary, ..PathView::default() };
        let of_another = PathView { root: Some("/nonexistent/root".into()), ..of_the_system.clone() };
        for (path, hides, has_directory, in_another) in [
            ("/usr", true, true, true),
            ("/usr/bin", true, true, false),
            ("/usr/nothing", true, false, false),
            ("/usr/share", false, true, true),
            ("/usr/share/doc", true, true, true),
            ("/tmp", false, true, true),
            ("/etc", false, true, false),
        ] {
            let path = Path::new(path);
            assert_eq!(of_the_system.hides(path), hides, "{}", path.display());
            assert_eq!(of_another.hides(path), hides, "{}", path.display());
            assert_eq!(of_the_system.has_directory(path), has_directory, "{}", path.display());
            assert_eq!(of_another.has_directory(path), in_another, "{}", path.display());
        }
    }
}
