//! What mounts become.

use std::path::Path;

use crate::import::nsjail::import;
use crate::import::printed;

/// The configuration of a server with these mounts.
fn imported(mounts: &str) -> String {
    let text = format!("mode: LISTEN port: 1 exec_bin {{ path: '/app/run' }}\n{mounts}");
    printed(&import(&text, Path::new("/c/game.cfg")))
}

const ROOT: &str = "mount { src: '/srv/image' dst: '/' is_bind: true } ";

#[test]
fn mounts_become_paths() {
    for (mounts, expected) in [
        (ROOT, "root-directory = \"/srv/image\""),
        ("mount { src: '/' dst: '/' is_bind: true }", "root-directory = \"/\""),
        ("chroot_dir: '/srv/old'", "root-directory = \"/srv/old\""),
        ("chroot_dir: '/srv/old' is_root_rw: true", "# mount at /: rw: true: the root of a full jail"),
        ("mount { src: '/a' dst: '/b/' is_bind: true }", "bind-read-only-paths = [\"/a:/b\"]"),
        ("mount { src: '/a/' dst: '/a' is_bind: true }", "bind-read-only-paths = [\"/a\"]"),
        ("mount { src: '/a' dst: '/b' is_bind: true rw: true }", "bind-paths = [\"/a:/b\"]"),
        ("mount { src: '/usr' dst: '/usr' is_bind: true rw: true }", "bind-paths = [\"/usr\"]"),
        (
            "mount { src: '/a' dst: '/usr' is_bind: true } mount { src: '/usr/lib' dst: '/usr/lib' is_bind: true }",
            "bind-read-only-paths = [\"/a:/usr\", \"/usr/lib\"]",
        ),
        ("mount { src: '/a' dst: '/b' is_bind: true mandatory: false }", "# mount at /b: mandatory: false: "),
        ("mount { src: '/a' dst: '/b' is_bind: true noexec: true }", "# mount at /b: noexec: true"),
        ("mount { src: '/a' dst: '/b' is_bind: true options: 'x' }", "# mount at /b: options: x"),
        ("mount { dst: '/tmp' fstype: 'tmpfs' rw: true options: 'size=64m' }", "private-tmp = \"64M\""),
        ("mount { dst: '/tmp' fstype: 'tmpfs' options: 'size=1,mode=700' }", "private-tmp = \"4K\""),
        ("mount { dst: '/tmp' fstype: 'tmpfs' options: 'mode=700' }", "# mount at /tmp: option mode=700"),
        ("mount { dst: '/tmp' fstype: 'tmpfs' options: 'size=50%' }", "# mount at /tmp: option size=50%"),
        ("mount { dst: '/tmp' fstype: 'tmpfs' }", "# mount at /tmp: it is not rw"),
        ("mount { src: '/a' dst: '/tmp' is_bind: true rw: true }", "bind-paths = [\"/a:/tmp\"]"),
        ("mount { dst: '/tmp' fstype: 'tmpfs' options: 'size=0' }", "# mount at /tmp: option size=0: here"),
        ("mount { dst: '/home' fstype: 'tmpfs' rw: true }", "temporary-file-system = [\"/home\"]"),
        ("mount { dst: '/var/tmp' fstype: 'tmpfs' rw: true }", "temporary-file-system = [\"/var/tmp\"]"),
        (
            "mount { dst: '/a' fstype: 'tmpfs' rw: true options: 'size=8m,mode=700' }",
            "# mount at /a: option mode=700",
        ),
        (
            "mount { dst: '/a' fstype: 'tmpfs' rw: true options: 'size=8m' } mount { dst: '/a/b' fstype: 'tmpfs' \
             options: 'size=1' rw: true }",
            "temporary-file-system = [\"/a:8M\", \"/a/b:4K\"]",
        ),
        ("mount { dst: '/etc/x' fstype: 'tmpfs' }", "temporary-file-system = [\"/etc/x\"]"),
        (
            "mount { dst: '/etc/x' fstype: 'tmpfs' }",
            "# mount at /etc/x: it is not rw: in a full jail, /etc/x",
        ),
        (
            "mount { src: '/a' dst: '/b' is_bind: true } mount { dst: '/b/c' fstype: 'tmpfs' }",
            "temporary-file-system = [\"/b/c\"]",
        ),
        ("mount { dst: '/proc' fstype: 'proc' rw: true }", "# mount at /proc: rw: true"),
        ("mount { src: '/x' dst: '/proc/sys' is_bind: true }", "# mount at /proc/sys: a full jail has"),
        ("mount { src: '/dev/kvm' dst: '/dev/kvm' is_bind: true }", "# mount at /dev/kvm: /dev has null"),
        ("mount { src: '/dev' dst: '/dev' is_bind: true }", "# mount at /dev: /dev has null"),
        ("mount { dst: '/sys' fstype: 'sysfs' }", "# mount at /sys: it is a file system sysfs"),
        ("mount { src: '/a' dst: '/b' is_symlink: true }", "# mount at /b: it is a symbolic link"),
        ("mount { dst: '/b' src_content: 'x\\377' }", "# mount at /b: it is a file with src_content"),
        ("mount { dst: '/b' fstype: 'tmpfs' colour: 1 }", "# mount at /b: colour is an unknown field"),
    ] {
        let text = imported(mounts);
        assert!(text.contains(expected), "{mounts}: {text}");
    }
    let hidden = imported(&format!("{ROOT} mount {{ dst: '/home' fstype: 'tmpfs' }}"));
    assert!(hidden.contains("temporary-file-system = [\"/home\"]"), "{hidden}");
}

#[test]
fn what_is_mounted_in_a_tmpfs_is_there() {
    let mounts =
        "mount { dst: '/home' fstype: 'tmpfs' rw: true } mount { src: '/a' dst: '/home/a' is_bind: true }";
    for root in ["", ROOT] {
        let text = imported(&format!("{root}{mounts}"));
        assert!(text.contains("temporary-file-system = [\"/home\"]"), "{text}");
        assert!(text.contains("bind-read-only-paths = [\"/a:/home/a\"]"), "{text}");
    }
    // Of the system, what is not in the tmpfs is hidden.
    let text = imported(
        "mount { dst: '/usr' fstype: 'tmpfs' } mount { src: '/usr/lib' dst: '/usr/lib' is_bind: true }",
    );
    assert!(text.contains("temporary-file-system = [\"/usr\"]"), "{text}");
    assert!(text.contains("bind-read-only-paths = [\"/usr/lib\"]"), "{text}");
}

#[test]
fn what_a_full_jail_has_anyway_is_not_named() {
    let plain = imported("mount_proc: true");
    for mounts in [
        "mount { dst: '/proc' fstype: 'proc' }",
        "mount { src: '/proc' dst: '/proc' is_bind: true }",
        "mount_proc: true mount { src: '/usr/lib' dst: '/usr/lib' is_bind: true }",
        "mount_proc: true mount { dst: '/' fstype: 'tmpfs' }",
        "mount_proc: true mount { dst: '/dev' fstype: 'tmpfs' } mount { src: '/dev/urandom' dst: '/dev/urandom' \
         is_bind: true rw: true } mount { src: '/proc/self/fd' dst: '/dev/fd' is_symlink: true } mount { dst: \
         '/dev/shm' fstype: 'tmpfs' rw: true }",
        "mount_proc: true mount { src: '/a' dst: '/b' is_bind: true } mount { dst: '/' fstype: 'tmpfs' }",
        "mount_proc: true mount { dst: '/home' fstype: 'tmpfs' }",
    ] {
        assert_eq!(imported(mounts), plain, "{mounts}");
    }
    let whole = ["/bin", "/etc", "/lib", "/sbin", "/usr"]
        .map(|path| format!("mount {{ src: '{path}' dst: '{path}' is_bind: true }} "))
        .concat();
    let notes = |text: &str| text.lines().filter(|line| line.starts_with("# its root")).count();
    assert_eq!((notes(&plain), notes(&imported(&whole)), notes(&imported(ROOT))), (1, 0, 0));
    assert_eq!(imported(&whole).matches("bind-").count(), 0);
}

#[test]
fn what_a_later_mount_covers_is_not_there() {
    let text = imported(
        "mount { src: '/a' dst: '/x/a' is_bind: true } mount { src: '/b' dst: '/x' is_bind: true }
         mount { src: '/c' dst: '/x/c' is_bind: true } mount { src: '/l' dst: '/x' is_symlink: true }",
    );
    assert!(text.contains("bind-read-only-paths = [\"/b:/x\", \"/c:/x/c\"]"), "{text}");
    let text = imported(&format!("mount {{ src: '/a' dst: '/a' is_bind: true }} {ROOT}"));
    assert!(text.contains("root-directory = \"/srv/image\"") && !text.contains("bind-"), "{text}");
}

#[test]
fn mounts_that_confine_in_another_way_leave_the_service_out() {
    for (mounts, why) in [
        ("mount { src: '/a' is_bind: true }", "the mount has no dst"),
        ("mount { src: '/a' dst: 'b' is_bind: true }", "b is no absolute path"),
        ("mount { src: '/a' dst: '/b/../c' is_bind: true }", "/b/../c is no absolute path"),
        ("mount { src: 'a' dst: '/b' is_bind: true }", "the mount at /b has no absolute path as src"),
        ("mount { dst: '/b' is_bind: true }", "the mount at /b has no absolute path as src"),
        ("mount { src: '/a:b' dst: '/b' is_bind: true }", "a path with a colon"),
        ("mount { src: '/a' dst: '/b' }", "has neither is_bind nor fstype"),
        ("mount { src: '/a' dst: '/' fstype: 'ext4' }", "the root is a file system ext4"),
        ("mount { src: '/a' dst: '/' is_symlink: true }", "the root is a symbolic link"),
        ("mount { prefix_src_env: 'HOME' src: '/a' dst: '/b' is_bind: true }", "begins with a variable"),
        ("mount { prefix_dst_env: 'HOME' src: '/a' dst: '/b' is_bind: true }", "begins with a variable"),
        ("mount { dst: '/b:1' fstype: 'tmpfs' rw: true }", "a path with a colon"),
    ] {
        let text = imported(mounts);
        assert!(text.contains("game is left out: /c/game.cfg:2:") && text.contains(why), "{mounts}: {text}");
    }
}
