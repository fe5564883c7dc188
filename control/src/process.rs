//! The control process: a single-threaded tokio runtime, the embedded store, the service, until it is told to stop.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::{Either, select};
use serde::Serialize;
use shingle_seam::on_tokio;
use shingle_seam::stop::Stop;
use tokio::task::LocalSet;

use crate::config::{ConfigError, ControlConfig};
use crate::service::{Control, StartError};
use crate::store::embedded::{EmbeddedStore, OpenError};

/// Threads for heavy CPU work; control has none to speak of.
const CPU_THREADS: usize = 1;

/// Why the process ends other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Start(#[from] StartError),
    /// A write or sync failed: a new process finds out what is durable.
    #[error("the store cannot write any more: {0}")]
    StoreFailed(Arc<str>),
    #[error("the runtime failed: {0}")]
    Runtime(#[from] io::Error),
}

/// What stands behind READY.
#[derive(Serialize)]
struct Ready {
    listen: SocketAddr,
    cell: String,
}

/// Serves until `stop`. Prints `READY {json}` on standard output when it does.
pub fn run(config: ControlConfig, stop: Stop) -> Result<(), ControlError> {
    config.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let result = runtime.block_on(tasks.run_until(serve(&config, &stop)));
    // The service's tasks hold the store: only when they are gone is its directory free for the next process.
    drop(tasks);
    result
}

async fn serve(config: &ControlConfig, stop: &Stop) -> Result<(), ControlError> {
    let world = on_tokio::world(CPU_THREADS);
    let store = Rc::new(EmbeddedStore::open(&config.dir, world.clock.clone())?);
    let control = Control::start(world, store.clone(), config).await?;
    let ready = Ready { listen: control.address(), cell: control.cell().to_string() };
    let line = serde_json::to_string(&ready).map_err(io::Error::other)?;
    writeln!(io::stdout(), "READY {line}")?;
    io::stdout().flush()?;
    tracing::info!(listen = %ready.listen, cell = ready.cell, dir = %config.dir.display(), "control serves");
    match select(pin!(on_tokio::stopped(stop)), pin!(store.failed())).await {
        Either::Left((stopped, _)) => stopped?,
        Either::Right((reason, _)) => return Err(ControlError::StoreFailed(reason)),
    }
    tracing::info!("control stops");
    Ok(())
}
