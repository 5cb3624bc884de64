//! Clients in the background that must not notice what a test does to other connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::Client;
use crate::wait::wait_until;

/// Time between two messages of a client.
const PAUSE: Duration = Duration::from_millis(10);

/// Clients of an echo server, each in a thread, that exchange messages until they are stopped. A
/// wrong byte or the end of a connection is a failure.
pub struct EchoClients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    exchanges: Arc<AtomicU32>,
}

impl EchoClients {
    /// Connects this number of clients. Each has received a reply when this returns.
    ///
    /// # Panics
    /// If one receives none.
    #[must_use]
    pub fn start(port: u16, clients: usize) -> EchoClients {
        let stop = Arc::new(AtomicBool::new(false));
        let exchanges = Arc::new(AtomicU32::new(0));
        let connected: Vec<Client> = (0..clients).map(|_| Client::connect(port)).collect();
        let threads = connected.into_iter().enumerate().map(|(number, mut client)| {
            let (stop, exchanges) = (stop.clone(), exchanges.clone());
            client.echo(format!("first message of client {number}\n"));
            std::thread::spawn(move || {
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.echo(format!("{number}: {turn}\n"));
                    turn += 1;
                    exchanges.fetch_add(1, Ordering::Relaxed);
                    std::thread::park_timeout(PAUSE);
                }
                assert!(client.finish().is_empty());
            })
        });
        EchoClients { threads: threads.collect(), stop, exchanges }
    }

    /// Waits until the clients have made this number of further exchanges, all clients together.
    ///
    /// # Panics
    /// If they do not.
    pub fn wait_for_exchanges(&self, more: u32) {
        let before = self.exchanges.load(Ordering::Relaxed);
        wait_until("the other clients exchange messages", || {
            (self.exchanges.load(Ordering::Relaxed) >= before + more).then_some(())
        });
    }

    /// Stops the clients.
    ///
    /// # Panics
    /// If one of them received a wrong byte or lost its connection.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("an undisturbed connection");
        }
    }
}
