//! The banner: files that each client gets before it is served.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use tine::Server;
use tine::cli::next_move;

use crate::error::Error;

/// The banner.
#[derive(ClapArgs, Debug)]
#[group(skip)]
pub struct BannerOptions {
    /// Send each client that is served this file first, byte for byte; it is read at the start. May
    /// be repeated
    #[arg(long, value_name = "FILE")]
    pub banner_file: Vec<PathBuf>,
}

impl BannerOptions {
    /// The server with this banner: the files, one after the other.
    ///
    /// # Errors
    /// A file cannot be read, or is too large.
    pub fn apply(&self, server: Server) -> Result<Server, Error> {
        if self.banner_file.is_empty() {
            return Ok(server);
        }
        let mut banner = Vec::new();
        for path in &self.banner_file {
            read(path, &mut banner).map_err(|why| {
                let what = format!("cannot read the banner {}: {}", path.display(), tine::cli::reason(&why));
                Error::usage(what, next_move::of_file(&why))
            })?;
            if banner.len() > Server::MAX_BANNER {
                let most = Server::MAX_BANNER;
                let what = format!("the banner is larger than {most} bytes with {}", path.display());
                return Err(Error::usage(what, "shorten it, or have the program print it"));
            }
        }
        Ok(server.banner(banner))
    }
}

/// Appends a file; of a larger one, one byte more than a banner can have.
fn read(path: &Path, to: &mut Vec<u8>) -> io::Result<()> {
    let left = (Server::MAX_BANNER + 1).saturating_sub(to.len());
    File::open(path)?.take(left as u64).read_to_end(to).map(drop)
}
