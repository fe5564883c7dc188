//! The way commands take to an NVMe namespace: through the kernel's driver, or by queues of our own.

use std::fs::File;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use crate::buffer::Buffer;
use crate::ring::{NvmeAnswer, NvmeCommand, Ring};

/// What a command ended with. An error is one of the way; what the drive says is an answer. A buffer always comes back.
pub type Ended = (io::Result<NvmeAnswer>, Option<Buffer>);

/// A way to a namespace. Commands start when they are called, and end whether or not anybody waits.
pub trait Transport: Clone + 'static {
    /// The direction of the data is the opcode's.
    fn submit(
        &self,
        command: NvmeCommand,
        data: Option<(Buffer, Range<usize>)>,
    ) -> impl Future<Output = Ended> + 'static;
}

/// Through the kernel's driver: the generic character device and a ring.
#[derive(Clone)]
pub struct Passthrough {
    file: Rc<File>,
    ring: Rc<Ring>,
    /// The block node of the same namespace, open exclusively.
    _holder: Option<Rc<File>>,
}

impl Passthrough {
    pub(super) fn new(file: File, holder: Option<File>, ring: Rc<Ring>) -> Self {
        Self { file: Rc::new(file), ring, _holder: holder.map(Rc::new) }
    }
}

impl Transport for Passthrough {
    fn submit(
        &self,
        command: NvmeCommand,
        data: Option<(Buffer, Range<usize>)>,
    ) -> impl Future<Output = Ended> + 'static {
        self.ring.nvme(&self.file, command, data)
    }
}
