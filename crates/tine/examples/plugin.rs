//! A plugin that is loaded anew for each connection: a new version counts from the next client on,
//! without a restart, and one that crashes ends one connection.
//!
//! The plugin is a shared object with a function `long answer(const char *line)`. A static program
//! cannot load any, so this one is built without `crt-static`, in a folder of its own:
//!
//! ```text
//! cargo run -p tine --example plugin --target-dir target/dynamic \
//!     --config 'target."cfg(target_env = \"gnu\")".rustflags = ["-Ctarget-feature=-crt-static"]' \
//!     -- 127.0.0.1:9999 ./plugin.so
//! ```

use std::ffi::{CStr, CString, c_char, c_long};
use std::io::Write;

use libloading::{Library, Symbol};
use tine::{Connection, HandlerError, Server};

type Answer = unsafe extern "C" fn(*const c_char) -> c_long;

/// The longest line.
const MAX_LINE: usize = 1000;

fn main() -> Result<(), tine::Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "[::]:9999".into());
    let path = arguments.next().unwrap_or_else(|| "./plugin.so".into());
    Server::bind(&address)?.print_ports(true).run(move |connection| serve(connection, &path))
}

fn serve(mut connection: Connection, path: &str) -> Result<(), HandlerError> {
    // SAFETY: it runs the initialisation of a file that the operator has named. This process
    // serves one client and has one thread, so nothing else runs meanwhile.
    let library = unsafe { Library::new(path) }?;
    // SAFETY: a plugin promises that its symbol `answer` is such a function.
    let answer: Symbol<Answer> = unsafe { library.get(b"answer") }?;
    while let Some(line) = connection.next_line_bytes(MAX_LINE)? {
        let line = CString::new(line)?;
        let number = call(&answer, &line);
        writeln!(connection, "{number}")?;
    }
    Ok(())
}

fn call(answer: &Symbol<Answer>, line: &CStr) -> c_long {
    // SAFETY: the library is loaded for as long as its symbol is borrowed, and the string ends
    // with a zero. What the function does wrong beyond, it does to this process.
    unsafe { answer(line.as_ptr()) }
}
