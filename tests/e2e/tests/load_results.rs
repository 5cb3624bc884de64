//! The results of `tine load`: files, limits, comparisons, sums, and the live view.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tine_e2e::load::{command, load};
use tine_e2e::{Folder, Server, network, run, tine};

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

#[test]
fn results_match_the_json_schema() {
    network::own();
    let server = Server::serve(&["-c", "500"]);
    let address = address(&server);
    let folder = Folder::new("load-schema");
    let schema = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/load.schema.json");
    let loads: [&[&str]; 6] = [
        &["crr", &address, "-n", "50", "--warmup", "1ms"],
        &["mix", &address, "-d", "300ms"],
        &["rr", &address, "--rate", "100/s", "-d", "300ms", "--template", "{n}"],
        &["stream", &address, "-d", "200ms"],
        &["crr", &address, "-n", "5", "-m", "a", "--expect", "b"],
        &["crr", "127.0.0.1:1", "-n", "5"],
    ];
    for (number, words) in loads.iter().enumerate() {
        let result = folder.path(&format!("{number}.json"));
        run(command(words).args(["-q", "--json", &result]));
        let check = "import json, jsonschema, sys\n\
                     schema, result = (json.load(open(path)) for path in sys.argv[1:])\n\
                     jsonschema.Draft202012Validator.check_schema(schema)\n\
                     jsonschema.Draft202012Validator(schema).validate(result)\n";
        let mut python = Command::new("python3");
        let (code, _, err) = run(python.args(["-c", check]).arg(&schema).arg(&result));
        assert_eq!(code, 0, "{words:?}: {err}");
    }
}

#[test]
fn every_file_format_has_the_same_figures() {
    network::own();
    let server = Server::serve(&["-c", "100"]);
    let folder = Folder::new("load-files");
    let [json, hgrm, csv, html] = ["a.json", "a.hgrm", "a.csv", "a.html"].map(|name| folder.path(name));
    let files = ["--json", &json, "--hgrm", &hgrm, "--csv", &csv, "--html", &html];
    let (code, out, err) = run(command(&["crr", &address(&server), "-d", "1500ms"]).args(files));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let read = |path: &str| std::fs::read_to_string(path).expect("a file");
    let report: Value = serde_json::from_str(&read(&json)).expect("JSON");
    let done = report["findings"]["exchanges"]["done"].as_u64().expect("a number");
    assert!(out.starts_with("crr/fin-client to 127.0.0.1:") && out.contains("errors       0\n"), "{out}");

    let csv = read(&csv);
    let rows: Vec<&str> = csv.lines().collect();
    assert!(rows[0].starts_with("second,done,errors,") && rows.len() == 3, "{csv}");
    let counted: u64 = rows[1..]
        .iter()
        .map(|row| row.split(',').nth(1).expect("done").parse::<u64>().expect("a number"))
        .sum();
    assert_eq!(counted, done);
    let column = |at: usize| {
        rows[1..]
            .iter()
            .map(|row| row.split(',').nth(at).expect("a column").parse::<u64>().expect("a number"))
            .sum::<u64>()
    };
    assert_eq!(column(3), report["summary"]["bytes"]["sent"].as_u64().expect("bytes"));
    assert_eq!(column(4), report["summary"]["bytes"]["received"].as_u64().expect("bytes"));

    // The percentiles rise to 100 %, and three lines follow.
    let hgrm = read(&hgrm);
    let rows: Vec<Vec<f64>> = hgrm
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().filter_map(|field| field.parse().ok()).collect::<Vec<f64>>())
        .filter(|row| row.len() >= 3)
        .collect();
    assert!(
        rows.len() > 10 && rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] < pair[1][1])
    );
    let last = rows.last().expect("rows");
    assert_eq!(
        (last[1], last[2]),
        (1.0, report["summary"]["latency_ns"]["count"].as_f64().expect("a count"))
    );
    assert_eq!(hgrm.lines().filter(|line| line.starts_with("#[")).count(), 3);

    // The page is self-contained and well-formed.
    let html = read(&html);
    assert!(html.matches("<svg").count() == 4 && !html.contains("http"), "four plots, no links");
    let check = "import html.parser, sys\n\
                 class Page(html.parser.HTMLParser):\n    open = []\n\
                 \x20   def handle_starttag(self, tag, _):\n        if tag not in ('meta', 'path', '!doctype'): self.open.append(tag)\n\
                 \x20   def handle_endtag(self, tag):\n        assert self.open.pop() == tag, tag\n\
                 page = Page()\npage.feed(sys.argv[1].replace('/>', '>'))\nassert page.open == [], page.open\n";
    let (code, _, err) = run(Command::new("python3").args(["-c", check, &html]));
    assert_eq!(code, 0, "{err}");
}

#[test]
fn a_limit_that_is_not_kept_is_exit_code_99() {
    network::own();
    let server = Server::serve(&["-c", "100"]);
    let address = address(&server);
    let load = |limits: &[&str]| {
        let mut command = command(&["crr", &address, "-n", "50", "-c", "4"]);
        for limit in limits {
            command.args(["--fail-if", limit]);
        }
        run(&mut command)
    };
    assert_eq!(load(&["p99>50s", "errors>0", "rate<1/s"]).0, 0);
    let (code, out, err) = load(&["p50>1ns", "errors>0", "rate<10000000/s"]);
    assert_eq!(code, 99, "{out}{err}");
    let lines: Vec<&str> = err.lines().collect();
    assert!(
        lines[0].starts_with("tine: a limit is not kept: p50>1ns: it is ") && lines[1].contains("rate<"),
        "{err}"
    );
    assert_eq!(lines.len(), 2);
}

#[test]
fn the_default_limit_of_echo_is_no_errors() {
    network::own();
    let server = Server::serve(&["--service", "discard"]);
    let words = ["echo", &address(&server), "-n", "2", "--size", "10", "--timeout", "200ms"];
    let (code, out, _) = run(&mut command(&words));
    // No reply arrived, so the run is invalid, which outranks the limit.
    assert!(code == 4 && out.contains("2 timeout"), "{code} {out}");
    let (code, _, err) =
        run(&mut command(&["echo", &address(&server), "127.0.0.1:1", "-n", "2", "--size", "0"]));
    assert!(code == 99 && err.contains("errors>0"), "{code} {err}");
}

#[test]
fn compare_finds_what_is_worse_and_rejects_different_loads() {
    network::own();
    let server = Server::serve(&["-c", "100"]);
    let folder = Folder::new("load-compare");
    let [fast, slow, other] = ["fast.json", "slow.json", "other.json"].map(|name| folder.path(name));
    let address = address(&server);
    let load = |file: &str, more: &[&str]| {
        assert_eq!(run(command(&["crr", &address, "-n", "200", "-q", "--json", file]).args(more)).0, 0);
    };
    load(&fast, &[]);
    load(&other, &["--close", "rst"]);
    // The same result with half the rate.
    let mut report: Value =
        serde_json::from_str(&std::fs::read_to_string(&fast).expect("a file")).expect("JSON");
    report["summary"]["rate"] = Value::from(report["summary"]["rate"].as_f64().expect("a rate") / 2.0);
    folder.write("slow.json", &report.to_string());

    let compare = |one: &str, two: &str, more: &[&str]| run(command(&["compare", one, two]).args(more));
    assert_eq!(compare(&fast, &fast, &[]).0, 0);
    let (code, out, _) = compare(&fast, &slow, &[]);
    let row = out.lines().find(|line| line.starts_with("rate")).expect("a row");
    assert!(code == 99 && row.contains("0.500") && row.ends_with("worse"), "{out}");
    assert_eq!(compare(&slow, &fast, &[]).0, 0, "better is not worse");
    assert_eq!(compare(&fast, &slow, &["--tolerance", "60%"]).0, 0);
    let (code, _, err) = compare(&fast, &other, &[]);
    assert!(code == 100 && err.contains("different loads"), "{err}");

    report["validity"] = serde_json::json!({"valid": false, "reasons": ["set by a test"], "warnings": []});
    folder.write("slow.json", &report.to_string());
    let (code, out, _) = compare(&fast, &slow, &[]);
    assert!(code == 4 && out.starts_with("INVALID: ") && out.contains("set by a test"), "{out}");

    report["schema"] = Value::from("tine-load/999");
    folder.write("slow.json", &report.to_string());
    let (code, _, err) = compare(&fast, &slow, &[]);
    assert!(code == 100 && err.contains("tine-load/999"), "{err}");
}

#[test]
fn merge_adds_up_results_of_one_load_exactly() {
    network::own();
    let server = Server::serve(&["-c", "100"]);
    let folder = Folder::new("load-merge");
    let files = ["1.json", "2.json", "3.json"].map(|name| folder.path(name));
    let address = address(&server);
    // Clients that run at the same time, as on several machines.
    let parts = files.each_ref().map(|file| {
        let mut part = command(&["crr", &address, "-d", "1s", "-c", "4", "-p", "2", "-q", "--json", file]);
        part.spawn().expect("it starts")
    });
    parts.into_iter().for_each(|mut part| assert!(part.wait().expect("our child").success()));
    let words: Vec<&str> = std::iter::once("merge").chain(files.iter().map(String::as_str)).collect();
    let whole = load(&words);
    assert_eq!(whole.code, 0, "{}", whole.err);
    whole.expect_sum();
    let of = |path: &str, pointer: &str| {
        let text = std::fs::read_to_string(path).expect("a file");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        report.pointer(pointer).and_then(Value::as_f64).expect("a number")
    };
    for pointer in
        ["/summary/done", "/summary/latency_ns/count", "/summary/connections", "/summary/bytes/sent"]
    {
        assert_eq!(
            whole.number(pointer),
            files.iter().map(|file| of(file, pointer)).sum::<f64>(),
            "{pointer}"
        );
    }
    let slowest = files.iter().map(|file| of(file, "/summary/latency_ns/max")).fold(0.0, f64::max);
    assert_eq!(whole.number("/summary/latency_ns/max"), slowest);
    assert_eq!((whole.number("/plan/connections"), whole.number("/plan/processes")), (12.0, 6.0));
}

#[test]
fn ab_finds_which_server_is_faster_or_is_inconclusive() {
    network::own();
    let folder = Folder::new("load-ab");
    let tine = tine().display().to_string();
    let plain = format!("{tine} serve --log off 127.0.0.1:{{port}}");
    let result = folder.path("ab.json");
    let common = ["-c", "4", "-d", "400ms", "--warmup", "50ms", "--json", &result];
    let ab =
        |a: &str, b: &str, more: &[&str]| run(command(&["ab", "--a", a, "--b", b]).args(common).args(more));

    // Short rounds may be too imprecise on a busy machine; exit code and decision agree.
    let (code, out, err) =
        ab(&plain, &plain, &["--max-pairs", "4", "--precision", "99%", "--tolerance", "99%"]);
    let written: Value =
        serde_json::from_str(&std::fs::read_to_string(&result).expect("a file")).expect("JSON");
    let expected = if written["decision"] == "enough" { 0 } else { 4 };
    assert_eq!(code, expected, "{out}{err}");
    let rounds = written["rounds"].as_array().expect("rounds");
    let sides: Vec<&str> = rounds.iter().filter_map(|one| one["side"].as_str()).collect();
    assert_eq!(sides.len(), 8);
    for block in sides.chunks(4) {
        assert!([["A", "B", "B", "A"], ["B", "A", "A", "B"]].iter().any(|one| one == block), "{sides:?}");
    }
    // Where both rounds of A count in a block, they are compared. One block has no interval.
    let counts = |one: &Value| one["side"] == "B" || one["discarded"].as_array().is_some_and(Vec::is_empty);
    let blocks = rounds.chunks(4).filter(|block| block.iter().all(counts)).count();
    let compared = written["comparison"]["control"]["pairs"].as_u64();
    assert_eq!(compared, (blocks > 1).then_some(blocks as u64), "{written}");
    let sources: Vec<&Value> =
        written["reports"].as_array().expect("reports").iter().map(|one| &one["plan"]["sources"]).collect();
    assert!(sources.windows(2).all(|pair| pair[0] != pair[1]), "each round has its own sources: {sources:?}");

    // A server that replies after 50 ms is slower: two pairs say so, or more where there is noise.
    let slow = format!("{tine} serve --log off 127.0.0.1:{{port}} -- sh -c 'sleep 0.05; exec cat'");
    let (code, out, err) = ab(&plain, &slow, &["-q", "--max-pairs", "20", "--precision", "50%"]);
    assert!(code == 99 && out.contains("B is slower than A"), "{code} {out}{err}");
    let (code, out, _) = ab(&plain, &plain, &["-q", "--max-pairs", "4", "--precision", "0.0001%"]);
    assert!(code == 4 && out.contains("inconclusive"), "{code} {out}");
    let wrong = format!("{tine} serve --log off --service chargen 127.0.0.1:{{port}}");
    let (code, out, _) = ab(&plain, &wrong, &["-q", "--max-pairs", "4"]);
    assert!(code == 3 && out.contains("wrong bytes came"), "{code} {out}");
    let (code, _, err) = ab(&plain, "exit 7", &["-q", "--max-pairs", "4"]);
    assert!(code == 100 && err.contains("before it listened"), "{code} {err}");
}

#[test]
fn an_interrupted_ab_stops_its_server() {
    network::own();
    let tine = tine().display().to_string();
    let plain = format!("{tine} serve --log off 127.0.0.1:{{port}}");
    let mut running = command(&["ab", "--a", &plain, "--b", &plain, "-d", "30s"]).spawn().expect("it starts");
    let pid = i32::try_from(running.id()).expect("a process id");
    tine_e2e::wait_until("a round has begun", || {
        tine_e2e::procfs::children(pid).iter().any(|child| child.name.starts_with("tine: load")).then_some(())
    });
    tine_e2e::kill(pid, rustix::process::Signal::INT);
    assert_eq!(running.wait().expect("our child").code(), Some(130));
    // The servers were in this network namespace: no socket listens here any more.
    let listening = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("the kernel's table");
    assert!(!listening.lines().any(|line| line.split_whitespace().nth(3) == Some("0A")), "{listening}");
}

#[test]
fn the_live_view_is_shown_on_a_terminal_only() {
    network::own();
    let server = Server::serve(&["-c", "100"]);
    let tine = tine().display().to_string();
    let words = format!("{tine} load crr 127.0.0.1:{} -d 1500ms", server.port());
    // script(1) gives the client a terminal, and copies its output.
    let on_terminal =
        |words: &str| run(Command::new("script").args(["-qec", words, "/dev/null"]).env("TERM", "xterm"));
    let (code, shown, _) = on_terminal(&words);
    assert_eq!(code, 0, "{shown}");
    for part in ["/s  p50 ", " p99 ", " open ", " done ", "0 errors", "%"] {
        assert!(shown.contains(part), "{part} in {shown:?}");
    }
    assert!(shown.contains("crr/fin-client to "), "the summary follows: {shown:?}");
    let (_, plain, _) = on_terminal(&format!("{words} --no-tui"));
    assert!(!plain.contains(" open ") && plain.contains("crr/fin-client to "), "{plain:?}");
    let (_, out, err) = run(&mut command(&["crr", &address(&server), "-d", "700ms"]));
    assert!(err.is_empty() && !out.contains(" open "), "{out}{err}");
}

#[test]
fn every_mode_has_a_manual_page() {
    let (code, page, _) = run(Command::new(tine()).args(["man", "load", "crr"]));
    assert!(code == 0 && page.contains("tine\\-load\\-crr") && page.contains("fail\\-if"), "{page}");
    let (code, _, err) = run(Command::new(tine()).args(["man", "load", "fast"]));
    assert!(code == 100 && err.contains("no command 'fast'"), "{err}");
}
