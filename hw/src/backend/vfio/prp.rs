//! Physical region pages: how a command names its memory (NVM Express base 2.0, chapter 4.1.1).
//!
//! The memory is contiguous as the device sees it, so only its length decides. The first page may start anywhere, all
//! others start at their beginning; from the third page on they are named in a list, whose last entry in a page leads
//! to the next page of the list when more follow.

use super::iova::PAGE_BYTES;

/// Entries of a page of a list.
const ENTRIES: u64 = PAGE_BYTES / 8;

/// The two entries of a command, and its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pages {
    pub(super) first: u64,
    pub(super) second: u64,
    /// To be written to the list's memory from its start on.
    pub(super) list: Vec<u64>,
}

/// Pages that a list needs for transfers of at most `bytes`.
pub(super) fn list_pages(bytes: u64) -> u64 {
    // The first page may be a partial one, and is not in the list.
    let entries = bytes.div_ceil(PAGE_BYTES);
    entries.saturating_sub(1).div_ceil(ENTRIES - 1).max(1)
}

/// Names `bytes` from `at` on. The list lies at `list`, in as many pages as `list_pages` says.
pub(super) fn pages(at: u64, bytes: u64, list: u64) -> Pages {
    let end = at + bytes;
    let next = at / PAGE_BYTES * PAGE_BYTES + PAGE_BYTES;
    let others = end.saturating_sub(next).div_ceil(PAGE_BYTES);
    if others <= 1 {
        return Pages { first: at, second: if others == 1 { next } else { 0 }, list: Vec::new() };
    }
    let mut entries = Vec::new();
    for index in 0..others {
        // The last place of a list's page names a page of data only when that is the last one.
        let last_place = entries.len() as u64 % ENTRIES == ENTRIES - 1;
        if last_place && index + 1 < others {
            entries.push(list + (entries.len() as u64 + 1) * 8);
        }
        entries.push(next + index * PAGE_BYTES);
    }
    Pages { first: at, second: list, list: entries }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: u64 = 1 << 40;

    /// What a controller reads.
    fn followed(pages: &Pages, bytes: u64) -> Vec<(u64, u64)> {
        let mut found = vec![(pages.first, bytes.min(PAGE_BYTES - pages.first % PAGE_BYTES))];
        let mut left = bytes - found[0].1;
        if left > 0 && left <= PAGE_BYTES {
            found.push((pages.second, left));
            return found;
        }
        let mut place = pages.second;
        while left > 0 {
            let entry = pages.list[(place - LIST) as usize / 8];
            if place % PAGE_BYTES == PAGE_BYTES - 8 && left > PAGE_BYTES {
                place = entry;
                continue;
            }
            let here = left.min(PAGE_BYTES);
            found.push((entry, here));
            left -= here;
            place += 8;
        }
        found
    }

    #[test]
    fn one_and_two_pages_need_no_list() {
        let plain = |first, second| Pages { first, second, list: Vec::new() };
        assert_eq!(pages(0x5000, 4096, LIST), plain(0x5000, 0));
        assert_eq!(pages(0x5200, 512, LIST), plain(0x5200, 0));
        assert_eq!(pages(0x5200, 4096, LIST), plain(0x5200, 0x6000));
        assert_eq!(pages(0x5000, 8192, LIST), plain(0x5000, 0x6000));
        let three = Pages { first: 0x5200, second: LIST, list: vec![0x6000, 0x7000] };
        assert_eq!(pages(0x5200, 8192, LIST), three);
    }

    proptest! {
        #[test]
        fn a_controller_finds_exactly_the_memory(page in 1u64..1 << 30, offset in 0u64..8, sectors in 1u64..24_000) {
            let (at, bytes) = (page * PAGE_BYTES + offset * 512, sectors * 512);
            let found = pages(at, bytes, LIST);
            prop_assert!(found.list.len() as u64 <= list_pages(bytes) * ENTRIES);
            let mut expected = at;
            for (start, length) in followed(&found, bytes) {
                prop_assert_eq!(start, expected);
                expected += length;
            }
            prop_assert_eq!(expected, at + bytes);
        }
    }
}
