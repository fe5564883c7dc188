//! The gateway process: the core on a thread of its own, the S3 server on the caller's, a bounded channel between them.
//! Each has a single-threaded tokio runtime. When one ends, so does the other.

use std::io::{self, Write};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::{Either, select};
use shingle_seam::keys::{KeyFile, KeyFileError};
use shingle_seam::on_tokio;
use shingle_seam::stop::Stop;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::config::GatewayConfig;
use crate::core;
use crate::request::CoreSender;
use crate::s3::{S3Options, S3Server, ServeError};

/// Threads that hash, compress and seal; more than this one S3 server cannot feed.
const CPU_THREADS_MAX: usize = 8;

/// Why the process ends other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum GatewayProcessError {
    #[error("{0} is missing from the configuration: S3 requests are signed, nothing is served without a key")]
    NoCredential(&'static str),
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("the gateway's core ended unexpectedly")]
    CoreEnded,
    #[error("the runtime failed: {0}")]
    Runtime(#[from] io::Error),
}

/// Serves until `stop`. Prints `READY {json}` on standard output when it does.
pub fn run(config: GatewayConfig, stop: Stop) -> Result<(), GatewayProcessError> {
    for (name, value) in [("access-key", &config.access_key), ("secret-key", &config.secret_key)] {
        if value.is_empty() {
            return Err(GatewayProcessError::NoCredential(name));
        }
    }
    let options = S3Options {
        listen: config.s3_listen,
        access_key: config.access_key.clone(),
        secret_key: config.secret_key.clone(),
        region: config.region.clone(),
    };
    let runtime = runtime()?;
    let (core, thread) = CoreThread::start(config)?;
    let served = runtime.block_on(serve(options, core, thread.ended, &stop));
    // Uploads in progress end with the server's connections; what is left of them ends with their leases.
    drop(runtime);
    drop(thread.stop);
    let joined = thread.handle.join();
    served?;
    joined.map_err(|_| GatewayProcessError::CoreEnded)
}

async fn serve(
    options: S3Options,
    core: CoreSender,
    core_ended: oneshot::Receiver<()>,
    stop: &Stop,
) -> Result<(), GatewayProcessError> {
    let server = S3Server::bind(options, core, start_number()).await?;
    let address = server.local_address();
    writeln!(io::stdout(), "READY {{\"s3\":\"{address}\"}}")?;
    io::stdout().flush()?;
    tracing::info!(s3 = %address, "gateway serves");
    let mut ended = Ok(());
    server
        .run(async {
            let stopped = std::pin::pin!(on_tokio::stopped(stop));
            ended = match select(stopped, core_ended).await {
                Either::Left((stopped, _)) => stopped.map_err(GatewayProcessError::from),
                Either::Right(_) => Err(GatewayProcessError::CoreEnded),
            };
        })
        .await;
    tracing::info!("gateway stops");
    ended
}

/// The thread of the core, and how it is told to end and tells that it did.
struct CoreThread {
    handle: JoinHandle<()>,
    /// Dropped to end the core.
    stop: oneshot::Sender<()>,
    /// Ends, without a value, when the core does.
    ended: oneshot::Receiver<()>,
}

impl CoreThread {
    fn start(config: GatewayConfig) -> Result<(CoreSender, Self), GatewayProcessError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (alive, ended) = oneshot::channel::<()>();
        let (report, started) = std::sync::mpsc::sync_channel::<Result<CoreSender, GatewayProcessError>>(1);
        let handle = std::thread::Builder::new().name("gateway-core".to_owned()).spawn(move || {
            let _alive = alive;
            let runtime = match runtime() {
                Ok(runtime) => runtime,
                Err(error) => return drop(report.send(Err(error.into()))),
            };
            let tasks = LocalSet::new();
            runtime.block_on(tasks.run_until(async move {
                // Here, since keys do not leave the thread that uses them.
                match KeyFile::load(&config.key_file) {
                    Err(error) => drop(report.send(Err(error.into()))),
                    Ok(keys) => {
                        let world = on_tokio::world(cpu_threads());
                        drop(report.send(Ok(core::start(world, Rc::new(keys), config.core()))));
                        drop(stopped.await);
                    }
                }
            }));
        })?;
        let core = started.recv().map_err(|_| GatewayProcessError::CoreEnded)??;
        Ok((core, Self { handle, stop, ended }))
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn cpu_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get().min(CPU_THREADS_MAX))
}

/// Tells the request ids of this start from those of others.
fn start_number() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
