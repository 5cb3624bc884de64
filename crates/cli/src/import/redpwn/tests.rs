//! The services that variables of the image become.

use super::*;
use crate::import::printed;

fn imported(text: &str) -> String {
    printed(&import(text, Path::new("/c/game/Dockerfile")))
}

#[test]
fn a_dockerfile_without_variables_has_the_defaults_of_the_image() {
    assert_eq!(
        imported("FROM pwn.red/jail\nCOPY --from=debian / /srv\n"),
        "\n# /c/game/Dockerfile:1\n\
         # /srv of the image: export it, as docs/jails.md describes, and set root-directory to it\n\
         # /jail/hook.sh: if the image has one, it is not executed\n\
         # JAIL_TMP_SIZE=0: a full jail always has a /tmp that can be written, of 16M\n\
         [services.game]\nlisten = [\"5000\"]\nprogram = [\"/app/run\"]\njail = \"full\"\n\
         private-network = \"loopback\"\nroot-directory = \"/srv\"\ncwd = \"/app\"\nstderr = \"client\"\n\
         max-lifetime = \"20s\"\ntasks-max = 5\nmemory-max = \"5M\"\ncpu-quota = \"10%\"\nclear-env = true\n"
    );
}

#[test]
fn variables_replace_the_defaults() {
    let text = "# of the game\nJAIL_TIME=60\nJAIL_CONNS=100\nJAIL_CONNS_PER_IP=3\nJAIL_PIDS=10\n\
                JAIL_MEM=64M\nJAIL_CPU=500\nJAIL_PORT=1337\nJAIL_SYSCALLS=ptrace,clone3\nJAIL_TMP_SIZE=1M\n\
                JAIL_ENV_FLAG=\"a b\"\nJAIL_ENV_LANG=C\nJAIL_DEV=null,urandom\nPATH=/bin\n";
    assert_eq!(
        imported(text),
        "\n# /c/game/Dockerfile:1\n\
         # /srv of the image: export it, as docs/jails.md describes, and set root-directory to it\n\
         # /jail/hook.sh: if the image has one, it is not executed\n\
         [services.game]\nlisten = [\"1337\"]\nprogram = [\"/app/run\"]\njail = \"full\"\n\
         private-network = \"loopback\"\nroot-directory = \"/srv\"\ncwd = \"/app\"\nstderr = \"client\"\n\
         max-lifetime = \"60s\"\nmax-connections = 100\nmax-connections-per-source = 3\ntasks-max = 10\n\
         memory-max = \"64M\"\ncpu-quota = \"50%\"\nprivate-tmp = \"1M\"\nclear-env = true\n\
         env = [\"FLAG=a b\", \"LANG=C\"]\nsystem-call-filter = [\"ptrace clone3\"]\n"
    );
}

#[test]
fn a_limit_of_zero_is_none() {
    for (name, key) in [
        ("JAIL_TIME", "max-lifetime"),
        ("JAIL_PIDS", "tasks-max"),
        ("JAIL_MEM", "memory-max"),
        ("JAIL_CPU", "cpu-quota"),
    ] {
        assert!(imported(&format!("{name}=")).contains(key), "an empty one is not set");
        let text = imported(&format!("{name}=0"));
        assert!(text.contains("[services.game]") && !text.contains(key), "{text}");
    }
}

#[test]
fn what_has_no_equivalent_is_named() {
    for (variable, expected) in [
        ("JAIL_POW=5000", "# JAIL_POW=5000: clients are served without a proof of work"),
        ("JAIL_CPU=7", "# JAIL_CPU=7: cpu-quota is in whole percents"),
        ("JAIL_DEV=null,kvm,net/tun", "# JAIL_DEV: a full jail has no /dev/kvm, /dev/net/tun"),
        ("JAIL_READ_ONLY=false", "# JAIL_READ_ONLY=false: "),
        ("JAIL_COLOUR=7", "# JAIL_COLOUR=7: an unknown variable"),
        ("JAIL_TMP_SIZE=0", "# JAIL_TMP_SIZE=0: "),
        ("JAIL_TMP_SIZE=1", "private-tmp = \"4K\""),
    ] {
        let text = imported(variable);
        assert!(text.contains(expected), "{variable}: {text}");
    }
    let plain = imported("");
    for variable in ["JAIL_POW=0", "JAIL_DEV=null,zero", "JAIL_READ_ONLY=true", "COLOUR=7", "JAIL_CONNS=0"] {
        assert_eq!(imported(variable), plain, "{variable}");
    }
}

#[test]
fn what_cannot_be_read_is_left_out_with_its_line() {
    for (text, why) in [
        ("\nJAIL_TIME=20s", "2: game is left out: JAIL_TIME=20s is no number"),
        ("JAIL_MEM=5X", "1: game is left out: JAIL_MEM=5X is no size"),
        ("JAIL_PORT=70000", "1: game is left out: JAIL_PORT=70000 is no port"),
        ("JAIL_PORT=0", "1: game is left out: JAIL_PORT=0 is no port"),
        ("JAIL_POW=-1", "1: game is left out: JAIL_POW=-1 is no number"),
        ("JAIL_SYSCALLS=a b", "1: game is left out: JAIL_SYSCALLS=a b has a word"),
        ("FROM x\nENV JAIL_TIME=$TIME", "2: game is left out: $TIME has a variable"),
        ("services:\n  game:", "1: game is left out: services: is no NAME=VALUE"),
        ("JAIL_TIME=1\0", "1: game is left out: it contains a zero byte"),
    ] {
        let text = imported(text);
        assert!(text.contains(&format!("/c/game/Dockerfile:{why}")), "{why}: {text}");
    }
}
