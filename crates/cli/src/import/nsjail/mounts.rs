//! The mounts of a jail, as they are named.

use super::fields::Fields;
use crate::import::service::ImportedService;
use crate::import::textproto::{At, TextFault};

/// Something that nsjail puts at a path of the jail.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    pub(super) source: String,
    /// Its path in the jail, without a slash at the end.
    pub(super) place: String,
    pub(super) kind: MountKind,
    pub(super) options: String,
    pub(super) is_writable: bool,
    pub(super) is_mandatory: bool,
    pub(super) allows_execution: bool,
    pub(super) at: At,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MountKind {
    Bind,
    /// A file system of this type.
    New(String),
    Link,
    /// A file whose content is in the configuration.
    Content,
}

impl Mount {
    pub(super) fn is_tmpfs(&self) -> bool {
        self.kind == MountKind::New("tmpfs".into())
    }

    /// Whether it is at a path, or below it.
    pub(super) fn is_within(&self, path: &str) -> bool {
        is_within(&self.place, path)
    }

    /// Whether it covers what was at its path before.
    fn covers(&self, other: &Mount) -> bool {
        self.kind != MountKind::Link && other.is_within(&self.place)
    }

    fn read(fields: Fields, service: &mut ImportedService) -> Result<Mount, TextFault> {
        const KNOWN: [&str; 15] = [
            "src",
            "prefix_src_env",
            "src_content",
            "dst",
            "prefix_dst_env",
            "fstype",
            "options",
            "is_bind",
            "rw",
            "is_dir",
            "mandatory",
            "is_symlink",
            "nosuid",
            "nodev",
            "noexec",
        ];
        let place = fields.text("dst")?.filter(|place| !place.is_empty());
        let place = place.ok_or_else(|| fields.at.fault("the mount has no dst"))?;
        if ["prefix_src_env", "prefix_dst_env"].into_iter().any(|name| fields.has(name)) {
            let why = format!("the mount at {place} begins with a variable of nsjail: write the path");
            return Err(fields.at.fault(why));
        }
        let place = normal(place)
            .ok_or_else(|| fields.at.fault(format!("{place} is no absolute path, or has a part \"..\"")))?;
        for field in fields.all().filter(|field| !KNOWN.contains(&field.name.as_str())) {
            service.note(format!("mount at {place}: {} is an unknown field", field.name));
        }
        let file_system = fields.text("fstype")?.unwrap_or_default();
        let kind = if fields.flag("is_symlink", false)? {
            MountKind::Link
        } else if fields.has("src_content") {
            MountKind::Content
        } else if fields.flag("is_bind", false)? {
            MountKind::Bind
        } else if file_system.is_empty() {
            return Err(fields.at.fault(format!("the mount at {place} has neither is_bind nor fstype")));
        } else {
            MountKind::New(file_system.to_owned())
        };
        // Without them, a jail of tine is stricter.
        for name in ["nosuid", "nodev", "is_dir"] {
            fields.flag(name, false)?;
        }
        Ok(Mount {
            source: fields.text("src")?.unwrap_or_default().to_owned(),
            place,
            kind,
            options: fields.text("options")?.unwrap_or_default().to_owned(),
            is_writable: fields.flag("rw", false)?,
            is_mandatory: fields.flag("mandatory", true)?,
            allows_execution: !fields.flag("noexec", false)?,
            at: fields.at,
        })
    }
}

/// Whether a path is another one, or below it.
pub(super) fn is_within(path: &str, other: &str) -> bool {
    let below = path.strip_prefix(other);
    other == "/" || below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// An absolute path without empty parts, `.` and a slash at the end.
fn normal(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (path.starts_with('/') && !parts.contains(&"..")).then(|| format!("/{}", parts.join("/")))
}

/// The mounts that can be seen, in the order of the text.
///
/// # Errors
/// A field has the wrong type, or a mount is none that nsjail can make.
pub(super) fn read(fields: Fields, service: &mut ImportedService) -> Result<Vec<Mount>, TextFault> {
    let mut mounts = Vec::new();
    if let Some(root) = fields.text("chroot_dir")?.filter(|root| !root.is_empty()) {
        mounts.push(Mount {
            source: root.to_owned(),
            place: "/".into(),
            kind: MountKind::Bind,
            options: String::new(),
            is_writable: fields.flag("is_root_rw", false)?,
            is_mandatory: true,
            allows_execution: true,
            at: fields.one("chroot_dir")?.map_or(fields.at, |field| field.at),
        });
    }
    for mount in fields.each_within("mount")? {
        mounts.push(Mount::read(mount, service)?);
    }
    // What a later mount covers cannot be seen.
    let covered = |number: usize| mounts[number + 1..].iter().any(|later| later.covers(&mounts[number]));
    let seen = (0..mounts.len()).filter(|number| !covered(*number));
    Ok(seen.map(|number| mounts[number].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_by_their_parts() {
        for (path, other, expected) in [
            ("/a/b", "/a", true),
            ("/a", "/a", true),
            ("/ab", "/a", false),
            ("/a", "/a/b", false),
            ("/a", "/", true),
            ("/", "/", true),
            ("/", "/a", false),
        ] {
            assert_eq!(is_within(path, other), expected, "{path} {other}");
        }
    }

    #[test]
    fn paths_have_one_spelling() {
        for (path, expected) in [
            ("/", Some("/")),
            ("//a//b/./", Some("/a/b")),
            ("/a/..", None),
            ("a", None),
            ("", None),
            ("/a..b/...", Some("/a..b/...")),
        ] {
            assert_eq!(normal(path).as_deref(), expected, "{path}");
        }
    }
}
