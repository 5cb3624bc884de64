//! A web server for files: GET and HEAD over HTTP/1.1, and nothing outside of its directory.
//!
//! `cargo run -p tine --example static_http -- 127.0.0.1:9999 /usr/share/doc`, then
//! `curl -i http://localhost:9999/` or a file below the directory

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use tine::{Connection, HandlerError, Server};

/// The longest line of a request.
const MAX_LINE: usize = 8 * 1024;

struct Request {
    method: String,
    target: String,
    keeps_alive: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "[::]:9999".into());
    // Opened before the first fork: connections inherit it.
    let root = File::open(arguments.next().unwrap_or_else(|| ".".into()))?;
    let server = Server::bind(&address)?.idle_timeout(Duration::from_secs(30)).print_ports(true);
    Ok(server.run(move |connection| serve(connection, &root))?)
}

fn serve(mut connection: Connection, root: &File) -> Result<(), HandlerError> {
    loop {
        match read_request(&mut connection) {
            Ok(None) => return Ok(()),
            Ok(Some(request)) => {
                respond(&mut connection, root, &request)?;
                if !request.keeps_alive || connection.is_draining() {
                    return Ok(());
                }
            }
            // Where the next request would begin is unknown.
            Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                return Ok(write_head(&mut connection, "400 Bad Request", "", 0, false)?);
            }
            Err(why) => return Err(why.into()),
        }
    }
}

/// A request, without its fields; `None` at the end of the stream.
fn read_request(connection: &mut Connection) -> io::Result<Option<Request>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let Some(line) = connection.next_line(MAX_LINE)? else { return Ok(None) };
    let [method, target, version @ ("HTTP/1.0" | "HTTP/1.1")] = line.split(' ').collect::<Vec<_>>()[..]
    else {
        return Err(invalid());
    };
    let mut request =
        Request { method: method.into(), target: target.into(), keeps_alive: version == "HTTP/1.1" };
    let mut has_host = version == "HTTP/1.0";
    for _ in 0..100 {
        let line = connection.next_line(MAX_LINE)?.ok_or_else(invalid)?;
        if line.is_empty() {
            return if has_host && target.starts_with('/') { Ok(Some(request)) } else { Err(invalid()) };
        }
        let (name, value) = line.split_once(':').ok_or_else(invalid)?;
        match (name.to_ascii_lowercase().as_str(), value.trim().to_ascii_lowercase().as_str()) {
            ("host", _) => has_host = true,
            ("connection", "close") => request.keeps_alive = false,
            // A body is not read, so it must not be taken for the next request.
            ("content-length" | "transfer-encoding", _) => request.keeps_alive = false,
            _ => {}
        }
    }
    Err(invalid())
}

fn respond(connection: &mut Connection, root: &File, request: &Request) -> io::Result<()> {
    if !["GET", "HEAD"].contains(&request.method.as_str()) {
        let status = "405 Method Not Allowed";
        return write_head(connection, status, "Allow: GET, HEAD\r\n", 0, request.keeps_alive);
    }
    let path = request.target.split('?').next().unwrap_or_default().trim_start_matches('/');
    let path = if path.is_empty() || path.ends_with('/') { format!("{path}index.html") } else { path.into() };
    // The kernel follows neither `..` nor a symbolic link out of the directory.
    let (flags, beneath) = (OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, ResolveFlags::BENEATH);
    let file = openat2(root, &path, flags, Mode::empty(), beneath).map(File::from);
    let found = file.map_err(io::Error::from).and_then(|file| Ok((file.metadata()?, file)));
    let Some((about, file)) = found.ok().filter(|(about, _)| about.is_file()) else {
        return write_head(connection, "404 Not Found", "", 0, request.keeps_alive);
    };
    let kind = match Path::new(&path).extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("png") => "image/png",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    let field = format!("Content-Type: {kind}\r\n");
    write_head(connection, "200 OK", &field, about.len(), request.keeps_alive)?;
    // What a file has grown since is not sent; one that has shrunk ends the stream.
    if request.method == "GET" && io::copy(&mut file.take(about.len()), connection)? < about.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn write_head(to: &mut Connection, status: &str, field: &str, length: u64, keep: bool) -> io::Result<()> {
    let connection = if keep { "keep-alive" } else { "close" };
    let head =
        format!("HTTP/1.1 {status}\r\n{field}Content-Length: {length}\r\nConnection: {connection}\r\n\r\n");
    to.write_all(head.as_bytes())
}
