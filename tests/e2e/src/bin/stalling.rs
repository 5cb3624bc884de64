//! An echo server with known delays, to check measurements against: each reply is sent a fixed time
//! after its request, and the server does nothing in the first part of each second. Usage: stalling
//! PORT DELAY_US STALL_MS

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, epoll};
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_gettime};

const SECOND: i64 = 1_000_000_000;

fn now() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * SECOND + time.tv_nsec
}

fn main() {
    let numbers: Vec<i64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [port, delay, stall] = numbers[..] else { panic!("usage: stalling PORT DELAY_US STALL_MS") };
    let listener =
        TcpListener::bind(("127.0.0.1", u16::try_from(port).expect("a port"))).expect("a free port");
    listener.set_nonblocking(true).expect("a socket option");
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    println!("{}", listener.local_addr().expect("a bound socket").port());
    serve(&listener, delay * 1000, stall * 1_000_000);
}

/// Replies by the time at which they are due and the number of their stream.
type Due = BTreeMap<(i64, usize), Vec<u8>>;

fn serve(listener: &TcpListener, delay: i64, stall: i64) {
    let mut streams: Vec<TcpStream> = Vec::new();
    let mut due = Due::new();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a descriptor");
    let readable = epoll::EventFlags::IN;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(u64::MAX), readable).expect("a socket");
    let mut events = Vec::with_capacity(1024);
    loop {
        let phase = now() % SECOND;
        let stalls = phase < stall;
        if stalls {
            sleep_until(now() - phase + stall);
        }
        // Requests that arrived during the stall count as received at its end.
        let received_at = stalls.then(|| now() / SECOND * SECOND + stall);
        while let Some(entry) = due.first_entry().filter(|entry| entry.key().0 <= now()) {
            let ((_, number), reply) = entry.remove_entry();
            let _ = streams[number].write_all(&reply);
        }
        let next = due.first_key_value().map_or(i64::MAX, |((time, _), _)| *time);
        events.clear();
        let timeout = timespec(if stalls { 0 } else { next.min((now() / SECOND + 1) * SECOND) - now() });
        epoll_wait(&epoll, &mut events, timeout);
        for event in &events {
            let Some(stream) =
                usize::try_from(event.data.u64()).ok().and_then(|number| streams.get_mut(number))
            else {
                while let Ok((stream, _)) = listener.accept() {
                    let number = epoll::EventData::new_u64(streams.len() as u64);
                    epoll::add(&epoll, &stream, number, readable).expect("a socket");
                    streams.push(stream);
                }
                continue;
            };
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(length @ 1..) => {
                    let time = received_at.unwrap_or_else(now) + delay;
                    due.insert((time, event.data.u64() as usize), buffer[..length].to_vec());
                }
                _ => epoll::delete(&epoll, stream).expect("a registered socket"),
            }
        }
    }
}

/// Waits for events with a timeout in nanoseconds: ppoll(2) on the epoll descriptor, as
/// epoll_wait(2) counts in milliseconds.
fn epoll_wait(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, timeout: Timespec) {
    // After an interruption, too, the caller reads the clock.
    let _ = rustix::event::poll(&mut [PollFd::new(epoll, PollFlags::IN)], Some(&timeout));
    let _ = epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&timespec(0)));
}

fn timespec(nanoseconds: i64) -> Timespec {
    Timespec { tv_sec: nanoseconds.max(0) / SECOND, tv_nsec: nanoseconds.max(0) % SECOND }
}

fn sleep_until(time: i64) {
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &timespec(time));
}
