//! Serves a feed to browsers and scrapers, on a thread of its own.

use super::feed::{Feed, Snapshot};
use super::openmetrics;
use crate::report::html;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16;
/// From the first byte of a request to the last of its answer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a browser may take to say what it wants.
const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Why there is no view.
#[derive(Debug)]
pub enum ViewError {
    /// The address can't be had.
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The thread or its runtime did not start.
    Start(io::Error),
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ViewError::Bind { address, cause } => {
                write!(f, "the live view can't listen on {address}: {cause}; choose another port with --live PORT")
            }
            ViewError::Start(cause) => write!(f, "the live view can't start: {cause}; leave --live out"),
        }
    }
}

impl std::error::Error for ViewError {}

/// A feed that is being served. Dropping it ends that.
#[derive(Debug)]
pub struct View {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl View {
    /// Serves a feed at an address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`ViewError`] when the address is taken, or no thread can be had.
    pub fn start(address: SocketAddr, feed: Feed) -> Result<View, ViewError> {
        let bind = |cause| ViewError::Bind { address, cause };
        let listener = TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let bound = listener.local_addr().map_err(bind)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ViewError::Start)?;
        let (stop, stopped) = oneshot::channel();
        // Counted as measuring: what it costs is no cost of what is measured.
        let thread = std::thread::Builder::new()
            .name("mtr-live".to_owned())
            .spawn(move || {
                // Ends with the view; the runtime then drops every connection.
                runtime.block_on(async {
                    tokio::spawn(serve(listener, feed, bound.ip().is_loopback()));
                    let _ = stopped.await;
                });
            })
            .map_err(ViewError::Start)?;
        Ok(View { address: bound, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for View {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic, if there was one, has been told; the run does not depend on it.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, feed: Feed, local: bool) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: the run needs them more.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let feed = feed.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let answer = respond(&request, &feed, local);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME_MAX)
                .max_buf_size(HEAD_BYTES_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer);
            // A browser that went away or is too slow is nobody's concern.
            let _ = tokio::time::timeout(CONNECTION_TIME_MAX, connection).await;
            drop(permit);
        });
    }
}

/// Whether a request for a local view names a local host: another site's name that leads here would let its pages read the view.
fn named_locally(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    name == "localhost" || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn respond(request: &Request<Incoming>, feed: &Feed, local: bool) -> Response<Full<Bytes>> {
    if local && !named_locally(request) {
        return plain(StatusCode::FORBIDDEN, "this view is for this machine: ask for it at 127.0.0.1\n");
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match request.uri().path() {
        "/" => answer("text/html; charset=utf-8", view_of(feed.snapshot(), html::live_page)),
        "/charts" => answer("text/html; charset=utf-8", view_of(feed.snapshot(), html::live_charts)),
        "/metrics" => answer(openmetrics::MEDIA_TYPE, openmetrics::exposition(&feed.snapshot())),
        _ => plain(StatusCode::NOT_FOUND, "there is / for people and /metrics for scrapers\n"),
    }
}

fn view_of(seen: Snapshot, draw: fn(&html::Live<'_>) -> String) -> String {
    draw(&html::Live {
        finished: seen.finished.as_deref(),
        running: seen.running.as_ref(),
        phase: &seen.phase,
        ages_s: &seen.ages_s,
        backlog: seen.backlog,
        rate: seen.rate,
    })
}

fn answer(media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn plain(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = answer("text/plain; charset=utf-8", body.to_owned());
    *response.status_mut() = status;
    response
}
