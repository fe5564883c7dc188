//! Prints what a loopback connection carries; both ends share one thread. Asserts only that everything arrives.

use std::time::Instant;

use futures_util::future::join_all;
use shingle_proto::limits::SEALED_BYTES_MAX;
use shingle_seam::World;
use shingle_seam::rpc::SharedPayload;

use crate::echo::{MIB, Server, append, peers, read_bytes, seconds, status};
use crate::runtimes::on_both_runtimes;

async fn calls_and_bytes_per_second(world: World) {
    let server = Server::start(&world, 128 * MIB);
    let peers = peers(&world);
    let meta = seconds(30);
    let payload = SharedPayload::from(vec![1; SEALED_BYTES_MAX as usize]);
    peers.call(server.address, &meta, append(1), Some(payload.clone())).await.unwrap();
    let start = Instant::now();
    for _ in 0..2000 {
        peers.call(server.address, &meta, status(), None).await.unwrap();
    }
    let alone = 2000.0 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let all = join_all((0..64).map(|_| async {
        for _ in 0..200 {
            peers.call(server.address, &meta, status(), None).await.unwrap();
        }
    }));
    all.await;
    let together = 64.0 * 200.0 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let all = join_all((0..4).map(|_| async {
        for _ in 0..16 {
            peers.call(server.address, &meta, read_bytes(u64::from(SEALED_BYTES_MAX)), None).await.unwrap();
        }
    }));
    all.await;
    let read = 64.0 * f64::from(SEALED_BYTES_MAX) / 1e6 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let all = join_all((0..4).map(|_| async {
        for _ in 0..16 {
            peers.call(server.address, &meta, append(1), Some(payload.clone())).await.unwrap();
        }
    }));
    all.await;
    let echoed = 64.0 * f64::from(SEALED_BYTES_MAX) / 1e6 / start.elapsed().as_secs_f64();
    println!(
        "one after another {alone:.0} calls/s, 64 at once {together:.0} calls/s; \
         4 MiB payloads: {read:.0} MB/s one way, {echoed:.0} MB/s there and back"
    );
}

on_both_runtimes!(calls_and_bytes_per_second);
