//! Small records that wait behind each other in one extent go to the device as one append: a zone takes one append at a
//! time, so its latency, not the disk's bandwidth, would bound small records.
//!
//! Invariant: every record in such an append is the same bytes at the same place as one appended alone, and is found on
//! its own, so a crash tears the extent's tail as always; when the append fails, none of them is answered well.
//! Nobody sleeps for company: gathered is what found the extent busy, and what tasks brought that were ready to run when
//! the first came. No byte is copied.

use shingle_hw::device::Part;
use shingle_proto::limits::{GATHERED_APPEND_BYTES_MAX, GATHERED_RECORD_BYTES_MAX};

use super::extent::{Extent, Item, Work};
use super::store::Osd;

impl Osd {
    /// Takes the next item of an extent's queue, and with a small record the small records of its class directly behind
    /// it on the disk, as many as one command carries. Shares are accounted by class and bytes: so they keep their
    /// meaning.
    pub(super) fn next_items(&self, extent: &Extent) -> Vec<Item> {
        let mut queue = extent.queue.borrow_mut();
        let limit_bytes = GATHERED_APPEND_BYTES_MAX.min(u64::from(self.device.geometry().transfer_bytes_max));
        let mut items: Vec<Item> = queue.pop_front().into_iter().collect();
        let mut bytes = items.first().map_or(0, |item| item.bytes);
        while let (Some(last), Some(next)) = (items.last(), queue.front())
            && is_small(last)
            && is_small(next)
            && next.class == last.class
            && next.spot.zone == last.spot.zone
            && next.spot.offset_bytes == last.spot.offset_bytes + last.bytes
            && bytes + next.bytes <= limit_bytes
        {
            bytes += next.bytes;
            items.extend(queue.pop_front());
        }
        items
    }

    /// The completed bytes of all items, each in the buffer it was received in.
    pub(super) fn gather(&self, extent: &Extent, items: &mut [Item]) -> Vec<Part> {
        items.iter_mut().map(|item| self.complete_item(extent, item)).collect()
    }

    fn complete_item(&self, extent: &Extent, item: &mut Item) -> Part {
        let bytes = 0..item.bytes as usize;
        let Some(mut buffer) = item.buffer.take() else { panic!("what is appended waits with its bytes") };
        let sum = match &item.work {
            Work::Record { record, .. } => buffer.known_crc32c(&record.payload_range()),
            _ => None,
        };
        let Some(whole) = buffer.get_mut(bytes.clone()) else { panic!("an item's buffer holds all of its bytes") };
        if let Some(crc) = self.complete(extent, &mut item.work, (whole, sum), item.spot) {
            buffer.know_crc32c(bytes.clone(), crc);
        }
        (buffer, bytes)
    }
}

fn is_small(item: &Item) -> bool {
    matches!(item.work, Work::Record { .. }) && item.bytes <= GATHERED_RECORD_BYTES_MAX
}
