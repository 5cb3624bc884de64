//! Reads the body of a request, within limits of size and time.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::{Body, Bytes};
use tokio::time::timeout;

/// Bytes of a body, at most.
pub(crate) const MAX_BODY: usize = 16 * 1024;

/// The time that a client has for its body.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// Reads a body.
///
/// # Errors
/// 413 if it is too long, 408 if it takes too long, 400 if it is not whole.
pub(crate) async fn read<B: Body<Data = Bytes> + Unpin>(body: B) -> Result<Vec<u8>, StatusCode> {
    timeout(BODY_WITHIN, collect(body)).await.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))
}

async fn collect<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Result<Vec<u8>, StatusCode> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        // Its header says so already.
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
