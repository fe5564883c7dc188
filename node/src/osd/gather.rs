//! Small records that wait behind each other in one extent go to the device as one append: a zone takes one append at a
//! time, so its latency, not the disk's bandwidth, would bound small records.
//!
//! Invariant: every record in such an append is the same bytes at the same place as one appended alone, and is found on
//! its own, so a crash tears the extent's tail as always; when the append fails, none of them is answered well.
//! Nobody waits for company: only what found the extent busy is gathered.

use shingle_hw::buffer::Buffer;
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

    /// The completed bytes of all items in one buffer. What goes alone goes in its own, the one it was received in.
    ///
    /// What is gathered is copied, at most [`GATHERED_APPEND_BYTES_MAX`] at a time: that costs a fraction of the
    /// commands it saves, its checksum is read from the copy while the processor's cache has it, and each record's own
    /// buffer is given back at once.
    pub(super) fn gather(&self, extent: &Extent, items: &mut [Item]) -> Buffer {
        if let [item] = items {
            let mut buffer = take_buffer(item);
            self.complete_item(extent, item, &mut buffer);
            return buffer;
        }
        let bytes: u64 = items.iter().map(|item| item.bytes).sum();
        let mut gathered = self.device.alloc_buffer(bytes as usize);
        let mut start = 0;
        for item in items {
            let end = start + item.bytes as usize;
            let (Some(whole), own) = (gathered.get_mut(start..end), take_buffer(item)) else {
                panic!("the buffer was made for all of the items");
            };
            whole.copy_from_slice(&own[..whole.len()]);
            self.complete_item(extent, item, whole);
            start = end;
        }
        gathered
    }

    fn complete_item(&self, extent: &Extent, item: &mut Item, buffer: &mut [u8]) {
        let Some(whole) = buffer.get_mut(..item.bytes as usize) else {
            panic!("an item's buffer holds all of its bytes");
        };
        self.complete(extent, &mut item.work, whole, item.spot);
    }
}

fn is_small(item: &Item) -> bool {
    matches!(item.work, Work::Record { .. }) && item.bytes <= GATHERED_RECORD_BYTES_MAX
}

fn take_buffer(item: &mut Item) -> Buffer {
    match item.buffer.take() {
        Some(buffer) if buffer.len() as u64 >= item.bytes => buffer,
        _ => panic!("what is appended waits with all of its bytes"),
    }
}
