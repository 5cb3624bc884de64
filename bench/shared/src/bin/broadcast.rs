//! Measures messages to many connections (`tine::shared::Broadcast`).
//!
//! usage: bench/shared/broadcast [CONNECTIONS]
//!
//! Each connection subscribes, and writes each message to its client, which reads it: 64 bytes. One
//! more connection sends the messages, with at most this many that not all have received: 1, so
//! that each message wakes every process, and 64. Printed are deliveries in a second, by the
//! median of five rounds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tine::shared::{Broadcast, Bytes, Counter};
use tine::{Connection, HandlerError, Server};

type Message = Bytes<64>;

/// Deliveries of a round.
const DELIVERIES: u64 = 400_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("serve") => Ok(serve()?),
        connections => measure(connections.map_or(Ok(1000), str::parse)?),
    }
}

fn serve() -> Result<(), tine::Error> {
    let news: Broadcast<Message> = Broadcast::new("news", 1024)?;
    let delivered = Counter::new("delivered")?;
    Server::bind("127.0.0.1:0")?
        .print_ports(true)
        .max_connections(20_000)
        .log_level(tine::LogLevel::Quiet)
        .run(move |connection| handle(connection, news, delivered))
}

fn handle(mut connection: Connection, news: Broadcast<Message>, delivered: Counter) -> Result<(), HandlerError> {
    let line = connection.next_line(100)?.unwrap_or_default();
    let numbers: Vec<u64> = line.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
    if let [connections, window] = numbers[..] {
        let time = publish(connections, window, news, delivered);
        writeln!(connection, "{}", time.as_nanos())?;
        return Ok(());
    }
    let mut messages = news.subscribe();
    connection.write_all(b"!")?;
    loop {
        let message = messages.next();
        assert_eq!(message.lost, 0, "the sender waits for the slowest");
        connection.write_all(&message.value)?;
        delivered.add(1);
    }
}

/// Sends the messages of a round. Returns how long it took until all were delivered.
fn publish(connections: u64, window: u64, news: Broadcast<Message>, delivered: Counter) -> Duration {
    let (first, start) = (delivered.get(), Instant::now());
    let count = DELIVERIES / connections;
    for number in 0..count {
        wait_for(delivered, first + (number + 1).saturating_sub(window) * connections);
        news.send(Bytes::cut(&[b'm'; 64]));
    }
    wait_for(delivered, first + count * connections);
    start.elapsed()
}

fn wait_for(delivered: Counter, count: u64) {
    while delivered.get() < count {
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn measure(connections: u64) -> Result<(), Box<dyn std::error::Error>> {
    let limit = rustix::process::Rlimit { current: Some(20_000), maximum: Some(20_000) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?;
    let mut server = Command::new(std::env::current_exe()?).arg("serve").stdout(Stdio::piped()).spawn()?;
    let mut port = String::new();
    BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut port)?;
    let address = format!("127.0.0.1:{}", port.trim());
    let mut clients = Vec::new();
    for _ in 0..connections {
        let mut client = TcpStream::connect(&address)?;
        client.write_all(b"subscribe\n")?;
        client.read_exact(&mut [0])?;
        client.set_nonblocking(true)?;
        clients.push(client);
    }
    std::thread::spawn(move || read_all(clients));
    for window in [1, 64] {
        let mut rates = Vec::new();
        for _ in 0..5 {
            let mut client = TcpStream::connect(&address)?;
            writeln!(client, "publish {connections} {window}")?;
            let mut time = String::new();
            client.read_to_string(&mut time)?;
            let deliveries = DELIVERIES / connections * connections;
            rates.push(deliveries as f64 / (time.trim().parse::<f64>()? / 1e9));
        }
        rates.sort_by(f64::total_cmp);
        let [low, .., high] = rates[..] else { unreachable!() };
        println!("{connections} connections, {window} messages at a time: {:.0} deliveries/s ({low:.0} to {high:.0})", rates[2]);
    }
    server.kill()?;
    server.wait()?;
    Ok(())
}

/// Reads what the clients receive, as it comes.
fn read_all(clients: Vec<TcpStream>) {
    use rustix::event::epoll;

    let queue = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a descriptor");
    for (number, client) in clients.iter().enumerate() {
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&queue, client, data, epoll::EventFlags::IN).expect("memory");
    }
    let (mut events, mut buffer) = (Vec::with_capacity(256), vec![0; 64 << 10]);
    loop {
        let Ok(_) = epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), None) else { continue };
        for event in events.drain(..) {
            if (&clients[event.data.u64() as usize]).read(&mut buffer).is_ok_and(|length| length == 0) {
                return;
            }
        }
    }
}
