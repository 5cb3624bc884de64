//! Lines on standard error.

/// Writes a line to standard error, formatted as by `format!`. A line that cannot be written is
/// lost: a full file system or a closed pipe changes neither what a command does nor its exit code,
/// where `eprintln!` would panic.
macro_rules! diagnostic {
    ($($part:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", format_args!($($part)*)));
    }};
}

pub(crate) use diagnostic;
