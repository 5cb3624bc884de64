//! Finds the cgroups in which a server can limit its connections: on the hierarchy of version 2, if
//! that has the controllers, else on those of version 1.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::layer::Refused;
use super::resources::{CgroupController, CgroupSetting, CgroupVersion, ResourceLimits};

/// A hierarchy in which each connection gets a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CgroupTree {
    /// The cgroup below which those of the server are made.
    pub(crate) parent: PathBuf,
    pub(crate) version: CgroupVersion,
    pub(crate) controllers: Vec<CgroupController>,
    /// What is written into the cgroup of each connection.
    pub(crate) settings: Vec<CgroupSetting>,
}

/// What the system says about its cgroups.
#[derive(Clone, Debug)]
pub(crate) struct CgroupFacts {
    /// `/proc/self/cgroup`.
    pub(super) own: String,
    /// `/proc/self/mountinfo`.
    pub(super) mounts: String,
    /// The directory of version 2 that was named.
    pub(super) named: Option<PathBuf>,
    /// Reads `cgroup.controllers` of a directory.
    pub(super) controllers_of: fn(&Path) -> String,
    /// Whether cgroups can be made in a directory.
    pub(super) may_write: fn(&Path) -> Result<(), Errno>,
}

const DELEGATE: &str = "let the server have it: with systemd, `Delegate=yes` in the unit; or leave the \
                        limit out";

impl CgroupFacts {
    /// Asks the system. `named`: a directory of the hierarchy of version 2 in which the server may
    /// make cgroups.
    pub(crate) fn ask(named: Option<&Path>) -> CgroupFacts {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        CgroupFacts {
            own: read("/proc/self/cgroup"),
            mounts: read("/proc/self/mountinfo"),
            named: named.map(Path::to_owned),
            controllers_of: |directory| {
                std::fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default()
            },
            may_write: |directory| rustix::fs::access(directory, rustix::fs::Access::WRITE_OK),
        }
    }

    /// Where a resource can be limited.
    ///
    /// # Errors
    /// Nowhere: why, and the next move.
    pub(super) fn place(&self, controller: CgroupController) -> Result<(PathBuf, CgroupVersion), Refused> {
        let refused =
            |errno, cause: String| Refused { errno, cause: format!("cgroups: {cause}"), next: DELEGATE };
        let second = self.named.clone().or_else(|| self.own_directory(""));
        let has = |directory: &&PathBuf| {
            let controllers = (self.controllers_of)(directory);
            controllers.split_whitespace().any(|name| name == controller.name())
        };
        let found = match second.as_ref().filter(has) {
            Some(directory) => (directory.clone(), CgroupVersion::Two),
            None => match self.own_directory(controller.name()) {
                Some(directory) => (directory, CgroupVersion::One),
                None => {
                    let cause = match second {
                        Some(directory) => {
                            format!("{} has no controller {}", directory.display(), controller.name())
                        }
                        None => format!("no hierarchy has the controller {}", controller.name()),
                    };
                    return Err(refused(Errno::NOENT, cause));
                }
            },
        };
        match (self.may_write)(&found.0) {
            Ok(()) => Ok(found),
            Err(errno) => Err(refused(errno, format!("{} cannot be written", found.0.display()))),
        }
    }

    /// The directory of this process's cgroup in the hierarchy with a controller of version 1, or,
    /// without a name, of version 2.
    fn own_directory(&self, controller: &str) -> Option<PathBuf> {
        // `4:memory:/a/b`, `0::/a/b` (cgroups(7)).
        let own = self.own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let is_it = match controller {
                "" => controllers.is_empty(),
                name => controllers.split(',').any(|one| one == name),
            };
            is_it.then_some(Path::new(path))
        })?;
        // `29 24 0:26 /root /sys/fs/cgroup rw … - cgroup2 cgroup2 rw` (proc_pid_mountinfo(5)).
        self.mounts.lines().find_map(|line| {
            let (head, tail) = line.split_once(" - ")?;
            let mut head = head.split(' ').skip(3);
            let (root, point) = (head.next()?, head.next()?);
            let mut tail = tail.split(' ');
            let (kind, options) = (tail.next()?, tail.nth(1)?);
            let is_it = match controller {
                "" => kind == "cgroup2",
                name => kind == "cgroup" && options.split(',').any(|one| one == name),
            };
            let below = own.strip_prefix(root).ok().filter(|_| is_it)?;
            Some(Path::new(point).join(below))
        })
    }
}

/// Adds a controller to the hierarchy at a directory.
pub(super) fn add_to(
    trees: &mut Vec<CgroupTree>,
    place: (PathBuf, CgroupVersion),
    controller: CgroupController,
    limits: &ResourceLimits,
) {
    let (parent, version) = place;
    let settings = controller.settings(limits, version);
    match trees.iter_mut().find(|tree| tree.parent == parent) {
        Some(tree) => {
            tree.controllers.push(controller);
            tree.settings.extend(settings);
        }
        None => trees.push(CgroupTree { parent, version, controllers: vec![controller], settings }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As systemd mounts them since 2019.
    const UNIFIED: &str = "29 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    /// Version 1, as older systems and some sandboxes have it.
    const LEGACY: &str = "\
30 29 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 29 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 29 0:29 / /sys/fs/cgroup/pids ro,relatime - cgroup cgroup rw,pids
33 29 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    /// In a container, the mount begins at the cgroup of the container.
    const CONTAINER: &str = "40 39 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";

    fn facts(own: &str, mounts: &str) -> CgroupFacts {
        CgroupFacts {
            own: own.into(),
            mounts: mounts.into(),
            named: None,
            controllers_of: |directory| match directory.to_str() {
                Some("/sys/fs/cgroup/unified/user" | "/named/none") => String::new(),
                _ => "cpu memory pids\n".into(),
            },
            may_write: |directory| match directory.starts_with("/sys/fs/cgroup/pids") {
                true => Err(Errno::ROFS),
                false => Ok(()),
            },
        }
    }

    #[test]
    fn the_cgroup_of_the_server_is_found_on_both_kinds_of_hierarchies() {
        let unified = facts("0::/system.slice/tine.service\n", UNIFIED);
        let own = PathBuf::from("/sys/fs/cgroup/system.slice/tine.service");
        assert_eq!(unified.place(CgroupController::Memory), Ok((own, CgroupVersion::Two)));
        let named = CgroupFacts { named: Some("/named".into()), ..unified.clone() };
        assert_eq!(named.place(CgroupController::Pids), Ok(("/named".into(), CgroupVersion::Two)));
        let lines = "4:memory:/user/a\n2:cpu,cpuacct:/\n8:pids:/\n1:name=systemd:/\n0::/user\n";
        let legacy = facts(lines, LEGACY);
        let place = |path: &str| Ok((PathBuf::from(path), CgroupVersion::One));
        assert_eq!(legacy.place(CgroupController::Memory), place("/sys/fs/cgroup/memory/user/a"));
        assert_eq!(legacy.place(CgroupController::Cpu), place("/sys/fs/cgroup/cpu,cpuacct/"));
        // Version 1 also where a directory of version 2 was named that has no controllers.
        let named = CgroupFacts { named: Some("/named/none".into()), ..legacy.clone() };
        assert_eq!(named.place(CgroupController::Memory), place("/sys/fs/cgroup/memory/user/a"));
        let container = facts("4:memory:/docker/abc/x\n", CONTAINER);
        assert_eq!(container.place(CgroupController::Memory), place("/sys/fs/cgroup/memory/x"));
    }

    #[test]
    fn what_cannot_be_limited_says_why() {
        let legacy = facts("4:memory:/user\n8:pids:/\n0::/user\n", LEGACY);
        let unified = CgroupFacts { controllers_of: |_| "cpuset\n".into(), ..facts("0::/a\n", UNIFIED) };
        for (facts, controller, errno, cause) in [
            (&legacy, CgroupController::Pids, Errno::ROFS, "/sys/fs/cgroup/pids/ cannot be written"),
            (
                &legacy,
                CgroupController::Cpu,
                Errno::NOENT,
                "/sys/fs/cgroup/unified/user has no controller cpu",
            ),
            (&unified, CgroupController::Memory, Errno::NOENT, "/sys/fs/cgroup/a has no controller memory"),
            (
                &facts("", ""),
                CgroupController::Memory,
                Errno::NOENT,
                "no hierarchy has the controller memory",
            ),
        ] {
            let refused = facts.place(controller).expect_err("it cannot be limited");
            assert_eq!((refused.errno, refused.cause), (errno, format!("cgroups: {cause}")));
            assert!(refused.next.contains("Delegate=yes"));
        }
    }

    #[test]
    fn controllers_of_one_hierarchy_share_a_cgroup() {
        let limits = ResourceLimits { memory: Some(4096), tasks: Some(5), cpu: None };
        let mut trees = Vec::new();
        let second = || (PathBuf::from("/c"), CgroupVersion::Two);
        add_to(&mut trees, second(), CgroupController::Memory, &limits);
        add_to(&mut trees, second(), CgroupController::Pids, &limits);
        assert_eq!(trees.len(), 1);
        assert_eq!(trees[0].controllers, [CgroupController::Memory, CgroupController::Pids]);
        assert_eq!(trees[0].settings.len(), 4);
        add_to(&mut trees, ("/other".into(), CgroupVersion::One), CgroupController::Pids, &limits);
        assert_eq!(trees.len(), 2);
    }
}
