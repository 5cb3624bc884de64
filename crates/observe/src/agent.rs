//! The agent of HAProxy: each connection gets one line about a service, and is closed.
//!
//! Nothing that a client sends is looked at.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The time that a client has to take the line and to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Bytes of a client that are discarded, at most (`agent-send` of HAProxy): a connection that is
/// closed with unread bytes is reset, which can destroy the line on its way.
const MAX_DISCARDED: usize = 4 * 1024;

/// The line about a service: its administrative state, its operational state and its weight, as far
/// as they are to change (HAProxy's documentation, `agent-check`). `service` is `None` in a server
/// that has one only. `services` is what `tine status` shows of each.
///
/// HAProxy keeps a state until the agent says the opposite, so a service that serves has both
/// `ready`, against `drain` and `maint`, and `up`, against `stopped`.
pub(crate) fn line(services: &[Value], service: Option<&str>) -> String {
    let found = services.iter().find(|one| service.is_none() || one["service"].as_str() == service);
    match found.and_then(|one| Some((one, one["phase"].as_str()?))) {
        Some((one, "serving")) => format!("up ready {}%\n", free_percent(one)),
        Some((_, "paused")) => "maint\n".to_owned(),
        Some((_, "draining")) => "drain\n".to_owned(),
        // It has ended, or begins.
        _ => "stopped\n".to_owned(),
    }
}

/// The share of the places that are free, in percent, rounded down; 1 at least: for HAProxy, 0 is
/// a drain.
fn free_percent(status: &Value) -> u64 {
    let (limit, taken) = (status["max_connections"].as_u64(), status["connections"].as_u64());
    let (limit, taken) = (limit.unwrap_or(0), taken.unwrap_or(0));
    let percent = (u128::from(limit.saturating_sub(taken)) * 100).checked_div(u128::from(limit));
    u64::try_from(percent.unwrap_or(0)).unwrap_or(100).clamp(1, 100)
}

/// Sends a line to a client, and closes the connection once the client has, or after a second.
pub(crate) async fn tell(mut stream: impl AsyncRead + AsyncWrite + Unpin, line: &str) {
    let told = async {
        stream.write_all(line.as_bytes()).await?;
        stream.shutdown().await?;
        let mut discarded = 0;
        let mut bytes = [0; 512];
        while discarded < MAX_DISCARDED {
            match stream.read(&mut bytes).await? {
                0 => break,
                count => discarded += count,
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // A client that is slow, or has gone, has the line or asks again.
    let _ = timeout(CLOSE_WITHIN, told).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_weight_is_the_share_of_free_places_and_never_none() {
        for (connections, limit, line_of_it) in [
            (0, 100, "up ready 100%\n"),
            (1, 100, "up ready 99%\n"),
            (1, 1_024, "up ready 99%\n"),
            (256, 1_024, "up ready 75%\n"),
            (2, 3, "up ready 33%\n"),
            (1_023, 1_024, "up ready 1%\n"),
            (1_024, 1_024, "up ready 1%\n"),
            // The limit was lowered.
            (9, 4, "up ready 1%\n"),
            (u64::MAX, 4, "up ready 1%\n"),
            (0, u64::MAX, "up ready 100%\n"),
            (0, 0, "up ready 1%\n"),
        ] {
            let status = json!({ "phase": "serving", "connections": connections, "max_connections": limit });
            assert_eq!(line(&[status], None), line_of_it, "{connections} of {limit}");
        }
    }

    #[test]
    fn the_phase_is_a_state() {
        for (phase, line_of_it) in [
            ("serving", "up ready 50%\n"),
            ("paused", "maint\n"),
            ("draining", "drain\n"),
            ("something new", "stopped\n"),
        ] {
            let status = json!({ "phase": phase, "connections": 1, "max_connections": 2 });
            assert_eq!(line(&[status], None), line_of_it, "{phase}");
        }
        assert_eq!(line(&[], None), "stopped\n");
        assert_eq!(line(&[json!({})], None), "stopped\n");
    }

    #[test]
    fn each_service_has_its_own_line() {
        let status = |service: &str, phase: &str, connections: u64| json!({ "service": service, "phase": phase, "connections": connections, "max_connections": 4 });
        let services = [status("a", "serving", 1), status("b", "draining", 0)];
        for (service, line_of_it) in
            [("a", "up ready 75%\n"), ("b", "drain\n"), ("c", "stopped\n"), ("", "stopped\n")]
        {
            assert_eq!(line(&services, Some(service)), line_of_it, "{service}");
        }
    }

    #[test]
    fn a_client_gets_the_line_whatever_it_sends() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("one");
        for sent in [&b""[..], b"tine\n", &[0; MAX_DISCARDED + 1]] {
            let said = runtime.block_on(async {
                let (mut client, stream) = tokio::io::duplex(64 * 1024);
                client.write_all(sent).await.expect("room");
                client.shutdown().await.expect("open");
                tell(stream, "drain\n").await;
                let mut said = String::new();
                client.read_to_string(&mut said).await.expect("a line");
                said
            });
            assert_eq!(said, "drain\n", "{} bytes", sent.len());
        }
    }
}
