//! The services that configurations of nsjail become.

use super::*;
use crate::import::printed;

/// A server without limits and files of its own, so that a table shows what a line adds.
const SERVER: &str = "mode: LISTEN port: 8001 time_limit: 0 disable_rl: true nice_level: 0 mount_proc: true
    mount { dst: '/tmp' fstype: 'tmpfs' rw: true }
    mount { src: '/srv/image' dst: '/' is_bind: true }
";
const PROGRAM: &str = "exec_bin { path: '/app/run' }\n";

fn imported(text: &str) -> String {
    printed(&import(text, Path::new("/c/game.cfg")))
}

#[test]
fn a_small_configuration_has_the_defaults_of_nsjail() {
    assert_eq!(
        imported("mode: LISTEN port: 8001 exec_bin { path: '/bin/cat' }"),
        "\n# /c/game.cfg:1\n\
         # its root has nothing but its mounts: without root-directory, a full jail also has /usr, /bin, /sbin, \
         /lib*, /etc, to read\n\
         # it mounts no /proc and no /tmp: a full jail has its own\n\
         [services.game]\nlisten = [\"8001\"]\nprogram = [\"/bin/cat\"]\nmax-lifetime = \"600s\"\n\
         stderr = \"client\"\ncwd = \"/\"\nnice = 19\njail = \"full\"\nprivate-network = \"loopback\"\n\
         clear-env = true\nlimit-as = \"4G\"\nlimit-core = 0\nlimit-cpu = 600\nlimit-fsize = \"1M\"\n\
         limit-nofile = 32\n"
    );
}

#[test]
fn a_large_configuration_has_what_it_says() {
    let text = r#"
        # A game with a root of its own.
        name: "guess.2"; description: "first"; description: "second"
        mode: LISTEN
        bindhost: "::ffff:127.0.0.1", port: 0x1f91
        max_conns: 50 max_conns_per_ip: 5 time_limit: 60
        cwd: "/app" hostname: "guess"
        keep_env: false envar: ["LANG=C", "FLAG"] envar: "A=b c"
        rlimit_as: 64 rlimit_cpu: 10 rlimit_fsize: 2 rlimit_nofile: 16
        rlimit_nproc_type: VALUE rlimit_nproc: 8 rlimit_stack_type: INF
        uidmap { inside_id: "1000" outside_id: "nobody" }
        gidmap < inside_id: "nogroup", outside_id: "nogroup" >
        iface_no_lo: true
        mount: [
            { src: "/srv/guess/", dst: "/", is_bind: true, nodev: true },
            { src: "/srv/data" dst: "/data" is_bind: true },
            { src: "/srv/up" dst: "/srv/up" is_bind: true rw: true },
            { dst: "/tmp" fstype: "tmpfs" options: "size=8388608" rw: true }
        ]
        mount { src: "/dev/null" dst: "/dev/null" is_bind: true rw: true }
        mount_proc: true
        seccomp_string: "POLICY a { ALLOW { read, write } }"
        seccomp_string: "USE a DEFAULT KILL"
        cgroup_mem_max: 67108864 cgroup_pids_max: 10 cgroup_cpu_ms_per_sec: 500 use_cgroupv2: true
        exec_bin { path: "/app/run" arg: "-v" arg: 'a' 'b' arg0: "guess" }
    "#;
    assert_eq!(
        imported(text),
        "\n# /c/game.cfg:1\n\
         # uidmap: inside_id 1000: in a jail, ids are those outside\n\
         # hostname: the host name in a full jail is tine\n\
         # seccomp_string: a policy of Kafel is not translated: the filter of a full jail is in force, and \
         system-call-filter changes it\n\
         [services.\"guess.2\"]\nlisten = [\"127.0.0.1:8081\"]\nprogram = [\"/app/run\", \"-v\", \"ab\"]\n\
         max-connections = 50\nmax-connections-per-source = 5\nmax-lifetime = \"60s\"\nargv0 = \"guess\"\n\
         stderr = \"client\"\ncwd = \"/app\"\njail = \"full\"\nprivate-network = \"yes\"\n\
         root-directory = \"/srv/guess\"\nprivate-tmp = \"8M\"\n\
         bind-read-only-paths = [\"/srv/data:/data\"]\nbind-paths = [\"/srv/up\"]\nuser = \"nobody\"\n\
         supplementary-groups = \"none\"\nset-login-environment = \"no\"\ngroup = \"nogroup\"\nclear-env = true\nenv = [\"LANG=C\", \"FLAG\", \"A=b c\"]\nmemory-max = \"64M\"\n\
         tasks-max = 10\ncpu-quota = \"50%\"\nlimit-as = \"64M\"\nlimit-core = 0\nlimit-cpu = 10\n\
         limit-fsize = \"2M\"\nlimit-nofile = 16\nlimit-nproc = 8\nlimit-stack = \"infinity\"\n"
            .replace("cwd = \"/app\"\n", "cwd = \"/app\"\nnice = 19\n")
    );
}

#[test]
fn each_field_has_its_key_or_a_note() {
    for (field, expected) in [
        ("name: 'a b'", "[services.a-b]"),
        ("name: ''", "[services.game]"),
        ("bindhost: '::'", "listen = [\"8001\"]"),
        ("bindhost: '::1'", "listen = [\"[::1]:8001\"]"),
        ("bindhost: '10.0.0.1'", "listen = [\"10.0.0.1:8001\"]"),
        ("max_conns: 7", "max-connections = 7\n"),
        ("max_conns_per_ip: 7", "max-connections-per-source = 7"),
        ("stderr_to_null: true", "stderr = \"null\""),
        ("cwd: '/a'", "cwd = \"/a\""),
        ("keep_env: false", "clear-env = true"),
        ("envar: 'A=1'", "env = [\"A=1\"]"),
        ("clone_newnet: false", "private-network = \"no\""),
        ("clone_newnet: true", "private-network = \"loopback\""),
        ("iface_no_lo: true", "private-network = \"yes\""),
        ("uidmap { outside_id: '1000' }", "user = 1000"),
        (
            "uidmap { outside_id: 'a' } gidmap { outside_id: 'b' }",
            "user = \"a\"\nsupplementary-groups = \"none\"\nset-login-environment = \"no\"\ngroup = \"b\"",
        ),
        ("uidmap { outside_id: 'root' }", "# uidmap: the outside_id of root"),
        ("gidmap { outside_id: 'b' }", "# gidmap: the group b without a user"),
        ("uidmap { count: 65536 }", "# uidmap of 65536 from \"\""),
        ("uidmap { } uidmap { outside_id: '7' }", "# uidmap of 1 from \"7\""),
        ("uidmap { shape: 1 }", "# uidmap.shape: an unknown field"),
        ("cgroup_mem_max: 1000", "memory-max = 1000"),
        ("cgroup_pids_max: 3", "tasks-max = 3"),
        ("cgroup_cpu_ms_per_sec: 2000", "cpu-quota = \"200%\""),
        ("cgroup_cpu_ms_per_sec: 9", "# cgroup_cpu_ms_per_sec: 9: cpu-quota"),
        ("cgroup_mem_swap_max: 0", "# cgroup_mem_swap_max: 0: "),
        ("clone_newpid: false", "# clone_newpid: false: a full jail always has its own"),
        ("clone_newuser: f", "# clone_newuser: f: a full jail always has its own"),
        ("clone_newtime: true", "# clone_newtime: true: "),
        ("keep_caps: true", "# keep_caps: true: a full jail has no capabilities"),
        ("cap: 'CAP_SYS_PTRACE'", "# cap: a full jail has no capabilities"),
        ("disable_tsc: true", "# disable_tsc: true: programs can read"),
        ("max_cpus: 2", "# max_cpus: 2: "),
        ("seccomp_policy_file: '/etc/p'", "# seccomp_policy_file: a policy of Kafel"),
        ("macvlan_iface: 'eth0' macvlan_vs_ip: '10.0.0.2'", "# macvlan_iface: a jail has no other"),
        ("user_net { enable: true }", "# user_net: a jail has no other"),
        ("log_file: '/x' log_level: DEBUG", "# log_level: DEBUG: log, log-target"),
        ("persona_addr_no_randomize: true", "# persona_addr_no_randomize: true: "),
        ("seccomp_unotify: true", "# seccomp_unotify: an unknown field"),
    ] {
        let text = imported(&format!("{SERVER}{field}\n{PROGRAM}"));
        assert!(text.contains(expected), "{field}: {text}");
    }
    let plain = imported(&format!("{SERVER}{PROGRAM}"));
    for field in [
        "clone_newpid: true clone_newuser: 1",
        "keep_caps: false disable_tsc: false",
        "max_cpus: 0 cgroup_mem_swap_max: -1",
        "cgroup_mem_parent: 'x' daemon: true description: 'y'",
        "cgroup_mem_max: 0 cgroup_pids_max: 0 cgroup_cpu_ms_per_sec: 0",
        "uidmap { } gidmap { }",
    ] {
        assert_eq!(imported(&format!("{SERVER}{field}\n{PROGRAM}")), plain, "{field}");
    }
    let kept = imported(&format!("{SERVER} keep_env: true {PROGRAM}"));
    assert!(plain.contains("clear-env") && !kept.contains("clear-env"), "{kept}");
}

#[test]
fn modes_without_a_port_get_an_address() {
    for (fields, address, note) in [
        ("", "127.0.0.1:0", Some("mode: ONCE has no port: set `listen`")),
        ("mode: LISTEN", "127.0.0.1:0", Some("mode: LISTEN without port: set `listen`")),
        ("mode: EXECVE port: 7", "7", Some("mode: EXECVE serves no clients: here each client gets")),
        ("mode: 2 port: 7", "7", Some("mode: RERUN serves no clients")),
        ("mode: 0 port: 7", "7", None),
    ] {
        let text = imported(&format!("{fields} {PROGRAM}"));
        assert!(text.contains(&format!("listen = [\"{address}\"]")), "{fields}: {text}");
        assert_eq!(text.lines().find(|line| line.starts_with("# mode")).is_some(), note.is_some(), "{text}");
        assert!(text.contains(note.unwrap_or_default()), "{fields}: {text}");
    }
}

#[test]
fn limits_have_the_units_and_types_of_nsjail() {
    for (field, expected) in [
        ("rlimit_as: 1024", "limit-as = \"1G\""),
        ("rlimit_as: 99999999999999", "limit-as = \"infinity\""),
        ("rlimit_as_type: INF", "limit-as = \"infinity\""),
        ("rlimit_core: 1", "limit-core = \"1M\""),
        ("rlimit_cpu: 5", "limit-cpu = 5"),
        ("rlimit_nproc: 5 rlimit_nproc_type: VALUE", "limit-nproc = 5"),
        ("rlimit_stack_type: VALUE", "limit-stack = \"8M\""),
        ("rlimit_memlock: 32 rlimit_memlock_type: VALUE", "limit-memlock = \"32K\""),
        ("rlimit_rtprio_type: VALUE", "limit-rtprio = 0"),
        ("rlimit_msgqueue: 3 rlimit_msgqueue_type: 0", "limit-msgqueue = 3"),
        ("rlimit_nproc: 5", "# rlimit_nproc: 5: nsjail ignores it without rlimit_nproc_type: VALUE"),
        ("rlimit_as_type: HARD", "# rlimit_as_type: HARD: the limit of the server is kept"),
        ("rlimit_nofile_type: SOFT", "# rlimit_nofile_type: SOFT: a full jail has 64, unless limit-nofile"),
        ("disable_rl: true", "# disable_rl: true: a full jail has limits of its own"),
    ] {
        let text = imported(&format!("mode: LISTEN port: 1 {field} {PROGRAM}"));
        assert!(text.contains(expected), "{field}: {text}");
    }
    let none = imported(&format!("disable_rl: true rlimit_as: 5 {PROGRAM}"));
    assert!(!none.contains("limit-as"), "{none}");
}

#[test]
fn what_tine_cannot_do_is_left_out_with_a_place() {
    for (text, why) in [
        ("port: 1", "1:1: it names no program (exec_bin)"),
        ("exec_bin { arg: 'x' }", "1:1: exec_bin has no path"),
        ("\n  port: 70000 exec_bin { path: 'a' }", "2:3: 70000 is no port"),
        ("bindhost: 'x' exec_bin { path: 'a' }", "1:1: bindhost: x is no address"),
        ("silent: true exec_bin { path: 'a' }", "1:1: silent: true takes the connection"),
        ("mode: NEVER", "1:1: mode is none of LISTEN, ONCE, RERUN, EXECVE"),
        ("mode: LISTEN\nmode: LISTEN", "2:1: mode is there twice"),
        ("exec_bin: 'a'", "1:1: exec_bin is no message"),
        ("exec_bin { path: 'a\\0' }", "1:12: path has a zero byte"),
        ("rlimit_as: -1 exec_bin { path: 'a' }", "1:1: rlimit_as is no number"),
        (
            "rlimit_as_type: BIG exec_bin { path: 'a' }",
            "1:1: rlimit_as_type is none of VALUE, SOFT, HARD, INF",
        ),
        ("port = 1", "1:6: the character '=' has no meaning here"),
        ("envar: 'A' 'B", "1:12: the text has no quote at its end"),
        ("envar: '=1' exec_bin { path: 'a' }", "write NAME=VALUE"),
        ("nice_level: 99 exec_bin { path: 'a' }", "99 is not in"),
    ] {
        let text = imported(text);
        assert!(text.starts_with("\n# /c/game.cfg:1: game is left out: "), "{text}");
        assert!(text.contains(why) && text.lines().count() == 2, "{why}: {text}");
    }
}
