//! A C library reads what strangers upload. The process of a client has at most 256 MiB of memory,
//! and whatever its picture does to the library happens to that process alone.
//!
//! `cargo run -p tine --example image_info`, then `nc -N localhost 9999 < picture.png`
//!
//! `stb_image` returns an error for most bad files. What nobody can handle is a small file that
//! becomes a huge picture: here the copy that its binding makes finds no memory, and aborts.

use std::io::{Read, Write};

use rustix::process::{Resource, Rlimit, setrlimit};
use stb_image::image::{LoadResult, load_from_memory};
use tine::{Connection, Handler, HandlerError, Server};

/// The memory of a process, and the longest upload.
const MAX_MEMORY: u64 = 256 << 20;
const MAX_FILE: u64 = 16 << 20;

struct ImageInfo;

impl Handler for ImageInfo {
    fn on_child(&mut self) -> Result<(), HandlerError> {
        Ok(setrlimit(Resource::As, Rlimit { current: Some(MAX_MEMORY), maximum: Some(MAX_MEMORY) })?)
    }

    fn serve(&mut self, mut connection: Connection) -> Result<(), HandlerError> {
        let mut file = Vec::new();
        (&connection).take(MAX_FILE).read_to_end(&mut file)?;
        match load_from_memory(&file) {
            LoadResult::ImageU8(image) => writeln!(connection, "{} x {}", image.width, image.height)?,
            LoadResult::ImageF32(image) => writeln!(connection, "{} x {}", image.width, image.height)?,
            LoadResult::Error(why) => writeln!(connection, "error: {why}")?,
        }
        Ok(())
    }
}

fn main() -> Result<(), tine::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "[::]:9999".into());
    Server::bind(&address)?.print_ports(true).run_handler(ImageInfo)
}
