//! Durable appends of 4 MiB through one real host, against fio writing the same bytes with the same flushes.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use shingle_proto::ids::ExtentId;
use shingle_proto::limits::BLOCK_BYTES_MAX;
use shingle_proto::message::{Append, CreateExtent, Hash256, HostStatus, OsdReport, Request, Response, Role};
use shingle_seam::rpc::{CallMeta, Peers, RpcError, SharedPayload};

use crate::cell::Cell;
use crate::error::BenchError;
use crate::fio;
use crate::ratio::Ratio;

/// How much is appended and how.
#[derive(Clone, Copy, Debug)]
pub struct AppendPlan {
    pub rounds: usize,
    pub records: usize,
    /// Appends in flight.
    pub depth: usize,
}

impl Default for AppendPlan {
    /// 800 MiB a round: a bit less than one extent.
    fn default() -> Self {
        Self { rounds: 5, records: 200, depth: 8 }
    }
}

/// Starts a cell below `parent` and compares.
pub fn run(program: &Path, parent: &Path, plan: AppendPlan) -> Result<Ratio, BenchError> {
    let cell = Cell::start(program, parent, &["--disk-size", "16GiB"])?;
    let status = cell.status()?;
    let address = status["hosts"][0]["osds"][0]["address"].as_str().and_then(|text| text.parse().ok());
    let address: SocketAddr =
        address.ok_or_else(|| BenchError::Unexpected { command: "status".into(), output: status.to_string() })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("start a runtime"))?;
    // The control plane would close extents that no volume of its has: it stands still while the host is measured.
    cell.signal("control", "-STOP")?;
    let measured = measure(&cell, &runtime, address, plan);
    cell.signal("control", "-CONT")?;
    measured
}

/// The rounds, alternating with fio.
fn measure(
    cell: &Cell,
    runtime: &tokio::runtime::Runtime,
    address: SocketAddr,
    plan: AppendPlan,
) -> Result<Ratio, BenchError> {
    let mut ratio = Ratio::new("durable 4 MiB appends through one host", "fio, same bytes and flushes", "MiB/s");
    for round in 0..plan.rounds {
        let tasks = tokio::task::LocalSet::new();
        let (rate, flushes) = tasks.block_on(runtime, round_of_appends(address, plan, round as u64))?;
        let total_bytes = plan.records as u64 * u64::from(BLOCK_BYTES_MAX);
        let writes_per_sync = (plan.records as u64).div_ceil(flushes.max(1));
        let job = fio::Job {
            file: cell.scratch().join("fio.dat"),
            work: fio::Work::Write { total_bytes, sync: fio::Sync::Data { writes: writes_per_sync } },
            engine: fio::Engine::IoUring,
            block_bytes: u64::from(BLOCK_BYTES_MAX),
            depth: plan.depth as u32,
            threads: 1,
        };
        let done = job.run()?;
        std::fs::remove_file(&job.file).map_err(BenchError::io("remove fio's file"))?;
        ratio.peer.push(total_bytes as f64 / (1 << 20) as f64 / done.seconds);
        ratio.ours.push(rate);
        ratio.notes.push(format!("round {}: {} appends, {flushes} flushes", round + 1, plan.records));
    }
    ratio.notes.push(format!("{} in flight; both on huge pages where the kernel grants them", plan.depth));
    Ok(ratio)
}

/// Appends a round's records to a new extent; MiB/s and the flushes it took.
async fn round_of_appends(address: SocketAddr, plan: AppendPlan, seed: u64) -> Result<(f64, u64), BenchError> {
    let world = shingle_seam::on_tokio::world(1);
    let peers = Peers::new(world.clone(), Role::Tool, "bench".to_owned());
    let meta = CallMeta::client(Duration::from_secs(60));
    let before = osd_of(&peers, address).await?;
    let extent = ExtentId(world.entropy.u128());
    let create = CreateExtent { osd: before.osd, extent: extent.into(), volume: u64::MAX, bucket: u64::MAX, member: 0 };
    peers.call(address, &meta, Request::CreateExtent(Box::new(create)), None).await?;

    let mut block = vec![0; BLOCK_BYTES_MAX as usize];
    StdRng::seed_from_u64(seed).fill_bytes(&mut block);
    let block = SharedPayload::from(block);
    let next = Rc::new(std::cell::Cell::new(0));
    let start = Instant::now();
    let writers = (0..plan.depth).map(|_| {
        let (peers, meta, block, next) = (peers.clone(), meta.clone(), block.clone(), next.clone());
        tokio::task::spawn_local(async move {
            while next.get() < plan.records {
                let number = next.get() as u64;
                next.set(next.get() + 1);
                let mut hash = Hash256::default();
                hash.bytes[..8].copy_from_slice(&number.to_le_bytes());
                let append = Append {
                    extent: extent.into(),
                    hash,
                    put_id: seed,
                    bucket: u64::MAX,
                    plain_bytes: BLOCK_BYTES_MAX,
                };
                peers.call(address, &meta, Request::Append(Box::new(append)), Some(block.clone())).await?;
            }
            Ok::<(), RpcError>(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.map_err(|error| BenchError::io("a writer")(std::io::Error::other(error)))??;
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = osd_of(&peers, address).await?;
    let mib = plan.records as f64 * f64::from(BLOCK_BYTES_MAX) / (1 << 20) as f64;
    Ok((mib / seconds, after.flushes - before.flushes))
}

/// The first OSD behind an address.
async fn osd_of(peers: &Peers, address: SocketAddr) -> Result<OsdReport, BenchError> {
    let meta = CallMeta::client(Duration::from_secs(10));
    let reply = peers.call(address, &meta, Request::HostStatus(Box::new(HostStatus {})), None).await?;
    match reply.response {
        Response::HostStatusReply(status) => {
            status.osds.into_iter().find(|osd| osd.extents_free > 0).ok_or(BenchError::NoExtent)
        }
        other => Err(BenchError::Unexpected { command: "host status".into(), output: format!("{other:?}") }),
    }
}
