//! Services that send wrong bytes to a caller, or none: typed errors for the calls in flight, nothing worse.

use std::rc::Rc;
use std::time::Duration;

use shingle_proto::frame::{FrameError, HELLO_VERSION, Header, Kind, Reject, RejectReason, VERSIONS};
use shingle_proto::message::{Done, ErrorCode, HelloReply, Request, Response, encode_hello_reply, encode_response};
use shingle_seam::World;
use shingle_seam::rpc::{ProtocolError, Reply, RpcError};

use crate::echo::{append, ms, peers, seconds, status};
use crate::raw::{Raw, frame};
use crate::runtimes::on_both_runtimes;

fn hello_reply(version: u16) -> Vec<u8> {
    let body = encode_hello_reply(&HelloReply { version, credit_bytes: 1 << 20, process: "raw".into() });
    frame(&Header::new(Kind::HelloReply, HELLO_VERSION, &body, &[]).unwrap(), &body, &[])
}

fn reject(reason: RejectReason, versions: (u16, u16)) -> Vec<u8> {
    let body = Reject { reason, versions, number: 50 }.encode();
    frame(&Header::new(Kind::Reject, HELLO_VERSION, &body, &[]).unwrap(), &body, &[])
}

fn answer(id: u64) -> (Header, Vec<u8>) {
    let body = encode_response(Response::Done(Box::new(Done {})));
    let mut header = Header::new(Kind::Response, HELLO_VERSION, &body, &[]).unwrap();
    header.request_id = id;
    (header, body)
}

/// What one call brings when a service accepts, reads HELLO and sends `first`, then reads a request and sends `second`.
async fn against(world: &World, request: Request, first: Vec<u8>, second: Option<Vec<u8>>) -> Result<Reply, RpcError> {
    let listener = world.net.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let peers = peers(world);
    let deadline = seconds(10);
    let call = peers.call(listener.local_address(), &deadline, request, None);
    let service = async {
        let mut raw = Raw::over(world, listener.accept().await.unwrap());
        assert_eq!(raw.frame().await.unwrap().0.kind, Kind::Hello);
        raw.send(&first).await;
        if let Some(second) = second {
            assert_eq!(raw.frame().await.unwrap().0.kind, Kind::Request);
            raw.send(&second).await;
        }
        // Dropped here: what was sent still arrives, then the end.
    };
    futures_util::future::join(call, service).await.0
}

async fn greetings_that_are_wrong_are_typed_errors(world: World) {
    let none = RpcError::NoCommonVersion { ours: VERSIONS, theirs: (7, 9) };
    let first = reject(RejectReason::NoCommonVersion, (7, 9));
    assert_eq!(against(&world, status(), first, None).await, Err(none));
    let theirs = RpcError::NoCommonVersion { ours: VERSIONS, theirs: (9, 9) };
    assert_eq!(against(&world, status(), hello_reply(9), None).await, Err(theirs));
    let busy = against(&world, status(), reject(RejectReason::Busy, VERSIONS), None).await;
    assert!(matches!(busy, Err(RpcError::Refused(error)) if error.code == ErrorCode::Busy && error.number == 50));
    let garbage = against(&world, status(), vec![b'x'; 100], None).await;
    let magic = FrameError::BadMagic { found: *b"xxxx" };
    assert_eq!(garbage, Err(RpcError::Protocol(ProtocolError::Frame(magic))));
    let (header, body) = answer(1);
    let early = against(&world, status(), frame(&header, &body, &[]), None).await;
    assert_eq!(early, Err(RpcError::Protocol(ProtocolError::UnexpectedKind { found: Kind::Response })));
}

async fn answers_that_are_wrong_are_typed_errors(world: World) {
    let (header, body) = answer(1);
    let good = frame(&header, &body, &[]);
    let ask = |second: Vec<u8>| against(&world, status(), hello_reply(1), Some(second));
    assert!(ask(good.clone()).await.is_ok());
    for at in [5, 20, 50] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let error = ask(bad).await.unwrap_err();
        assert!(
            matches!(error, RpcError::Protocol(ProtocolError::Frame(FrameError::HeaderChecksum { .. }))),
            "{error}"
        );
    }
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let error = ask(bad).await.unwrap_err();
    assert!(matches!(error, RpcError::Protocol(ProtocolError::Frame(FrameError::BodyChecksum { .. }))), "{error}");
    let (other, body) = answer(77);
    let error = ask(frame(&other, &body, &[])).await.unwrap_err();
    assert_eq!(error, RpcError::Protocol(ProtocolError::UnknownRequest { id: 77 }));
    let mut header = Header::new(Kind::Response, HELLO_VERSION, &[1; 30], &[]).unwrap();
    header.request_id = 1;
    let error = ask(frame(&header, &[1; 30], &[])).await.unwrap_err();
    assert!(matches!(error, RpcError::Protocol(ProtocolError::Body { kind: Kind::Response, .. })), "{error}");
    let error = ask(reject(RejectReason::Checksum, VERSIONS)).await.unwrap_err();
    let rejected = ProtocolError::Rejected { reason: RejectReason::Checksum, number: 50 };
    assert_eq!(error, RpcError::Protocol(rejected));
    assert_eq!(ask(good[..good.len() - 1].to_vec()).await, Err(RpcError::Lost));
    assert_eq!(ask(Vec::new()).await, Err(RpcError::Lost));
}

async fn credit_that_comes_back_with_the_end_leaves_nobody_waiting(world: World) {
    let listener = world.net.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let (address, peers, bytes) = (listener.local_address(), peers(&world), 1 << 20);
    let deadline = seconds(10);
    let ask = || peers.call(address, &deadline, append(bytes), Some(vec![7; bytes as usize].into()));
    let service = async {
        let mut raw = Raw::over(&world, listener.accept().await.unwrap());
        assert_eq!(raw.frame().await.unwrap().0.kind, Kind::Hello);
        raw.send(&hello_reply(1)).await;
        let (request, _) = raw.frame().await.unwrap();
        let (mut header, body) = answer(request.request_id);
        header.credit_bytes = bytes;
        // In one piece, so that the caller sees the second frame before the one who waits for credit runs.
        raw.send(&[frame(&header, &body, &[]), vec![b'x'; 100]].concat()).await;
    };
    let (first, second, ()) = futures_util::future::join3(ask(), ask(), service).await;
    assert!(first.is_ok(), "{first:?}");
    assert!(matches!(second, Err(RpcError::Connect(_))), "before its deadline: {second:?}");
}

async fn a_connection_that_only_takes_is_given_up_after_three_timeouts(world: World) {
    let listener = Rc::new(world.net.listen("127.0.0.1:0".parse().unwrap()).unwrap());
    let (address, peers) = (listener.local_address(), peers(&world));
    let (silent, accepted) = (listener.clone(), world.clone());
    world.tasks.spawn(
        "silent",
        Box::pin(async move {
            let mut raw = Raw::over(&accepted, silent.accept().await.unwrap());
            raw.send(&hello_reply(1)).await;
            while raw.frame().await.is_some() {} // takes everything, says nothing
        }),
    );
    let long = seconds(30);
    let other = peers.call(address, &long, status(), None);
    let timeouts = async {
        for _ in 0..3 {
            assert_eq!(peers.call(address, &ms(100), status(), None).await, Err(RpcError::Deadline));
        }
    };
    let (other, ()) = futures_util::future::join(other, timeouts).await;
    assert_eq!(other, Err(RpcError::Lost), "who still waits learns it at once");
    world.tasks.sleep(Duration::from_millis(50)).await;
    let again = async { peers.call(address, &ms(500), status(), None).await };
    let (_, accepted) = futures_util::future::join(again, listener.accept()).await;
    assert!(accepted.is_ok(), "the next call connects again");
}

async fn one_deadline_without_a_word_gives_back_what_a_hanging_peer_holds(world: World) {
    let listener = Rc::new(world.net.listen("127.0.0.1:0".parse().unwrap()).unwrap());
    let (address, peers, bytes) = (listener.local_address(), peers(&world), 1 << 20);
    let (hanging, accepted) = (listener.clone(), world.clone());
    world.tasks.spawn(
        "hanging",
        Box::pin(async move {
            let mut raw = Raw::over(&accepted, hanging.accept().await.unwrap());
            raw.send(&hello_reply(1)).await;
            while raw.frame().await.is_some() {}
        }),
    );
    let short = ms(300);
    let holds_all_credit = peers.call(address, &short, append(bytes), Some(vec![7; bytes as usize].into()));
    assert_eq!(holds_all_credit.await, Err(RpcError::Deadline));
    let long = seconds(30);
    let waits_for_credit = peers.call(address, &long, append(bytes), Some(vec![7; bytes as usize].into()));
    let waited = waits_for_credit.await;
    assert!(matches!(waited, Err(RpcError::Connect(_))), "nothing of it was sent, nor waited for: {waited:?}");
}

on_both_runtimes!(
    one_deadline_without_a_word_gives_back_what_a_hanging_peer_holds,
    greetings_that_are_wrong_are_typed_errors,
    answers_that_are_wrong_are_typed_errors,
    credit_that_comes_back_with_the_end_leaves_nobody_waiting,
    a_connection_that_only_takes_is_given_up_after_three_timeouts,
);
