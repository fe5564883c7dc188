//! What callers may rely on.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::future::join_all;
use shingle_proto::frame::Class;
use shingle_proto::ids::{Generation, PutToken};
use shingle_proto::limits::{CONNECTION_REQUESTS_MAX, FRAME_PAYLOAD_BYTES_MAX, SEALED_BYTES_MAX};
use shingle_proto::message::{ErrorCode, Response, Role};
use shingle_seam::World;
use shingle_seam::rpc::{CallMeta, ProtocolError, RpcError, SharedPayload};

use crate::echo::{MIB, Server, append, ms, peers, read_bytes, seconds, slow, status, until};
use crate::runtimes::on_both_runtimes;

async fn the_largest_payload_comes_back_and_the_header_reaches_the_handler(world: World) {
    let server = Server::start(&world, 64 * MIB);
    let peers = peers(&world);
    let bytes: Vec<u8> = (0..SEALED_BYTES_MAX).map(|byte| (byte * 31 + byte / 251) as u8).collect();
    let payload = SharedPayload::from(bytes);
    let meta =
        CallMeta { class: Class::Scrub, trace: 11, generation: Generation(12), put_token: PutToken(13), ..seconds(20) };
    for _ in 0..3 {
        let reply = peers.call(server.address, &meta, append(1), Some(payload.clone())).await.unwrap();
        assert!(matches!(reply.response, Response::BlockRead(_)));
        assert!(reply.payload == payload[..], "the payload comes back as it went");
    }
    let call = server.echo.last_call.take().unwrap();
    assert_eq!((call.class, call.trace, call.generation), (Class::Scrub, 11, Generation(12)));
    assert_eq!((call.put_token, call.role), (PutToken(13), Role::Gateway));
    let left = call.deadline - world.clock.now();
    assert!(left > Duration::from_secs(10) && left <= Duration::from_secs(20));
    let plain = peers.call(server.address, &seconds(5), status(), None).await.unwrap();
    assert!(plain.payload.is_empty() && matches!(plain.response, Response::Done(_)));
}

async fn many_calls_share_one_connection_and_finish_out_of_order(world: World) {
    let server = Server::start(&world, 64 * MIB);
    let peers = peers(&world);
    let first = peers.call(server.address, &SECONDS, slow(300), None);
    let others = join_all((0..1000).map(|_| peers.call(server.address, &SECONDS, status(), None)));
    let race = futures_util::future::select(Box::pin(first), Box::pin(others)).await;
    let futures_util::future::Either::Right((others, first)) = race else { panic!("the slow call overtook") };
    assert_eq!(others.iter().filter(|reply| reply.is_ok()).count(), 1000);
    first.await.unwrap();
    assert_eq!(server.echo.started.get(), 1001);
}

static SECONDS: CallMeta = CallMeta {
    class: Class::Client,
    deadline: Duration::from_secs(20),
    trace: 0,
    generation: Generation(0),
    put_token: PutToken(0),
};

async fn dropping_a_call_drops_its_handler(world: World) {
    let server = Server::start(&world, 64 * MIB);
    let peers = peers(&world);
    let slow_call = peers.call(server.address, &SECONDS, slow(30_000), None);
    drop(world.tasks.timeout(Duration::from_millis(300), slow_call).await);
    until(&world, || server.echo.dropped.get() == 1).await;
    assert_eq!((server.echo.started.get(), server.echo.finished.get()), (1, 0));
    // Cancelled calls leave nothing behind: neither places nor credit.
    let payload = SharedPayload::from(vec![1; MIB as usize]);
    for _ in 0..2 * CONNECTION_REQUESTS_MAX {
        let call = peers.call(server.address, &SECONDS, slow(30_000), Some(payload.clone()));
        drop(world.tasks.timeout(Duration::from_micros(500), call).await);
    }
    for _ in 0..40 {
        peers.call(server.address, &SECONDS, append(1), Some(payload.clone())).await.unwrap();
    }
}

async fn a_deadline_ends_the_call_here_and_there(world: World) {
    let server = Server::start(&world, 64 * MIB);
    let peers = peers(&world);
    peers.call(server.address, &SECONDS, status(), None).await.unwrap();
    let start = world.clock.now();
    let late = peers.call(server.address, &ms(150), slow(30_000), None).await;
    assert_eq!(late, Err(RpcError::Deadline));
    let took = world.clock.now() - start;
    assert!(took >= Duration::from_millis(150), "{took:?}");
    until(&world, || server.echo.dropped.get() == 2).await;
    assert_eq!(server.echo.finished.get(), 1);
    peers.call(server.address, &SECONDS, status(), None).await.unwrap();
}

async fn credit_runs_out_and_comes_back(world: World) {
    let server = Server::start(&world, 9 * MIB); // one connection gets credit for exactly one largest payload
    let peers = peers(&world);
    let payload = SharedPayload::from(vec![5; FRAME_PAYLOAD_BYTES_MAX as usize]);
    server.echo.hold.acquire(1).await.unwrap();
    let held = join_all((0..4).map(|_| peers.call(server.address, &SECONDS, append(1), Some(payload.clone()))));
    let mut held = Box::pin(held);
    assert!(world.tasks.timeout(Duration::from_millis(300), &mut held).await.is_err());
    assert_eq!(server.echo.started.get(), 1, "only as much is sent as there is credit for");
    let without = peers.call(server.address, &SECONDS, status(), None).await;
    assert!(without.is_ok(), "a call without payload needs no credit");
    let late = peers.call(server.address, &ms(100), append(1), Some(payload.clone())).await;
    assert_eq!(late, Err(RpcError::Deadline), "waiting for credit is bounded by the deadline");
    server.echo.hold.release(1);
    assert!(held.await.iter().all(Result::is_ok));
}

async fn refusals_are_answers(world: World) {
    let server = Server::start(&world, 64 * MIB);
    let peers = peers(&world);
    let payload = SharedPayload::from(vec![5; MIB as usize]);
    for _ in 0..50 {
        let full = peers.call(server.address, &SECONDS, append(13), Some(payload.clone())).await;
        let Err(RpcError::Refused(error)) = full else { panic!("{full:?}") };
        assert_eq!((error.code, error.number), (ErrorCode::ExtentFull, MIB));
    }
    assert_eq!(server.echo.started.get(), 0);
    peers.call(server.address, &SECONDS, append(1), Some(payload)).await.unwrap();
}

async fn too_large_a_payload_never_leaves(world: World) {
    let server = Server::start(&world, 64 * MIB);
    let peers = peers(&world);
    let payload = SharedPayload::from(vec![5; FRAME_PAYLOAD_BYTES_MAX as usize + 1]);
    let refused = peers.call(server.address, &SECONDS, append(1), Some(payload)).await;
    assert!(matches!(refused, Err(RpcError::Protocol(ProtocolError::Frame(_)))), "{refused:?}");
    let refused = peers.call(server.address, &SECONDS, read_bytes(u64::from(FRAME_PAYLOAD_BYTES_MAX) + 1), None).await;
    assert!(matches!(refused, Err(RpcError::Refused(error)) if error.code == ErrorCode::Unknown));
    peers.call(server.address, &SECONDS, status(), None).await.unwrap();
}

async fn a_dead_peer_fails_fast_and_a_restarted_one_is_found(world: World) {
    let server = Server::start(&world, 64 * MIB);
    let address = server.address;
    let peers = peers(&world);
    peers.call(address, &SECONDS, status(), None).await.unwrap();
    let interrupted = peers.call(address, &SECONDS, slow(30_000), None);
    let stop = async {
        until(&world, || server.echo.started.get() == 2).await;
        server.stop.close();
    };
    let (interrupted, ()) = futures_util::future::join(interrupted, stop).await;
    assert_eq!(interrupted, Err(RpcError::Lost));
    assert_eq!(server.echo.dropped.get(), 2, "handlers end with the service");
    for _ in 0..50 {
        let dead = peers.call(address, &SECONDS, status(), None).await;
        assert!(matches!(dead, Err(RpcError::Connect(_))), "not the deadline: {dead:?}");
        world.tasks.sleep(Duration::from_millis(2)).await;
    }
    let again = Server::start_at(&world, address, 64 * MIB);
    let start = world.clock.now();
    while peers.call(address, &SECONDS, status(), None).await.is_err() {
        assert!(world.clock.now() - start < Duration::from_secs(3), "the pause is a second at most");
        world.tasks.sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(again.echo.finished.get(), 1);
}

async fn connecting_is_tried_once_for_all_who_wait(world: World) {
    let listener = world.net.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_address();
    let peers = peers(&world);
    // Accepts and never says HELLO: the callers wait, and time out, all on one connection.
    let calls = join_all((0..20).map(|_| async { peers.call(address, &ms(300), status(), None).await }));
    let (first, calls) = futures_util::future::join(listener.accept(), calls).await;
    assert!(first.is_ok() && calls.iter().all(|call| *call == Err(RpcError::Deadline)));
    let second = world.tasks.timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(second.is_err(), "there was a second attempt");
    drop(first);
    let next = world.tasks.timeout(Duration::from_secs(2), peers.call(address, &SECONDS, status(), None)).await;
    assert!(
        matches!(next, Ok(Err(RpcError::Connect(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)))),
        "{next:?}"
    );
}

async fn dropping_the_peers_closes_the_connection(world: World) {
    let server = Server::start(&world, 5 * MIB); // room for one connection
    let first = peers(&world);
    first.call(server.address, &SECONDS, status(), None).await.unwrap();
    let second = peers(&world);
    let busy = second.call(server.address, &SECONDS, status(), None).await;
    assert!(matches!(busy, Err(RpcError::Refused(error)) if error.code == ErrorCode::Busy));
    drop(first);
    for _ in 0..200 {
        if second.call(server.address, &SECONDS, status(), None).await.is_ok() {
            return;
        }
        world.tasks.sleep(Duration::from_millis(10)).await;
    }
    panic!("the budget of a closed connection does not come back");
}

on_both_runtimes!(
    the_largest_payload_comes_back_and_the_header_reaches_the_handler,
    many_calls_share_one_connection_and_finish_out_of_order,
    dropping_a_call_drops_its_handler,
    a_deadline_ends_the_call_here_and_there,
    credit_runs_out_and_comes_back,
    refusals_are_answers,
    too_large_a_payload_never_leaves,
    a_dead_peer_fails_fast_and_a_restarted_one_is_found,
    connecting_is_tried_once_for_all_who_wait,
    dropping_the_peers_closes_the_connection,
);
