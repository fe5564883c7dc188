//! The service the tests call, and what they say to it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use shingle_proto::message::{
    Append, BlockRead, Done, ErrorCode, ErrorReply, GetStatus, Hash256, Id128, ReadBlock, RenewIntent, Request,
    Response, Role,
};
use shingle_seam::World;
use shingle_seam::gate::Gate;
use shingle_seam::rpc::{Answer, Call, CallMeta, Peers, ServeOptions, Service, serve};
use shingle_seam::tasks::LocalFuture;

pub const MIB: u64 = 1 << 20;

/// Counts what happens to its handlers; holds them while `hold` is not given permits.
pub struct Echo {
    world: World,
    pub started: Cell<usize>,
    pub finished: Cell<usize>,
    pub dropped: Rc<Cell<usize>>,
    pub hold: Gate,
    pub last_call: RefCell<Option<Call>>,
}

struct CountDrop(Rc<Cell<usize>>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

impl Service for Echo {
    type Buffer = Vec<u8>;

    fn process(&self) -> String {
        "echo".into()
    }

    fn buffer(self: &Rc<Self>, request: &Request, bytes: u32) -> Result<Vec<u8>, ErrorReply> {
        match request {
            Request::Append(append) if append.plain_bytes == 13 => {
                Err(ErrorReply::new(ErrorCode::ExtentFull, u64::from(bytes), "full"))
            }
            _ => Ok(vec![0; bytes as usize]),
        }
    }

    fn handle(
        self: Rc<Self>,
        call: Call,
        request: Request,
        payload: Option<Vec<u8>>,
    ) -> LocalFuture<'static, Answer<Vec<u8>>> {
        Box::pin(async move {
            self.started.set(self.started.get() + 1);
            self.last_call.replace(Some(call));
            let _count = CountDrop(self.dropped.clone());
            let answer = match request {
                Request::RenewIntent(renew) => {
                    self.world.tasks.sleep(Duration::from_millis(renew.put_token)).await;
                    Response::Done(Box::new(Done {})).into()
                }
                Request::Append(_) => {
                    self.hold.acquire(1).await.unwrap();
                    self.hold.release(1);
                    Answer { response: read(), payload }
                }
                Request::ReadBlock(wanted) => {
                    Answer { response: read(), payload: Some(vec![7; wanted.put_id as usize]) }
                }
                Request::GetStatus(_) => Response::Done(Box::new(Done {})).into(),
                _ => ErrorReply::new(ErrorCode::Unsupported, 0, "not an echo").into(),
            };
            self.finished.set(self.finished.get() + 1);
            answer
        })
    }
}

fn read() -> Response {
    Response::BlockRead(Box::new(BlockRead { plain_bytes: 1 }))
}

/// A running service.
pub struct Server {
    pub echo: Rc<Echo>,
    pub address: SocketAddr,
    /// Closed to stop serving.
    pub stop: Rc<Gate>,
}

impl Server {
    pub fn start(world: &World, budget_bytes: u64) -> Self {
        Self::start_at(world, "127.0.0.1:0".parse().unwrap(), budget_bytes)
    }

    pub fn start_at(world: &World, address: SocketAddr, budget_bytes: u64) -> Self {
        let listener = world.net.listen(address).unwrap();
        let address = listener.local_address();
        let echo = Rc::new(Echo {
            world: world.clone(),
            started: Cell::new(0),
            finished: Cell::new(0),
            dropped: Rc::default(),
            hold: Gate::new(1),
            last_call: RefCell::default(),
        });
        let stop = Rc::new(Gate::new(0));
        let serving = serve(world.clone(), listener, echo.clone(), ServeOptions { budget_bytes });
        let stopped = stop.clone();
        world.tasks.spawn(
            "serve",
            Box::pin(async move {
                let stopped = std::pin::pin!(stopped.wait_closed());
                futures_util::future::select(stopped, std::pin::pin!(serving)).await;
            }),
        );
        Self { echo, address, stop }
    }
}

pub fn peers(world: &World) -> Peers {
    Peers::new(world.clone(), Role::Gateway, "test".into())
}

pub fn seconds(seconds: u64) -> CallMeta {
    CallMeta::client(Duration::from_secs(seconds))
}

pub fn ms(ms: u64) -> CallMeta {
    CallMeta::client(Duration::from_millis(ms))
}

pub fn status() -> Request {
    Request::GetStatus(Box::new(GetStatus {}))
}

/// Answered after `ms`.
pub fn slow(ms: u64) -> Request {
    Request::RenewIntent(Box::new(RenewIntent { manifest: Id128 { hi: 0, lo: 0 }, put_token: ms }))
}

/// Answered with its own payload, once the service is not held.
pub fn append(plain_bytes: u32) -> Request {
    Request::Append(Box::new(Append {
        extent: Id128 { hi: 1, lo: 2 },
        hash: Hash256 { bytes: [3; 32] },
        put_id: 4,
        bucket: 5,
        plain_bytes,
    }))
}

/// Answered with this many bytes.
pub fn read_bytes(bytes: u64) -> Request {
    Request::ReadBlock(Box::new(ReadBlock {
        extent: Id128 { hi: 1, lo: 2 },
        hash: Hash256 { bytes: [3; 32] },
        put_id: bytes,
    }))
}

/// Waits until `condition` holds.
pub async fn until(world: &World, condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        world.tasks.sleep(Duration::from_millis(5)).await;
    }
    panic!("the condition does not come true");
}
