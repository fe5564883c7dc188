//! Opens a namespace of a controller that is with VFIO: who it is, and what its zones are like.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::binding::{Address, BindingError, ready};
use super::controller::{Controller, ControllerError};
use super::dma::Dma;
use super::engine::{Engine, Patience, Queues};
use super::group::{Device, GroupError};
use crate::backend::drive::{LayoutError, understand};
use crate::backend::nvme::{
    NvmePort, Refusal, Shape, Transport, ZONE_MANAGEMENT_RECEIVE, identify, reported_zones, shape,
};
use crate::buffer::{Buffer, BufferPool};
use crate::device::Identity;
use crate::ring::{NvmeCommand, Ring, block_on};
use crate::zone_state::ZoneStates;

/// How devices of this back end are named: this, the PCI address, and after a slash the namespace when it is not 1.
pub const PREFIX: &str = "vfio:";

/// Entries of the I/O queue: more commands than a shard has in flight on one drive.
const ENTRIES: u16 = 256;

/// Largest transfer where the drive has no limit: the largest record.
const TRANSFER_BYTES_MAX: u64 = 4 << 20;

/// Why a namespace was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{name}: not the name of a device; `vfio:0000:01:00.0` is one, `vfio:0000:01:00.0/2` its second namespace")]
    Name { name: String },
    #[error("{name}: {cause}")]
    Binding { name: String, cause: BindingError },
    #[error("{name}: in use by another program; free it first")]
    Held { name: String },
    #[error("{name}: permission denied; run as root, or give this user the nodes in /dev/vfio")]
    Permission { name: String },
    #[error("{name}: {what}: {source}")]
    Vfio { name: String, what: &'static str, source: io::Error },
    #[error(
        "{name}: {bytes} bytes of buffers cannot be locked in memory ({source}): raise `ulimit -l` or LimitMEMLOCK, or use fewer"
    )]
    Locked { name: String, bytes: usize, source: io::Error },
    #[error("{name}: {cause}")]
    Controller { name: String, cause: String },
    #[error("{name}: not a zoned namespace")]
    NotZoned { name: String },
    #[error("{name}: the drive tells no serial number, so it could be mistaken for another one")]
    NoSerial { name: String },
    #[error("{name}: its zones are not supported: {cause}")]
    Layout { name: String, cause: LayoutError },
    #[error("{name}: the drive answers a zone report with NVMe status {status:#x}")]
    Status { name: String, status: u16 },
}

/// Everything a drive starts from.
pub(super) struct Found {
    pub(super) port: NvmePort<Queues>,
    pub(super) states: ZoneStates,
    pub(super) identity: Identity,
}

/// The address and the namespace that a name means; `None` when it is no name of a device of this back end.
pub(super) fn parse(name: &str) -> Option<(Address, u32)> {
    let name = name.strip_prefix(PREFIX)?;
    let (address, nsid) = match name.split_once('/') {
        Some((address, nsid)) => (address, nsid.parse().ok().filter(|nsid| *nsid != 0)?),
        None => (name, 1),
    };
    Some((Address::parse(address)?, nsid))
}

/// Names the device in the causes of a refusal.
struct Names(String);

impl Names {
    fn name(&self) -> String {
        self.0.clone()
    }

    fn group(&self, error: GroupError) -> OpenError {
        let name = self.name();
        match error {
            GroupError::NotViable { group } => OpenError::Binding { name, cause: BindingError::NotViable { group } },
            GroupError::Busy => OpenError::Held { name },
            GroupError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                OpenError::Permission { name }
            }
            GroupError::Io { what, source } => OpenError::Vfio { name, what, source },
        }
    }

    fn controller(&self, error: ControllerError) -> OpenError {
        OpenError::Controller { name: self.name(), cause: error.to_string() }
    }

    fn vfio(&self, what: &'static str) -> impl FnOnce(io::Error) -> OpenError {
        let name = self.name();
        move |source| OpenError::Vfio { name, what, source }
    }
}

pub(super) fn examine(path: &Path, ring: &Rc<Ring>, pool: &BufferPool) -> Result<Found, OpenError> {
    let names = Names(path.display().to_string());
    let Some((address, nsid)) = parse(&names.0) else { return Err(OpenError::Name { name: names.name() }) };
    let node = ready(&address).map_err(|cause| OpenError::Binding { name: names.name(), cause })?;
    let device = Device::open(&node, address.as_str()).map_err(|error| names.group(error))?;
    let range = device.addresses().map_err(names.vfio("asking the IOMMU for its addresses"))?;
    let registers = device.registers().map_err(names.vfio("mapping the controller's registers"))?;
    let dma = Rc::new(Dma::new(Box::new(Rc::clone(&device)), range));
    dma.map_pool(pool).map_err(|source| {
        let (name, bytes) = (names.name(), pool.limit_bytes());
        OpenError::Locked { name, bytes, source }
    })?;
    let mut controller =
        Controller::enable(Rc::new(registers), Rc::clone(&dma)).map_err(|error| names.controller(error))?;
    device.signal_on_interrupt(ring.event_fd()).map_err(names.vfio("setting up the controller's interrupt"))?;
    controller.use_zoned_set().map_err(|error| names.controller(error))?;
    let identified = match identify(nsid, |query| controller.identify(query)) {
        Err(ControllerError::Status { .. }) => return Err(OpenError::NotZoned { name: names.name() }),
        outcome => outcome.map_err(|error| names.controller(error))?,
    };
    if identified.serial.is_empty() {
        return Err(OpenError::NoSerial { name: names.name() });
    }
    let most = identified.transfer_bytes_max.unwrap_or(TRANSFER_BYTES_MAX).min(TRANSFER_BYTES_MAX);
    let Shape { limits, namespace } = shape(&identified, nsid, most);
    if limits.zone_bytes == 0 {
        return Err(OpenError::NotZoned { name: names.name() });
    }
    let queue = controller.create_queue(ENTRIES).map_err(|error| names.controller(error))?;
    let most = limits.transfer_bytes_max as usize;
    let engine = Engine::start(controller, queue, dma, Rc::clone(ring), most, Patience::default())
        .map_err(|error| names.controller(error))?;
    let queues = Queues(engine);
    let report = |words: [u32; 6]| {
        let command = NvmeCommand::new(ZONE_MANAGEMENT_RECEIVE, nsid, words);
        let bytes = namespace.report_bytes;
        let (answer, buffer) = block_on(ring, queues.submit(command, Some((Buffer::new_unpooled(bytes), 0..bytes))));
        match answer {
            Ok(answer) if answer.status == 0 => Ok(buffer.as_deref().unwrap_or_default().to_vec()),
            Ok(answer) => Err(Refusal::Status(answer.status)),
            Err(error) => Err(Refusal::Kernel(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    };
    let lines = reported_zones(&namespace, &identified, report).map_err(|refusal| match refusal {
        Refusal::Status(status) => OpenError::Status { name: names.name(), status },
        Refusal::Kernel(errno) => names.vfio("reporting zones")(io::Error::from_raw_os_error(errno)),
    })?;
    let states = understand(&limits, &lines).map_err(|cause| OpenError::Layout { name: names.name(), cause })?;
    let identity = Identity { model: identified.model, serial: format!("{}-n{nsid}", identified.serial) };
    Ok(Found { port: NvmePort::new(queues, namespace), states, identity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_an_address_and_maybe_a_namespace() {
        let found = |name: &str| parse(name).map(|(address, nsid)| (address.as_str().to_owned(), nsid));
        assert_eq!(found("vfio:0000:00:04.0"), Some(("0000:00:04.0".to_owned(), 1)));
        assert_eq!(found("vfio:0000:a0:1f.7/3"), Some(("0000:a0:1f.7".to_owned(), 3)));
        for wrong in
            ["0000:00:04.0", "vfio:", "vfio:00:04.0", "vfio:0000:00:04.0/0", "vfio:0000:00:04.0/x", "vfio:../x"]
        {
            assert_eq!(found(wrong), None, "{wrong}");
        }
    }
}
