//! Running things: tasks on this thread, timers, and a bounded pool for long CPU work.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};

/// A boxed future that stays on its thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A piece of CPU work for the pool.
pub type CpuJob = Box<dyn FnOnce() + Send>;

/// An executor, as the logic sees it.
pub trait Tasks {
    /// Runs a task on this thread until it ends. It begins after its spawner has let others run, never inside this call:
    /// the spawner may be in the middle of a change. `name` shows up in traces and panics.
    fn spawn(&self, name: &'static str, task: LocalFuture<'static, ()>);
    /// Ends after `duration`, never before.
    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()>;
    /// Runs `job` in the bounded CPU pool and ends when it is done. Waits for a place when the pool's queue is full.
    /// Simulation runs it in place.
    fn run_cpu(&self, job: CpuJob) -> LocalFuture<'static, ()>;
    /// Lets other tasks run.
    fn yield_now(&self) -> LocalFuture<'static, ()>;
}

/// The time was up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time is up")]
pub struct Elapsed;

impl dyn Tasks {
    /// The future's result, if it comes within `limit`; the future is dropped otherwise.
    pub async fn timeout<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
        let future = pin!(future);
        match select(future, self.sleep(limit)).await {
            Either::Left((value, _)) => Ok(value),
            Either::Right(((), _)) => Err(Elapsed),
        }
    }
}

/// Runs `work` in the CPU pool and gives back what it made.
pub async fn on_cpu<T: Send + 'static>(tasks: &Rc<dyn Tasks>, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (result, take) = std::sync::mpsc::sync_channel(1);
    tasks.run_cpu(Box::new(move || drop(result.send(work())))).await;
    take.try_recv().expect("run_cpu ends only after the job has run")
}

/// Spawns a task whose result can be awaited; dropping the handle lets the task go on.
pub fn spawn_joined<T: 'static>(
    tasks: &Rc<dyn Tasks>,
    name: &'static str,
    future: impl Future<Output = T> + 'static,
) -> impl Future<Output = Option<T>> + 'static {
    let (sender, receiver) = local_sync::oneshot::channel();
    let slot = RefCell::new(Some(sender));
    tasks.spawn(
        name,
        Box::pin(async move {
            let value = future.await;
            if let Some(sender) = slot.take() {
                drop(sender.send(value));
            }
        }),
    );
    async move { receiver.await.ok() }
}
