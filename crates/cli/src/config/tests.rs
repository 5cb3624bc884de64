//! Files that are understood, and the faults of others.

use std::time::Duration;

use super::*;

const EXAMPLE: &str = include_str!("../../../../docs/tine.toml");

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Path::new("tine.toml"))
}

fn without_places(config: &Config) -> String {
    config.to_string().lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_has_every_key() {
    let keys = Keys::new();
    for key in keys.all() {
        let is_there = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{} =", key.name));
        assert!(EXAMPLE.lines().any(is_there), "docs/tine.toml has no line for {}", key.name);
    }
    parse(EXAMPLE).expect("the example can be read");
}

#[test]
fn what_is_printed_means_the_same() {
    let once = parse(EXAMPLE).expect("the example can be read");
    let twice = parse(&once.to_string()).expect("what was printed can be read");
    assert_eq!(without_places(&once), without_places(&twice));
    assert!(once.to_string().contains("limit-nofile = \"64:128\"\n"));
}

#[test]
fn defaults_are_where_they_fit_and_give_way() {
    let config = parse(
        "[defaults]\nbacklog = 7\ntitles = true\nstderr = 'null'\nservice = 'time'\nenv = { A = '1', B = '1' }\n\
         [services.a]\nlisten = 1\nbacklog = 8\ntitles = false\n\
         [services.b]\nlisten = 2\nprogram = ['cat', '-u']\nenv = { B = '2' }\numask = 0o022",
    )
    .expect("it makes sense");
    let [a, b] = config.services.as_slice() else { panic!("two services") };
    assert_eq!((a.name.as_str(), a.args.sockets.backlog, a.args.processes.titles), ("a", 8, false));
    assert_eq!(a.args.service.name, "time");
    assert_eq!((b.args.sockets.backlog, b.args.processes.titles), (7, true));
    assert_eq!(b.args.program.stderr, tine::Stderr::Null);
    assert_eq!(b.args.program.execution.umask, Some(0o22));
    let env: Vec<_> =
        b.args.program.execution.env.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    assert_eq!(env, [("A", Some("1")), ("B", Some("1")), ("B", Some("2"))]);
}

#[test]
fn how_a_program_is_started_warm_is_merged_and_printed() {
    use tine::{Warm, WarmAllow, WarmUntil};
    let of = |text: &str| -> Vec<Option<Warm>> {
        let config = parse(text).expect("it makes sense");
        let printed = parse(&config.to_string()).expect("what was printed can be read");
        let warm = |config: &Config| -> Vec<_> {
            config.services.iter().map(|service| service.args.program.warm.warm()).collect()
        };
        assert_eq!(warm(&config), warm(&printed), "{config}");
        warm(&config)
    };
    let minute = Duration::from_secs(60);
    // A default that needs `warm` is for the services that have it.
    let some = "[defaults]\nwarm-timeout = '1min'\n[services.a]\nlisten = 1\n\
                [services.b]\nlisten = 2\nprogram = ['cat']\n\
                [services.c]\nlisten = 3\nprogram = ['cat']\nwarm = 'try'\n\
                [services.d]\nlisten = 4\nprogram = ['cat']\nwarm = 'yes'\nwarm-timeout = '5s'\n\
                warm-until = 'call'\nwarm-allow = ['pipe', 'epoll']\nwarm-renew = 5";
    let d = Warm::new().timeout(Duration::from_secs(5)).until(WarmUntil::Call);
    let d = d.allow([WarmAllow::Pipe, WarmAllow::Epoll]).renew(5, 10 * minute);
    assert_eq!(of(some), [None, None, Some(Warm::new().timeout(minute).or_cold(true)), Some(d)]);
    let all = "[defaults]\nwarm = 'yes'\nwarm-allow = 'pipe,flock'\nwarm-renew = '7,1min'\n\
               [services.a]\nlisten = 1\nprogram = ['cat']\n\
               [services.b]\nlisten = 2\nprogram = ['cat']\nwarm = 'no'\n\
               [services.c]\nlisten = 3\nprogram = ['cat']\nwarm-allow = []";
    let warm = Warm::new().renew(7, minute);
    let a = warm.clone().allow([WarmAllow::Pipe, WarmAllow::Flock]);
    assert_eq!(of(all), [Some(a), None, Some(warm)]);
}

#[test]
fn a_service_has_the_level_of_its_section_the_defaults_or_the_server() {
    let text = "verbose = true\n[defaults]\nquiet = true\n[services.a]\nlisten = 1\n\
                [services.b]\nlisten = 2\nverbose = true\n[services.c]\nlisten = 3\nquiet = false";
    let config = parse(text).expect("it makes sense");
    let levels = |config: &Config| -> Vec<LogLevel> {
        config.services.iter().map(|service| service.level(&config.server.log)).collect()
    };
    let expected = [LogLevel::Quiet, LogLevel::Verbose, LogLevel::Normal];
    assert_eq!(levels(&config), expected);
    let printed = parse(&config.to_string()).expect("what was printed can be read");
    assert_eq!(levels(&printed), expected);
    let own = parse("quiet = true\n[services.a]\nlisten = 1").expect("it makes sense");
    assert_eq!(levels(&own), [LogLevel::Quiet]);
}

#[test]
fn faults_say_where_and_what() {
    for (text, line, words) in [
        ("", 0, "there is no service"),
        ("x", 1, "TOML"),
        ("[services.a]\nlisten = 1\nlisten = 2", 3, "duplicate"),
        ("\nlogg = 'text'", 2, "did you mean `log`?"),
        ("colour = 1", 1, "see `tine serve --help`"),
        ("spares = 1", 1, "move it into a section"),
        ("services = 1", 1, "[services.NAME]"),
        ("defaults = 1", 1, "[defaults]"),
        ("services.a = 1", 1, "[services.NAME]"),
        ("include = true", 1, "include names directories"),
        ("include = 'no such directory'", 1, "no such file or directory"),
        ("log = 'xml'\n[services.a]\nlisten = 1", 1, "invalid value 'xml' for 'log'"),
        ("verbose = true\nquiet = true\n[services.a]\nlisten = 1", 1, "cannot be used with"),
        ("[services.a]\nlisten = 1\nverbose = true\nquiet = true", 4, "cannot both be true"),
        ("[services.a]\nlisten = 1\nquiet = 1", 3, "quiet is true or false"),
        ("[services.a]\nlisten = 1\nlog-file = 'x'", 3, "top of the file"),
        ("log-file = 'x'\nlog-target = 'syslog'\n[services.a]\nlisten = 1", 1, "cannot be used with"),
        ("[services.'a b']\nlisten = 1", 1, "invalid name of a service"),
        ("[services.a]", 1, "has no address"),
        ("[services.a]\nlisten = 70000", 1, "port"),
        ("[services.a]\nlisten = '-1'", 2, "dash"),
        ("[services.a]\nlisten = [[1]]", 2, "takes addresses"),
        (
            "[services.a]\nlisten = 1\n[services.b]\nlisten = ['[::]:1']",
            3,
            "served by a already, at tine.toml:1",
        ),
        ("[services.a]\nlisten = ['127.0.0.1:1', '127.0.0.1:1']", 1, "served by a already"),
        ("[services.a]\nlisten = '1-3'\n[services.b]\nlisten = '127.0.0.1:2'", 3, "already as [::]:2"),
        (
            "[services.a]\nlisten = '0.0.0.0:1'\n[services.b]\nlisten = 1\nbind-ipv6-only = 'both'",
            3,
            "set bind-ipv6-only to ipv6-only",
        ),
        ("[services.a]\nlisten = 1\nsocket-mode = 9", 3, "octal"),
        ("[services.a]\nlisten = 1\nmax-conections = 5", 3, "did you mean `max-connections`?"),
        ("[services.a]\nlisten = 1\nmax-connections = 0", 3, "invalid value '0' for 'max-connections'"),
        ("[services.a]\nlisten = 1\nmax-connections = [1]", 3, "takes one value"),
        ("[services.a]\nlisten = 1\nmax-connections = 1979-05-27", 3, "takes one value"),
        ("[services.a]\nlisten = 1\nidle-timeout = 5", 3, "10s"),
        ("[services.a]\nlisten = 1\ntitles = 1", 3, "true or false"),
        ("[services.a]\nlisten = 1\nlog = 'json'", 3, "top of the file"),
        ("[services.a]\nlisten = 1\nlogg = 'json'", 3, "did you mean `log`? then move it to the top"),
        ("[services.a]\nlisten = 1\nincldue = 'x'", 3, "did you mean `include`? then move it to the top"),
        ("max-conections = 1", 1, "did you mean `max-connections`? then move it into a section"),
        ("[defaults]\nlistne = 1", 2, "did you mean `listen`? then move it to [services.NAME]"),
        ("[services.a]\nlisten = 1\nconfig = 'x'", 3, "no key config"),
        ("[services.a]\nlisten = 1\nhelp = true", 3, "no key help"),
        ("[services.a]\nlisten = 1\nstderr = 'log'", 3, "applies only to services with a `program`"),
        ("[services.a]\nlisten = 1\nprogram = 'cat -u'", 3, "list of words"),
        ("[services.a]\nlisten = 1\nprogram = []", 3, "list of words"),
        ("[services.a]\nlisten = 1\nprogram = [\"a\\u0000b\"]", 3, "zero byte"),
        ("[services.a]\nlisten = 1\nservice = 'echo'\nprogram = ['cat']", 3, "cannot be used with"),
        (
            "[services.a]\nlisten = 1\nprogram = ['cat']\npty = true\nline-buffered = true",
            4,
            "cannot be used with",
        ),
        ("[services.a]\nlisten = 1\nprogram = ['cat']\nenv = 5.5\nlimit-as = '1X'", 5, "'1X' is no size"),
        ("[services.a]\nlisten = 1\nwarm = 'yes'", 3, "applies only to services with a `program`"),
        ("[services.a]\nlisten = 1\nwarm-renew = 9", 3, "applies only to services with a `program`"),
        (
            "[services.a]\nlisten = 1\nprogram = ['cat']\nwarm-renew = 9",
            4,
            "applies only to services with `warm`; add warm = \"yes\"",
        ),
        ("[services.a]\nlisten = 1\nprogram = ['cat']\nwarm = true", 4, "write warm = \"VALUE\""),
        ("[services.a]\nlisten = 1\nprogram = ['cat']\nwarm = 'on'", 4, "invalid value 'on' for 'warm'"),
        (
            "[services.a]\nlisten = 1\nprogram = ['cat']\nwarm = 'yes'\nwarm-renew = 0",
            5,
            "invalid value '0' for 'warm-renew'",
        ),
        ("[defaults]\nlisten = 1", 2, "move it to [services.NAME]"),
        ("[defaults]\nlog = 'json'", 2, "top of the file"),
        ("[defaults]\nbaklog = 1", 2, "did you mean `backlog`?"),
    ] {
        let error = parse(text).expect_err(text);
        let said = error.to_string();
        let place = if line == 0 { "tine.toml: ".into() } else { format!("tine.toml:{line}: ") };
        assert!(said.starts_with(&place) && said.contains(words), "{text:?}: {said}");
        assert_eq!((error.exit_code(), said.lines().count()), (100, 1), "{said}");
    }
}
