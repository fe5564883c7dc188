//! Peers that send wrong bytes to a service: each loses its connection with a typed reason, nobody else notices.

use futures_util::io::AsyncWriteExt;
use shingle_proto::frame::{HEADER_BYTES, HELLO_VERSION, Header, Kind, RejectReason, VERSIONS};
use shingle_proto::limits::{FRAME_BODY_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX, HELLO_BODY_BYTES_MAX};
use shingle_proto::message::{ErrorCode, Response, Role, decode_response, encode_request};
use shingle_seam::World;
use shingle_seam::rpc::{PIECE_BYTES, Peers};

use crate::echo::{MIB, Server, append, peers, seconds, slow, status, until};
use crate::raw::{Raw, frame, hello, request, reseal, status_request};
use crate::runtimes::on_both_runtimes;

/// `GetStatus` in the union of requests.
const GET_STATUS: u8 = 32;

/// A service with one well-behaved caller, who is asked after every misdeed.
struct Scene {
    world: World,
    server: Server,
    bystander: Peers,
}

impl Scene {
    async fn new(world: World) -> Self {
        let scene = Self { server: Server::start(&world, 256 * MIB), bystander: peers(&world), world };
        scene.all_is_well().await;
        scene
    }

    async fn all_is_well(&self) {
        let call = self.bystander.call(self.server.address, &seconds(10), status(), None).await;
        call.expect("another connection still works");
    }

    /// Sends `bytes` after HELLO and expects to be closed for `reason`.
    async fn closed_for(&self, reason: RejectReason, bytes: &[u8]) {
        let (mut raw, _) = Raw::greeted(&self.world, self.server.address).await;
        raw.send(bytes).await;
        assert_eq!(raw.reason().await, reason);
        self.all_is_well().await;
    }
}

async fn garbage_is_closed_with_a_reason(world: World) {
    let scene = Scene::new(world.clone()).await;
    for garbage in
        [&b"GET / HTTP/1.1\r\nHost: shingle.example\r\nAccept: */*\r\nUser-Agent: curl/8\r\n\r\n"[..], &[0xff; 300]]
    {
        let mut raw = Raw::connect(&world, scene.server.address).await;
        raw.send(garbage).await;
        assert_eq!(raw.reason().await, RejectReason::Malformed);
        scene.closed_for(RejectReason::Malformed, garbage).await;
    }
    let mut first = Raw::connect(&world, scene.server.address).await;
    first.send(&status_request(1)).await;
    assert_eq!(first.reason().await, RejectReason::Malformed, "HELLO comes first");
    scene.all_is_well().await;
}

async fn a_flipped_bit_anywhere_in_a_header_is_noticed(world: World) {
    let scene = Scene::new(world).await;
    let good = status_request(1);
    for at in 0..HEADER_BYTES {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        let reason = if at < 4 { RejectReason::Malformed } else { RejectReason::Checksum };
        scene.closed_for(reason, &bad).await;
    }
    assert_eq!(scene.server.echo.started.get(), HEADER_BYTES + 1, "none of them reached the service");
}

async fn flipped_bits_in_body_and_payload_are_noticed(world: World) {
    let scene = Scene::new(world).await;
    let body = encode_request(append(1));
    let good = request(1, &body, &[9; 5000]);
    for at in [HEADER_BYTES, HEADER_BYTES + body.len() - 1, HEADER_BYTES + body.len(), good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        scene.closed_for(RejectReason::Checksum, &bad).await;
    }
}

/// A payload is checked as it comes, whatever the pieces: none of it is left out at their edges.
async fn flipped_bits_in_a_long_payload_that_comes_in_pieces_are_noticed(world: World) {
    let scene = Scene::new(world.clone()).await;
    let body = encode_request(append(1));
    let start = HEADER_BYTES + body.len();
    let good = request(1, &body, &vec![9; 2 * PIECE_BYTES + 4_321]);
    let send = async |raw: &mut Raw, bytes: &[u8]| {
        for piece in bytes.chunks(100_003) {
            raw.send(piece).await;
        }
    };
    let (mut raw, _) = Raw::greeted(&world, scene.server.address).await;
    send(&mut raw, &good).await;
    assert_eq!(raw.frame().await.expect("an answer").0.kind, Kind::Response);
    for at in [0, 100_003 - start, PIECE_BYTES - 1, PIECE_BYTES, good.len() - 1 - start] {
        let mut bad = good.clone();
        bad[start + at] ^= 1;
        let (mut raw, _) = Raw::greeted(&world, scene.server.address).await;
        send(&mut raw, &bad).await;
        assert_eq!(raw.reason().await, RejectReason::Checksum, "byte {at}");
    }
    scene.all_is_well().await;
}

async fn fields_with_values_nobody_knows_are_refused(world: World) {
    let scene = Scene::new(world).await;
    for (at, value) in [(4, 9), (6, 0), (6, 99), (7, 77), (64, 1), (67, 0x80)] {
        let mut bad = status_request(1);
        bad[at] = value;
        reseal(&mut bad);
        scene.closed_for(RejectReason::Malformed, &bad).await;
    }
    for kind in [Kind::Hello, Kind::HelloReply, Kind::Response, Kind::Credit] {
        let bad = frame(&Header::new(kind, HELLO_VERSION, &[], &[]).unwrap(), &[], &[]);
        scene.closed_for(RejectReason::Malformed, &bad).await;
    }
}

async fn lengths_above_the_limits_are_refused_before_anything_is_read(world: World) {
    let scene = Scene::new(world.clone()).await;
    for (at, length) in
        [(48, FRAME_BODY_BYTES_MAX + 1), (48, u32::MAX), (52, FRAME_PAYLOAD_BYTES_MAX + 1), (52, u32::MAX)]
    {
        let mut bad = status_request(1);
        bad[at..at + 4].copy_from_slice(&length.to_le_bytes());
        reseal(&mut bad);
        scene.closed_for(RejectReason::Oversize, &bad).await;
    }
    let mut raw = Raw::connect(&world, scene.server.address).await;
    let mut bad = hello(VERSIONS);
    bad[48..52].copy_from_slice(&(HELLO_BODY_BYTES_MAX + 1).to_le_bytes());
    reseal(&mut bad);
    raw.send(&bad).await;
    assert_eq!(raw.reason().await, RejectReason::Oversize);
    let (mut raw, reply) = Raw::greeted(&world, scene.server.address).await;
    scene.server.echo.hold.acquire(1).await.unwrap();
    let body = encode_request(append(1));
    let payload = vec![1; FRAME_PAYLOAD_BYTES_MAX as usize];
    for id in 0..=u64::from(reply.credit_bytes / FRAME_PAYLOAD_BYTES_MAX) {
        raw.send(&request(id, &body, &payload)).await;
    }
    let rejected = raw.rejected().await;
    assert_eq!((rejected.reason, rejected.number), (RejectReason::Oversize, payload.len() as u64), "credit is a bound");
    scene.all_is_well().await;
}

async fn bodies_that_do_not_decode_are_refused(world: World) {
    let scene = Scene::new(world.clone()).await;
    scene.closed_for(RejectReason::Malformed, &request(1, &[0xff; 64], &[])).await;
    scene.closed_for(RejectReason::Malformed, &request(1, &[], &[])).await;
    let mut truncated = encode_request(append(1));
    truncated.truncate(truncated.len() / 2);
    scene.closed_for(RejectReason::Malformed, &request(1, &truncated, &[])).await;
    let bad_hello = frame(&Header::new(Kind::Hello, HELLO_VERSION, &[7; 40], &[]).unwrap(), &[7; 40], &[]);
    let mut raw = Raw::connect(&world, scene.server.address).await;
    raw.send(&bad_hello).await;
    assert_eq!(raw.reason().await, RejectReason::Malformed);
    scene.all_is_well().await;
}

async fn a_request_id_in_flight_twice_is_refused(world: World) {
    let scene = Scene::new(world).await;
    let body = encode_request(slow(20_000));
    scene.closed_for(RejectReason::Malformed, &[request(5, &body, &[]), request(5, &body, &[])].concat()).await;
    let many: Vec<u8> = (0..600).flat_map(|id| request(id, &body, &[])).collect();
    scene.closed_for(RejectReason::Oversize, &many).await;
    until(&scene.world, || scene.server.echo.dropped.get() == scene.server.echo.started.get()).await;
}

async fn versions_without_overlap_are_turned_away_with_ours(world: World) {
    let scene = Scene::new(world.clone()).await;
    for theirs in [(VERSIONS.1 + 1, VERSIONS.1 + 5), (0, VERSIONS.0 - 1), (9, 3)] {
        let mut raw = Raw::connect(&world, scene.server.address).await;
        raw.send(&hello(theirs)).await;
        let reject = raw.rejected().await;
        assert_eq!((reject.reason, reject.versions), (RejectReason::NoCommonVersion, VERSIONS));
        scene.all_is_well().await;
    }
    let mut newer = Raw::connect(&world, scene.server.address).await;
    newer.send(&hello((VERSIONS.0, VERSIONS.1 + 3))).await;
    assert_eq!(newer.frame().await.unwrap().0.kind, Kind::HelloReply, "ranges that overlap agree");
}

async fn a_frame_cut_anywhere_harms_nobody(world: World) {
    let scene = Scene::new(world.clone()).await;
    let body = encode_request(append(1));
    let whole = request(1, &body, &vec![3; 300_000]);
    let hello_bytes = hello(VERSIONS);
    let cuts = [1, 4, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + body.len(), whole.len() / 2, whole.len() - 1];
    for cut in cuts {
        let (mut raw, _) = Raw::greeted(&world, scene.server.address).await;
        raw.send(&whole[..cut]).await;
        raw.connection.writer.close().await.unwrap();
        assert_eq!(raw.reason().await, RejectReason::Malformed, "cut at {cut}");
        let (mut raw, _) = Raw::greeted(&world, scene.server.address).await;
        raw.send(&whole[..cut]).await;
        drop(raw); // gone without a word
        scene.all_is_well().await;
        let mut raw = Raw::connect(&world, scene.server.address).await;
        raw.send(&hello_bytes[..cut.min(hello_bytes.len() - 1)]).await;
        drop(raw);
        scene.all_is_well().await;
    }
    assert_eq!(scene.server.echo.finished.get(), scene.server.echo.started.get());
}

async fn a_caller_that_leaves_takes_its_handlers_along(world: World) {
    let scene = Scene::new(world.clone()).await;
    let before = scene.server.echo.dropped.get();
    let (mut raw, _) = Raw::greeted(&world, scene.server.address).await;
    for id in 0..10 {
        raw.send(&request(id, &encode_request(slow(20_000)), &[1; 1000])).await;
    }
    until(&world, || scene.server.echo.started.get() == before + 10).await;
    drop(raw);
    until(&world, || scene.server.echo.dropped.get() == before + 10).await;
    scene.all_is_well().await;
}

async fn cancelled_and_unknown_requests_are_answered_all_the_same(world: World) {
    let scene = Scene::new(world.clone()).await;
    let (mut raw, _) = Raw::greeted(&world, scene.server.address).await;
    raw.send(&request(8, &encode_request(slow(20_000)), &[1; 1000])).await;
    let mut cancel = Header::new(Kind::Cancel, HELLO_VERSION, &[], &[]).unwrap();
    cancel.request_id = 8;
    raw.send(&frame(&cancel, &[], &[])).await;
    let (header, body) = raw.frame().await.unwrap();
    assert_eq!((header.kind, header.request_id, header.credit_bytes), (Kind::Response, 8, 1000));
    assert!(matches!(decode_response(&body), Ok(Response::ErrorReply(_))));
    raw.send(&frame(&cancel, &[], &[])).await; // too late: nothing happens
    // A request of a later release, with a payload: refused, and the connection goes on.
    let mut unknown = encode_request(status());
    let at = unknown.iter().rposition(|byte| *byte == GET_STATUS).expect("the body names its type");
    unknown[at] = 250;
    raw.send(&request(9, &unknown, &[1; 10])).await;
    let (header, body) = raw.frame().await.unwrap();
    assert_eq!((header.kind, header.request_id, header.credit_bytes), (Kind::Response, 9, 10));
    let Ok(Response::ErrorReply(error)) = decode_response(&body) else { panic!("not refused") };
    assert_eq!(error.code, ErrorCode::Unsupported);
    raw.send(&status_request(10)).await;
    assert_eq!(raw.frame().await.unwrap().0.request_id, 10);
    scene.all_is_well().await;
}

async fn the_control_plane_gets_in_when_the_budget_is_spent(world: World) {
    let server = Server::start(&world, 5 * MIB);
    let _first = Raw::greeted(&world, server.address).await;
    let mut second = Raw::connect(&world, server.address).await;
    second.send(&hello(VERSIONS)).await;
    let busy = second.rejected().await;
    assert!(busy.reason == RejectReason::Busy && busy.number > 0);
    let control = Peers::new(world.clone(), Role::Control, "control".into());
    control.call(server.address, &seconds(10), status(), None).await.unwrap();
}

on_both_runtimes!(
    garbage_is_closed_with_a_reason,
    a_flipped_bit_anywhere_in_a_header_is_noticed,
    flipped_bits_in_body_and_payload_are_noticed,
    flipped_bits_in_a_long_payload_that_comes_in_pieces_are_noticed,
    fields_with_values_nobody_knows_are_refused,
    lengths_above_the_limits_are_refused_before_anything_is_read,
    bodies_that_do_not_decode_are_refused,
    a_request_id_in_flight_twice_is_refused,
    versions_without_overlap_are_turned_away_with_ours,
    a_frame_cut_anywhere_harms_nobody,
    a_caller_that_leaves_takes_its_handlers_along,
    cancelled_and_unknown_requests_are_answered_all_the_same,
    the_control_plane_gets_in_when_the_budget_is_spent,
);
