//! The table "Confinement by process" of ARCHITECTURE.md, compared with a server that has every
//! kind of process.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use tine_e2e::cgroup::DelegatedCgroup;
use tine_e2e::names::CONTROL;
use tine_e2e::{Folder, Server, ServerCommand, procfs, tine, wait_until};

/// What the kernel shows of a process, by the columns of the table.
type Protections = [String; 5];

const SECTION: &str = "\n## Confinement by process\n";

/// The names of capabilities that the table has, with their numbers (linux/capability.h).
const CAPABILITIES: [(&str, u32); 5] =
    [("DAC_OVERRIDE", 1), ("KILL", 5), ("NET_BIND_SERVICE", 10), ("NET_ADMIN", 12), ("SYS_ADMIN", 21)];

/// All capabilities that this kernel knows.
fn all_capabilities() -> u64 {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("/proc is mounted");
    (1 << (last.trim().parse::<u32>().expect("a number") + 1)) - 1
}

/// The rows of the table, for a server whose first process has these protections: they stand for
/// `server`, and what it has been given before is beside what the table says.
fn rows(server: &Protections) -> BTreeMap<String, Protections> {
    let document = include_str!("../../../ARCHITECTURE.md");
    let (_, section) = document.split_once(SECTION).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with("| ")).skip(2);
    lines.map(|line| row(line, server)).collect()
}

fn row(line: &str, server: &Protections) -> (String, Protections) {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [process, no_new_privs, filters, effective, permitted, bounding, ..] = cells[..] else {
        panic!("{line}")
    };
    let set = |cell: &str, of_server: &str| {
        let of_server = u64::from_str_radix(of_server, 16).expect("bits");
        let bits = match cell {
            "none" => 0,
            "server" => of_server,
            "jail" => all_capabilities(),
            names => names.split(' ').map(|name| number(name) & of_server).sum(),
        };
        format!("{bits:016x}")
    };
    let count = |cell: &str| cell.parse::<u32>().expect("a number");
    let [has_none, has_filters, eff, prm, bnd] = server;
    let protections = [
        count(no_new_privs).max(count(has_none)).to_string(),
        (count(filters) + count(has_filters)).to_string(),
        set(effective, eff),
        set(permitted, prm),
        set(bounding, bnd),
    ];
    (process.to_owned(), protections)
}

fn number(name: &str) -> u64 {
    let found = CAPABILITIES.iter().find(|(known, _)| *known == name);
    1 << found.unwrap_or_else(|| panic!("{name:?}: add it to CAPABILITIES")).1
}

fn protections(pid: i32) -> Protections {
    // A filter is of the mode 2 (proc(5)).
    let mode = procfs::status(pid, "Seccomp");
    let filters = procfs::status(pid, "Seccomp_filters");
    assert!(filters.is_empty() || (mode == "2") == (filters != "0"), "{mode} {filters}");
    let key = |key: &str| procfs::status(pid, key);
    [key("NoNewPrivs"), filters, key("CapEff"), key("CapPrm"), key("CapBnd")]
}

/// A server with every kind of process.
struct Full {
    server: Server,
    _cgroup: DelegatedCgroup,
    _client: UnixStream,
    operator: Child,
}

impl Full {
    fn start(folder: &Folder) -> Full {
        let cgroup = DelegatedCgroup::new("confinement-table");
        let path = |name: &str| folder.path(name);
        let text = format!(
            "log = 'json'\nlog-file = '{}'\ncontrol = '{}'\nstate-directory = 'none'\nobserve = '127.0.0.1:0'\n\
             bus = 'nats://127.0.0.1:1'\n\
             crash-dir = '{}'\n\
             [services.with-user]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\nuser = 'nobody'\nspares = 1\n\
             max-connections-per-source = 2\nwhen-limited = 'delay'\nstderr = 'log'\n\
             proxy-from = ['192.0.2.0/24']\nproxy-others = 'serve'\n\
             [services.jailed]\nlisten = 'unix:{}'\nservice = 'echo'\njail = 'full'\n\
             [services.without-init]\nlisten = 'unix:{}'\nservice = 'echo'\njail = 'full'\njail-init = 'no'\n\
             [services.allowing]\nlisten = '127.0.0.1:0'\nservice = 'echo'\njail = 'full'\n\
             network-allow = '192.0.2.1:443'\n\
             [services.root]\nlisten = '127.0.0.1:0'\nservice = 'echo'\nspares = 1\nreuse = 2\n\
             [services.cgroups]\nlisten = '127.0.0.1:0'\nprogram = ['cat']\ncgroup = '{}'\n",
            path("log"),
            path("c.sock"),
            path("crashes"),
            path("jailed"),
            path("without-init"),
            cgroup.path.display(),
        );
        let file = folder.write("tine.toml", &text);
        // The user of the service writes its reports there.
        let file = file.to_str().expect("a path in UTF-8");
        let mut command = ServerCommand::program(tine(), &["serve", "-1", "--config", file]);
        command.command().current_dir("/");
        let server = command.start();
        let client = UnixStream::connect(path("jailed")).expect("it listens");
        // A request that does not end has a control process of the master and of each service.
        let mut operator = Command::new(tine());
        operator.args(["logs", "--follow", "--control", &path("c.sock")]).stdout(Stdio::null());
        let operator = operator.spawn().expect("it is executed");
        Full { server, _cgroup: cgroup, _client: client, operator }
    }

    /// All processes, by their ids. The observer and the links have environments of their own.
    fn all(&self) -> BTreeMap<i32, procfs::Process> {
        let of_master = procfs::children(self.server.pid());
        let of_services: Vec<_> = of_master.iter().flat_map(|child| procfs::children(child.pid)).collect();
        let all = self.server.processes().into_iter().chain(of_master).chain(of_services);
        all.map(|process| (process.pid, process)).collect()
    }

    /// The processes by the names of the table.
    fn processes(&self) -> Vec<(String, i32)> {
        let all = self.all();
        let named = all.values().filter(|process| process.name.starts_with("tine"));
        named.map(|process| (self.name(process, &all), process.pid)).collect()
    }

    /// The name of a process in the table, by its name in `ps` and its service.
    fn name(&self, process: &procfs::Process, all: &BTreeMap<i32, procfs::Process>) -> String {
        if process.pid == self.server.pid() {
            return "master".to_owned();
        }
        let mut child = process;
        while let Some(parent) = all.get(&child.parent).filter(|parent| parent.pid != self.server.pid()) {
            child = parent;
        }
        let service = child.name.trim_start_matches("tine: ");
        let has_user = service == "with-user";
        let suffix = match service {
            "jailed" | "without-i" => " of a full jail",
            "allowing" => " with `--network-allow`",
            "with-user" => "",
            _ => " without `--user`",
        };
        // The kernel keeps 15 characters of a name: that of a service is `without-i` here.
        let name = process.name.trim_start_matches("tine: ");
        let kind = name.trim_end_matches(|last: char| last.is_ascii_digit()).trim_end();
        match kind {
            _ if process.pid == child.pid
                && ["with-user", "jailed", "without-i", "allowing", "root", "cgroups"].contains(&name) =>
            {
                "supervisor".to_owned()
            }
            "forker" | "spare" | "worker" => format!("{kind}{suffix}"),
            "conn" => format!("connection process{suffix}"),
            "logger" if has_user => "stderr logger".to_owned(),
            "logger" => "stderr logger without `--user`".to_owned(),
            "proxy" => "proxy reader".to_owned(),
            "cleaner" => "cgroup cleaner".to_owned(),
            "control" => "control process".to_owned(),
            "writer" => "log writer".to_owned(),
            other => other.to_owned(),
        }
    }

    /// Processes that have no row or another one, and rows without a process.
    fn differences(&self, rows: &BTreeMap<String, Protections>) -> Vec<String> {
        let mut missing: Vec<&String> = rows.keys().collect();
        let mut differences = Vec::new();
        for (name, pid) in self.processes() {
            let found = protections(pid);
            // It has ended meanwhile.
            if found[0].is_empty() {
                continue;
            }
            missing.retain(|row| **row != name);
            if rows.get(&name) != Some(&found) {
                differences.push(format!("{name} ({pid}) has {found:?}, its row {:?}", rows.get(&name)));
            }
        }
        differences.extend(missing.iter().map(|row| format!("there is no {row}")));
        differences
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = self.operator.kill();
        let _ = self.operator.wait();
    }
}

#[test]
fn each_process_has_the_protections_of_its_row_and_each_row_a_process() {
    let folder = Folder::new("confinement-table");
    let full = Full::start(&folder);
    let rows = rows(&protections(full.server.pid()));
    wait_until("the master and each service have a control process", || {
        let all = full.all();
        let control = all.values().filter(|process| process.name == CONTROL).map(|process| process.parent);
        let parents: BTreeSet<i32> = control.collect();
        (parents.contains(&full.server.pid()) && parents.len() == 7).then_some(())
    });
    let mut last = Vec::new();
    // A process that was just created is not what it will be.
    wait_until("the processes are as the table says (see above)", || {
        let differences = full.differences(&rows);
        if differences != last {
            eprintln!("{}\n", differences.join("\n"));
            last = differences;
        }
        last.is_empty().then_some(())
    });
}
