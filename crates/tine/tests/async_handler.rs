//! Async handlers: one line of code, and what a connection has otherwise.

use std::io::{Read, Write};
use std::net::Shutdown;

use tine::testing::TestServer;
use tine::{AsyncConnection, HandlerError, Server, async_handler};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn bind() -> Result<Server, tine::Error> {
    Ok(Server::bind("127.0.0.1:0")?.forkers(1))
}

/// Echoes in one task what another one reads.
async fn echo(mut connection: AsyncConnection) -> Result<(), HandlerError> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match connection.read(&mut buffer).await? {
            0 => return Ok(()),
            length => connection.write_all(&buffer[..length]).await?,
        }
    }
}

#[test]
fn an_async_handler_serves_and_its_bytes_are_counted() {
    let server = TestServer::start(bind, async_handler(echo)).expect("it starts");
    let client = server.connect();
    // More than the buffers of both sockets: each side has to wait for the other.
    let sent = vec![7; 8 << 20];
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&sent).expect("sent");
            client.shutdown(Shutdown::Write).expect("connected");
        });
        let mut received = Vec::new();
        (&client).read_to_end(&mut received).expect("the echo");
        received
    });
    assert!(received == sent);
    let end = server.wait_for_line(|line| line.contains(" end "));
    assert!(end.contains("outcome=\"exit 0\"") && end.contains(" in=8388608 out=8388608 "), "{end}");
    server.stop().expect("an orderly stop");
}

#[test]
fn an_async_handler_has_timers_tasks_and_errors() {
    let server = TestServer::start(
        bind,
        async_handler(|mut connection: AsyncConnection| async move {
            let id = connection.get_ref().id();
            let text = tokio::task::spawn(async move { format!("{id}") }).await?;
            let time = std::time::Duration::from_millis(10);
            let _late = tokio::time::timeout(time, connection.read_u8()).await.expect_err("nothing comes");
            connection.write_all(text.as_bytes()).await?;
            connection.shutdown().await?;
            Err("as asked".into())
        }),
    );
    let server = server.expect("it starts");
    let client = server.connect();
    let mut text = String::new();
    (&client).read_to_string(&mut text).expect("text");
    assert_eq!(text, "1");
    drop(client);
    server.wait_for_line(|line| line.contains("outcome=\"error as asked\""));
}
