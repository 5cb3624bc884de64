//! A TCP proxy: an async handler that copies in both directions, with a runtime in each process.
//!
//! `cargo run -p tine --example async_proxy --features async -- [::]:9999 example.org:80`, then
//! `nc localhost 9999`

use std::time::Duration;

use tine::Server;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::time::timeout;

fn main() -> Result<(), tine::Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "[::]:9999".into());
    let upstream = arguments.next().unwrap_or_else(|| "127.0.0.1:80".into());
    Server::bind(&address)?.print_ports(true).run_async(move |mut client| {
        let upstream = upstream.clone();
        async move {
            let mut upstream = timeout(Duration::from_secs(5), TcpStream::connect(upstream)).await??;
            // The end of one direction is passed on, and the other one goes on.
            copy_bidirectional(&mut client, &mut upstream).await?;
            Ok(())
        }
    })
}
