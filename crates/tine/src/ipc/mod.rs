//! What crosses process boundaries: shared memory, and messages with descriptors.

pub(crate) mod board;
pub(crate) mod connecting;
mod fd_passing;
pub(crate) mod handover;
pub(crate) mod jobs;
pub(crate) mod linking;
pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod observing;
pub(crate) mod setting;
pub(crate) mod stats;
pub(crate) mod steering;
pub(crate) mod text_channel;
