// Attempts to escape from a jail, each in a child process of its own, one line each on stdout.
//
// usage: attempts [--list] [NAME...]
//
// README.md says what the columns mean and which facts about the outside the environment gives.
// Whatever an attempt gets, it leaves the machine as it was: it asks without changing, or it makes
// something of its own and removes it.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

// Calls from number 424 on have the same number on every architecture; old headers lack them.
#define CALL_PIDFD_SEND_SIGNAL 424
#define CALL_IO_URING_SETUP 425
#define CALL_OPEN_TREE 428
#define CALL_MOVE_MOUNT 429
#define CALL_FSOPEN 430
#define CALL_FSPICK 433
#define CALL_PIDFD_OPEN 434
#define CALL_CLONE3 435
#define CALL_PIDFD_GETFD 438
#define CALL_PROCESS_MADVISE 440
#define CALL_MOUNT_SETATTR 442
#define CALL_FCHMODAT2 452

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef MS_NOUSER
#define MS_NOUSER (1 << 31)
#endif

#define MIB (1024 * 1024)
#define TIME_LIMIT 2

// What an attempt returns: the errno that refused it, or one of these.
#define GOT 0
#define ABSENT (-1)

// What the report says beside GOT or ABSENT.
static char note[200];

// The child's end of the pipe to the program that reports.
static int report_pipe = -1;

static int absent(const char *why)
{
    snprintf(note, sizeof note, "%s", why);
    return ABSENT;
}

static int got(const char *what)
{
    snprintf(note, sizeof note, "%s", what);
    return GOT;
}

static int outcome(long value)
{
    return value < 0 ? errno : GOT;
}

// For a call that cannot succeed: the error that shows that its arguments were looked at, which is
// after every check whether it is allowed.
static int reached(long value, int proof)
{
    if (value < 0 && errno != proof)
        return errno;
    return got("the kernel looked at the arguments");
}

// A fact about the outside. Without it the attempt is absent.
static const char *fact(const char *name)
{
    const char *value = getenv(name);
    if (value && *value)
        return value;
    snprintf(note, sizeof note, "%s is not set", name);
    return NULL;
}

static long number(const char *name)
{
    const char *value = fact(name);
    return value ? atol(value) : -1;
}

static int open_path(const char *path, int flags)
{
    int file = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (file < 0)
        return errno;
    close(file);
    return GOT;
}

static int read_link(const char *path)
{
    char target[256];
    return outcome(readlink(path, target, sizeof target));
}

// A path below ATTEMPTS_DIR that no other process of this program uses; NULL without ATTEMPTS_DIR.
static const char *outside_path(const char *name)
{
    static char path[4096];
    const char *directory = fact("ATTEMPTS_DIR");
    if (!directory)
        return NULL;
    if (name)
        snprintf(path, sizeof path, "%s/%s", directory, name);
    else
        snprintf(path, sizeof path, "%s/own-%ld", directory, (long)getpid());
    return path;
}

// A new directory, to be removed by the caller: in /tmp or, if that is refused, outside.
static int own_directory(char *path, size_t size)
{
    snprintf(path, size, "/tmp/attempts-XXXXXX");
    if (mkdtemp(path))
        return GOT;
    int refusal = errno;
    const char *outside = getenv("ATTEMPTS_DIR");
    if (!outside)
        return refusal;
    snprintf(path, size, "%s/attempts-XXXXXX", outside);
    return mkdtemp(path) ? GOT : refusal;
}

static long raw_clone(unsigned long flags)
{
    long child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    if (child > 0)
        waitpid(child, NULL, __WALL);
    return child;
}

static int pidfd(long process)
{
    return syscall(CALL_PIDFD_OPEN, process, 0);
}

// ---- descriptors and processes ----

static int descriptors(long unused)
{
    (void)unused;
    int count = 0, first = 0;
    for (int i = 3; i < 4096; i++) {
        if (i == report_pipe || fcntl(i, F_GETFD) < 0)
            continue;
        if (!count++)
            first = i;
    }
    if (!count)
        return EBADF;
    snprintf(note, sizeof note, "%d, the first is %d", count, first);
    return GOT;
}

static int held_directory(long unused)
{
    (void)unused;
    struct stat status;
    for (int i = 0; i < 4096; i++) {
        if (i == report_pipe || fstat(i, &status) || !S_ISDIR(status.st_mode))
            continue;
        if (fchdir(i))
            return errno;
        return open_path("..", O_RDONLY | O_DIRECTORY);
    }
    return EBADF;
}

static long parent_of(long process)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%ld/stat", process);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[length] = 0;
    const char *end = strrchr(line, ')');
    long parent = 0;
    if (!end || sscanf(end + 1, " %*c %ld", &parent) != 1)
        return 0;
    return parent;
}

static int is_ancestor(long process)
{
    for (long one = getpid(); one > 0; one = parent_of(one))
        if (one == process)
            return 1;
    return 0;
}

// Looks for a process that is neither this one, one of its ancestors nor process 1.
static int processes_seen(long unused)
{
    (void)unused;
    DIR *directory = opendir("/proc");
    if (!directory)
        return errno;
    struct dirent *entry;
    int count = 0;
    while ((entry = readdir(directory))) {
        long process = atol(entry->d_name);
        if (process > 1 && !is_ancestor(process))
            count++;
    }
    closedir(directory);
    if (!count)
        return ESRCH;
    snprintf(note, sizeof note, "%d besides the own", count);
    return GOT;
}

static const char *const VICTIM_FILES[] = {"status", "cmdline", "environ", "maps", "mem", "auxv"};
static const char *const VICTIM_LINKS[] = {"root", "cwd", "exe", "fd/0", "ns/net"};

static int read_victim(long file)
{
    char path[64], byte;
    long victim = number("ATTEMPTS_VICTIM");
    if (victim <= 0)
        return ABSENT;
    snprintf(path, sizeof path, "/proc/%ld/%s", victim, VICTIM_FILES[file]);
    int opened = open(path, O_RDONLY | O_CLOEXEC);
    if (opened < 0)
        return errno;
    // Memory has no byte at address 0: for it, to have it opened is enough.
    if (strcmp(VICTIM_FILES[file], "mem") && read(opened, &byte, 1) < 0)
        return errno;
    return GOT;
}

static int follow_victim(long link)
{
    char path[64];
    long victim = number("ATTEMPTS_VICTIM");
    if (victim <= 0)
        return ABSENT;
    snprintf(path, sizeof path, "/proc/%ld/%s", victim, VICTIM_LINKS[link]);
    return read_link(path);
}

// Writes the value that is there already.
static int victim_oom_score(long unused)
{
    (void)unused;
    char path[64], value[16];
    long victim = number("ATTEMPTS_VICTIM");
    if (victim <= 0)
        return ABSENT;
    snprintf(path, sizeof path, "/proc/%ld/oom_score_adj", victim);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return errno;
    ssize_t length = read(file, value, sizeof value);
    if (length <= 0)
        return errno;
    return outcome(pwrite(file, value, length, 0));
}

enum victim_call {
    SIGNAL_0, SIGNAL_CONT, SIGNAL_THREAD, SIGNAL_QUEUE, PIDFD_OPEN, PIDFD_SIGNAL, PIDFD_GETFD,
    PTRACE, VM_READ, VM_WRITE, MADVISE, KCMP, ROBUST_LIST, MOVE_PAGES, PRIORITY, PRLIMIT,
};

static int call_victim(long which)
{
    long victim = number("ATTEMPTS_VICTIM");
    if (victim <= 0)
        return ABSENT;

    int file = -1;
    if (which == PIDFD_OPEN || which == PIDFD_SIGNAL || which == PIDFD_GETFD || which == MADVISE) {
        file = pidfd(victim);
        if (file < 0)
            return errno;
    }
    // Nothing is mapped at the far end: an error about that comes after access was granted.
    char buffer[8];
    struct iovec near = {buffer, sizeof buffer};
    struct iovec far = {(void *)4096, sizeof buffer};
    struct iovec page = {(void *)4096, 4096};
    siginfo_t info = {.si_code = SI_QUEUE, .si_pid = getpid(), .si_uid = getuid()};
    void *list = NULL;
    size_t length = 0;
    struct rlimit limit;

    switch (which) {
    case SIGNAL_0: return outcome(kill(victim, 0));
    case SIGNAL_CONT: return outcome(kill(victim, SIGCONT));
    case SIGNAL_THREAD: return outcome(syscall(SYS_tgkill, victim, victim, 0));
    case SIGNAL_QUEUE: return outcome(syscall(SYS_rt_sigqueueinfo, victim, 0, &info));
    case PIDFD_OPEN: return GOT;
    case PIDFD_SIGNAL: return outcome(syscall(CALL_PIDFD_SEND_SIGNAL, file, 0, NULL, 0));
    case PIDFD_GETFD: return outcome(syscall(CALL_PIDFD_GETFD, file, 0, 0));
    // PTRACE_SEIZE does not stop it, and the end of this process releases it.
    case PTRACE: return outcome(ptrace(PTRACE_SEIZE, victim, 0, 0));
    case VM_READ:
        return reached(syscall(SYS_process_vm_readv, victim, &near, 1, &far, 1, 0), EFAULT);
    case VM_WRITE:
        return reached(syscall(SYS_process_vm_writev, victim, &near, 1, &far, 1, 0), EFAULT);
    case MADVISE: // MADV_COLD
        return reached(syscall(CALL_PROCESS_MADVISE, file, &page, 1, 20, 0), ENOMEM);
    case KCMP: return outcome(syscall(SYS_kcmp, getpid(), victim, 1, 0, 0));
    case ROBUST_LIST: return outcome(syscall(SYS_get_robust_list, victim, &list, &length));
    case MOVE_PAGES: return outcome(syscall(SYS_move_pages, victim, 0, NULL, NULL, NULL, 0));
    case PRIORITY:
        errno = 0;
        int priority = getpriority(PRIO_PROCESS, victim);
        if (priority == -1 && errno)
            return errno;
        return outcome(setpriority(PRIO_PROCESS, victim, priority));
    case PRLIMIT: return outcome(prlimit(victim, RLIMIT_NOFILE, NULL, &limit));
    }
    return EINVAL;
}

// The process that started this program: a process of the server, or a shell.
static pid_t starter;

static int starter_memory(long unused)
{
    (void)unused;
    if (starter == 0)
        return ESRCH;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", starter);
    return open_path(path, O_RDONLY);
}

static int starter_ptrace(long unused)
{
    (void)unused;
    if (starter == 0)
        return ESRCH;
    return outcome(ptrace(PTRACE_SEIZE, starter, 0, 0));
}

static int process_1_root(long unused)
{
    (void)unused;
    if (getpid() == 1 || getppid() == 1)
        return absent("process 1 is this program");
    return read_link("/proc/1/root");
}

// Descriptors of processes of another user.
static int foreign_descriptors(long unused)
{
    (void)unused;
    DIR *all = opendir("/proc");
    if (!all)
        return errno;
    struct dirent *entry;
    int refusal = ESRCH;
    while ((entry = readdir(all))) {
        char path[400];
        struct stat status;
        snprintf(path, sizeof path, "/proc/%s/fd", entry->d_name);
        if (atol(entry->d_name) <= 0 || stat(path, &status) || status.st_uid == getuid())
            continue;
        DIR *descriptors = opendir(path);
        if (!descriptors) {
            refusal = errno;
            continue;
        }
        struct dirent *one;
        while ((one = readdir(descriptors))) {
            char link[700];
            if (one->d_name[0] == '.')
                continue;
            snprintf(link, sizeof link, "%s/%s", path, one->d_name);
            refusal = read_link(link);
            if (refusal == GOT)
                return GOT;
        }
        closedir(descriptors);
    }
    return refusal;
}

// ---- namespaces, mounts, the root ----

static int make_namespace(long flags)
{
    return outcome(unshare(flags));
}

static int clone_namespace(long flags)
{
    return outcome(raw_clone(flags));
}

static int clone3_namespace(long flags)
{
    // The first version of struct clone_args: 8 words, flags the first, exit signal the fifth.
    uint64_t words[8] = {flags, 0, 0, 0, SIGCHLD};
    long child = syscall(CALL_CLONE3, words, sizeof words);
    if (child == 0)
        _exit(0);
    if (child > 0)
        waitpid(child, NULL, 0);
    return outcome(child);
}

static int enter_namespace(long unused)
{
    (void)unused;
    int self = pidfd(getpid());
    if (self < 0)
        return errno;
    return outcome(setns(self, CLONE_NEWUTS));
}

static int setns_reached(long unused)
{
    (void)unused;
    return reached(setns(-1, CLONE_NEWUTS), EBADF);
}

static int mount_tmpfs(long unused)
{
    (void)unused;
    char path[4096];
    int refusal = own_directory(path, sizeof path);
    if (refusal)
        return refusal;
    int result = outcome(mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k"));
    if (result == GOT)
        umount2(path, MNT_DETACH);
    rmdir(path);
    return result;
}

static int mount_proc(long unused)
{
    (void)unused;
    char path[4096];
    int refusal = own_directory(path, sizeof path);
    if (refusal)
        return refusal;
    int result = outcome(mount("proc", path, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    if (result == GOT)
        umount2(path, MNT_DETACH);
    rmdir(path);
    return result;
}

static int mount_reached(long unused)
{
    (void)unused;
    return reached(mount("none", "/", NULL, MS_NOUSER, NULL), EINVAL);
}

static int umount_own(long unused)
{
    (void)unused;
    char path[4096];
    int refusal = own_directory(path, sizeof path);
    if (refusal)
        return refusal;
    int result = outcome(mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k"));
    if (result == GOT)
        result = outcome(umount2(path, 0));
    rmdir(path);
    return result;
}

static int umount_reached(long unused)
{
    (void)unused;
    return reached(umount2("/", 0x40000000), EINVAL);
}

static int chroot_same(long unused)
{
    (void)unused;
    return outcome(chroot("/"));
}

// Out of a root of its own by a descriptor that was opened before.
static int chroot_double(long unused)
{
    (void)unused;
    char path[4096];
    struct stat before, after;
    int refusal = own_directory(path, sizeof path);
    if (refusal)
        return refusal;
    int outer = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = outer < 0 || stat("/", &before) || chroot(path) ? errno : GOT;
    if (result == GOT) {
        if (fchdir(outer) || chroot(".") || stat("/", &after))
            result = errno;
        else if (before.st_dev != after.st_dev || before.st_ino != after.st_ino)
            result = EXDEV;
    }
    // If the second change of root failed, the path leads nowhere; the descriptor still does.
    if (rmdir(path))
        unlinkat(outer, path + 1, AT_REMOVEDIR);
    return result;
}

static int pivot_root_reached(long unused)
{
    (void)unused;
    return reached(syscall(SYS_pivot_root, "/attempts-none", "/attempts-none"), ENOENT);
}

static long clone_tree(const char *path)
{
    // OPEN_TREE_CLONE, and AT_RECURSIVE: part of what a user namespace inherited cannot be cloned.
    return syscall(CALL_OPEN_TREE, AT_FDCWD, path, 1 | 0x8000);
}

static int open_tree_root(long unused)
{
    (void)unused;
    return outcome(clone_tree("/"));
}

static int open_tree_reached(long unused)
{
    (void)unused;
    return reached(syscall(CALL_OPEN_TREE, AT_FDCWD, "/", 0x40000000), EINVAL);
}

static int fs_open(long unused)
{
    (void)unused;
    return outcome(syscall(CALL_FSOPEN, "tmpfs", 0));
}

static int fs_pick(long unused)
{
    (void)unused;
    return outcome(syscall(CALL_FSPICK, AT_FDCWD, "/", 0));
}

static int move_mount_own(long unused)
{
    (void)unused;
    char path[4096];
    int refusal = own_directory(path, sizeof path);
    if (refusal)
        return refusal;
    long tree = clone_tree(path);
    int result = outcome(tree);
    if (result == GOT) {
        // MOVE_MOUNT_F_EMPTY_PATH
        result = outcome(syscall(CALL_MOVE_MOUNT, tree, "", AT_FDCWD, path, 4));
        if (result == GOT)
            umount2(path, MNT_DETACH);
        close(tree);
    }
    rmdir(path);
    return result;
}

static int mount_setattr_tree(long unused)
{
    (void)unused;
    uint64_t attributes[4] = {1 /* MOUNT_ATTR_RDONLY */};
    long tree = clone_tree("/");
    if (tree < 0)
        return errno;
    return outcome(
        syscall(CALL_MOUNT_SETATTR, tree, "", AT_EMPTY_PATH, attributes, sizeof attributes));
}

static int mount_setattr_reached(long unused)
{
    (void)unused;
    uint64_t attributes[4] = {0};
    return reached(
        syscall(CALL_MOUNT_SETATTR, AT_FDCWD, "/", 0x40000000, attributes, sizeof attributes),
        EINVAL);
}

struct handle {
    struct file_handle head;
    unsigned char bytes[128];
};

static int handle_of(const char *path, struct handle *handle)
{
    int mount_id;
    handle->head.handle_bytes = sizeof handle->bytes;
    return outcome(name_to_handle_at(AT_FDCWD, path, &handle->head, &mount_id, 0));
}

static int open_handle(long unused)
{
    (void)unused;
    struct handle handle;
    int refusal = handle_of("/", &handle);
    if (refusal)
        return refusal;
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return errno;
    return outcome(open_by_handle_at(root, &handle.head, O_RDONLY | O_CLOEXEC));
}

static int name_handle(long unused)
{
    (void)unused;
    struct handle handle;
    const char *path = fact("ATTEMPTS_FILE");
    return path ? handle_of(path, &handle) : ABSENT;
}

// ---- system calls ----

enum plain_call {
    HOSTNAME, DOMAINNAME, TIME_OF_DAY, CLOCK_SET, ADJTIMEX, SETUID_0, SETUID_OWN, SETGROUPS, BPF,
    BPF_REACHED, PERF, USERFAULTFD, IO_URING, KEYCTL, ADD_KEY, REQUEST_KEY, PERSONALITY, KEXEC,
    KEXEC_FILE, MODULE_INIT, MODULE_FINIT, MODULE_DELETE, KERNEL_LOG, ACCOUNTING, SWAP, QUOTA,
    IO_PORTS, IO_PRIVILEGE, FANOTIFY, LDT, HANGUP, RESTART, SET_MM, LISTENER,
};

static int call(long which)
{
    char name[256];
    struct timeval wrong_time = {.tv_sec = 0, .tv_usec = -1};
    struct timespec wrong_clock = {.tv_sec = 0, .tv_nsec = -1};
    struct timex adjustment = {.modes = 0x8000}; // ADJ_ADJTIME, which needs ADJ_OFFSET_SINGLESHOT
    uint32_t map[12] = {2 /* BPF_MAP_TYPE_ARRAY */, 4, 4, 1};
    struct perf_event_attr event = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof event, .config = PERF_COUNT_SW_TASK_CLOCK,
        .exclude_kernel = 1, .exclude_hv = 1,
    };
    char uring[120] = {0};
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog filter = {1, allow};

    switch (which) {
    case HOSTNAME:
        if (gethostname(name, sizeof name))
            return errno;
        return outcome(sethostname(name, strlen(name)));
    case DOMAINNAME:
        if (getdomainname(name, sizeof name))
            return errno;
        return outcome(setdomainname(name, strlen(name)));
    case TIME_OF_DAY: return reached(syscall(SYS_settimeofday, &wrong_time, NULL), EINVAL);
    case CLOCK_SET:
        return reached(syscall(SYS_clock_settime, CLOCK_REALTIME, &wrong_clock), EINVAL);
    case ADJTIMEX: return reached(syscall(SYS_adjtimex, &adjustment), EINVAL);
    case SETUID_0: return outcome(syscall(SYS_setuid, 0));
    case SETUID_OWN: return outcome(syscall(SYS_setuid, getuid()));
    case SETGROUPS: return outcome(syscall(SYS_setgroups, 0, NULL));
    case BPF: return outcome(syscall(SYS_bpf, BPF_MAP_CREATE, map, sizeof map));
    case BPF_REACHED: return reached(syscall(SYS_bpf, 0xffff, map, sizeof map), EINVAL);
    case PERF: return outcome(syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
    case USERFAULTFD: return outcome(syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */));
    case IO_URING: return outcome(syscall(CALL_IO_URING_SETUP, 1, uring));
    // KEYCTL_GET_KEYRING_ID of the keyring of the user
    case KEYCTL: return outcome(syscall(SYS_keyctl, 0, -4, 0));
    // into the keyring of the process
    case ADD_KEY: return outcome(syscall(SYS_add_key, "user", "attempts", "x", 1, -2));
    case REQUEST_KEY:
        return reached(syscall(SYS_request_key, "user", "attempts-none", NULL, 0), ENOKEY);
    case PERSONALITY: return outcome(personality(ADDR_NO_RANDOMIZE));
    case KEXEC: return reached(syscall(SYS_kexec_load, 0, 1000, NULL, 0), EINVAL);
#ifdef SYS_kexec_file_load
    case KEXEC_FILE: return reached(syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0), EBADF);
#endif
    case MODULE_INIT: return reached(syscall(SYS_init_module, NULL, 0, ""), ENOEXEC);
    case MODULE_FINIT: return reached(syscall(SYS_finit_module, -1, "", 0), EBADF);
    case MODULE_DELETE:
        return reached(syscall(SYS_delete_module, "attempts_none", O_NONBLOCK), ENOENT);
    // SYSLOG_ACTION_SIZE_BUFFER
    case KERNEL_LOG: return outcome(syscall(SYS_syslog, 10, NULL, 0));
    case ACCOUNTING: return reached(acct("/attempts-none"), ENOENT);
    case SWAP: return reached(syscall(SYS_swapon, "/attempts-none", 0x40000000), EINVAL);
    case QUOTA: return reached(syscall(SYS_quotactl, 0xff, NULL, 0, NULL), EINVAL);
#ifdef SYS_ioperm
    case IO_PORTS: return outcome(syscall(SYS_ioperm, 0, 1, 0));
    case IO_PRIVILEGE: return outcome(syscall(SYS_iopl, 0));
#endif
    // FAN_REPORT_FID: without it only root may
    case FANOTIFY: return outcome(syscall(SYS_fanotify_init, 0x200, O_RDONLY));
#ifdef SYS_modify_ldt
    case LDT: return outcome(syscall(SYS_modify_ldt, 0, name, sizeof name));
#endif
    // In a session of its own there is no terminal to hang up.
    case HANGUP: {
        pid_t child = fork();
        if (child == 0) {
            setsid();
            _exit(vhangup() ? errno : GOT);
        }
        int status;
        if (child < 0 || waitpid(child, &status, 0) < 0)
            return errno;
        return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    }
    // The magic numbers are wrong, so that it cannot succeed.
    case RESTART: return reached(syscall(SYS_reboot, 0, 0, 0, NULL), EINVAL);
    // PR_SET_MM_ENV_END to an address that is none
    case SET_MM: return reached(prctl(PR_SET_MM, 11, 0, 0, 0), EINVAL);
    case LISTENER:
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
            return errno;
        return outcome(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 8, &filter));
    }
    return absent("this architecture has no such call");
}

static int get_filter(long unused)
{
    (void)unused;
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog filter = {1, allow};
    pid_t child = fork();
    if (child < 0)
        return errno;
    if (child == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
        if (ptrace(PTRACE_TRACEME, 0, 0, 0))
            _exit(errno);
        raise(SIGSTOP);
        _exit(0);
    }
    int status, result;
    if (waitpid(child, &status, WUNTRACED) < 0)
        return errno;
    if (WIFSTOPPED(status))
        result = outcome(ptrace(0x420c /* PTRACE_SECCOMP_GET_FILTER */, child, 0, NULL));
    else
        result = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return result;
}

static int ptrace_child(long unused)
{
    (void)unused;
    pid_t child = fork();
    if (child < 0)
        return errno;
    if (child == 0) {
        pause();
        _exit(0);
    }
    int result = outcome(ptrace(PTRACE_SEIZE, child, 0, 0));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return result;
}

// The calls of i386 and of x32, which a filter has to refuse apart from those of x86-64.

#ifdef __x86_64__
static long i386_call(long call, long first, long second, long third, long fourth, long fifth)
{
    long value;
    __asm__ volatile("int $0x80"
                     : "=a"(value)
                     : "a"(call), "b"(first), "c"(second), "d"(third), "S"(fourth), "D"(fifth)
                     : "memory", "r8", "r9", "r10", "r11");
    if (value < 0 && value > -4096) {
        errno = -value;
        return -1;
    }
    return value;
}
#endif

enum foreign_call { I386_UNSHARE, I386_NETLINK, I386_KEYCTL, I386_PERSONALITY, X32_UNSHARE };

static int foreign_call(long which)
{
#ifdef __x86_64__
    switch (which) {
    case I386_UNSHARE: return outcome(i386_call(310, CLONE_NEWUSER, 0, 0, 0, 0));
    case I386_NETLINK: {
        uint32_t *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        if (low == MAP_FAILED)
            return errno;
        low[0] = AF_NETLINK;
        low[1] = SOCK_RAW;
        low[2] = 0;
        return outcome(i386_call(102, 1, (long)low, 0, 0, 0));
    }
    case I386_KEYCTL: return outcome(i386_call(288, 0, -4, 0, 0, 0));
    case I386_PERSONALITY: return outcome(i386_call(136, ADDR_NO_RANDOMIZE, 0, 0, 0, 0));
    case X32_UNSHARE: return outcome(syscall(0x40000000 | SYS_unshare, CLONE_NEWUSER));
    }
#else
    (void)which;
#endif
    return absent("this architecture has no such calls");
}

// ---- more rights by execution ----

static int has_more(pid_t child)
{
    uint32_t header[2] = {0x20080522 /* version 3 */, child};
    uint32_t data[6] = {0};
    if (syscall(SYS_capget, header, data))
        return 0;
    uint32_t own_header[2] = {0x20080522, 0};
    uint32_t own[6] = {0};
    if (syscall(SYS_capget, own_header, own))
        return 0;
    return (data[0] & ~own[0]) || (data[3] & ~own[3]);
}

// Executes the program and stops it before its first instruction; then looks at its rights.
static int gains(const char *path)
{
    // What it may write before it is stopped goes nowhere.
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return errno;
    for (int round = 0; round < 50; round++) {
        pid_t child = vfork();
        if (child < 0)
            return errno;
        if (child == 0) {
            for (int i = 0; i < 3; i++)
                dup2(ends[1], i);
            execl(path, path, "--version", (char *)NULL);
            _exit(errno);
        }
        // vfork returns here in the middle of exec.
        kill(child, SIGSTOP);
        int status;
        if (waitpid(child, &status, WUNTRACED) < 0)
            return errno;
        if (!WIFSTOPPED(status)) {
            if (WIFEXITED(status) && WEXITSTATUS(status) == EACCES)
                return EACCES;
            continue;
        }
        int more = has_more(child);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        return more ? got(path) : EPERM;
    }
    return EAGAIN;
}

// Programs that do nothing but print when they are called with --version.
static const char *const PROGRAMS[] = {
    "su", "mount", "umount", "passwd", "chsh", "newgrp", "sudo", "doas", "fusermount3", "ping",
    "arping", "newuidmap", "newgidmap", "dumpcap", "mtr-packet",
};

static int look_for_program(int (*wanted)(const char *path))
{
    static const char *const directories[] = {"/usr/bin", "/usr/sbin", "/bin", "/sbin"};
    for (size_t i = 0; i < sizeof PROGRAMS / sizeof *PROGRAMS; i++) {
        for (size_t j = 0; j < sizeof directories / sizeof *directories; j++) {
            char path[64];
            snprintf(path, sizeof path, "%s/%s", directories[j], PROGRAMS[i]);
            if (wanted(path) && !access(path, X_OK))
                return gains(path);
        }
    }
    return ENOENT;
}

static int is_setuid(const char *path)
{
    struct stat status;
    return !lstat(path, &status) && S_ISREG(status.st_mode) && (status.st_mode & S_ISUID);
}

static int is_capable(const char *path)
{
    return lgetxattr(path, "security.capability", NULL, 0) > 0;
}

static int setuid_program(long unused)
{
    (void)unused;
    return look_for_program(is_setuid);
}

static int capable_program(long unused)
{
    (void)unused;
    const char *outside = outside_path("capable");
    int first = outside && is_capable(outside) ? gains(outside) : ENOENT;
    if (first == GOT)
        return GOT;
    int second = look_for_program(is_capable);
    return second == ENOENT ? first : second;
}

static int chmod_setuid(long by_path)
{
    char path[64];
    int file = memfd_create("attempts", MFD_CLOEXEC);
    if (file < 0)
        return errno;
    if (by_path == 0)
        return outcome(fchmod(file, 04700));
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    if (by_path == 1)
        return outcome(chmod(path, 04700));
    return outcome(syscall(CALL_FCHMODAT2, file, "", 04700, AT_EMPTY_PATH));
}

static int create_setuid(long unused)
{
    (void)unused;
    char directory[4096], path[4200];
    int refusal = own_directory(directory, sizeof directory);
    if (refusal)
        return refusal;
    snprintf(path, sizeof path, "%s/x", directory);
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 04700);
    int result = outcome(file);
    unlink(path);
    rmdir(directory);
    return result;
}

static int execute_memory(long unused)
{
    (void)unused;
    int file = memfd_create("attempts", MFD_CLOEXEC);
    int own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (file < 0 || own < 0)
        return errno;
    char buffer[65536];
    ssize_t length;
    while ((length = read(own, buffer, sizeof buffer)) > 0)
        if (write(file, buffer, length) != length)
            return errno;
    pid_t child = fork();
    if (child < 0)
        return errno;
    if (child == 0) {
        char *arguments[] = {"attempts", "--nothing", NULL}, *none[] = {NULL};
        syscall(SYS_execveat, file, "", arguments, none, AT_EMPTY_PATH);
        _exit(errno);
    }
    int status;
    if (waitpid(child, &status, 0) < 0)
        return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static int own_program_writable(long unused)
{
    (void)unused;
    int result = open_path("/proc/self/exe", O_WRONLY);
    if (result != ETXTBSY)
        return result;
    // The kernel looks at this first. Afterwards the mount would refuse it, if it does.
    struct statvfs found;
    if (statvfs("/proc/self/exe", &found) == 0 && found.f_flag & ST_RDONLY)
        return EROFS;
    return got("only that it runs keeps it from being overwritten");
}

static int map_writable_code(long unused)
{
    (void)unused;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? errno : GOT;
}

static int make_code(long unused)
{
    (void)unused;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return errno;
    return outcome(mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

// ---- sockets ----

static int open_socket(long family_and_type)
{
    return outcome(socket(family_and_type >> 8, family_and_type & 0xff, 0));
}

static int open_raw_icmp(long unused)
{
    (void)unused;
    return outcome(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

static int connect_outside(long protocol)
{
    long port = number("ATTEMPTS_PORT");
    if (port <= 0)
        return ABSENT;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)},
    };
    int opened = socket(AF_INET, SOCK_STREAM, protocol);
    if (opened < 0)
        return errno;
    return outcome(connect(opened, (struct sockaddr *)&address, sizeof address));
}

static int connect_mapped(long unused)
{
    (void)unused;
    long port = number("ATTEMPTS_PORT");
    if (port <= 0)
        return ABSENT;
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &address.sin6_addr);
    int opened = socket(AF_INET6, SOCK_STREAM, 0);
    if (opened < 0)
        return errno;
    return outcome(connect(opened, (struct sockaddr *)&address, sizeof address));
}

static int send_fast(long unused)
{
    (void)unused;
    long port = number("ATTEMPTS_PORT");
    if (port <= 0)
        return ABSENT;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)},
    };
    int opened = socket(AF_INET, SOCK_STREAM, 0);
    if (opened < 0)
        return errno;
    return outcome(sendto(opened, "", 1, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&address,
                          sizeof address));
}

// Listens where other machines reach it. The address is the one that a datagram to the outside
// would have; none is sent.
static int listen_outside(long unused)
{
    (void)unused;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9)};
    socklen_t length = sizeof address;
    inet_pton(AF_INET, "198.51.100.1", &address.sin_addr);
    int probe = socket(AF_INET, SOCK_DGRAM, 0), opened = socket(AF_INET, SOCK_STREAM, 0);
    if (probe < 0 || opened < 0 || connect(probe, (struct sockaddr *)&address, sizeof address)
        || getsockname(probe, (struct sockaddr *)&address, &length))
        return errno;
    address.sin_port = 0;
    if (bind(opened, (struct sockaddr *)&address, sizeof address) || listen(opened, 1))
        return errno;
    return GOT;
}

static int bind_low_port(long unused)
{
    (void)unused;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(777)};
    int opened = socket(AF_INET, SOCK_STREAM, 0);
    if (opened < 0)
        return errno;
    return outcome(bind(opened, (struct sockaddr *)&address, sizeof address));
}

static int connect_abstract(long unused)
{
    (void)unused;
    const char *name = fact("ATTEMPTS_ABSTRACT");
    if (!name)
        return ABSENT;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    if (length > sizeof address.sun_path - 1)
        return ENAMETOOLONG;
    memcpy(address.sun_path + 1, name, length);
    int opened = socket(AF_UNIX, SOCK_STREAM, 0);
    if (opened < 0)
        return errno;
    return outcome(connect(opened, (struct sockaddr *)&address,
                           offsetof(struct sockaddr_un, sun_path) + 1 + length));
}

static int unix_address(struct sockaddr_un *address, const char *name)
{
    const char *path = outside_path(name);
    if (!path)
        return ABSENT;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length >= sizeof address->sun_path)
        return ENAMETOOLONG;
    memcpy(address->sun_path, path, length + 1);
    return GOT;
}

static int connect_path(long unused)
{
    (void)unused;
    struct sockaddr_un address;
    int problem = unix_address(&address, "socket");
    if (problem)
        return problem;
    int opened = socket(AF_UNIX, SOCK_STREAM, 0);
    if (opened < 0)
        return errno;
    return outcome(connect(opened, (struct sockaddr *)&address, sizeof address));
}

static int bind_path(long unused)
{
    (void)unused;
    struct sockaddr_un address;
    int problem = unix_address(&address, NULL);
    if (problem)
        return problem;
    int opened = socket(AF_UNIX, SOCK_STREAM, 0);
    if (opened < 0)
        return errno;
    int result = outcome(bind(opened, (struct sockaddr *)&address, sizeof address));
    if (result == GOT)
        unlink(address.sun_path);
    return result;
}

// ---- System V and POSIX objects of others ----

static int attach_shared_memory(long unused)
{
    (void)unused;
    long segment = number("ATTEMPTS_SHM");
    if (segment < 0)
        return ABSENT;
    return (intptr_t)shmat(segment, NULL, SHM_RDONLY) == -1 ? errno : GOT;
}

static int list_shared_memory(long unused)
{
    (void)unused;
    char line[256];
    if (number("ATTEMPTS_SHM") < 0)
        return ABSENT;
    FILE *file = fopen("/proc/sysvipc/shm", "re");
    if (!file)
        return errno;
    int lines = 0;
    while (fgets(line, sizeof line, file))
        lines++;
    fclose(file);
    return lines > 1 ? GOT : ENOENT;
}

static int open_queue(long unused)
{
    (void)unused;
    const char *name = fact("ATTEMPTS_NAME");
    if (!name)
        return ABSENT;
    return outcome(syscall(SYS_mq_open, name + (*name == '/'), O_RDONLY | O_NONBLOCK, 0, NULL));
}

static int open_shared_memory(long unused)
{
    (void)unused;
    char path[300];
    const char *name = fact("ATTEMPTS_NAME");
    if (!name)
        return ABSENT;
    snprintf(path, sizeof path, "/dev/shm/%s", name + (*name == '/'));
    return open_path(path, O_RDONLY);
}

// ---- files ----

static int read_path(const char *path)
{
    char byte;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return errno;
    int result = outcome(read(file, &byte, 1));
    close(file);
    return result;
}

static int read_outside(long unused)
{
    (void)unused;
    const char *path = fact("ATTEMPTS_FILE");
    return path ? read_path(path) : ABSENT;
}

static const char *const DETOURS[] = {
    "../../../../../../../../../../../..", "/proc/self/root", "/proc/self/root/../..",
    "/proc/self/cwd/../../../../../../../../..", "/proc/1/root", "/proc/thread-self/root",
};

// The same file by a way around. Only an absolute path can be appended.
static int read_detour(long detour)
{
    char whole[5000];
    const char *path = fact("ATTEMPTS_FILE");
    if (!path)
        return ABSENT;
    snprintf(whole, sizeof whole, "%s%s", DETOURS[detour], path);
    return read_path(whole);
}

static int status_outside(long unused)
{
    (void)unused;
    struct stat status;
    const char *path = fact("ATTEMPTS_FILE");
    return path ? outcome(stat(path, &status)) : ABSENT;
}

enum file_call {
    LIST, ENTER, CREATE, UNNAMED, DIRECTORY, FIFO, SYMLINK, WRITE, TRUNCATE, RENAME, LINK, MODE,
    TIMES, ATTRIBUTE, WATCH, DEVICE,
};

// Below ATTEMPTS_DIR, where `target` is a file of the user's.
static int change_outside(long which)
{
    char target[4096], other[4096];
    const char *path = outside_path("target");
    if (!path)
        return ABSENT;
    snprintf(target, sizeof target, "%s", path);
    snprintf(other, sizeof other, "%s", outside_path(NULL));
    const char *directory = getenv("ATTEMPTS_DIR");
    struct stat status;
    int result = GOT;

    switch (which) {
    case LIST: return open_path(directory, O_RDONLY | O_DIRECTORY);
    case ENTER: return outcome(chdir(directory));
    case CREATE:
        result = outcome(open(other, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        break;
    case UNNAMED: return outcome(open(directory, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600));
    case DIRECTORY:
        result = outcome(mkdir(other, 0700));
        if (result == GOT)
            rmdir(other);
        return result;
    case FIFO: result = outcome(mknod(other, S_IFIFO | 0600, 0)); break;
    case SYMLINK: result = outcome(symlink("target", other)); break;
    case WRITE: return open_path(target, O_WRONLY);
    case TRUNCATE: return stat(target, &status) ? errno : outcome(truncate(target, status.st_size));
    case RENAME:
        result = outcome(rename(target, other));
        if (result == GOT)
            result = outcome(rename(other, target));
        return result;
    case LINK: result = outcome(link(target, other)); break;
    case MODE: return stat(target, &status) ? errno : outcome(chmod(target, status.st_mode & 0777));
    case TIMES: return outcome(utimensat(AT_FDCWD, target, NULL, 0));
    case ATTRIBUTE:
        result = outcome(setxattr(target, "user.attempts", "x", 1, 0));
        if (result == GOT)
            removexattr(target, "user.attempts");
        return result;
    case WATCH: {
        int watcher = inotify_init1(IN_CLOEXEC);
        return watcher < 0 ? errno : outcome(inotify_add_watch(watcher, directory, IN_CREATE));
    }
    // the numbers of /dev/null
    case DEVICE: result = outcome(mknod(other, S_IFCHR | 0600, 1 << 8 | 3)); break;
    }
    if (result == GOT)
        unlink(other);
    return result;
}

// The outside sees the file if its /tmp is the own one: then ATTEMPTS_DIR, which is below it, is
// there as well.
static int create_in_tmp(long unused)
{
    (void)unused;
    struct stat status;
    char path[] = "/tmp/attempts-XXXXXX";
    const char *directory = fact("ATTEMPTS_DIR");
    if (!directory)
        return ABSENT;
    if (strncmp(directory, "/tmp/", 5))
        return absent("ATTEMPTS_DIR is not below /tmp");
    int file = mkstemp(path);
    if (file < 0)
        return errno;
    unlink(path);
    return outcome(stat(directory, &status));
}

static int fill_tmp(long files)
{
    signal(SIGXFSZ, SIG_IGN);
    char *buffer = calloc(1, MIB);
    if (!buffer)
        return ENOMEM;
    for (long i = 0; i < files; i++) {
        char path[] = "/tmp/attempts-XXXXXX";
        int file = mkstemp(path);
        if (file < 0)
            return errno;
        unlink(path);
        for (long left = 64 / files; left > 0; left--) {
            ssize_t written = write(file, buffer, MIB);
            if (written < 0)
                return errno;
            if (written < MIB)
                return ENOSPC;
        }
    }
    return GOT;
}

// A file without a name, which goes when it is closed.
static int write_usr(long unused)
{
    (void)unused;
    return outcome(open("/usr", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600));
}

static int lock_shared(long unused)
{
    (void)unused;
    int file = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return errno;
    return outcome(flock(file, LOCK_SH | LOCK_NB));
}

// ---- devices and files of the kernel ----

struct kernel_file {
    int flags;
    const char *paths[8];
};

enum kernel_file_name {
    KMSG, MEM, KCORE, BLOCK, TTY, FUSE, TUN, PTMX, SYSRQ, PATTERN, FORWARD, CGROUP,
};

static const struct kernel_file KERNEL_FILES[] = {
    [KMSG] = {O_RDONLY, {"/dev/kmsg"}},
    [MEM] = {O_RDONLY, {"/dev/mem"}},
    [KCORE] = {O_RDONLY, {"/proc/kcore"}},
    [BLOCK] = {O_RDONLY, {"/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/xvda", "/dev/mmcblk0",
                          "/dev/dm-0", "/dev/loop0"}},
    [TTY] = {O_RDWR, {"/dev/tty"}},
    [FUSE] = {O_RDWR, {"/dev/fuse"}},
    [TUN] = {O_RDWR, {"/dev/net/tun"}},
    [PTMX] = {O_RDWR, {"/dev/ptmx", "/dev/pts/ptmx"}},
    // These are opened only: nothing is written.
    [SYSRQ] = {O_WRONLY, {"/proc/sysrq-trigger"}},
    [PATTERN] = {O_WRONLY, {"/proc/sys/kernel/core_pattern"}},
    [FORWARD] = {O_WRONLY, {"/proc/sys/net/ipv4/ip_forward"}},
    [CGROUP] = {O_WRONLY, {"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs",
                           "/sys/fs/cgroup/systemd/cgroup.procs",
                           "/sys/fs/cgroup/memory/cgroup.procs"}},
};

static int open_kernel_file(long which)
{
    const struct kernel_file *file = &KERNEL_FILES[which];
    int refusal = ENOENT;
    for (int i = 0; i < 8 && file->paths[i]; i++) {
        int result = open_path(file->paths[i], file->flags);
        if (result == GOT)
            return got(file->paths[i]);
        // That one of several does not exist says less than that another one refuses.
        if (result != ENOENT)
            refusal = result;
    }
    return refusal;
}

static int terminal(void)
{
    int file = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    for (int i = 0; file < 0 && i < 3; i++)
        if (isatty(i))
            file = i;
    return file;
}

// Types nothing: it has no character, which is noticed last.
static int type_into_terminal(long unused)
{
    (void)unused;
    int file = terminal();
    if (file < 0)
        return errno;
    return reached(ioctl(file, TIOCSTI, NULL), EFAULT);
}

static int console_state(long unused)
{
    (void)unused;
    int file = terminal();
    if (file < 0)
        return errno;
    char subcode = 6; // TIOCL_GETSHIFTSTATE
    return outcome(ioctl(file, 0x541c /* TIOCLINUX */, &subcode));
}

// ---- priorities, limits, resources ----

static int raise_nice(long unused)
{
    (void)unused;
    return outcome(setpriority(PRIO_PROCESS, 0, -20));
}

static int set_affinity(long unused)
{
    (void)unused;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return errno;
    return outcome(sched_setaffinity(0, sizeof set, &set));
}

static int set_scheduler(long policy)
{
    // The C library of some systems does not make the call.
    struct sched_param parameter = {.sched_priority = policy == SCHED_FIFO};
    return outcome(syscall(SYS_sched_setscheduler, 0, policy, &parameter));
}

static int set_io_priority(long unused)
{
    (void)unused;
    // class 1: real time
    return outcome(syscall(SYS_ioprio_set, 1, 0, 1 << 13));
}

static int raise_limit(long unused)
{
    (void)unused;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return errno;
    limit.rlim_max++;
    return outcome(setrlimit(RLIMIT_NOFILE, &limit));
}

static int lower_oom_score(long unused)
{
    (void)unused;
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return errno;
    return outcome(write(file, "-1000", 5));
}

static int many_processes(long count)
{
    pid_t children[300];
    int made = 0, refusal = GOT;
    while (made < count && made < 300) {
        pid_t child = fork();
        if (child < 0) {
            refusal = errno;
            break;
        }
        if (child == 0) {
            alarm(TIME_LIMIT);
            pause();
            _exit(0);
        }
        children[made++] = child;
    }
    for (int i = 0; i < made; i++)
        kill(children[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
    return refusal;
}

static int many_descriptors(long count)
{
    struct rlimit limit;
    if (!getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    for (long i = 0; i < count; i++)
        if (dup(0) < 0)
            return errno;
    return GOT;
}

// Reserves 4 GiB and uses 256 MiB of them.
static int much_memory(long unused)
{
    (void)unused;
    char *start = mmap(NULL, 4096UL * MIB, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return errno;
    for (size_t i = 0; i < 256UL * MIB; i += 4096)
        start[i] = 1;
    return GOT;
}

// ---- the table ----

// Who has to refuse an attempt.
#define BOTH "light+full"
#define FULL "full"
#define ASKED "asked"
#define ALLOWED "allowed"

// Who gets it without a jail; a capability: an ordinary user that has it.
#define USER "user"
#define USERNS "userns"
#define NONE "none"

struct attempt {
    const char *name, *profiles, *control;
    int (*try)(long);
    long argument;
    // The errno, besides ENOSYS, that without a jail means that the machine has no such thing.
    int missing;
    const char *description;
};

static const struct attempt ATTEMPTS[] = {
    {"descriptors", BOTH, USER, descriptors, 0, 0, "descriptors above 2 are inherited"},
    {"held-directory", BOTH, USER, held_directory, 0, 0, "leave by a directory that is held open"},
    {"proc-processes", FULL, USER, processes_seen, 0, 0, "see processes besides the own in /proc"},
    {"proc-status", FULL, USER, read_victim, 0, 0, "read the status of another process"},
    {"proc-cmdline", FULL, USER, read_victim, 1, 0, "read the command line of another process"},
    {"proc-environ", BOTH, USER, read_victim, 2, 0, "read the environment of another process"},
    {"proc-maps", BOTH, USER, read_victim, 3, 0, "read where another process has its memory"},
    {"proc-mem", BOTH, USER, read_victim, 4, 0, "open the memory of another process"},
    {"proc-auxv", BOTH, USER, read_victim, 5, 0, "read the auxiliary vector of another process"},
    {"proc-root", BOTH, USER, follow_victim, 0, 0, "follow the root of another process"},
    {"proc-cwd", BOTH, USER, follow_victim, 1, 0, "follow the directory of another process"},
    {"proc-exe", BOTH, USER, follow_victim, 2, 0, "follow the executable of another process"},
    {"proc-fd", BOTH, USER, follow_victim, 3, 0, "follow a descriptor of another process"},
    {"proc-ns", BOTH, USER, follow_victim, 4, 0, "follow a namespace of another process"},
    {"proc-oom-score", BOTH, USER, victim_oom_score, 0, 0, "set the OOM score of another process"},
    {"proc-1-root", BOTH, "cap_sys_ptrace", process_1_root, 0, 0, "follow the root of process 1"},
    {"proc-foreign-fd", BOTH, "cap_sys_ptrace,cap_dac_read_search", foreign_descriptors, 0, 0,
     "follow a descriptor of a process of another user"},

    {"kill-0", BOTH, USER, call_victim, SIGNAL_0, 0, "send signal 0 to another process"},
    {"kill-cont", BOTH, USER, call_victim, SIGNAL_CONT, 0, "send SIGCONT to another process"},
    {"tgkill", BOTH, USER, call_victim, SIGNAL_THREAD, 0, "signal a thread of another process"},
    {"sigqueue", BOTH, USER, call_victim, SIGNAL_QUEUE, 0, "queue a signal to another process"},
    {"pidfd-open", FULL, USER, call_victim, PIDFD_OPEN, 0, "get a pidfd of another process"},
    {"pidfd-signal", BOTH, USER, call_victim, PIDFD_SIGNAL, 0, "signal another process by pidfd"},
    {"pidfd-getfd", BOTH, USER, call_victim, PIDFD_GETFD, 0, "take a descriptor by pidfd_getfd"},
    {"ptrace", BOTH, USER, call_victim, PTRACE, 0, "trace another process"},
    {"process-vm-read", BOTH, USER, call_victim, VM_READ, 0, "process_vm_readv of another process"},
    {"process-vm-write", BOTH, USER, call_victim, VM_WRITE, 0,
     "process_vm_writev to another process"},
    {"process-madvise", BOTH, "cap_sys_nice", call_victim, MADVISE, 0,
     "process_madvise of another process"},
    {"kcmp", BOTH, USER, call_victim, KCMP, 0, "compare kernel objects with another process"},
    {"robust-list", BOTH, USER, call_victim, ROBUST_LIST, 0, "get_robust_list of another process"},
    {"move-pages", BOTH, USER, call_victim, MOVE_PAGES, 0, "move_pages of another process"},
    {"priority-other", BOTH, USER, call_victim, PRIORITY, 0, "set the priority of another process"},
    {"prlimit-other", FULL, USER, call_victim, PRLIMIT, 0, "read the limits of another process"},
    {"starter-mem", BOTH, USER, starter_memory, 0, 0, "open the memory of the parent process"},
    {"starter-ptrace", BOTH, USER, starter_ptrace, 0, 0, "trace the parent process"},
    {"ptrace-child", BOTH, USER, ptrace_child, 0, 0, "trace a child of its own"},

    {"unshare-user", BOTH, USER, make_namespace, CLONE_NEWUSER, 0, "unshare a user namespace"},
    {"unshare-pid", BOTH, USERNS, make_namespace, CLONE_NEWPID, 0, "unshare a pid namespace"},
    {"unshare-net", BOTH, USERNS, make_namespace, CLONE_NEWNET, 0, "unshare a network namespace"},
    {"unshare-mount", BOTH, USERNS, make_namespace, CLONE_NEWNS, 0, "unshare a mount namespace"},
    {"unshare-ipc", BOTH, USERNS, make_namespace, CLONE_NEWIPC, 0, "unshare an IPC namespace"},
    {"unshare-uts", BOTH, USERNS, make_namespace, CLONE_NEWUTS, 0, "unshare a UTS namespace"},
    {"unshare-cgroup", BOTH, USERNS, make_namespace, CLONE_NEWCGROUP, 0,
     "unshare a cgroup namespace"},
    {"unshare-time", BOTH, USERNS, make_namespace, CLONE_NEWTIME, EINVAL,
     "unshare a time namespace"},
    {"clone-user", BOTH, USER, clone_namespace, CLONE_NEWUSER, 0, "clone into a user namespace"},
    {"clone-mount", BOTH, USERNS, clone_namespace, CLONE_NEWNS, 0, "clone into a mount namespace"},
    {"clone3-user", BOTH, USER, clone3_namespace, CLONE_NEWUSER, 0, "clone3 into a user namespace"},
    {"clone3-mount", BOTH, USERNS, clone3_namespace, CLONE_NEWNS, 0,
     "clone3 into a mount namespace"},
    {"setns", BOTH, USERNS, enter_namespace, 0, 0, "enter a namespace"},
    {"setns-reach", BOTH, USER, setns_reached, 0, 0, "reach setns"},
    {"mount", BOTH, USERNS, mount_tmpfs, 0, 0, "mount a tmpfs on an own directory"},
    {"mount-proc", BOTH, USERNS, mount_proc, 0, 0, "mount another /proc on an own directory"},
    {"mount-reach", BOTH, USER, mount_reached, 0, 0, "reach mount"},
    {"umount", BOTH, USERNS, umount_own, 0, 0, "unmount what it mounted"},
    {"umount-reach", BOTH, USER, umount_reached, 0, 0, "reach umount2"},
    {"chroot", BOTH, USERNS, chroot_same, 0, 0, "change the root to the same"},
    {"chroot-double", BOTH, USERNS, chroot_double, 0, 0, "leave a root by changing it twice"},
    {"pivot-root", BOTH, USERNS, pivot_root_reached, 0, 0, "be allowed to call pivot_root"},
    {"open-tree", BOTH, USERNS, open_tree_root, 0, 0, "clone the mount of the root"},
    {"open-tree-reach", BOTH, USER, open_tree_reached, 0, 0, "reach open_tree"},
    {"fsopen", BOTH, USERNS, fs_open, 0, 0, "open a file system to mount it"},
    {"fspick", BOTH, USERNS, fs_pick, 0, 0, "pick the root's file system to configure it"},
    {"move-mount", BOTH, USERNS, move_mount_own, 0, 0, "attach a mount to an own directory"},
    {"mount-setattr", BOTH, USERNS, mount_setattr_tree, 0, 0, "change attributes of an own mount"},
    {"mount-setattr-reach", BOTH, USER, mount_setattr_reached, 0, 0, "reach mount_setattr"},
    {"open-by-handle", BOTH, "cap_dac_read_search", open_handle, 0, EOPNOTSUPP,
     "open a directory by its handle"},
    {"name-to-handle", FULL, USER, name_handle, 0, EOPNOTSUPP, "get the handle of an outside file"},

    {"sethostname", BOTH, USERNS, call, HOSTNAME, 0, "set the host name to the same"},
    {"setdomainname", BOTH, USERNS, call, DOMAINNAME, 0, "set the domain name to the same"},
    {"settimeofday", BOTH, USER, call, TIME_OF_DAY, 0, "reach settimeofday"},
    {"clock-settime", BOTH, USER, call, CLOCK_SET, 0, "reach clock_settime"},
    {"adjtimex", BOTH, USER, call, ADJTIMEX, 0, "reach adjtimex"},
    {"setuid-0", BOTH, USERNS, call, SETUID_0, 0, "become uid 0"},
    {"setuid-own", ALLOWED, USER, call, SETUID_OWN, 0,
     "set its user to the one that it has: a program without capabilities gains nothing"},
    {"setgroups", BOTH, "cap_setgid", call, SETGROUPS, 0, "drop the supplementary groups"},
    {"setuid-program", BOTH, USER, setuid_program, 0, ENOENT, "gain rights by a set-uid program"},
    {"capable-program", BOTH, USER, capable_program, 0, ENOENT,
     "gain rights by a program with file capabilities"},
    {"chmod-setuid", BOTH, USER, chmod_setuid, 0, 0, "make an own file set-uid by fchmod"},
    {"chmod-setuid-path", BOTH, USER, chmod_setuid, 1, 0, "make an own file set-uid by chmod"},
    {"chmod-setuid-at2", BOTH, USER, chmod_setuid, 2, 0, "make an own file set-uid by fchmodat2"},
    {"create-setuid", BOTH, USER, create_setuid, 0, 0, "create a set-uid file"},
    {"bpf", BOTH, "cap_bpf", call, BPF, 0, "create a BPF map"},
    {"bpf-reach", BOTH, USER, call, BPF_REACHED, 0, "reach bpf"},
    {"perf-event", BOTH, USER, call, PERF, 0, "count an event of its own"},
    {"userfaultfd", BOTH, USER, call, USERFAULTFD, 0, "handle page faults of its own"},
    {"io-uring", BOTH, USER, call, IO_URING, 0, "set up an io_uring"},
    {"keyctl", BOTH, USER, call, KEYCTL, 0, "find the keyring of the user"},
    {"add-key", BOTH, USER, call, ADD_KEY, 0, "add a key to its keyring"},
    {"request-key", BOTH, USER, call, REQUEST_KEY, 0, "look for a key"},
    {"personality", BOTH, USER, call, PERSONALITY, 0, "switch address randomization off"},
    {"kexec-load", BOTH, "cap_sys_boot", call, KEXEC, 0, "be allowed to load another kernel"},
    {"kexec-file-load", BOTH, "cap_sys_boot", call, KEXEC_FILE, 0,
     "be allowed to load another kernel from a file"},
    {"reboot", BOTH, USERNS, call, RESTART, 0, "be allowed to restart the machine"},
    {"init-module", BOTH, "cap_sys_module", call, MODULE_INIT, 0, "be allowed to load a module"},
    {"finit-module", BOTH, "cap_sys_module", call, MODULE_FINIT, 0,
     "be allowed to load a module from a file"},
    {"delete-module", BOTH, "cap_sys_module", call, MODULE_DELETE, 0,
     "be allowed to unload a module"},
    {"syslog", BOTH, "cap_syslog", call, KERNEL_LOG, 0, "ask for the size of the kernel's log"},
    {"acct", BOTH, "cap_sys_pacct", call, ACCOUNTING, 0, "be allowed to set process accounting"},
    {"swapon", BOTH, USER, call, SWAP, 0, "reach swapon"},
    {"quotactl", BOTH, USER, call, QUOTA, 0, "reach quotactl"},
    {"ioperm", BOTH, USER, call, IO_PORTS, 0, "call ioperm, to take access to no port"},
    {"iopl", BOTH, USER, call, IO_PRIVILEGE, 0, "call iopl, to stay at level 0"},
    {"fanotify", BOTH, USER, call, FANOTIFY, 0, "watch files by fanotify"},
    {"modify-ldt", BOTH, USER, call, LDT, 0, "read its local descriptor table"},
    {"vhangup", BOTH, "cap_sys_tty_config", call, HANGUP, 0, "hang up the terminal"},
    {"prctl-set-mm", BOTH, "cap_sys_resource", call, SET_MM, 0, "be allowed to set its memory map"},
    {"seccomp-get-filter", BOTH, "cap_sys_admin", get_filter, 0, 0,
     "read a child's system call filter"},
    {"seccomp-listener", ALLOWED, USER, call, LISTENER, 0,
     "add a filter that reports to a listener: it can refuse more, not less"},
    {"i386-unshare", BOTH, USER, foreign_call, I386_UNSHARE, 0, "unshare by the i386 call"},
    {"i386-netlink", BOTH, USER, foreign_call, I386_NETLINK, 0, "netlink by the i386 socketcall"},
    {"i386-keyctl", BOTH, USER, foreign_call, I386_KEYCTL, 0, "keyctl by the i386 call"},
    {"i386-personality", BOTH, USER, foreign_call, I386_PERSONALITY, 0,
     "personality by the i386 call"},
    {"x32-unshare", BOTH, USER, foreign_call, X32_UNSHARE, 0, "unshare by the x32 call"},

    {"socket-netlink", BOTH, USER, open_socket, AF_NETLINK << 8 | SOCK_RAW, EPROTONOSUPPORT,
     "a netlink socket"},
    {"socket-vsock", BOTH, USER, open_socket, AF_VSOCK << 8 | SOCK_STREAM, EAFNOSUPPORT,
     "a socket to the hypervisor"},
    {"socket-alg", BOTH, USER, open_socket, AF_ALG << 8 | SOCK_SEQPACKET, EAFNOSUPPORT,
     "a socket to the kernel's cryptography"},
    {"socket-bluetooth", BOTH, USER, open_socket, AF_BLUETOOTH << 8 | SOCK_SEQPACKET, EAFNOSUPPORT,
     "a Bluetooth socket"},
    {"socket-packet", BOTH, USERNS, open_socket, AF_PACKET << 8 | SOCK_RAW, EAFNOSUPPORT,
     "a packet socket"},
    {"socket-xdp", BOTH, USERNS, open_socket, AF_XDP << 8 | SOCK_RAW, EAFNOSUPPORT,
     "an XDP socket"},
    {"socket-icmp", BOTH, USERNS, open_raw_icmp, 0, 0, "a raw ICMP socket"},
    {"connect-tcp", FULL, USER, connect_outside, 0, 0, "connect to 127.0.0.1 of the outside"},
    {"connect-mptcp", FULL, USER, connect_outside, IPPROTO_MPTCP, EPROTONOSUPPORT,
     "connect to 127.0.0.1 of the outside by MPTCP"},
    {"connect-mapped", FULL, USER, connect_mapped, 0, EAFNOSUPPORT,
     "connect to 127.0.0.1 of the outside by an IPv6 socket"},
    {"connect-fastopen", FULL, USER, send_fast, 0, EOPNOTSUPP,
     "connect to 127.0.0.1 of the outside by TCP fast open"},
    {"listen-outside", FULL, USER, listen_outside, 0, ENETUNREACH,
     "listen where other machines connect"},
    {"bind-low", BOTH, USERNS, bind_low_port, 0, 0, "bind port 777"},
    {"connect-abstract", BOTH, USER, connect_abstract, 0, 0, "connect to an abstract socket"},
    {"connect-path", FULL, USER, connect_path, 0, 0, "connect to the socket of an outside path"},
    {"bind-path", BOTH, USER, bind_path, 0, 0, "bind a socket to an outside path"},

    {"shm-attach", FULL, USER, attach_shared_memory, 0, 0, "attach a System V segment of another"},
    {"shm-list", FULL, USER, list_shared_memory, 0, ENOENT, "list System V segments"},
    {"mq-open", BOTH, USER, open_queue, 0, 0, "open a POSIX message queue of another"},
    {"shm-open", FULL, USER, open_shared_memory, 0, 0, "open a POSIX segment of another"},

    {"file-read", BOTH, USER, read_outside, 0, 0, "read a file of the outside"},
    {"file-read-cwd", BOTH, USER, read_detour, 0, 0, "read it by climbing from the directory"},
    {"file-read-root", BOTH, USER, read_detour, 1, 0, "read it by /proc/self/root"},
    {"file-read-above", BOTH, USER, read_detour, 2, 0, "read it by climbing above the root"},
    {"file-read-proc-cwd", BOTH, USER, read_detour, 3, 0, "read it by /proc/self/cwd"},
    {"file-read-proc-1", BOTH, "cap_sys_ptrace", read_detour, 4, 0, "read it by /proc/1/root"},
    {"file-read-thread", BOTH, USER, read_detour, 5, 0, "read it by /proc/thread-self/root"},
    {"file-stat", FULL, USER, status_outside, 0, 0, "see that a file of the outside exists"},
    {"dir-list", FULL, USER, change_outside, LIST, 0, "list a directory of the outside"},
    {"dir-enter", FULL, USER, change_outside, ENTER, 0, "enter a directory of the outside"},
    {"dir-create", BOTH, USER, change_outside, CREATE, 0, "create a file outside"},
    {"dir-unnamed", BOTH, USER, change_outside, UNNAMED, EOPNOTSUPP,
     "create a file without name outside"},
    {"dir-mkdir", BOTH, USER, change_outside, DIRECTORY, 0, "create a directory outside"},
    {"dir-mkfifo", BOTH, USER, change_outside, FIFO, 0, "create a named pipe outside"},
    {"dir-mknod", BOTH, "cap_mknod", change_outside, DEVICE, 0, "create a device outside"},
    {"dir-symlink", BOTH, USER, change_outside, SYMLINK, 0, "create a symbolic link outside"},
    {"file-write", BOTH, USER, change_outside, WRITE, 0, "open a file of the outside for writing"},
    {"file-truncate", BOTH, USER, change_outside, TRUNCATE, 0, "truncate a file of the outside"},
    {"file-rename", BOTH, USER, change_outside, RENAME, 0, "rename a file of the outside"},
    {"file-link", BOTH, USER, change_outside, LINK, 0, "link a file of the outside"},
    {"file-chmod", FULL, USER, change_outside, MODE, 0, "set the mode of a file of the outside"},
    {"file-utimes", FULL, USER, change_outside, TIMES, 0, "set the times of a file of the outside"},
    {"file-setxattr", FULL, USER, change_outside, ATTRIBUTE, EOPNOTSUPP,
     "set an attribute of a file of the outside"},
    {"inotify", FULL, USER, change_outside, WATCH, 0, "watch a directory of the outside"},
    {"tmp-shared", BOTH, USER, create_in_tmp, 0, 0, "create a file in the /tmp of the outside"},
    {"tmp-fill", BOTH, USER, fill_tmp, 8, 0, "fill /tmp with 64 MiB in 8 files"},
    {"tmp-fill-one", BOTH, USER, fill_tmp, 1, 0, "fill /tmp with 64 MiB in one file"},
    {"usr-write", BOTH, "cap_dac_override", write_usr, 0, EROFS, "create a file in /usr"},
    {"exe-write", FULL, USER, own_program_writable, 0, 0, "overwrite its own program"},
    {"flock", ALLOWED, USER, lock_shared, 0, 0,
     "lock a file that others read too: whoever may read may lock"},
    {"memfd-exec", ALLOWED, USER, execute_memory, 0, 0,
     "execute a file that is in memory: it has the rights of its process"},
    {"map-write-exec", ASKED, USER, map_writable_code, 0, 0,
     "map memory to write and execute (memory-deny-write-execute)"},
    {"protect-exec", ASKED, USER, make_code, 0, 0,
     "make written memory executable (memory-deny-write-execute)"},

    {"dev-kmsg", BOTH, "cap_syslog", open_kernel_file, KMSG, ENOENT, "read the kernel's log"},
    {"dev-mem", BOTH, "cap_sys_rawio,cap_dac_read_search", open_kernel_file, MEM, ENOENT,
     "open the machine's memory"},
    {"proc-kcore", BOTH, "cap_sys_rawio,cap_dac_read_search", open_kernel_file, KCORE, ENOENT,
     "open the kernel's memory"},
    {"dev-block", BOTH, "cap_dac_read_search", open_kernel_file, BLOCK, ENOENT, "open a disk"},
    {"dev-tty", BOTH, USER, open_kernel_file, TTY, ENOENT, "open the terminal of the session"},
    {"dev-fuse", BOTH, "cap_dac_override", open_kernel_file, FUSE, ENOENT, "open FUSE"},
    {"dev-tun", BOTH, "cap_dac_override", open_kernel_file, TUN, ENOENT, "open TUN"},
    {"dev-ptmx", FULL, USER, open_kernel_file, PTMX, ENOENT, "make a terminal"},
    {"tiocsti", BOTH, USER, type_into_terminal, 0, EIO, "type into the terminal of the session"},
    {"tioclinux", BOTH, USER, console_state, 0, ENOTTY, "ask the console by TIOCLINUX"},
    {"sysrq-trigger", BOTH, "cap_dac_override", open_kernel_file, SYSRQ, ENOENT,
     "open sysrq-trigger for writing"},
    {"core-pattern", BOTH, NONE, open_kernel_file, PATTERN, 0,
     "open core_pattern for writing: no capability is enough, only uid 0 of the machine"},
    {"sysctl-net", BOTH, USERNS, open_kernel_file, FORWARD, ENOENT,
     "open a network setting for writing"},
    {"cgroup-procs", BOTH, "cap_dac_override", open_kernel_file, CGROUP, ENOENT,
     "open the root's cgroup.procs for writing"},

    {"nice", BOTH, "cap_sys_nice", raise_nice, 0, 0, "raise its priority"},
    {"affinity", BOTH, USER, set_affinity, 0, 0, "choose its processors"},
    {"sched-batch", BOTH, USER, set_scheduler, SCHED_BATCH, 0, "choose its scheduler"},
    {"sched-fifo", BOTH, "cap_sys_nice", set_scheduler, SCHED_FIFO, 0, "run in real time"},
    {"ioprio", BOTH, "cap_sys_nice", set_io_priority, 0, 0, "have its input and output first"},
    {"limit-raise", BOTH, "cap_sys_resource", raise_limit, 0, 0, "raise a hard limit"},
    {"oom-score", BOTH, "cap_sys_resource", lower_oom_score, 0, 0, "not be killed for memory"},
    {"processes", FULL, USER, many_processes, 300, 0, "make 300 processes"},
    {"many-descriptors", FULL, USER, many_descriptors, 5000, 0, "open 5000 descriptors"},
    {"memory", ASKED, USER, much_memory, 0, 0,
     "reserve 4 GiB and use 256 MiB (memory-max or limit-as)"},
};

#define COUNT (sizeof ATTEMPTS / sizeof *ATTEMPTS)

// ---- running them ----

static const char *errno_name(int number)
{
    static char other[24];
#define NAME(one) case one: return #one;
    switch (number) {
    NAME(EPERM) NAME(ENOENT) NAME(ESRCH) NAME(EINTR) NAME(EIO) NAME(ENXIO) NAME(E2BIG)
    NAME(ENOEXEC) NAME(EBADF) NAME(ECHILD) NAME(EAGAIN) NAME(ENOMEM) NAME(EACCES) NAME(EFAULT)
    NAME(ENOTBLK) NAME(EBUSY) NAME(EEXIST) NAME(EXDEV) NAME(ENODEV) NAME(ENOTDIR) NAME(EISDIR)
    NAME(EINVAL) NAME(ENFILE) NAME(EMFILE) NAME(ENOTTY) NAME(ETXTBSY) NAME(EFBIG) NAME(ENOSPC)
    NAME(ESPIPE) NAME(EROFS) NAME(EMLINK) NAME(EPIPE) NAME(EDOM) NAME(ERANGE) NAME(ENAMETOOLONG)
    NAME(ENOSYS) NAME(ENOTEMPTY) NAME(ELOOP) NAME(EOVERFLOW) NAME(EUSERS) NAME(ENOTSOCK)
    NAME(EPROTOTYPE) NAME(ENOPROTOOPT) NAME(EPROTONOSUPPORT) NAME(ESOCKTNOSUPPORT)
    NAME(EOPNOTSUPP) NAME(EPFNOSUPPORT) NAME(EAFNOSUPPORT) NAME(EADDRINUSE) NAME(EADDRNOTAVAIL)
    NAME(ENETDOWN) NAME(ENETUNREACH) NAME(ECONNABORTED) NAME(ECONNRESET) NAME(ENOBUFS)
    NAME(ENOTCONN) NAME(ETIMEDOUT) NAME(ECONNREFUSED) NAME(EHOSTUNREACH) NAME(EALREADY)
    NAME(EINPROGRESS) NAME(ESTALE) NAME(EDQUOT) NAME(ENOKEY) NAME(EKEYEXPIRED) NAME(EKEYREVOKED)
    NAME(EKEYREJECTED) NAME(ENODATA) NAME(EPROTO)
    }
#undef NAME
    snprintf(other, sizeof other, "errno %d", number);
    return other;
}

static const char *signal_name(int number)
{
    static char other[24];
    switch (number) {
    case SIGSYS: return "SIGSYS";
    case SIGALRM: return "SIGALRM";
    case SIGKILL: return "SIGKILL";
    case SIGSEGV: return "SIGSEGV";
    case SIGXFSZ: return "SIGXFSZ";
    case SIGXCPU: return "SIGXCPU";
    }
    snprintf(other, sizeof other, "signal %d", number);
    return other;
}

static void say(const struct attempt *attempt, const char *verdict, const char *what)
{
    printf("%s\t%s\t%s\n", attempt->name, verdict, what);
    fflush(stdout);
}

static int is_missing(const struct attempt *attempt, int error)
{
    return getenv("ATTEMPTS_UNJAILED") && (error == ENOSYS || error == attempt->missing);
}

static void run(const struct attempt *attempt)
{
    struct { int result; char note[sizeof note]; } report = {0};
    long victim = atol(getenv("ATTEMPTS_VICTIM") ? getenv("ATTEMPTS_VICTIM") : "0");
    int ends[2];
    pid_t child;

    // In a pid namespace a process of this program may have the number that the victim has outside.
    for (;;) {
        if (pipe2(ends, O_CLOEXEC))
            goto cannot;
        // A process of the attempt before may not be gone yet.
        for (int round = 0; (child = fork()) < 0 && errno == EAGAIN && round < 100; round++)
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        if (child < 0)
            goto cannot;
        if (child > 0 && child != victim)
            break;
        if (child > 0) {
            kill(child, SIGKILL);
            waitpid(child, NULL, 0);
            close(ends[0]);
            close(ends[1]);
            continue;
        }
        setpgid(0, 0);
        alarm(TIME_LIMIT);
        close(ends[0]);
        report_pipe = ends[1];
        report.result = attempt->try(attempt->argument);
        memcpy(report.note, note, sizeof note);
        _exit(write(report_pipe, &report, sizeof report) != sizeof report);
    }
    close(ends[1]);
    // The alarm may be gone, or not be heard.
    struct pollfd readable = {ends[0], POLLIN, 0};
    int late = poll(&readable, 1, (TIME_LIMIT + 1) * 1000) == 0;
    ssize_t length = late ? 0 : read(ends[0], &report, sizeof report);
    if (late)
        kill(child, SIGKILL);
    kill(-child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    close(ends[0]);

    if (length != sizeof report) {
        const char *how = WIFSIGNALED(status) ? signal_name(WTERMSIG(status)) : "no report";
        // int $0x80 without emulation of i386
        if (getenv("ATTEMPTS_UNJAILED") && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV
            && attempt->try == foreign_call)
            say(attempt, "absent", how);
        else
            say(attempt, "refused", how);
    } else if (report.result == GOT) {
        say(attempt, "got", report.note[0] ? report.note : "it succeeded");
    } else if (report.result == ABSENT) {
        say(attempt, "absent", report.note);
    } else if (is_missing(attempt, report.result)) {
        char why[100];
        snprintf(why, sizeof why, "the machine has it not (%s)", errno_name(report.result));
        say(attempt, "absent", why);
    } else {
        say(attempt, "refused", errno_name(report.result));
    }
    return;

cannot:
    fprintf(stderr, "attempts: cannot start %s: %s\n", attempt->name, strerror(errno));
    exit(3);
}

// Root of the machine: uid 0 where the user namespace maps every uid to itself.
static int is_root(void)
{
    uid_t real, effective, saved;
    getresuid(&real, &effective, &saved);
    if (real && effective && saved)
        return 0;
    FILE *file = fopen("/proc/self/uid_map", "re");
    unsigned long inside, outside, count;
    if (!file)
        return 1;
    int fields = fscanf(file, "%lu %lu %lu", &inside, &outside, &count);
    fclose(file);
    return fields != 3 || (inside == 0 && outside == 0 && count == 4294967295);
}

static const struct attempt *find(const char *name)
{
    for (size_t i = 0; i < COUNT; i++)
        if (!strcmp(ATTEMPTS[i].name, name))
            return &ATTEMPTS[i];
    fprintf(stderr, "attempts: there is no attempt %s; --list shows all\n", name);
    exit(2);
}

static void list(const struct attempt *attempt)
{
    printf("%s\t%s\t%s\t%s\n", attempt->name, attempt->profiles, attempt->control,
           attempt->description);
}

int main(int count, char **arguments)
{
    void (*act)(const struct attempt *) = run;
    int first = 1;
    if (count > 1 && !strcmp(arguments[1], "--nothing"))
        return 0;
    if (count > 1 && !strcmp(arguments[1], "--list")) {
        act = list;
        first = 2;
    } else if (is_root()) {
        fprintf(stderr, "attempts: this is root of the machine, whom nothing would refuse: "
                        "run it as an ordinary user\n");
        return 2;
    }
    for (int i = first; i < count; i++)
        find(arguments[i]);
    starter = getppid();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGALRM, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    // A victim that this program would find in itself proves nothing.
    if (atol(getenv("ATTEMPTS_VICTIM") ? getenv("ATTEMPTS_VICTIM") : "0") == getpid())
        unsetenv("ATTEMPTS_VICTIM");
    if (first == count)
        for (size_t i = 0; i < COUNT; i++)
            act(&ATTEMPTS[i]);
    for (int i = first; i < count; i++)
        act(find(arguments[i]));
    return 0;
}
