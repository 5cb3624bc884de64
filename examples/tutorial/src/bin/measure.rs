//! Measures a server: four processes connect again and again, and tell their parent by a pipe how
//! long each exchange took.
//!
//! usage: measure CONNECTIONS-OF-EACH

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::exit;
use std::time::Instant;

use nix::sys::wait::wait;
use nix::unistd::{ForkResult, fork, pipe};

const PROCESSES: usize = 4;

fn main() -> io::Result<()> {
    let each = std::env::args().nth(1).unwrap_or("1000".into());
    let each: usize = each.parse().map_err(io::Error::other)?;
    let (receiver, sender) = pipe()?;
    let start = Instant::now();
    for _ in 0..PROCESSES {
        // SAFETY: this process has one thread.
        if let ForkResult::Child = unsafe { fork() }? {
            drop(receiver);
            exit(i32::from(measure(each, &mut File::from(sender)).is_err()));
        }
    }
    // Else the end of the pipe never comes: this process could still write.
    drop(sender);
    let mut bytes = Vec::new();
    File::from(receiver).read_to_end(&mut bytes)?;
    let seconds = start.elapsed().as_secs_f64();
    for _ in 0..PROCESSES {
        wait()?;
    }
    let (numbers, _) = bytes.as_chunks();
    let mut times: Vec<u64> = numbers.iter().copied().map(u64::from_ne_bytes).collect();
    times.sort_unstable();
    println!("{} of {} exchanges", times.len(), PROCESSES * each);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or(0);
    println!("{:.0} in a second", times.len() as f64 / seconds);
    println!("median {} us, 99 % at most {} us", at(0.5) / 1000, at(0.99) / 1000);
    Ok(())
}

/// Connects so many times; writes the nanoseconds of each exchange.
fn measure(times: usize, results: &mut File) -> io::Result<()> {
    for _ in 0..times {
        let start = Instant::now();
        let mut stream = TcpStream::connect("127.0.0.1:9999")?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])?;
        let nanoseconds = start.elapsed().as_nanos() as u64;
        // Eight bytes at once: those of another process do not come between them (pipe(7)).
        results.write_all(&nanoseconds.to_ne_bytes())?;
    }
    Ok(())
}
