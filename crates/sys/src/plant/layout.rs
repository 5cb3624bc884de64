//! Where the planted code finds its data, in bytes from their beginning.

/// The descriptor of the channel.
pub(super) const CHANNEL: usize = 0;
/// The flags of clone(2).
pub(super) const CLONE_FLAGS: usize = 8;
/// A `struct msghdr` (recvmsg(2)).
pub(super) const HEADER: usize = 16;
/// The field of the header for the length of control messages, which the kernel writes.
pub(super) const CONTROL_LENGTH: usize = HEADER + 40;
/// A `struct iovec`, of the message.
pub(super) const VECTOR: usize = 72;
/// Two words: a negative error number, and 0; or the number of a step with [`FAILED_BIT`] set, and
/// what it has failed with.
pub(super) const REPLY: usize = 88;
/// The number of the connection of a copy that has accepted it.
pub(super) const CONNECTION: usize = 104;
/// [`THREADS`].
pub(super) const PATH: usize = 112;
/// The directory that has as many links as the process has threads, and two more (proc(5)).
pub(super) const THREADS: &[u8; 16] = b"/proc/self/task\0";
/// The registers that a copy goes on with; on aarch64 in a signal frame, which is aligned to 16
/// bytes.
pub(super) const IMAGE: usize = 128;
/// The buffer for control messages, which has the descriptors behind its head of 16 bytes.
pub(super) const CONTROL: usize = 3072;
/// The head of a control message, and room for [`DESCRIPTORS`](super::DESCRIPTORS).
pub(super) const CONTROL_BYTES: usize = 16 + 8 * super::DESCRIPTORS.div_ceil(2);
/// Bytes that the steps of a copy use.
pub(super) const SCRATCH: usize = 3584;
/// The message, up to the end of the data.
pub(super) const MESSAGE: usize = 4096;

/// The nanoseconds that a call for another client takes while the connection is open, at most.
pub(super) const MOMENT: i32 = 100_000_000;

/// What the kernel does with SIGSYS, as it wants to see it: the handler, flags, where that returns
/// to, and the mask (rt_sigaction(2)). `code`: the address of the planted code.
pub(super) fn trap_action(code: u64) -> [u64; 4] {
    const RESTORER: u64 = 0x0400_0000;
    const FLAGS: u64 = (libc::SA_SIGINFO | libc::SA_NODEFER) as u64;
    let [handler, restorer] = super::machine::trap_places();
    // Elsewhere the kernel has its own way back.
    let (flags, restorer) = match restorer {
        0 => (FLAGS, 0),
        place => (FLAGS | RESTORER, code + place),
    };
    [code + handler, flags, restorer, 0]
}

/// Whether the image has the blocked signals, too.
pub(super) const IMAGE_HAS_SIGNALS: bool = cfg!(target_arch = "aarch64");

/// The exit code of a copy that could not take a step.
pub(super) const EXIT_FAILED: i32 = 111;

/// The bit of a number of a step that has failed.
pub(super) const FAILED_BIT: u32 = 40;
