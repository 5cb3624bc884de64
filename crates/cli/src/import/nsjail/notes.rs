//! Fields without an equivalent, and why.

use super::fields::{Fields, is_true};
use super::limits;
use crate::import::service::ImportedService;
use crate::import::textproto::{Field, Value};

/// Fields that are translated elsewhere.
const TRANSLATED: [&str; 25] = [
    "bindhost",
    "cgroup_cpu_ms_per_sec",
    "cgroup_mem_max",
    "cgroup_pids_max",
    "chroot_dir",
    "clone_newnet",
    "cwd",
    "envar",
    "exec_bin",
    "gidmap",
    "iface_no_lo",
    "is_root_rw",
    "keep_env",
    "max_conns",
    "max_conns_per_ip",
    "mode",
    "mount",
    "mount_proc",
    "name",
    "nice_level",
    "port",
    "silent",
    "stderr_to_null",
    "time_limit",
    "uidmap",
];

/// Fields that say nothing about what a program may do: where nsjail makes cgroups, how it enters
/// its root, which addresses an interface has that another field names.
const DETAILS: [&str; 19] = [
    "cgroup_cpu_mount",
    "cgroup_cpu_parent",
    "cgroup_mem_mount",
    "cgroup_mem_parent",
    "cgroup_net_cls_mount",
    "cgroup_net_cls_parent",
    "cgroup_pids_mount",
    "cgroup_pids_parent",
    "cgroupv2_mount",
    "daemon",
    "description",
    "detect_cgroupv2",
    "macvlan_vs_gw",
    "macvlan_vs_ip",
    "macvlan_vs_ma",
    "macvlan_vs_mo",
    "macvlan_vs_nm",
    "no_pivotroot",
    "use_cgroupv2",
];

const OWN_NAMESPACE: &str = "a full jail always has its own";
const LOGS: &str = "log, log-target, verbose and quiet say what the server logs, and where";
const CAPABILITIES: &str = "a full jail has no capabilities";
const FILTER: &str = "a policy of Kafel is not translated: the filter of a full jail is in force, and \
                      system-call-filter changes it";
const PERSONALITY: &str = "the personality is that of the server";
const INTERFACES: &str = "a jail has no other interface than the loopback one";

/// Fields without an equivalent: the value that says nothing, and the reason.
const NOTED: [(&str, Option<&str>, &str); 33] = [
    ("cap", None, CAPABILITIES),
    ("cgroup_mem_memsw_max", Some("0"), "only memory is limited"),
    ("cgroup_mem_swap_max", Some("-1"), "only memory is limited"),
    ("cgroup_net_cls_classid", Some("0"), "packets have no class"),
    ("clone_newcgroup", Some("true"), OWN_NAMESPACE),
    ("clone_newipc", Some("true"), OWN_NAMESPACE),
    ("clone_newns", Some("true"), OWN_NAMESPACE),
    ("clone_newpid", Some("true"), OWN_NAMESPACE),
    ("clone_newtime", Some("false"), "the clocks are those of the machine"),
    ("clone_newuser", Some("true"), OWN_NAMESPACE),
    ("clone_newuts", Some("true"), OWN_NAMESPACE),
    ("disable_no_new_privs", Some("false"), "in a full jail, nothing gains privileges"),
    ("disable_tsc", Some("false"), "programs can read the time-stamp counter"),
    ("forward_signals", Some("false"), "signals to the server are not those of programs"),
    ("hostname", None, "the host name in a full jail is tine"),
    ("iface_own", None, INTERFACES),
    ("keep_caps", Some("false"), CAPABILITIES),
    ("log_fd", None, LOGS),
    ("log_file", None, LOGS),
    ("log_level", None, LOGS),
    ("macvlan_iface", None, INTERFACES),
    ("max_cpus", Some("0"), "programs run on every processor; cpu-quota limits their time"),
    ("pass_fd", None, "programs have the descriptors 0, 1 and 2"),
    ("persona_addr_compat_layout", Some("false"), PERSONALITY),
    ("persona_addr_limit_3gb", Some("false"), PERSONALITY),
    ("persona_addr_no_randomize", Some("false"), PERSONALITY),
    ("persona_mmap_page_zero", Some("false"), PERSONALITY),
    ("persona_read_implies_exec", Some("false"), PERSONALITY),
    ("seccomp_log", Some("false"), "refused calls are not logged"),
    ("seccomp_policy_file", None, FILTER),
    ("seccomp_string", None, FILTER),
    ("skip_setsid", Some("false"), "programs have no controlling terminal but with pty"),
    ("user_net", None, INTERFACES),
];

/// Names each field that is not translated.
pub(super) fn apply(fields: Fields, service: &mut ImportedService) {
    let mut named: Vec<&str> = Vec::new();
    for field in fields.all() {
        let name = field.name.as_str();
        let is_known = TRANSLATED.contains(&name) || DETAILS.contains(&name) || limits::is_limit(name);
        if is_known || named.contains(&name) {
            continue;
        }
        named.push(name);
        match NOTED.iter().find(|(noted, ..)| *noted == name) {
            None => service.note(format!("{name}: an unknown field")),
            Some((_, Some(nothing), _)) if means(&field.value, nothing) => {}
            Some((.., why)) => service.note(format!("{}: {why}", shown(field))),
        }
    }
}

/// Whether a value is this one.
fn means(value: &Value, expected: &str) -> bool {
    match (expected, value) {
        ("true", value) => is_true(value) == Some(true),
        ("false", value) => is_true(value) == Some(false),
        (_, Value::Number(number)) => number == expected,
        _ => false,
    }
}

/// A field, with its value if that is short.
fn shown(field: &Field) -> String {
    match &field.value {
        Value::Word(value) | Value::Number(value) => format!("{}: {value}", field.name),
        Value::Text(_) | Value::Message(_) => field.name.clone(),
    }
}
