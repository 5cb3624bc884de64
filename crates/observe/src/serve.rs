//! Accepts clients, within limits of number, size and time. One that is slow or silent keeps a
//! connection, and nothing else.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::AddressFamily;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tine::cli::Observed;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::LocalSet;
use tokio_io_timeout::TimeoutStream;

use crate::answer::Answering;
use crate::asking::Asking;
use crate::guard::Guard;
use crate::samples::Samples;
use crate::sampling::sample;
use crate::settings::ObserverSettings;

/// Connections at a time, at most; others wait in the backlog.
const MAX_CONNECTIONS: usize = 1_024;

/// The time that a client has for the header of a request, and in which it must take some of an
/// answer.
const HEADER_WITHIN: Duration = Duration::from_secs(10);
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of the header of a request, at most.
const MAX_HEADER: usize = 16 * 1024;

/// The time until clients are accepted again after a failure.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A listener of either kind.
enum AnyListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What connections are served with.
struct Serving {
    answering: Answering,
    places: std::sync::Arc<Semaphore>,
}

/// Serves until the kernel ends this process with its server.
///
/// # Errors
/// The observer cannot start.
pub(crate) fn run(observed: &Observed) -> Result<(), String> {
    let (text, sockets) = observed.wait_for_start().map_err(|why| format!("no settings: {why}"))?;
    let settings = ObserverSettings::parse(&text).ok_or("the settings are of another version")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|why| format!("cannot start the runtime: {why}"))?;
    let guarded = runtime.enter();
    let listeners = sockets.into_iter().map(listener).collect::<std::io::Result<Vec<AnyListener>>>();
    let listeners = listeners.map_err(|why| format!("cannot use a listener: {why}"))?;
    drop(guarded);
    raise_limit();
    tine::cli::confine_observer().map_err(|why| format!("cannot confine itself: {why}"))?;
    observed.ready().map_err(|why| format!("cannot report: {why}"))?;
    if observed.wait_until_serving().is_err() {
        // The server has not started.
        return Ok(());
    }
    let asking = Asking::new(observed.duplicate().map_err(|why| format!("no descriptor: {why}"))?);
    let places = std::sync::Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let answering = Answering { asking, settings, samples: Samples::default() };
    let serving = Rc::new(Serving { answering, places });
    LocalSet::new().block_on(&runtime, async {
        for listener in listeners {
            tokio::task::spawn_local(accept(listener, Rc::clone(&serving)));
        }
        sample(&serving.answering.asking, &serving.answering.samples).await;
    });
    Ok(())
}

/// Raises the limit of open files to what all connections need, as far as that is possible: beyond
/// it, clients wait in the backlog.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let needed = (2 * MAX_CONNECTIONS) as u64;
    let most = limit.maximum.unwrap_or(u64::MAX);
    if limit.current.is_some_and(|current| current < needed.min(most)) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(needed.min(most)), ..limit });
    }
}

fn listener(socket: OwnedFd) -> std::io::Result<AnyListener> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    match rustix::net::sockopt::socket_domain(&socket)? {
        AddressFamily::UNIX => UnixListener::from_std(socket.into()).map(AnyListener::Unix),
        _ => TcpListener::from_std(socket.into()).map(AnyListener::Tcp),
    }
}

async fn accept(listener: AnyListener, serving: Rc<Serving>) {
    let is_local = matches!(listener, AnyListener::Unix(_));
    let guard = Rc::new(Guard::new(serving.answering.settings.token.as_deref(), is_local));
    loop {
        let Ok(place) = std::sync::Arc::clone(&serving.places).acquire_owned().await else { return };
        let (serving, guard) = (Rc::clone(&serving), Rc::clone(&guard));
        let accepted = match &listener {
            AnyListener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                let _ = stream.set_nodelay(true);
                tokio::task::spawn_local(serve(stream, serving, guard, place));
            }),
            AnyListener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::task::spawn_local(serve(stream, serving, guard, place));
            }),
        };
        if accepted.is_err() {
            // Out of descriptors or memory, or the client has gone.
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

/// Serves the requests of a connection.
async fn serve<S>(stream: S, serving: Rc<Serving>, guard: Rc<Guard>, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_WITHIN));
    let mut stream: Pin<Box<TimeoutStream<S>>> = Box::pin(stream);
    let service = service_fn(|request: Request<Incoming>| {
        let (serving, guard) = (Rc::clone(&serving), Rc::clone(&guard));
        async move { Ok::<_, Infallible>(serving.answering.answer(&guard, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WITHIN)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream.as_mut()), service);
    // What is wrong with it concerns this client only, and hyper has told it.
    let _ = connection.await;
    drop(place);
}

/// Serves a client that sends these bytes, without a server behind; returns what it gets. For tests
/// with random bytes.
#[doc(hidden)]
#[must_use]
pub fn fuzz_connection(bytes: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let (Ok(runtime), Ok((channel, _))) = (runtime, std::os::unix::net::UnixStream::pair()) else {
        return Vec::new();
    };
    let asking = Asking::new(Observed::from(OwnedFd::from(channel)));
    // So that bodies are read.
    let settings = ObserverSettings { control: true, ..ObserverSettings::default() };
    let answering = Answering { asking, settings, samples: Samples::default() };
    let places = std::sync::Arc::new(Semaphore::new(1));
    let serving = Rc::new(Serving { answering, places });
    LocalSet::new().block_on(&runtime, async {
        let (mut client, stream) = tokio::io::duplex(64 * 1024);
        let Ok(place) = std::sync::Arc::clone(&serving.places).acquire_owned().await else {
            return Vec::new();
        };
        tokio::task::spawn_local(serve(stream, serving, Rc::new(Guard::new(None, false)), place));
        let mut answers = Vec::new();
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let reads = client.read_to_end(&mut answers);
        // Events do not end by themselves.
        let _ = tokio::time::timeout(Duration::from_millis(20), reads).await;
        answers
    })
}
