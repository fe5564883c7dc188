//! One simulated process: the seams it is handed.

use std::rc::Rc;
use std::time::Duration;

use shingle_seam::World;
use shingle_seam::clock::{Clock, Monotonic};
use shingle_seam::entropy::Entropy;
use shingle_seam::tasks::{CpuJob, LocalFuture, Tasks};

use super::executor::{Executor, ProcessId};
use super::net::{Network, ProcessNet};

/// 2026-01-01 in milliseconds since 1970: where virtual wall clocks start.
const EPOCH_MS: u64 = 1_767_225_600_000;

struct ProcessSeams {
    executor: Executor,
    process: ProcessId,
}

impl Clock for ProcessSeams {
    fn now(&self) -> Monotonic {
        self.executor.now()
    }

    fn unix_ms(&self) -> u64 {
        EPOCH_MS + self.executor.now().0 / 1_000_000
    }
}

impl Entropy for ProcessSeams {
    fn fill(&self, bytes: &mut [u8]) {
        self.executor.fill(bytes);
    }
}

impl Tasks for ProcessSeams {
    fn spawn(&self, name: &'static str, task: LocalFuture<'static, ()>) {
        self.executor.spawn(self.process, name, task);
    }

    fn sleep(&self, duration: Duration) -> LocalFuture<'static, ()> {
        Box::pin(self.executor.sleep(duration))
    }

    fn run_cpu(&self, job: CpuJob) -> LocalFuture<'static, ()> {
        // As long as a real block would take: 1 to 10 ms of virtual time, so that other things happen meanwhile.
        let pause = self.executor.sleep(Duration::from_micros(1000 + self.executor.below(9000)));
        Box::pin(async move {
            pause.await;
            job();
        })
    }

    fn yield_now(&self) -> LocalFuture<'static, ()> {
        Box::pin(self.executor.sleep(Duration::from_nanos(1)))
    }
}

/// The seams of one process.
pub fn world(executor: &Executor, network: &Rc<Network>, process: ProcessId) -> World {
    let seams = Rc::new(ProcessSeams { executor: executor.clone(), process });
    World {
        clock: seams.clone(),
        net: Rc::new(ProcessNet { network: network.clone(), process }),
        entropy: seams.clone(),
        tasks: seams,
    }
}
