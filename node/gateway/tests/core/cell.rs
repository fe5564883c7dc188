//! A cell of fakes around a real core: five hosts, five volumes of four, each avoiding another host.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use shingle_gateway::config::CoreConfig;
use shingle_gateway::core;
use shingle_gateway::request::{
    Body, BodyPiece, ByteRange, Checksum, CoreRequest, CoreSender, GatewayError, ObjectName,
};
use shingle_proto::ids::KekVersion;
use shingle_proto::message::{Id128, Member, ObjectHeaders, ObjectRow, Volume};
use shingle_seam::World;
use shingle_seam::keys::{Kek, Keys};
use shingle_seam::on_tokio;
use shingle_seam::rpc::{ServeOptions, Service, serve};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};

use crate::control::FakeControl;
use crate::host::FakeHost;

pub const BLOCK: usize = 4 << 20;
const HOSTS: u32 = 5;

/// A running cell of fakes.
pub struct Cell {
    pub world: World,
    pub control: Rc<FakeControl>,
    pub control_address: SocketAddr,
    pub control_task: JoinHandle<()>,
    pub hosts: Vec<Rc<FakeHost>>,
    pub host_tasks: Vec<JoinHandle<()>>,
    pub core: CoreSender,
}

struct OneKey;

impl Keys for OneKey {
    fn current(&self) -> KekVersion {
        KekVersion(1)
    }

    fn kek(&self, version: KekVersion) -> Option<Rc<Kek>> {
        (version == KekVersion(1)).then(|| Rc::new(Kek([7; 32])))
    }
}

/// Serves on `address`; returns where.
pub fn listen<S: Service>(world: &World, address: SocketAddr, service: Rc<S>) -> (SocketAddr, JoinHandle<()>) {
    let listener = world.net.listen(address).expect("a loopback port");
    let address = listener.local_address();
    let options = ServeOptions { budget_bytes: 256 << 20 };
    (address, tokio::task::spawn_local(serve(world.clone(), listener, service, options)))
}

pub fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Runs a test in a cell of its own; a minute is the end of it.
pub fn in_cell(configure: impl FnOnce(&mut CoreConfig), test: impl AsyncFnOnce(Cell)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let cell = Cell::start(configure);
        tokio::time::timeout(Duration::from_secs(60), test(cell)).await.expect("the test ends in time");
    });
}

impl Cell {
    fn start(configure: impl FnOnce(&mut CoreConfig)) -> Self {
        let world = on_tokio::world(2);
        let hosts: Vec<_> = (0..HOSTS).map(|_| FakeHost::new()).collect();
        let (addresses, host_tasks): (Vec<_>, Vec<_>) =
            hosts.iter().map(|host| listen(&world, any_port(), host.clone())).unzip();
        let volumes = (0..HOSTS).map(|avoided| volume_without(avoided, &addresses)).collect();
        let control = FakeControl::new(world.clone(), volumes);
        let (control_address, control_task) = listen(&world, any_port(), control.clone());
        let mut config = CoreConfig::new(control_address);
        configure(&mut config);
        let core = core::start(world.clone(), Rc::new(OneKey), config);
        Self { world, control, control_address, control_task, hosts, host_tasks, core }
    }

    pub async fn put(&self, key: &str, bytes: &[u8]) -> Result<ObjectRow, GatewayError> {
        put(&self.core, key, bytes.to_vec()).await
    }

    pub async fn get(&self, key: &str) -> Result<Vec<u8>, GatewayError> {
        self.get_range(key, None).await
    }

    pub async fn get_range(&self, key: &str, range: Option<ByteRange>) -> Result<Vec<u8>, GatewayError> {
        let (reply, answer) = oneshot::channel();
        self.send(CoreRequest::Get { name: name(key), range, if_match: None, reply }).await;
        let mut download = answer.await.expect("an answer")?;
        let mut bytes = Vec::new();
        while let Some(piece) = download.pieces.recv().await {
            bytes.extend_from_slice(&piece?);
        }
        assert_eq!(bytes.len() as u64, download.length_bytes);
        Ok(bytes)
    }

    pub async fn send(&self, request: CoreRequest) {
        self.core.send(request).await.expect("the core runs");
    }

    /// Waits until `condition` holds.
    pub async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        for _ in 0..1000 {
            if condition() {
                return;
            }
            self.world.tasks.sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}");
    }

    pub fn records(&self) -> usize {
        self.hosts.iter().map(|host| host.record_count()).sum()
    }
}

pub fn name(key: &str) -> ObjectName {
    ObjectName { s3_bucket: "b".to_owned(), key: key.to_owned() }
}

/// A body in pieces of an odd size.
pub fn body(bytes: Vec<u8>) -> Body {
    body_with(bytes, None)
}

/// A body that comes with a checksum.
pub fn body_with(bytes: Vec<u8>, checksum: Option<Checksum>) -> Body {
    let (sender, pieces) = mpsc::channel(1);
    let declared_bytes = Some(bytes.len() as u64);
    tokio::task::spawn_local(async move {
        let mut rest = Bytes::from(bytes);
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(777_777));
            if sender.send(BodyPiece::Chunk(piece)).await.is_err() {
                return;
            }
        }
        drop(sender.send(BodyPiece::End { checksum }).await);
    });
    Body { pieces, declared_bytes }
}

pub async fn put(core: &CoreSender, key: &str, bytes: Vec<u8>) -> Result<ObjectRow, GatewayError> {
    let (reply, answer) = oneshot::channel();
    let request = CoreRequest::Put {
        name: name(key),
        headers: ObjectHeaders::default(),
        precondition: None,
        body: body(bytes),
        reply,
    };
    core.send(request).await.expect("the core runs");
    answer.await.expect("an answer")
}

/// Incompressible bytes that differ from block to block.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..bytes.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(bytes).collect()
}

fn volume_without(avoided: u32, addresses: &[SocketAddr]) -> Volume {
    let members = (0..HOSTS).filter(|host| *host != avoided).map(|host| Member {
        osd: u64::from(host) + 100,
        host: host + 1,
        extent: Id128 { hi: u64::from(avoided) + 1, lo: u64::from(host) },
        address: addresses[host as usize].to_string(),
        read_times: None,
    });
    let id = u64::from(avoided) + 1;
    Volume {
        id,
        bucket: id + 10,
        generation: 1,
        open: true,
        free_bytes: 1 << 30,
        load_bytes: 0,
        members: members.collect(),
    }
}
