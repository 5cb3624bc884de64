//! What the mounts become: a root directory, binds, `/tmp`, and what a full jail has anyway.

use super::mounts::{Mount, MountKind, is_within};
use crate::import::amounts;
use crate::import::service::ImportedService;
use crate::import::textproto::TextFault;

/// What a full jail has of the system, to read, without a root directory.
const SYSTEM: [&str; 7] = ["/bin", "/etc", "/lib", "/lib32", "/lib64", "/sbin", "/usr"];

/// Devices of a full jail, and links beside them.
const DEVICES: [&str; 10] = [
    "/dev/fd",
    "/dev/full",
    "/dev/null",
    "/dev/random",
    "/dev/stderr",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
];

/// The smallest file system in memory of a full jail.
const SMALLEST_TMP: u64 = 4 << 10;

/// The files of a jail as they are set.
struct JailFiles<'s> {
    service: &'s mut ImportedService,
    has_root: bool,
    read_only: Vec<String>,
    read_write: Vec<String>,
    temporary: Vec<String>,
}

/// Sets what the mounts, none of which covers one before, become.
///
/// # Errors
/// They confine the program in a way that tine has not.
pub(super) fn apply(
    mounts: &[Mount],
    has_proc: bool,
    service: &mut ImportedService,
) -> Result<(), TextFault> {
    let mut files = JailFiles {
        service,
        has_root: false,
        read_only: Vec::new(),
        read_write: Vec::new(),
        temporary: Vec::new(),
    };
    for mount in mounts.iter().filter(|mount| mount.place == "/") {
        files.root(mount)?;
    }
    for mount in mounts.iter().filter(|mount| mount.place != "/") {
        files.one(mount, mounts)?;
    }
    files.note_what_is_added(mounts, has_proc);
    files.service.set_list("bind-read-only-paths", files.read_only);
    files.service.set_list("bind-paths", files.read_write);
    files.service.set_list("temporary-file-system", files.temporary);
    Ok(())
}

impl JailFiles<'_> {
    /// What is mounted as the root.
    fn root(&mut self, mount: &Mount) -> Result<(), TextFault> {
        match &mount.kind {
            MountKind::Bind => {
                self.service.set("root-directory", source(mount)?);
                self.has_root = true;
                self.note_flags(mount);
            }
            // An empty one, as without a mount.
            MountKind::New(_) if mount.is_tmpfs() => {}
            kind => return Err(mount.at.fault(format!("the root is {}", describe(kind)))),
        }
        if mount.is_writable {
            self.service.note("mount at /: rw: true: the root of a full jail cannot be written");
        }
        Ok(())
    }

    fn one(&mut self, mount: &Mount, mounts: &[Mount]) -> Result<(), TextFault> {
        let place = mount.place.as_str();
        if mount.is_within("/proc") || mount.is_within("/dev") {
            self.own(mount);
            return Ok(());
        }
        match &mount.kind {
            MountKind::Bind => self.bind(mount, mounts),
            MountKind::New(_) if mount.is_tmpfs() => self.tmpfs(mount, mounts),
            kind => {
                let what = describe(kind);
                self.service.note(format!("mount at {place}: it is {what}: put it into a root directory"));
                Ok(())
            }
        }
    }

    /// A mount at, or below, what a full jail has of its own.
    fn own(&mut self, mount: &Mount) {
        let place = mount.place.as_str();
        let is_new =
            |types: &[&str]| matches!(&mount.kind, MountKind::New(kind) if types.contains(&kind.as_str()));
        let is_same = mount.kind == MountKind::Bind && mount.source == place;
        match place {
            "/proc" if is_new(&["proc"]) || is_same => {
                if mount.is_writable {
                    self.service.note("mount at /proc: rw: true: in a full jail it has only processes");
                }
            }
            "/dev" if is_new(&["tmpfs", "devtmpfs"]) => {}
            "/dev/shm" if mount.is_tmpfs() => {}
            _ if DEVICES.contains(&place) && (is_same || mount.kind == MountKind::Link) => {}
            _ => {
                let has = match mount.is_within("/dev") {
                    true => "/dev has null, zero, full, random, urandom, tty, and with pty terminals",
                    false => "a full jail has a /proc of its own",
                };
                self.service.note(format!("mount at {place}: {has}"));
            }
        }
    }

    /// A bind at a path that tine does not have of its own.
    fn bind(&mut self, mount: &Mount, mounts: &[Mount]) -> Result<(), TextFault> {
        let source = source(mount)?;
        let place = mount.place.as_str();
        self.note_flags(mount);
        let of_the_system = SYSTEM.iter().any(|path| mount.is_within(path));
        // Within another mount, it may differ from what is there.
        let is_alone = !mounts.iter().any(|other| other.place != place && mount.is_within(&other.place));
        if !self.has_root && of_the_system && is_alone && source == place && !mount.is_writable {
            return Ok(());
        }
        if source.contains(':') || place.contains(':') {
            return Err(mount.at.fault(format!("{source}: a path with a colon cannot be bound")));
        }
        if !mount.is_mandatory {
            self.service.note(format!("mount at {place}: mandatory: false: here {source} has to exist"));
        }
        let bind = if source == place { source.to_owned() } else { format!("{source}:{place}") };
        if mount.is_writable {
            self.read_write.push(bind)
        } else {
            self.read_only.push(bind)
        }
        Ok(())
    }

    /// Options of a bind.
    fn note_flags(&mut self, mount: &Mount) {
        let place = mount.place.as_str();
        if !mount.allows_execution {
            self.service.note(format!("mount at {place}: noexec: true: programs in it can be executed"));
        }
        if !mount.options.is_empty() {
            self.service.note(format!("mount at {place}: options: {}", mount.options));
        }
    }

    /// A tmpfs: at `/tmp`, or elsewhere. What it hides and what is mounted in it later are the same
    /// in a full jail, which mounts what is below a path after it.
    fn tmpfs(&mut self, mount: &Mount, mounts: &[Mount]) -> Result<(), TextFault> {
        let place = mount.place.as_str();
        let is_tmp = place == "/tmp";
        let hides = self.has_root || SYSTEM.iter().any(|path| mount.is_within(path));
        let is_in_bind = mounts.iter().any(|other| {
            other.kind == MountKind::Bind && other.place != "/" && mount.is_within(&other.place)
        });
        if !is_tmp && !mount.is_writable && !hides && !is_in_bind {
            // Nothing is there, and nothing can be.
            return Ok(());
        }
        if !mount.is_writable {
            self.service
                .note(format!("mount at {place}: it is not rw: in a full jail, {place} can be written"));
        }
        let size = self.size_of_tmpfs(mount);
        match (is_tmp, size) {
            (true, size) => size.into_iter().for_each(|size| self.service.set("private-tmp", size)),
            (false, _) if place.contains(':') => {
                let what = format!("{place}: a path with a colon cannot be a temporary file system");
                return Err(mount.at.fault(what));
            }
            (false, Some(size)) => self.temporary.push(format!("{place}:{size}")),
            (false, None) => self.temporary.push(place.to_owned()),
        }
        Ok(())
    }

    /// The size of a tmpfs, if it has one.
    fn size_of_tmpfs(&mut self, mount: &Mount) -> Option<String> {
        let place = mount.place.as_str();
        let mut found = None;
        for option in mount.options.split(',').filter(|option| !option.is_empty()) {
            match option.strip_prefix("size=").and_then(amounts::bytes) {
                None => self.service.note(format!("mount at {place}: option {option}")),
                Some(0) => self.service.note(format!("mount at {place}: option size=0: here, it has 16M")),
                Some(size) => found = Some(amounts::size(size.max(SMALLEST_TMP))),
            }
        }
        found
    }

    /// Names what is in a full jail, and not in the one of nsjail.
    fn note_what_is_added(&mut self, mounts: &[Mount], has_proc: bool) {
        let is_bound = |path: &&str| {
            let binds = mounts.iter().filter(|mount| mount.kind == MountKind::Bind);
            binds.into_iter().any(|mount| is_within(path, &mount.place))
        };
        if !self.has_root && !["/bin", "/etc", "/lib", "/sbin", "/usr"].iter().all(is_bound) {
            self.service.note(
                "its root has nothing but its mounts: without root-directory, a full jail also has /usr, /bin, \
                 /sbin, /lib*, /etc, to read",
            );
        }
        let is_mounted = |place: &str| mounts.iter().any(|mount| mount.place == place);
        let mut added = Vec::new();
        for (place, is_there) in [("/proc", has_proc), ("/tmp", false)] {
            if !is_there && !is_mounted(place) {
                added.push(place);
            }
        }
        if !added.is_empty() {
            self.service.note(format!("it mounts no {}: a full jail has its own", added.join(" and no ")));
        }
    }
}

/// The source of a bind.
fn source(mount: &Mount) -> Result<&str, TextFault> {
    match mount.source.trim_end_matches('/') {
        "" if mount.source.starts_with('/') => Ok("/"),
        path if path.starts_with('/') => Ok(path),
        _ => Err(mount.at.fault(format!("the mount at {} has no absolute path as src", mount.place))),
    }
}

/// For messages.
fn describe(kind: &MountKind) -> String {
    match kind {
        MountKind::Bind => "a bind".into(),
        MountKind::New(kind) => format!("a file system {kind}"),
        MountKind::Link => "a symbolic link".into(),
        MountKind::Content => "a file with src_content".into(),
    }
}
