//! Step 5: several services, each with its own supervisor, and rules about their clients.
//!
//! `cargo run -p tine --example services`, then `nc localhost 9999` and `nc localhost 9998`

use std::io::Write;
use std::time::Duration;

use tine::{AccessRules, Penalties, Server, Services, WhenLimited};

fn main() -> Result<(), tine::Error> {
    let mut addresses = std::env::args().skip(1);
    let mut address = |default: &str| addresses.next().unwrap_or_else(|| default.to_owned());

    // Everyone can greet, ten times a second; a faster client is delayed for up to five seconds.
    let delay = WhenLimited::Delay { max_clients: 100, timeout: Duration::from_secs(5) };
    let greeter = Server::bind(&address("[::]:9999"))?
        .rate_per_source("10/s".parse()?)
        .when_limited(delay)
        .penalties(Penalties::default());

    // Only this machine can count; the most specific rule decides.
    let rules = AccessRules::new().allow("127.0.0.0/8")?.allow("::1")?.deny("127.0.0.66")?;
    let counter = Server::bind(&address("[::]:9998"))?.access(rules.build());

    Services::new()
        .service("greet", greeter, |mut connection| {
            let peer = connection.peer();
            Ok(writeln!(connection, "Good day, {peer}.")?)
        })
        .service("count", counter, |mut connection| {
            (1..=10).try_for_each(|number| writeln!(connection, "{number}"))?;
            Ok(())
        })
        .print_ports(true)
        .run()
}
