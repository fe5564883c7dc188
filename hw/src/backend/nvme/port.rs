//! A zoned NVMe namespace as a port: which commands it gets, whichever way they take.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::lanes::Lanes;
use super::report::{self, ENTRY_BYTES, ZONE_MANAGEMENT_RECEIVE};
use super::status::Refusal;
use super::transport::{Ended, Transport};
use crate::backend::drive::{Action, Line, Port, PortError};
use crate::buffer::Buffer;
use crate::device::Command;
use crate::ring::{NvmeAnswer, NvmeCommand};
use crate::zone::ZoneId;

const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const ZONE_MANAGEMENT_SEND: u8 = 0x79;
const ZONE_APPEND: u8 = 0x7d;

/// Appends in flight per zone: more than a queue of a drive needs to be busy.
const APPENDS_MAX: u16 = 64;

/// Bytes of one report command, at most: 1023 zones.
pub(in crate::backend) const REPORT_BYTES: usize = 64 * 1024;

type PortTransfer<T> = Command<(Result<T, PortError>, Buffer)>;

/// A namespace's numbers.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend) struct Namespace {
    pub(in crate::backend) nsid: u32,
    pub(in crate::backend) sector_bytes: u32,
    pub(in crate::backend) zone_bytes: u64,
    pub(in crate::backend) append_bytes_max: u64,
    pub(in crate::backend) report_bytes: usize,
}

/// A zoned namespace.
pub struct NvmePort<T: Transport> {
    wire: Wire<T>,
    lanes: Rc<Lanes>,
}

/// What it takes to make a command.
#[derive(Clone)]
struct Wire<T> {
    transport: T,
    namespace: Namespace,
}

impl<T: Transport> NvmePort<T> {
    pub(in crate::backend) fn new(transport: T, namespace: Namespace) -> Self {
        Self { wire: Wire { transport, namespace }, lanes: Rc::default() }
    }
}

impl<T: Transport> Wire<T> {
    fn sector(&self, zone: ZoneId, offset_bytes: u64) -> u64 {
        (u64::from(zone.0) * self.namespace.zone_bytes + offset_bytes) / u64::from(self.namespace.sector_bytes)
    }

    fn command(&self, opcode: u8, sector: u64, word12: u32, word13: u32) -> NvmeCommand {
        let words = [sector as u32, (sector >> 32) as u32, word12, word13, 0, 0];
        NvmeCommand::new(opcode, self.namespace.nsid, words)
    }

    /// Read, write or append: word 12 is the number of sectors, counted from 0.
    fn transfer(
        &self,
        opcode: u8,
        sector: u64,
        buffer: Buffer,
        bytes: Range<usize>,
    ) -> impl Future<Output = Ended> + 'static {
        let sectors = u32::try_from(bytes.len() as u64 / u64::from(self.namespace.sector_bytes)).unwrap_or(0);
        let command = self.command(opcode, sector, sectors.saturating_sub(1), 0);
        self.transport.submit(command, Some((buffer, bytes)))
    }

    fn without_data(&self, command: NvmeCommand) -> Command<Result<(), PortError>> {
        let transfer = self.transport.submit(command, None);
        Box::pin(async move { answered(transfer.await.0).map(|_| ()) })
    }
}

fn answered(answer: io::Result<NvmeAnswer>) -> Result<u64, PortError> {
    match answer {
        Ok(NvmeAnswer { status: 0, result }) => Ok(result),
        Ok(NvmeAnswer { status, .. }) => Err(Refusal::Status(status).into()),
        Err(error) => Err(Refusal::Kernel(error.raw_os_error().unwrap_or(libc::EIO)).into()),
    }
}

async fn transferred(transfer: impl Future<Output = Ended>) -> (Result<u64, PortError>, Buffer) {
    let (answer, buffer) = transfer.await;
    let Some(buffer) = buffer else { panic!("a transfer owns its buffer until its end") };
    (answered(answer), buffer)
}

impl<T: Transport> Port for NvmePort<T> {
    fn appends_max(&self) -> u16 {
        APPENDS_MAX
    }

    fn append(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> PortTransfer<u64> {
        let alone = bytes.len() as u64 > self.wire.namespace.append_bytes_max;
        let entry = self.lanes.enter(zone, alone);
        let wire = self.wire.clone();
        Box::pin(async move {
            (&entry).await;
            if alone {
                let at = wire.sector(zone, offset_bytes);
                let (outcome, buffer) = transferred(wire.transfer(WRITE, at, buffer, bytes)).await;
                return (outcome.map(|_| offset_bytes), buffer);
            }
            let start = wire.sector(zone, 0);
            let (outcome, buffer) = transferred(wire.transfer(ZONE_APPEND, start, buffer, bytes)).await;
            let landed = outcome.and_then(|sector| {
                let inside = sector.checked_sub(start).ok_or(PortError::Failed { errno: libc::EPROTO })?;
                Ok(inside.saturating_mul(u64::from(wire.namespace.sector_bytes)))
            });
            (landed, buffer)
        })
    }

    fn write(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> PortTransfer<()> {
        let transfer = self.wire.transfer(WRITE, self.wire.sector(zone, offset_bytes), buffer, bytes);
        Box::pin(async move {
            let (outcome, buffer) = transferred(transfer).await;
            (outcome.map(|_| ()), buffer)
        })
    }

    fn read(&self, zone: ZoneId, offset_bytes: u64, buffer: Buffer, bytes: Range<usize>) -> PortTransfer<()> {
        let transfer = self.wire.transfer(READ, self.wire.sector(zone, offset_bytes), buffer, bytes);
        Box::pin(async move {
            let (outcome, buffer) = transferred(transfer).await;
            (outcome.map(|_| ()), buffer)
        })
    }

    fn flush(&self) -> Command<Result<(), PortError>> {
        self.wire.without_data(self.wire.command(FLUSH, 0, 0, 0))
    }

    fn manage(&self, zone: ZoneId, action: Action) -> Command<Result<(), PortError>> {
        let send_action = match action {
            Action::Close => 1,
            Action::Finish => 2,
            Action::Open => 3,
            Action::Reset => 4,
        };
        self.wire.without_data(self.wire.command(ZONE_MANAGEMENT_SEND, self.wire.sector(zone, 0), 0, send_action))
    }

    fn report(&self, first: ZoneId, count: u32) -> impl Future<Output = Result<Vec<Line>, PortError>> + 'static {
        let wire = self.wire.clone();
        let namespace = wire.namespace;
        let per_zone = namespace.zone_bytes / u64::from(namespace.sector_bytes);
        async move {
            let mut lines: Vec<Line> = Vec::new();
            while lines.len() < count as usize {
                let sector = (u64::from(first.0) + lines.len() as u64) * per_zone;
                let entries = (count as usize - lines.len()).saturating_add(1);
                let bytes = entries.saturating_mul(ENTRY_BYTES).min(namespace.report_bytes);
                let words = report::words(sector, bytes);
                let command = NvmeCommand::new(ZONE_MANAGEMENT_RECEIVE, namespace.nsid, words);
                let transfer = wire.transport.submit(command, Some((Buffer::new_unpooled(bytes), 0..bytes)));
                let (outcome, buffer) = transferred(transfer).await;
                outcome?;
                let data = buffer.get(..bytes).unwrap_or_default();
                let more = report::parse(data, namespace.sector_bytes, namespace.zone_bytes);
                if more.is_empty() {
                    break;
                }
                lines.extend(more);
            }
            lines.truncate(count as usize);
            Ok(lines)
        }
    }
}
