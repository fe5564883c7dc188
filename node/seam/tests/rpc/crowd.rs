//! More callers than there is room for, and callers that do not read.

use std::time::Duration;

use futures_util::future::join_all;
use shingle_proto::frame::{Kind, VERSIONS};
use shingle_proto::limits::{CONNECTION_CREDIT_BYTES, FRAME_PAYLOAD_BYTES_MAX, SHARD_BUDGET_BYTES_DEFAULT};
use shingle_proto::message::{ErrorCode, decode_hello_reply, encode_request};
use shingle_seam::World;
use shingle_seam::rpc::{Peers, RpcError, SharedPayload};

use crate::echo::{MIB, Server, append, peers, read_bytes, seconds, status};
use crate::raw::{Raw, hello, request};
use crate::runtimes::on_both_runtimes;

async fn late_comers_are_told_that_the_budget_is_spent(world: World) {
    let server = Server::start(&world, SHARD_BUDGET_BYTES_DEFAULT);
    let crowd: Vec<Peers> = (0..20).map(|_| peers(&world)).collect();
    let meta = seconds(10);
    let calls = join_all(crowd.iter().map(|peers| peers.call(server.address, &meta, status(), None))).await;
    let (let_in, turned_away): (Vec<_>, Vec<_>) = calls.into_iter().partition(Result::is_ok);
    assert!(let_in.len() >= 8 && !turned_away.is_empty(), "{} let in", let_in.len());
    for refused in turned_away {
        assert!(matches!(refused, Err(RpcError::Refused(error)) if error.code == ErrorCode::Busy));
    }
    drop(crowd);
    // The server learns of each end by reading from it.
    let start = world.clock.now();
    loop {
        let mut raw = Raw::connect(&world, server.address).await;
        raw.send(&hello(VERSIONS)).await;
        let credit = raw.frame().await.filter(|(header, _)| header.kind == Kind::HelloReply);
        let credit = credit.map(|(_, body)| decode_hello_reply(&body).unwrap().credit_bytes);
        if credit == Some(CONNECTION_CREDIT_BYTES) {
            return;
        }
        assert!(world.clock.now() - start < Duration::from_secs(10), "not everything has come back: {credit:?}");
        drop(raw);
        world.tasks.sleep(Duration::from_millis(5)).await;
    }
}

async fn a_connection_with_little_credit_is_given_more_when_others_leave(world: World) {
    let server = Server::start(&world, 64 * MIB);
    let (_first, reply) = Raw::greeted(&world, server.address).await;
    assert_eq!(u64::from(reply.credit_bytes), 16 * MIB);
    let crowd = join_all((0..6).map(|_| Raw::greeted(&world, server.address))).await;
    let late = peers(&world);
    let meta = seconds(10);
    late.call(server.address, &meta, status(), None).await.unwrap();
    server.echo.hold.acquire(1).await.unwrap();
    let payload = SharedPayload::from(vec![1; FRAME_PAYLOAD_BYTES_MAX as usize]);
    let mut appends =
        Box::pin(join_all((0..2).map(|_| late.call(server.address, &meta, append(1), Some(payload.clone())))));
    assert!(world.tasks.timeout(Duration::from_millis(200), &mut appends).await.is_err());
    let before = server.echo.started.get();
    drop(crowd);
    assert!(world.tasks.timeout(Duration::from_millis(500), &mut appends).await.is_err());
    assert_eq!(server.echo.started.get(), before + 1, "the second payload found credit");
    server.echo.hold.release(1);
    assert!(appends.await.iter().all(Result::is_ok));
}

async fn a_caller_that_does_not_read_holds_up_nobody(world: World) {
    let server = Server::start(&world, 128 * MIB);
    let (mut deaf, _) = Raw::greeted(&world, server.address).await;
    for id in 0..40 {
        deaf.send(&request(id, &encode_request(read_bytes(4 * MIB)), &[])).await;
    }
    let bystander = peers(&world);
    for _ in 0..100 {
        bystander.call(server.address, &seconds(10), status(), None).await.unwrap();
    }
    // The other direction of the same connection still works: its requests are read and handled.
    deaf.send(&request(99, &encode_request(append(1)), &vec![1; MIB as usize])).await;
    crate::echo::until(&world, || server.echo.finished.get() == 141).await;
    let mut answers = Vec::new();
    while answers.len() < 41 {
        answers.push(deaf.frame().await.expect("every request is answered").0.request_id);
    }
    answers.sort_unstable();
    assert!(answers.into_iter().eq((0..40).chain([99])));
}

on_both_runtimes!(
    late_comers_are_told_that_the_budget_is_spent,
    a_connection_with_little_credit_is_given_more_when_others_leave,
    a_caller_that_does_not_read_holds_up_nobody,
);
