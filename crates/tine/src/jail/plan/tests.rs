use super::*;
use crate::jail::cause::Clues;
use crate::jail::choices::{JailProfile, PrivateNetwork};
use crate::jail::controllers::CgroupFacts;
use crate::jail::step::StepError;

fn all() -> Facts {
    Facts {
        house: Ok(()),
        clues: Clues::default(),
        landlock: Ok(7),
        file_rules: Ok(()),
        no_new_privileges: Ok(()),
        capabilities: Ok(()),
        filters: Ok(()),
        holding: Ok(()),
        deny_write_execute: Ok(()),
        connecting: Ok(()),
        cgroups: no_cgroups(),
    }
}

/// A system whose cgroups the server may not make.
fn no_cgroups() -> CgroupFacts {
    let (own, mounts) = (String::new(), String::new());
    CgroupFacts { own, mounts, named: None, controllers_of: |_| String::new(), may_write: |_| Ok(()) }
}

/// A system with all controllers of version 2.
fn with_cgroups() -> Facts {
    let own = "0::/tine.service\n".into();
    let mounts = "29 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n".into();
    let cgroups = CgroupFacts { own, mounts, controllers_of: |_| "cpu memory pids".into(), ..no_cgroups() };
    Facts { cgroups, ..all() }
}

/// A place for a full jail.
fn site() -> JailSite {
    let full = full_jail(JailUsers::Own { uid: 1000, gid: 1000 });
    JailSite { as_root: false, full: Some(full), executes: true }
}

fn full_jail(users: JailUsers) -> FullJail {
    FullJail {
        users,
        house: House::default(),
        network: PrivateNetwork::Empty,
        has_init: true,
        allowed: AllowedAddresses::default(),
        user_namespaces: 0,
    }
}

/// A place that can have none, as this service has cgroups.
fn no_site() -> JailSite {
    JailSite::default()
}

/// The layers of a plan by one letter each: on, partly, off (-), refused.
fn letters(plan: &Plan) -> String {
    let letter = |state: &LayerState| match state {
        LayerState::On(_) => 'o',
        LayerState::Partly(..) => 'p',
        LayerState::Off => '-',
        LayerState::Refused(_) => 'r',
    };
    plan.layers.iter().map(|(_, state)| letter(state)).collect()
}

#[test]
fn a_jail_has_what_the_kernel_gives_or_does_not_start() {
    let old = Facts { landlock: Ok(2), deny_write_execute: Err(Errno::INVAL), ..all() };
    let younger = Facts { landlock: Ok(5), ..all() };
    let none = Facts { landlock: Err(Errno::NOSYS), filters: Err(Errno::PERM), ..all() };
    for (facts, auto, light) in [
        (all(), "--ooooo-------", Ok("--ooooo-------")),
        (younger, "--oooor-------", Err("landlock.scope")),
        (old, "--ooopr-------", Err("landlock.fs")),
        (none, "--oorrr-------", Err("seccomp")),
    ] {
        let plan = Plan::new(&Jail::new(JailMode::Auto), &facts, no_site()).expect("whatever there is");
        assert_eq!(letters(&plan), auto, "{facts:?}");
        match (Plan::new(&Jail::new(JailMode::Light), &facts, no_site()), light) {
            (Ok(plan), Ok(expected)) => assert_eq!(letters(&plan), expected, "{facts:?}"),
            (Err(error), Err(layer)) => {
                assert_eq!(error.kind(), ErrorKind::Jail);
                assert!(error.what().contains(layer), "{layer}: {}", error.what());
            }
            (plan, expected) => panic!("{facts:?}: {plan:?} for {expected:?}"),
        }
    }
}

#[test]
fn a_protection_alone_brings_what_it_needs() {
    let none = || Jail::new(JailMode::None);
    for (jail, expected) in [
        (none(), "--------------"),
        (none().restrict_namespaces(true), "--o-o---------"),
        (none().restrict_namespaces(false), "--------------"),
        (none().protect_system(true), "--o--o--------"),
        (none().inaccessible_path("/root"), "--o--o--------"),
        (none().no_new_privileges(true), "--o-----------"),
        (none().memory_deny_write_execute(true), "---------o----"),
        (none().capability_bounding_set("none").expect("none"), "---o----------"),
        (none().system_call_filter("~@mount").expect("a group"), "--o-o---------"),
        (Jail::new(JailMode::Light).protect_system(false), "--ooo-o-------"),
        (Jail::new(JailMode::Auto).memory_deny_write_execute(true), "--ooooo--o----"),
    ] {
        let plan = Plan::new(&jail, &all(), no_site()).expect("all is there");
        assert_eq!(letters(&plan), expected, "{jail:?}");
        assert_eq!(jail.is_any(), plan.is_any(), "{jail:?}");
    }
    // What is set is required, in every mode.
    let facts = Facts { landlock: Err(Errno::NOSYS), deny_write_execute: Err(Errno::INVAL), ..all() };
    for mode in [JailMode::None, JailMode::Auto] {
        for jail in [Jail::new(mode).protect_system(true), Jail::new(mode).memory_deny_write_execute(true)] {
            Plan::new(&jail, &facts, no_site()).expect_err("it cannot be had");
        }
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused_on_every_system() {
    let light = || Jail::new(JailMode::Light);
    for (jail, as_root, is_right) in [
        (light(), false, true),
        (light(), true, false),
        (Jail::new(JailMode::None), true, true),
        (Jail::new(JailMode::None).protect_system(true), true, true),
        (light().no_new_privileges(false), false, false),
        (light().read_write_path("/tmp"), false, true),
        (light().read_write_path("/tmp").protect_system(false), false, false),
        (Jail::new(JailMode::None).read_write_path("/tmp"), false, false),
    ] {
        assert_eq!(jail.check(as_root).is_ok(), is_right, "{jail:?} {as_root}");
    }
}

#[test]
fn the_socket_of_a_client_serves_no_other_connection_where_none_is_to_be_made() {
    let cannot_hold = || Facts { holding: Err(Errno::PERM), ..all() };
    for (network, facts, expected, listens) in [
        (PrivateNetwork::Empty, all(), "oo", true),
        (PrivateNetwork::Loopback, all(), "-o", true),
        (PrivateNetwork::Machine, all(), "--", true),
        (PrivateNetwork::Empty, cannot_hold(), "oo", false),
        (PrivateNetwork::Machine, cannot_hold(), "--", true),
    ] {
        let mut site = site();
        site.full.as_mut().expect("a full jail").network = network;
        let jail = Jail::new(JailMode::Full).private_network(network);
        let plan = Plan::new(&jail, &facts, site).expect("all is there");
        assert_eq!(&letters(&plan)[7..9], expected, "{network:?}");
        let filter = plan.filter.as_ref().expect("a filter");
        assert_eq!(filter.calls.has("listen"), listens, "{network:?}");
        assert_eq!(filter.refuses_fast_open, expected.ends_with('o'), "{network:?}");
        assert_eq!(plan.holds_clients, expected.ends_with('o') && listens, "{network:?}");
    }
    let mut site = site();
    site.full.as_mut().expect("a full jail").network = PrivateNetwork::Loopback;
    let jail = Jail::new(JailMode::Full).private_network(PrivateNetwork::Loopback);
    let error = Plan::new(&jail, &cannot_hold(), site).expect_err("it cannot be had");
    assert!(error.what().contains("client-socket: operation not permitted"), "{}", error.what());
}

#[test]
fn the_terms_of_a_filter_change_the_set_of_their_jail() {
    for (mode, terms, has, has_not) in [
        (JailMode::Light, "", "socket", "ptrace"),
        (JailMode::Light, "ptrace", "ptrace", "mount"),
        (JailMode::Light, "~@network-io", "read", "socket"),
        (JailMode::None, "~@network-io", "mount", "socket"),
        (JailMode::None, "@basic-io", "execve", "socket"),
    ] {
        let filter = Jail::new(mode).system_call_filter(terms).expect(terms).filter();
        assert!(filter.calls.has(has), "{mode:?} {terms}: {has}");
        assert!(!filter.calls.has(has_not), "{mode:?} {terms}: {has_not}");
    }
}

#[test]
fn a_full_jail_has_namespaces_or_does_not_start() {
    let refused = |errno| Err(StepError { step: "unshare of a user namespace".into(), errno });
    let denied = Facts { house: refused(Errno::PERM), ..all() };
    let (full, auto) = (Jail::new(JailMode::Full), Jail::new(JailMode::Auto));
    let plan = Plan::new(&full, &all(), site()).expect("all is there");
    assert_eq!(letters(&plan), "oooo".to_owned() + "o-ooo-----");
    assert_eq!(letters(&Plan::new(&auto, &all(), site()).expect("all is there")), "ooooo-ooo-----");
    let error = Plan::new(&full, &denied, site()).expect_err("it cannot be had");
    assert!(error.what().contains("namespaces: operation not permitted: unshare"), "{}", error.what());
    let plan = Plan::new(&auto, &denied, site()).expect("a light one");
    assert_eq!((letters(&plan).as_str(), plan.full), ("rrooooo-------", None));
    // Only namespaces keep connections from being served by root.
    let as_root = || JailSite { as_root: true, ..site() };
    for (jail, facts, is_right) in [
        (&full, all(), true),
        (&auto, all(), true),
        (&auto, denied, false),
        (&Jail::new(JailMode::Light), all(), false),
    ] {
        assert_eq!(Plan::new(jail, &facts, as_root()).is_ok(), is_right, "{jail:?}");
    }
}

#[test]
fn what_only_a_full_jail_has_is_refused_in_others() {
    for (mode, is_right) in
        [(JailMode::Full, true), (JailMode::Auto, true), (JailMode::Light, false), (JailMode::None, false)]
    {
        let jail = Jail::new(mode).bind_read_only_path("/srv", "/srv");
        assert_eq!(jail.check(false).is_ok(), is_right, "{mode:?}");
        assert_eq!(
            Jail::new(mode).private_network(PrivateNetwork::Machine).check(false).is_ok(),
            is_right,
            "{mode:?}"
        );
    }
    Jail::new(JailMode::Full).protect_system(false).check(false).expect_err("no such thing");
    Jail::new(JailMode::Full).read_write_path("/srv").check(false).expect("its mounts decide");
}

#[test]
fn limits_that_were_set_are_required_and_those_of_a_profile_in_a_jail() {
    let limits = |plan: &Plan| letters(plan)[11..].to_owned();
    for mode in [JailMode::None, JailMode::Light, JailMode::Full, JailMode::Auto] {
        let place = || if mode == JailMode::Light || mode == JailMode::None { no_site() } else { site() };
        let jail = || Jail::new(mode).memory_max(64 << 20);
        let plan = Plan::new(&jail(), &with_cgroups(), place()).expect("there are cgroups");
        assert_eq!((limits(&plan).as_str(), plan.cgroups.len()), ("o--", 1), "{mode:?}");
        let error = Plan::new(&jail(), &all(), place()).expect_err("there are none");
        assert!(error.what().contains("the jail cannot have memory-max"), "{mode:?}: {}", error.what());
        // All three in one cgroup.
        let profile = || Jail::new(mode).profile(JailProfile::Ctf);
        let plan = Plan::new(&profile(), &with_cgroups(), place()).expect("there are cgroups");
        assert_eq!((limits(&plan).as_str(), plan.cgroups.len()), ("ooo", 1), "{mode:?}");
        assert_eq!(plan.cgroups[0].settings.len(), 5);
        let plan = Plan::new(&profile(), &all(), place());
        assert_eq!(plan.is_ok(), mode == JailMode::Auto, "{mode:?}");
        let unlimited = profile().memory_max(None).tasks_max(None).cpu_quota(None);
        Plan::new(&unlimited, &all(), place()).expect("nothing is asked for");
    }
}

#[test]
fn processes_are_limited_without_cgroups_where_each_connection_has_a_user() {
    let jail = Jail::new(JailMode::Full).tasks_max(5);
    let full = full_jail(JailUsers::Each { uid: 1000, gid: 1000, slots: 10 });
    let alone = |executes| JailSite { full: Some(full.clone()), executes, ..site() };
    let plan = Plan::new(&jail, &all(), alone(true)).expect("by a limit of the user");
    assert_eq!(&letters(&plan)[11..], "-o-");
    Plan::new(&jail, &all(), alone(false)).expect_err("a handler has no such limit");
    Plan::new(&jail, &all(), site()).expect_err("all connections have one user");
}

#[test]
fn limits_with_which_nothing_runs_are_refused() {
    let full = || Jail::new(JailMode::Full);
    for jail in [full().memory_max(4096), full().tasks_max(0), full().cpu_quota(0)] {
        jail.check(false).expect_err("nothing could run");
    }
}

#[test]
fn endpoints_need_a_full_jail_without_the_network_of_the_machine() {
    let full = || Jail::new(JailMode::Full).network_allow("192.0.2.1:443").expect("an endpoint");
    let terms = |terms| full().system_call_filter(terms).expect("terms");
    let families = |names| full().restrict_address_families(names).expect("families");
    let light = Jail::new(JailMode::Light).network_allow("192.0.2.1:443").expect("an endpoint");
    for (jail, what) in [
        (full(), None),
        (full().private_network(PrivateNetwork::Empty), None),
        (full().private_network(PrivateNetwork::Loopback), None),
        (families("AF_INET6"), None),
        (terms("~listen"), None),
        (full().private_network(PrivateNetwork::Machine), Some("the network of the machine")),
        (light, Some("only a full jail")),
        (terms("~connect"), Some("no program connect")),
        (terms("~@network-io"), Some("no program connect")),
        (families("AF_UNIX"), Some("no program connect")),
        (terms("io_uring_setup"), Some("io_uring")),
    ] {
        match (jail.check(false), what) {
            (Ok(()), None) => {}
            (Err(error), Some(what)) => assert!(error.what().contains(what), "{jail:?}: {}", error.what()),
            (checked, _) => panic!("{jail:?}: {checked:?}"),
        }
    }
}

#[test]
fn endpoints_are_a_layer_that_is_required() {
    let old = Facts { connecting: Err(Errno::INVAL), ..all() };
    let denied = Facts { house: Err(StepError { step: "a namespace".into(), errno: Errno::PERM }), ..all() };
    for mode in [JailMode::Full, JailMode::Auto] {
        let endpoints = ["192.0.2.1:443", "[2001:db8::/32]:*"];
        let jail = endpoints.into_iter().try_fold(Jail::new(mode), Jail::network_allow).expect("endpoints");
        let plan = Plan::new(&jail, &all(), site()).expect("all is there");
        let state = LayerState::On("192.0.2.1:443 [2001:db8::]/32:*".into());
        assert!(plan.layers.contains(&(Layer::NetworkAllow, state)), "{:?}", plan.layers);
        let error = Plan::new(&jail, &old, site()).expect_err("an old kernel");
        assert!(error.what().contains("the jail cannot have network-allow"), "{}", error.what());
        let error = Plan::new(&jail, &denied, site()).expect_err("no namespaces");
        assert!(error.what().contains("the jail cannot have namespaces"), "{}", error.what());
    }
}

#[test]
fn endpoints_take_what_keeps_passed_sockets_to_their_peers() {
    let no_filter = |landlock| Facts { holding: Err(Errno::PERM), landlock, ..all() };
    for (facts, empty, loopback) in [
        (all(), true, true),
        (no_filter(Ok(7)), true, false),
        (no_filter(Ok(4)), true, false),
        (no_filter(Ok(3)), false, false),
        (no_filter(Err(Errno::NOSYS)), false, false),
    ] {
        for (network, expected) in [(PrivateNetwork::Empty, empty), (PrivateNetwork::Loopback, loopback)] {
            let jail = Jail::new(JailMode::Full).private_network(network);
            let jail = jail.network_allow("192.0.2.1:443").expect("an endpoint");
            let full = site().full.map(|full| FullJail { network, ..full });
            let plan = Plan::possible(&jail, &facts, JailSite { full, ..site() });
            assert_eq!(plan.is_on(Layer::NetworkAllow), expected, "{network:?} {facts:?}");
        }
    }
}
