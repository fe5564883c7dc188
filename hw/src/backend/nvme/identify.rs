//! What a namespace and its controller say of themselves (Identify, NVM Express base 2.0 chapter 5.17).

/// Command set identifier of zoned namespaces.
const ZONED: u32 = 2;

/// Unit of the transfer limits: the controller's smallest page, which no controller in use has larger than the smallest
/// the standard allows. A larger one would make the limits larger.
const PAGE_BYTES: u64 = 4096;

/// A namespace and what its controller allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend) struct Identified {
    pub(in crate::backend) serial: String,
    pub(in crate::backend) model: String,
    /// Largest transfer of a command; `None` is no limit.
    pub(in crate::backend) transfer_bytes_max: Option<u64>,
    pub(in crate::backend) append_bytes_max: Option<u64>,
    pub(in crate::backend) sector_bytes: u32,
    pub(in crate::backend) sectors: u64,
    pub(in crate::backend) zone_sectors: u64,
    /// 0 is no limit.
    pub(in crate::backend) open_zones_max: u32,
    pub(in crate::backend) active_zones_max: u32,
}

/// One question: the structure (CNS), the command set, the namespace.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend) struct Query {
    pub(in crate::backend) structure: u32,
    pub(in crate::backend) set: u32,
    pub(in crate::backend) nsid: u32,
}

impl Query {
    /// Opcode of the command that asks.
    pub(in crate::backend) const OPCODE: u8 = 0x06;

    /// Command words 10 to 15.
    pub(in crate::backend) fn words(self) -> [u32; 6] {
        [self.structure, self.set << 24, 0, 0, 0, 0]
    }
}

/// Asks the controller and the namespace. `ask` gives the 4096 bytes of an answer.
pub(in crate::backend) fn identify<E>(
    nsid: u32,
    mut ask: impl FnMut(Query) -> Result<Vec<u8>, E>,
) -> Result<Identified, E> {
    let controller = ask(Query { structure: 0x01, set: 0, nsid: 0 })?;
    let namespace = ask(Query { structure: 0x00, set: 0, nsid })?;
    let zoned_namespace = ask(Query { structure: 0x05, set: ZONED, nsid })?;
    let zoned_controller = ask(Query { structure: 0x06, set: ZONED, nsid: 0 })?;
    Ok(parse(&controller, &namespace, &zoned_namespace, &zoned_controller))
}

fn parse(controller: &[u8], namespace: &[u8], zoned_namespace: &[u8], zoned_controller: &[u8]) -> Identified {
    let byte = |data: &[u8], at: usize| data.get(at).copied().unwrap_or(0);
    let format_index = usize::from((byte(namespace, 26) & 0xf) | (byte(namespace, 26) >> 1 & 0x30));
    let sector_shift = byte(namespace, 128 + 4 * format_index + 2);
    let transfer_bytes_max = pages(byte(controller, 77));
    // The limits count from 0; all ones is no limit.
    let limit = |at: usize| u32::try_from(number(zoned_namespace, at, 4)).unwrap_or(u32::MAX).wrapping_add(1);
    Identified {
        serial: text(controller, 4..24),
        model: text(controller, 24..64),
        transfer_bytes_max,
        append_bytes_max: pages(byte(zoned_controller, 0)).or(transfer_bytes_max),
        sector_bytes: 1u32.checked_shl(sector_shift.into()).unwrap_or(0),
        sectors: number(namespace, 0, 8),
        zone_sectors: number(zoned_namespace, 2816 + 16 * format_index, 8),
        active_zones_max: limit(4),
        open_zones_max: limit(8),
    }
}

fn pages(exponent: u8) -> Option<u64> {
    (exponent != 0).then(|| PAGE_BYTES.saturating_mul(1u64.checked_shl(exponent.into()).unwrap_or(u64::MAX)))
}

/// A little-endian number.
fn number(data: &[u8], at: usize, bytes: usize) -> u64 {
    let bytes = data.get(at..at + bytes).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn text(data: &[u8], range: std::ops::Range<usize>) -> String {
    let bytes = data.get(range).unwrap_or_default();
    let text: String = bytes.iter().filter(|byte| (0x20..0x7f).contains(*byte)).map(|byte| char::from(*byte)).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA_BYTES: usize = 4096;

    #[test]
    fn fields_are_where_the_standard_puts_them() {
        let [mut controller, mut namespace, mut zoned, mut zoned_controller] = [(); 4].map(|()| vec![0u8; DATA_BYTES]);
        controller[4..11].copy_from_slice(b"SN-1   ");
        controller[24..30].copy_from_slice(b"Model ");
        controller[77] = 5;
        namespace[0..8].copy_from_slice(&4096u64.to_le_bytes());
        namespace[26] = 1;
        namespace[128 + 4 + 2] = 12;
        zoned[4..8].copy_from_slice(&13u32.to_le_bytes());
        zoned[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        zoned[2816 + 16..2816 + 24].copy_from_slice(&512u64.to_le_bytes());
        let found = parse(&controller, &namespace, &zoned, &zoned_controller);
        assert_eq!((found.serial.as_str(), found.model.as_str()), ("SN-1", "Model"));
        assert_eq!((found.transfer_bytes_max, found.append_bytes_max), (Some(128 << 10), Some(128 << 10)));
        assert_eq!((found.sector_bytes, found.sectors, found.zone_sectors), (4096, 4096, 512));
        assert_eq!((found.open_zones_max, found.active_zones_max), (0, 14));
        zoned_controller[0] = 2;
        controller[77] = 0;
        let found = parse(&controller, &namespace, &zoned, &zoned_controller);
        assert_eq!((found.transfer_bytes_max, found.append_bytes_max), (None, Some(16 << 10)));
    }
}
