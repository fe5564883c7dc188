//! The disks' completions on a shard's executor.
//!
//! At many small reads the way through the kernel and the executor costs as much as the engine. So what completions set
//! going is handed over in few calls, and a fast device is polled for the next ones a moment before the shard sleeps.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use shingle_hw::ring::Ring;
use shingle_seam::on_glommio::EventFd;
use shingle_seam::tasks::Tasks;

/// How long the next completions are waited for without sleeping: about what a wake-up costs. A disk that answers a
/// few hundred times a second costs the shard less than a percent by it.
const SPIN: Duration = Duration::from_micros(20);
/// Rounds without sleeping; then the executor's own sockets and timers have their turn.
const ROUNDS_MAX: u32 = 16;

/// Takes completions for ever; ends with the error when they cannot be awaited any more. `completions` is the ring's
/// eventfd.
pub async fn run(completions: &EventFd, ring: &Rc<Ring>, tasks: &dyn Tasks) -> io::Error {
    loop {
        if let Err(error) = completions.signalled().await {
            return error;
        }
        let muted = Meanwhile::muted(ring);
        for _ in 0..ROUNDS_MAX {
            let corked = Meanwhile::corked(ring);
            ring.poll();
            // Whoever waited for a completion runs now, and gives their turn at the disk to the next command.
            tasks.yield_now().await;
            drop(corked);
            // The disks are busy again. Now what came is looked at, and answered.
            let corked = Meanwhile::corked(ring);
            tasks.yield_now().await;
            drop(corked);
            if !ring.completes_within(SPIN) {
                break;
            }
        }
        drop(muted);
    }
}

/// A way to treat the ring that ends with this, also when the shard stops in between.
struct Meanwhile<'a> {
    ring: &'a Ring,
    end: fn(&Ring),
}

impl<'a> Meanwhile<'a> {
    /// Small reads are handed over together at its end.
    fn corked(ring: &'a Ring) -> Self {
        ring.cork();
        Self { ring, end: Ring::uncork }
    }

    /// Nothing is signalled, since the ring is polled anyway.
    fn muted(ring: &'a Ring) -> Self {
        ring.mute();
        Self { ring, end: Ring::unmute }
    }
}

impl Drop for Meanwhile<'_> {
    fn drop(&mut self) {
        (self.end)(self.ring);
    }
}
