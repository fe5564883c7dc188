//! A host as a thread of the test: the same shard on the same runtime, on a device that has no serial number of its own
//! and that `shingle host` therefore refuses.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use shingle_hw::backend::blkzoned;
use shingle_hw::buffer::BufferPool;
use shingle_hw::ring::Ring;
use shingle_node::osd::mount::Disk;
use shingle_node::osd::shard::{Shard, ShardConfig};
use shingle_proto::ids::{BootId, HostId};
use shingle_seam::World;
use shingle_seam::on_glommio::{EventFd, run_shard, stopped};
use shingle_seam::stop::Stop;

const BUDGET_BYTES: u64 = 64 << 20;

/// Stopped when it is dropped.
pub struct ThreadHost {
    stop: Stop,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl ThreadHost {
    /// Serves the device; when this returns, it does.
    pub fn start(number: u32, node: &Path, control: std::net::SocketAddr) -> Self {
        let stop = Stop::new().expect("an eventfd");
        let (sender, ready) = channel();
        let (node, stopping) = (node.to_owned(), stop.clone());
        let thread = run_shard(&format!("host-{number}"), None, move |world| {
            Box::pin(async move { serve(world, number, node, control, stopping, sender).await })
        });
        ready.recv_timeout(Duration::from_secs(60)).expect("the host starts");
        Self { stop, thread: Some(thread.expect("a thread")) }
    }
}

async fn serve(world: World, number: u32, node: PathBuf, control: std::net::SocketAddr, stop: Stop, ready: Sender<()>) {
    let ring = Ring::new(64).expect("io_uring works here");
    let pool = BufferPool::new(2 * BUDGET_BYTES as usize).expect("mapped");
    let completions = EventFd::new(ring.event_fd()).expect("an eventfd");
    let pumped = Rc::clone(&ring);
    let pump = async move {
        while completions.signalled().await.is_ok() {
            pumped.poll();
        }
    };
    world.tasks.spawn("disk completions", Box::pin(pump));
    let serial = node.file_name().expect("a name").to_string_lossy().into_owned();
    let device = Rc::new(blkzoned::open_as(&node, Some(&serial), ring, pool).expect("opens"));
    let disk = Disk { path: node.display().to_string(), device, profile: None };
    let (boot, listen) = (BootId(world.entropy.u64()), "127.0.0.1:0".parse().expect("an address"));
    let config = ShardConfig::solo(HostId(number), boot, listen, control, BUDGET_BYTES);
    let shard = Shard::start(world, config, [disk]).await.expect("the shard starts");
    ready.send(()).expect("the test waits");
    stopped(&stop).await.expect("the stop signal comes");
    shard.stop().await;
}

impl Drop for ThreadHost {
    fn drop(&mut self) {
        self.stop.trigger();
        // A thread that failed has said so, and the test that needs it fails.
        drop(self.thread.take().map(JoinHandle::join));
    }
}
