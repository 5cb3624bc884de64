use super::*;

#[test]
fn a_house_has_the_system_the_program_and_what_was_named() {
    let read_write = [BindPath::same("/var/tmp".into())];
    let read_only = [BindPath::same("/var".into()), BindPath::same("/var/tmp".into())];
    let temporary = ["/tmp", "/usr/share", "/opt"].map(at);
    let house = House::new(&HousePaths {
        program: Some(Path::new("/usr/bin/env")),
        directory: Some(Path::new("/")),
        temporary: &temporary,
        read_only: &read_only,
        read_write: &read_write,
        ..HousePaths::default()
    })
    .expect("paths that exist");
    let rights = |path: &str| {
        let found: Vec<_> = house.binds.iter().filter(|bind| bind.path == Path::new(path)).collect();
        assert!(found.len() <= 1, "{path}");
        found.first().map(|bind| bind.rights)
    };
    assert_eq!(rights("/usr"), Some(BindRights::ReadOnly));
    assert_eq!(rights("/var"), Some(BindRights::ReadOnly));
    assert_eq!(rights("/var/tmp"), Some(BindRights::ReadWrite));
    assert_eq!(rights("/dev/null"), Some(BindRights::Device));
    // Part of another one, or the root.
    assert_eq!((rights("/usr/bin/env"), rights("/")), (None, None));
    assert!(house.may_write(Path::new("/tmp/a")) && house.may_write(Path::new("/var/tmp")));
    assert!(house.may_write(Path::new("/usr/share/x")) && house.may_write(Path::new("/opt")));
    assert!(!house.may_write(Path::new("/usr")));
    let paths: Vec<_> = house.binds.iter().map(|bind| &bind.path).collect();
    assert!(paths.is_sorted(), "{paths:?}");
}

fn at(path: &str) -> TemporaryFileSystem {
    TemporaryFileSystem { path: path.into(), size: None }
}

#[test]
fn a_copy_mounts_what_has_nothing_below_it() {
    let etc = [BindPath::same("/etc".into())];
    for (temporary, read_only, expected) in [
        (&["/tmp"][..], &[][..], Some(&["/tmp"][..])),
        (&["/tmp", "/srv"], &[], Some(&["/srv", "/tmp"])),
        (&["/tmp", "/srv", "/srv/a"], &[], None),
        (&["/tmp", "/etc"], &[], Some(&["/etc", "/tmp"])),
        (&["/tmp", "/etc/ssl"], &etc, Some(&["/etc/ssl", "/tmp"])),
        (&["/tmp", "/usr"], &[BindPath::same("/usr/bin".into())], None),
    ] {
        let temporary: Vec<_> = temporary.iter().map(|path| at(path)).collect();
        let paths = HousePaths { temporary: &temporary, read_only, ..HousePaths::default() };
        let mounts = House::new(&paths).expect("paths that exist").own_mounts();
        let found = mounts.map(|all| all.into_iter().map(|mount| mount.path).collect::<Vec<_>>());
        let expected = expected.map(|all| all.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(found, expected, "{temporary:?}");
    }
}

#[test]
fn what_is_executed_is_there_also_where_a_temporary_file_system_hides_it() {
    for (temporary, directory, expected) in [
        ("/opt", "/usr", &[][..]),
        ("/usr/bin", "/usr", &["/usr/bin/env"]),
        ("/usr", "/usr/share", &["/usr/bin/env", "/usr/share"]),
        // The empty one is meant.
        ("/usr", "/usr", &["/usr/bin/env"]),
        ("/tmp", "/tmp", &[]),
    ] {
        let temporary = [at(temporary)];
        let paths = HousePaths {
            program: Some(Path::new("/usr/bin/env")),
            directory: Some(Path::new(directory)),
            temporary: &temporary,
            ..HousePaths::default()
        };
        let house = House::new(&paths).expect("paths that exist");
        assert!(!house.bind_paths().any(|path| path == Path::new("/tmp")));
        let own = house.bind_paths().filter(|path| path.starts_with("/usr") && *path != Path::new("/usr"));
        assert_eq!(own.collect::<Vec<_>>(), expected.iter().map(Path::new).collect::<Vec<_>>());
    }
}

#[test]
fn a_bind_at_tmp_is_instead_of_the_one_in_memory() {
    let read_only = [BindPath { source: "/usr".into(), at: "/tmp".into() }];
    let temporary = [at("/tmp")];
    let paths = HousePaths { read_only: &read_only, temporary: &temporary, ..HousePaths::default() };
    let house = House::new(&paths).expect("paths that exist");
    assert!(house.temporary.is_empty() && !house.may_write(Path::new("/tmp")));
}

#[test]
fn a_temporary_file_system_in_a_bind_needs_a_directory_there() {
    for (paths, expected) in [
        (&["/tmp", "/nonexistent/path"][..], None),
        (&["/usr/share"], None),
        (&["/usr", "/usr/nonexistent"], None),
        (&["/usr/nonexistent"], Some("/usr/nonexistent: no such file or directory")),
        (&["/usr/bin/env"], Some("/usr/bin/env: not a directory")),
    ] {
        let temporary: Vec<_> = paths.iter().map(|path| at(path)).collect();
        let made = House::new(&HousePaths { temporary: &temporary, ..HousePaths::default() });
        assert_eq!(made.err().map(|why| why.to_string()).as_deref(), expected, "{paths:?}");
    }
}

#[test]
fn another_root_replaces_the_system() {
    let root = std::env::temp_dir().join(format!("tine-house-{}", std::process::id()));
    for directory in ["app", "dev", "proc", "tmp", "usr/bin"] {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    std::os::unix::fs::symlink("usr/bin", root.join("bin")).expect("a link");
    let read_only = [BindPath { source: "/etc/hosts".into(), at: "/app/hosts".into() }];
    let house = House::new(&HousePaths {
        root: Some(&root),
        program: Some(Path::new("/app/run")),
        read_only: &read_only,
        ..HousePaths::default()
    })
    .expect("it exists");
    let bound = |path: &str| {
        let found = house.binds.iter().find(|bind| bind.path == Path::new(path));
        found.map(|bind| bind.source.clone())
    };
    assert_eq!(bound("/app"), Some(root.join("app")));
    assert_eq!(bound("/usr"), Some(root.join("usr")));
    assert_eq!(bound("/app/hosts"), Some("/etc/hosts".into()));
    assert_eq!((bound("/etc"), bound("/tmp"), bound("/dev"), bound("/proc")), (None, None, None, None));
    assert_eq!(house.links, [("/bin".into(), "usr/bin".into())]);
    fs::remove_dir_all(&root).expect("ours");
}

#[test]
fn a_path_that_does_not_exist_is_named() {
    let missing = [PathBuf::from("/nonexistent/path")];
    let binds = missing.clone().map(BindPath::same);
    for paths in [
        HousePaths { read_only: &binds, ..HousePaths::default() },
        HousePaths { read_write: &binds, ..HousePaths::default() },
        HousePaths { inaccessible: &missing, ..HousePaths::default() },
        HousePaths { program: Some(&missing[0]), ..HousePaths::default() },
        HousePaths { root: Some(&missing[0]), ..HousePaths::default() },
    ] {
        let why = House::new(&paths).expect_err("it does not exist");
        assert_eq!(why.to_string(), "/nonexistent/path: no such file or directory");
    }
}
