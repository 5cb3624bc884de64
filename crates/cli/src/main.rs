//! The command `tine`.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    tine_cli::main()
}
