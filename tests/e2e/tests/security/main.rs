//! What code that has taken over a handler, a program or a helper can reach: the table "Who may
//! touch what" of ARCHITECTURE.md as promises. The server `intruder` gives a client control over
//! the code of its connection process.
//!
//! Not promised: connections of one user can signal each other (`privileges.rs`), and programs of
//! one user can read each other's memory, as executing a program makes it readable again
//! (ptrace(2)). Workers (`--reuse`) keep the board. A server that stays root and has no `--user`
//! gives its handlers everything that root has.

mod descriptors;
mod intruder;
mod memory;
mod privileges;
mod stats;
