//! What crosses process boundaries: shared memory and messages with descriptors.

pub(crate) mod board;
pub(crate) mod fd_passing;
pub(crate) mod stats;
