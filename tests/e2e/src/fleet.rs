//! Links of a fleet without their servers: the test is the service of each. And a plain client of
//! the bus.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::{Value, json};
use tine::cli::{BanRecord, BanState, LinkChannel, LinkRecord, LinkSaid, Prefix, ServiceRecord};

use crate::{TEST_TIMEOUT, tine, wait_until};

/// Parses an address block.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn block(text: &str) -> Prefix {
    text.parse().expect(text)
}

/// The block of one address, which is a number.
#[must_use]
pub fn numbered(number: u32) -> Prefix {
    block(&Ipv4Addr::from_bits(number).to_string())
}

/// The time of day, in milliseconds since 1970.
///
/// # Panics
/// If the clock is wrong.
#[must_use]
pub fn day() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

/// What a link has told its service.
#[derive(Debug, Default)]
pub struct Told {
    /// Whether it is ready.
    pub is_ready: bool,
    /// Whether the bus is there.
    pub bus: Option<bool>,
    /// The nodes that are heard, and those that are lost.
    pub nodes: (u32, u32),
    /// Bans by block, with how often each was told.
    pub bans: BTreeMap<Prefix, (BanState, u64)>,
    /// Sources and their connections elsewhere, with the sum of those admitted there.
    pub used: BTreeMap<Prefix, (u32, u64)>,
    /// Penalties.
    pub penalties: Vec<(Prefix, u64)>,
    /// Orders to drain.
    pub drains: u32,
    /// Warnings, and why it cannot run.
    pub warnings: Vec<String>,
    /// Messages with records.
    pub messages: u64,
}

impl Told {
    fn note(&mut self, record: LinkRecord) {
        match record {
            LinkRecord::Ready => self.is_ready = true,
            LinkRecord::Bus(is_there) => self.bus = Some(is_there),
            LinkRecord::Nodes { present, lost } => self.nodes = (present, lost),
            LinkRecord::Ban(ban) => {
                let times = self.bans.get(&ban.block).map_or(0, |(_, times)| *times);
                self.bans.insert(ban.block, (ban.state, times + 1));
            }
            LinkRecord::Penalty { source, milliseconds } => self.penalties.push((source, milliseconds)),
            LinkRecord::Used { source, held, taken } => {
                let before = self.used.get(&source).map_or(0, |(_, taken)| *taken);
                self.used.insert(source, (held, before + u64::from(taken)));
            }
            LinkRecord::Drain => self.drains += 1,
            LinkRecord::Failed(text) | LinkRecord::Warning(text) => self.warnings.push(text),
        }
    }
}

/// A link. Dropping it kills it.
pub struct Node {
    process: RefCell<Child>,
    channel: Option<LinkChannel>,
    /// What it has told so far.
    pub told: RefCell<Told>,
    /// The reply of its server to all questions.
    pub reply: RefCell<String>,
}

impl Node {
    /// Starts the link of a node, and waits until it is ready.
    #[must_use]
    pub fn start(url: &str, name: &str) -> Node {
        Node::with(url, name, &json!({}))
    }

    /// Starts the link of a node with other settings, too.
    #[must_use]
    pub fn with(url: &str, name: &str, settings: &Value) -> Node {
        let node = Node::launch(url, name, settings);
        node.wait("it is ready", |told| told.is_ready.then_some(()));
        node
    }

    /// Starts the link of a node.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn launch(url: &str, name: &str, settings: &Value) -> Node {
        let (channel, theirs) = LinkChannel::pair().expect("a channel");
        let mut command = Command::new(tine());
        // The number of the channel is that of standard input.
        command.env_clear().env("TINE_LINK", "0").stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("it is executed");
        let mut all = json!({
            "url": url, "credentials": null, "nkey": null, "ca": null, "fleet": "default", "node": name,
            "shares_use": true,
        });
        for (key, value) in settings.as_object().expect("an object") {
            all[key] = value.clone();
        }
        channel.start(&all.to_string()).expect("it listens");
        Node {
            process: RefCell::new(process),
            channel: Some(channel),
            told: RefCell::default(),
            reply: RefCell::new("{\"done\":true}\n".into()),
        }
    }

    fn channel(&self) -> &LinkChannel {
        self.channel.as_ref().expect("it is open")
    }

    /// Receives what it has told since. Returns whether it has ended.
    ///
    /// # Panics
    /// If a question cannot be answered.
    pub fn receive(&self) -> bool {
        while let Some(said) = self.channel().receive() {
            match said {
                LinkSaid::Records(records) => {
                    let mut told = self.told.borrow_mut();
                    told.messages += 1;
                    records.into_iter().for_each(|record| told.note(record));
                }
                LinkSaid::Asks(socket) => {
                    let mut stream = std::os::unix::net::UnixStream::from(socket);
                    stream.set_nonblocking(false).expect("a socket");
                    let mut request = String::new();
                    BufReader::new(&stream).read_line(&mut request).expect("a request");
                    // The link may have given up.
                    let _ = stream.write_all(self.reply.borrow().as_bytes());
                }
                LinkSaid::Ended => return true,
            }
        }
        false
    }

    /// Waits for something that it tells.
    ///
    /// # Panics
    /// If it does not, or ends.
    pub fn wait<T>(&self, what: &str, mut check: impl FnMut(&Told) -> Option<T>) -> T {
        wait_until(what, || {
            let has_ended = self.receive();
            let found = check(&self.told.borrow());
            assert!(found.is_some() || !has_ended, "it has ended: {:?}", self.told.borrow().warnings);
            found
        })
    }

    /// Waits until the bus is there, and these many nodes are heard, itself included.
    pub fn wait_for_nodes(&self, present: u32) {
        self.wait("the nodes hear each other", |told| {
            (told.bus == Some(true) && told.nodes.0 == present).then_some(())
        });
    }

    /// Waits until a block has a state.
    pub fn wait_for_ban(&self, block: Prefix, state: BanState) {
        self.wait("it knows the ban", |told| {
            told.bans.get(&block).filter(|(known, _)| *known == state).map(drop)
        });
    }

    /// Waits until the use of a source elsewhere has a value.
    pub fn wait_for_held(&self, source: Prefix, held: u32) {
        self.wait("it knows the use", |told| {
            (told.used.get(&source).map_or(0, |(held, _)| *held) == held).then_some(())
        });
    }

    /// Tells it something.
    pub fn tell(&self, records: &[ServiceRecord]) {
        let mut sent = 0;
        wait_until("it takes what it is told", || {
            self.receive();
            sent += self.channel().send(&records[sent..]);
            (sent == records.len()).then_some(())
        });
    }

    /// Bans a block here, or lifts the ban.
    pub fn order(&self, block: Prefix, state: BanState) {
        // Later than any order before, of any node.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let at = day().max(LAST.load(Ordering::Relaxed) + 1);
        LAST.fetch_max(at, Ordering::Relaxed);
        self.tell(&[ServiceRecord::Ban(BanRecord { block, state, at })]);
    }

    /// The use of a source here.
    pub fn uses(&self, source: Prefix, held: u32, taken: u32) {
        self.tell(&[ServiceRecord::Used { source, held, taken }]);
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.borrow().id() as i32
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        crate::kill(self.pid(), signal);
    }

    /// Waits until it has ended. Returns its exit code.
    ///
    /// # Panics
    /// If it does not end.
    pub fn wait_for_end(&self) -> Option<i32> {
        let status = wait_until("it has ended", || self.process.borrow_mut().try_wait().expect("our child"));
        self.receive();
        status.code()
    }

    /// Its server ends. Returns its exit code.
    pub fn end(mut self) -> Option<i32> {
        self.channel = None;
        wait_until("it has ended", || self.process.borrow_mut().try_wait().expect("our child")).code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let process = self.process.get_mut();
        // It may have ended.
        let _ = process.kill();
        process.wait().expect("our child");
    }
}

/// A client of the bus that sends what it is told, whatever that is.
pub struct PlainClient {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl PlainClient {
    /// Connects to the bus at a port of 127.0.0.1.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn connect(port: u16) -> PlainClient {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the bus listens");
        stream.set_nodelay(true).expect("a socket");
        let lines = BufReader::new(stream.try_clone().expect("a descriptor"));
        let mut client = PlainClient { stream, lines };
        client.send("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n");
        client.flush();
        client
    }

    /// Sends text of the protocol.
    ///
    /// # Panics
    /// If the bus does not take it.
    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("the bus reads");
    }

    /// Publishes a message.
    pub fn publish(&mut self, subject: &str, text: &str) {
        self.send(&format!("PUB {subject} {}\r\n{text}\r\n", text.len()));
    }

    /// Waits until the bus has taken what was sent.
    pub fn flush(&mut self) {
        self.send("PING\r\n");
        let deadline = Instant::now() + TEST_TIMEOUT;
        while self.line(deadline).expect("the bus answers") != "PONG" {}
    }

    /// The next line; `None` if it does not come in time.
    fn line(&mut self, deadline: Instant) -> Option<String> {
        loop {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.stream.set_read_timeout(Some(left)).expect("a time");
            let mut line = String::new();
            match self.lines.read_line(&mut line) {
                Ok(length) => assert!(length > 0, "the bus has ended the connection"),
                Err(why) if why.kind() == ErrorKind::WouldBlock => return None,
                Err(why) => panic!("the bus does not talk: {why}"),
            }
            match line.trim_end() {
                "PING" => self.send("PONG\r\n"),
                line => return Some(line.to_owned()),
            }
        }
    }

    /// Sends a request, and waits for the first reply. It is empty if nobody is there.
    ///
    /// # Panics
    /// If none comes.
    pub fn request(&mut self, subject: &str, text: &str) -> String {
        self.request_within(TEST_TIMEOUT, subject, text).expect("a reply")
    }

    /// As [`PlainClient::request`]; `None` if there is no reply within a time. Nothing else can be
    /// asked then.
    ///
    /// # Panics
    /// If what comes is none.
    pub fn request_within(&mut self, time: Duration, subject: &str, text: &str) -> Option<String> {
        self.send("SUB reply 9\r\nUNSUB 9 1\r\n");
        self.send(&format!("PUB {subject} reply {}\r\n{text}\r\n", text.len()));
        let deadline = Instant::now() + time;
        loop {
            let line = self.line(deadline)?;
            let words: Vec<&str> = line.split(' ').collect();
            let (headers, length) = match words[..] {
                ["MSG", .., length] => (0, length),
                ["HMSG", .., headers, length] => (headers.parse().expect("a number"), length),
                _ => continue,
            };
            let mut text = vec![0; length.parse::<usize>().expect("a number") + 2];
            self.lines.read_exact(&mut text).expect("a message");
            return Some(String::from_utf8_lossy(&text[headers..text.len() - 2]).into_owned());
        }
    }
}
