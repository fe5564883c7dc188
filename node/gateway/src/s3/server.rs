//! The listener and its connections: a bounded number, each with bounds on its head, its silence and its memory. Bound
//! to loopback only, since nothing here is encrypted yet.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config as LibraryConfig, StaticConfigProvider};
use s3s::service::S3ServiceBuilder;
use s3s::{S3ErrorCode, S3Result};
use shingle_proto::limits::{
    S3_CLOCK_SKEW_SECONDS_MAX, S3_CONNECTIONS_MAX, S3_HEAD_TIMEOUT_MS, S3_HEADER_BYTES_MAX, S3_SHUTDOWN_MS,
    S3_XML_BYTES_MAX,
};
use shingle_seam::net::{NotLoopback, require_loopback};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::errors::refuse;
use super::frontend::Frontend;
use super::intake::Intake;
use super::ranges::IgnoredRange;
use super::stall::{StallGuard, Unread};
use crate::request::CoreSender;

/// What an S3 server is started with.
#[derive(Clone)]
pub struct S3Options {
    /// Loopback; port 0 takes a free one.
    pub listen: SocketAddr,
    pub access_key: String,
    pub secret_key: String,
    /// What buckets say their region is. Requests signed for any region are taken.
    pub region: String,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    NotLoopback(#[from] NotLoopback),
    #[error("{0} is in use by another process: choose another s3-listen address or stop that process")]
    InUse(SocketAddr),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// The one credential of a gateway.
struct OneCredential {
    access_key: String,
    secret_key: SecretKey,
}

#[async_trait::async_trait]
impl S3Auth for OneCredential {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            Ok(self.secret_key.clone())
        } else {
            Err(refuse(
                S3ErrorCode::InvalidAccessKeyId,
                "The AWS Access Key Id you provided does not exist in our records.",
            ))
        }
    }
}

/// A bound server.
pub struct S3Server {
    listener: TcpListener,
    address: SocketAddr,
    intake: Arc<Intake>,
}

impl S3Server {
    /// Binds; inside a tokio runtime. `start` is a number that tells this start of the process from others.
    pub async fn bind(options: S3Options, core: CoreSender, start: u64) -> Result<Self, ServeError> {
        let address = require_loopback(options.listen)?;
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::InUse(address),
            _ => ServeError::Listen { address, source },
        })?;
        let address = listener.local_addr().map_err(|source| ServeError::Listen { address, source })?;

        let mut config = LibraryConfig::default();
        config.xml_max_body_size = S3_XML_BYTES_MAX;
        config.presigned_url_max_skew_time_secs = S3_CLOCK_SKEW_SECONDS_MAX;
        let config = Arc::new(StaticConfigProvider::new(Arc::new(config)));
        let frontend = Frontend::new(core, options.region);
        let mut behind = S3ServiceBuilder::new(frontend.clone());
        behind.set_config(config.clone());
        let mut builder = S3ServiceBuilder::new(frontend);
        builder.set_auth(OneCredential { access_key: options.access_key, secret_key: options.secret_key.into() });
        builder.set_config(config);
        builder.set_route(IgnoredRange::new(behind.build()));
        Ok(Self { listener, address, intake: Intake::new(builder.build(), start) })
    }

    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` ends; then requests in progress have `S3_SHUTDOWN_MS` left.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(S3_CONNECTIONS_MAX));
        let mut stop = pin!(stop);
        loop {
            let next = pin!(self.next_connection(&places));
            let (stream, place) = match select(next, &mut stop).await {
                Either::Left((connection, _)) => connection,
                Either::Right(((), _)) => break,
            };
            let intake = Arc::clone(&self.intake);
            let unread = Unread::default();
            let guarded = StallGuard::new(stream, unread.clone());
            let service = service_fn(move |request| {
                let (intake, unread) = (Arc::clone(&intake), unread.clone());
                async move { intake.call(request, &unread).await }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_millis(S3_HEAD_TIMEOUT_MS))
                .max_buf_size(S3_HEADER_BYTES_MAX)
                .serve_connection(TokioIo::new(guarded), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended with an error");
                }
                drop(place);
            });
        }
        drop(self.listener);
        let limit = Duration::from_millis(S3_SHUTDOWN_MS);
        if tokio::time::timeout(limit, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were still in progress at the end of the shutdown time");
        }
    }

    /// A connection and its place among `S3_CONNECTIONS_MAX`.
    async fn next_connection(&self, places: &Arc<Semaphore>) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
        loop {
            // Nothing closes the semaphore.
            let Ok(place) = Arc::clone(places).acquire_owned().await else { continue };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection was gone before it was served");
                        continue;
                    }
                    return (stream, place);
                }
                // Out of descriptors, or the peer was gone already: others may still come.
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
