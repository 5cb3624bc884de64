//! Reads the files in `/proc/PID` that the census needs (proc(5)), from their text.

use super::census::DescriptorKind;

/// The value of a line of `status`.
pub(super) fn status_value<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// The number of a line of `status`, without its unit.
pub(super) fn status_number(status: &str, key: &str) -> Option<u64> {
    status_value(status, key)?.split_whitespace().next()?.parse().ok()
}

/// How the user and group ids of a process differ among themselves: real, effective, saved, and of
/// the file system.
pub(super) fn unequal_ids(status: &str) -> Option<String> {
    ["Uid", "Gid"].into_iter().find_map(|key| {
        let ids: Vec<&str> = status_value(status, key)?.split_whitespace().collect();
        let differ = ids.iter().any(|id| *id != ids[0]);
        let what = if key == "Uid" { "user ids" } else { "group ids" };
        differ.then(|| format!("its {what} are {}: real, effective, saved, file system", ids.join(" ")))
    })
}

/// The real user or group id of a process, from its `status`.
pub(super) fn first_id(status: &str, key: &str) -> u32 {
    let ids = status_value(status, key).and_then(|ids| ids.split_whitespace().next());
    ids.and_then(|id| id.parse().ok()).unwrap_or(u32::MAX)
}

/// What a process has that a copy does not get (fork(2)), from its `status` and `smaps`: pending
/// signals, locked memory (mlock(2)), and memory that is left out (`MADV_DONTFORK`, madvise(2)).
pub(super) fn lost_by_copies(status: &str, smaps: &str) -> Vec<&'static str> {
    let is_set = |key| status_value(status, key).is_some_and(|bits| bits.bytes().any(|digit| digit != b'0'));
    let flags = smaps.lines().filter_map(|line| line.strip_prefix("VmFlags:"));
    let has_left_out = flags.into_iter().any(|flags| flags.split_whitespace().any(|flag| flag == "dc"));
    let all = [
        (is_set("SigPnd") || is_set("ShdPnd"), "pending signals"),
        (status_number(status, "VmLck").is_some_and(|locked| locked > 0), "locked memory"),
        (has_left_out, "memory that is left out of copies"),
    ];
    all.into_iter().filter(|(is_there, _)| *is_there).map(|(_, what)| what).collect()
}

/// The filters of a process: the mode of seccomp(2), and their number since Linux 5.9.
pub(super) fn filters(status: &str) -> (u64, u64) {
    let number = |key| status_number(status, key).unwrap_or(0);
    (number("Seccomp"), number("Seccomp_filters"))
}

/// Whether the kernel has told the program that it has other rights than its caller (`AT_SECURE`,
/// getauxval(3)).
pub(super) fn is_secure(auxiliary: &[u8]) -> bool {
    const SECURE: usize = 23;
    const WORD: usize = size_of::<usize>();
    auxiliary.chunks_exact(2 * WORD).any(|pair| {
        let word = |at: usize| pair[at..at + WORD].try_into().map_or(0, usize::from_ne_bytes);
        word(0) == SECURE && word(WORD) != 0
    })
}

/// A line of `maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) is_writable: bool,
    pub(super) is_shared: bool,
    /// The file, or a name of the kernel's in brackets; may be empty.
    pub(super) name: String,
}

/// The mappings that can be read, from `maps`.
pub(super) fn mappings(maps: &str) -> Vec<Mapping> {
    maps.lines().filter_map(mapping).collect()
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let access = fields.next()?;
    // Without the offset, the device and the inode.
    let name = fields.skip(3).collect::<Vec<_>>().join(" ");
    access.starts_with('r').then_some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        is_writable: access[1..].starts_with('w'),
        is_shared: access.ends_with('s'),
        name,
    })
}

/// The locks in `fdinfo/N`, each as its kind and mode: `FLOCK WRITE`.
pub(super) fn locks(info: &str) -> Vec<String> {
    let lines = info.lines().filter_map(|line| line.strip_prefix("lock:"));
    lines
        .map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (kind, mode) = (words.next().unwrap_or("lock"), words.nth(1).unwrap_or(""));
            format!("{kind} {mode}").trim_end().to_owned()
        })
        .collect()
}

/// The offset in `fdinfo/N`, and the flags of open(2).
pub(super) fn offset_and_flags(info: &str) -> (u64, u32) {
    let offset = status_number(info, "pos").unwrap_or(0);
    let flags = status_value(info, "flags").and_then(|flags| u32::from_str_radix(flags, 8).ok());
    (offset, flags.unwrap_or(0))
}

/// The number of timers in `timers`.
pub(super) fn timers(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("ID:")).count()
}

/// The kind of a descriptor that is no file or directory, by the name that `fd/N` leads to.
pub(super) fn special_kind(name: &str, info: &str) -> DescriptorKind {
    match name {
        "/dev/null"
        | "/dev/zero"
        | "/dev/full"
        | "/dev/random"
        | "/dev/urandom"
        | "anon_inode:[signalfd]" => DescriptorKind::Harmless,
        "anon_inode:[eventfd]" => DescriptorKind::Eventfd,
        "anon_inode:[timerfd]" => DescriptorKind::Timerfd,
        "anon_inode:[io_uring]" => DescriptorKind::IoUring,
        "anon_inode:[eventpoll]" => {
            DescriptorKind::Epoll(info.lines().filter(|line| line.starts_with("tfd:")).count())
        }
        _ if name.starts_with("socket:") => DescriptorKind::Socket,
        _ if name.starts_with("pipe:") => DescriptorKind::Pipe,
        _ => DescriptorKind::Other(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_filters() {
        let status = "Name:\tcat\nUid:\t5\t5\t5\t5\nGid:\t5\t6\t6\t6\nRssAnon:\t     92 kB\nSeccomp:\t2\nSeccomp_filters:\t3\n";
        assert_eq!(
            unequal_ids(status).as_deref(),
            Some("its group ids are 5 6 6 6: real, effective, saved, file system")
        );
        assert_eq!([first_id(status, "Gid"), first_id(status, "Ids")], [5, u32::MAX]);
        assert_eq!(unequal_ids("Uid:\t5\t5\t5\t5\n"), None);
        assert_eq!((filters(status), filters("Seccomp:\t0\n")), ((2, 3), (0, 0)));
        assert_eq!(status_number(status, "RssAnon"), Some(92));
        let pairs = |pairs: &[usize]| pairs.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        assert!(is_secure(&pairs(&[6, 4096, 23, 1, 0, 0])));
        assert!(!is_secure(&pairs(&[6, 23, 23, 0, 0, 0])));
    }

    #[test]
    fn what_copies_do_not_get() {
        let none = "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\nVmLck:\t       0 kB\n";
        assert_eq!(lost_by_copies(none, "VmFlags: rd wr mr mw me ac sd \n"), [""; 0]);
        for (status, smaps, what) in [
            ("SigPnd:\t0000000000000200\n", "", "pending signals"),
            ("SigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\n", "", "pending signals"),
            ("VmLck:\t    1732 kB\n", "", "locked memory"),
            ("", "VmFlags: rd wr\nVmFlags: rd dc sd \n", "memory that is left out of copies"),
        ] {
            assert_eq!(lost_by_copies(status, smaps), [what]);
        }
    }

    #[test]
    fn mappings_and_their_kinds() {
        let maps = "\
55d0c0-55d0c8 rw-p 00002000 fe:01 42                         /usr/bin/with space
7f00-7f10 rw-s 00000000 00:01 77                             /dev/zero (deleted)
7f20-7f30 r--s 00000000 fe:01 78                             /usr/lib/cache
7f30-7f40 ---p 00000000 00:00 0
7f40-7f50 rw-p 00000000 00:00 0
";
        let found = mappings(maps);
        let short: Vec<_> =
            found.iter().map(|map| (map.start, map.is_writable, map.is_shared, map.name.as_str())).collect();
        assert_eq!(
            short,
            [
                (0x55d0c0, true, false, "/usr/bin/with space"),
                (0x7f00, true, true, "/dev/zero (deleted)"),
                (0x7f20, false, true, "/usr/lib/cache"),
                (0x7f40, true, false, ""),
            ]
        );
        assert_eq!(found[0].end, 0x55d0c8);
    }

    #[test]
    fn descriptors_and_locks() {
        let info =
            "pos:\t92\nflags:\t0100002\nmnt_id:\t1\nlock:\t1: FLOCK  ADVISORY  WRITE 7 fe:01:9 0 EOF\n";
        assert_eq!(locks(info), ["FLOCK WRITE"]);
        assert_eq!(offset_and_flags(info), (92, 0o100_002));
        assert_eq!(locks("lock:\t1: POSIX  ADVISORY  READ  7 fe:01:9 0 EOF\n"), ["POSIX READ"]);
        assert_eq!(timers("ID: 0\nsignal: 14/0\nnotify: signal/pid.7\nClockID: 0\nID: 1\n"), 2);
        for (name, info, kind) in [
            ("/dev/null", "", DescriptorKind::Harmless),
            ("anon_inode:[signalfd]", "", DescriptorKind::Harmless),
            ("anon_inode:[eventfd]", "eventfd-count: 0\n", DescriptorKind::Eventfd),
            ("anon_inode:[eventpoll]", "pos:\t0\ntfd: 5 events: 19\ntfd: 6\n", DescriptorKind::Epoll(2)),
            ("anon_inode:[timerfd]", "", DescriptorKind::Timerfd),
            ("anon_inode:[io_uring]", "", DescriptorKind::IoUring),
            ("socket:[7]", "", DescriptorKind::Socket),
            ("pipe:[7]", "", DescriptorKind::Pipe),
            ("anon_inode:inotify", "", DescriptorKind::Other("anon_inode:inotify".into())),
            ("/dev/pts/0", "", DescriptorKind::Other("/dev/pts/0".into())),
        ] {
            assert_eq!(special_kind(name, info), kind, "{name}");
        }
    }
}
