//! Limits on what all processes of a connection use together, and how cgroups express them
//! (cgroups(7), and `Documentation/admin-guide/cgroup-v1`, `cgroup-v2.rst` of the kernel).

/// The period in which processor time is counted, in microseconds.
const PERIOD: u64 = 100_000;

/// The limits of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceLimits {
    /// Memory in bytes, with that of files in `/tmp`.
    pub(crate) memory: Option<u64>,
    /// Processes and threads.
    pub(crate) tasks: Option<u64>,
    /// Processor time in percent of one processor.
    pub(crate) cpu: Option<u32>,
}

/// What of the kernel counts a resource of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CgroupController {
    Memory,
    Pids,
    Cpu,
}

/// The two kinds of hierarchies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CgroupVersion {
    /// One for each controller, or for a few.
    One,
    /// One for all.
    Two,
}

/// A file of a cgroup that sets a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CgroupSetting {
    pub(crate) file: &'static str,
    pub(crate) value: String,
    /// Whether a kernel may have no such file, as one that does not count swap.
    pub(crate) is_optional: bool,
}

impl CgroupController {
    /// Its name, as the kernel has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            CgroupController::Memory => "memory",
            CgroupController::Pids => "pids",
            CgroupController::Cpu => "cpu",
        }
    }

    /// The files that set its limit, in the order in which they have to be written.
    pub(super) fn settings(self, limits: &ResourceLimits, version: CgroupVersion) -> Vec<CgroupSetting> {
        let set = |file, value: u64| CgroupSetting { file, value: value.to_string(), is_optional: false };
        let maybe = |file, value| CgroupSetting { is_optional: true, ..set(file, value) };
        let quota = |percent: u32| u64::from(percent) * PERIOD / 100;
        match (self, version) {
            (CgroupController::Memory, CgroupVersion::One) => limits.memory.map(|bytes| {
                vec![set("memory.limit_in_bytes", bytes), maybe("memory.memsw.limit_in_bytes", bytes)]
            }),
            // All processes of the connection end with the one that the kernel chooses.
            (CgroupController::Memory, CgroupVersion::Two) => limits.memory.map(|bytes| {
                vec![set("memory.max", bytes), maybe("memory.swap.max", 0), maybe("memory.oom.group", 1)]
            }),
            (CgroupController::Pids, _) => limits.tasks.map(|tasks| vec![set("pids.max", tasks)]),
            (CgroupController::Cpu, CgroupVersion::One) => limits.cpu.map(|percent| {
                vec![set("cpu.cfs_period_us", PERIOD), set("cpu.cfs_quota_us", quota(percent))]
            }),
            (CgroupController::Cpu, CgroupVersion::Two) => limits.cpu.map(|percent| {
                let value = format!("{} {PERIOD}", quota(percent));
                vec![CgroupSetting { file: "cpu.max", value, is_optional: false }]
            }),
        }
        .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_each_version_has_them() {
        let limits = ResourceLimits { memory: Some(64 << 20), tasks: Some(5), cpu: Some(10) };
        let written = |controller: CgroupController, version| {
            let settings = controller.settings(&limits, version);
            settings.iter().map(|one| format!("{}={}", one.file, one.value)).collect::<Vec<_>>()
        };
        let (one, two) = (CgroupVersion::One, CgroupVersion::Two);
        assert_eq!(
            written(CgroupController::Memory, one),
            ["memory.limit_in_bytes=67108864", "memory.memsw.limit_in_bytes=67108864"]
        );
        assert_eq!(
            written(CgroupController::Memory, two),
            ["memory.max=67108864", "memory.swap.max=0", "memory.oom.group=1"]
        );
        assert_eq!(written(CgroupController::Pids, one), ["pids.max=5"]);
        assert_eq!(written(CgroupController::Pids, two), ["pids.max=5"]);
        assert_eq!(
            written(CgroupController::Cpu, one),
            ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=10000"]
        );
        assert_eq!(written(CgroupController::Cpu, two), ["cpu.max=10000 100000"]);
        let none = ResourceLimits::default();
        assert!(CgroupController::Memory.settings(&none, one).is_empty());
    }
}
