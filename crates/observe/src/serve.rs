//! Accepts clients, within limits of number, size and time. One that is slow or silent keeps a
//! connection, and nothing else.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
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

use crate::agent::{line, tell};
use crate::answer::Answering;
use crate::asking::Asking;
use crate::guard::Guard;
use crate::samples::Samples;
use crate::sampling::sample;
use crate::settings::ObserverSettings;

/// Connections at a time, at most; others wait in the backlog.
const MAX_CONNECTIONS: usize = 1_024;
const MAX_AGENT_CHECKS: usize = 256;

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

/// What the clients of a listener get.
#[derive(Clone)]
enum Purpose {
    Http,
    /// The line about a service for HAProxy.
    Agent(Option<String>),
}

/// What connections are served with.
struct Serving {
    answering: Answering,
    places: Arc<Semaphore>,
    /// Those of agent checks, so that neither clients keep the others waiting.
    agent_places: Arc<Semaphore>,
}

impl Serving {
    fn new(answering: Answering) -> Rc<Serving> {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Rc::new(Serving { answering, places, agent_places: Arc::new(Semaphore::new(MAX_AGENT_CHECKS)) })
    }

    fn places_of(&self, purpose: &Purpose) -> Arc<Semaphore> {
        Arc::clone(match purpose {
            Purpose::Http => &self.places,
            Purpose::Agent(_) => &self.agent_places,
        })
    }
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
    let purposes = purposes(listeners.len(), &settings);
    let tells_http = purposes.iter().any(|purpose| matches!(purpose, Purpose::Http));
    let serving = Serving::new(Answering { asking, settings, samples: Samples::default() });
    LocalSet::new().block_on(&runtime, async {
        for (listener, purpose) in listeners.into_iter().zip(purposes) {
            tokio::task::spawn_local(accept(listener, purpose, Rc::clone(&serving)));
        }
        match tells_http {
            true => sample(&serving.answering.asking, &serving.answering.samples).await,
            // Nobody can see samples.
            false => std::future::pending().await,
        }
    });
    Ok(())
}

/// The purposes of these many listeners: those of agents are the last ones.
fn purposes(listeners: usize, settings: &ObserverSettings) -> Vec<Purpose> {
    let http = listeners.saturating_sub(settings.agents.len());
    let agents = settings.agents.iter().cloned().map(Purpose::Agent);
    std::iter::repeat_n(Purpose::Http, http).chain(agents).collect()
}

/// Raises the limit of open files to what all connections need, as far as that is possible: beyond
/// it, clients wait in the backlog.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let needed = (2 * (MAX_CONNECTIONS + MAX_AGENT_CHECKS)) as u64;
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

async fn accept(listener: AnyListener, purpose: Purpose, serving: Rc<Serving>) {
    let is_local = matches!(listener, AnyListener::Unix(_));
    let guard = Rc::new(Guard::new(serving.answering.settings.token.as_deref(), is_local));
    let places = serving.places_of(&purpose);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let client = Client { serving: Rc::clone(&serving), guard: Rc::clone(&guard), place };
        let purpose = purpose.clone();
        let accepted = match &listener {
            AnyListener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                let _ = stream.set_nodelay(true);
                tokio::task::spawn_local(client.serve(stream, purpose));
            }),
            AnyListener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::task::spawn_local(client.serve(stream, purpose));
            }),
        };
        if accepted.is_err() {
            // Out of descriptors or memory, or the client has gone.
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

/// A client that was accepted, as far as it is not its stream.
struct Client {
    serving: Rc<Serving>,
    guard: Rc<Guard>,
    place: OwnedSemaphorePermit,
}

impl Client {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, purpose: Purpose) {
        match purpose {
            Purpose::Http => serve(stream, self).await,
            // Without a reply of the server, HAProxy keeps what it knows.
            Purpose::Agent(service) => {
                if let Ok(services) = self.serving.answering.asking.status().await {
                    tell(stream, &line(&services, service.as_deref())).await;
                }
            }
        }
    }
}

/// Serves the requests of a connection.
async fn serve<S>(stream: S, Client { serving, guard, place }: Client)
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
    let serving = Serving::new(answering);
    LocalSet::new().block_on(&runtime, async {
        let (mut client, stream) = tokio::io::duplex(64 * 1024);
        let Ok(place) = Arc::clone(&serving.places).acquire_owned().await else {
            return Vec::new();
        };
        let served = Client { serving, guard: Rc::new(Guard::new(None, false)), place };
        tokio::task::spawn_local(serve(stream, served));
        let mut answers = Vec::new();
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let reads = client.read_to_end(&mut answers);
        // Events do not end by themselves.
        let _ = tokio::time::timeout(Duration::from_millis(20), reads).await;
        answers
    })
}
