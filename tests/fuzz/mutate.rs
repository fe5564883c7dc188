//! Changes of bytes that decoders are known to stumble over.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Most inputs stay around their seeds' size; none grows beyond this.
const BYTES_MAX: usize = 64 << 10;
/// Numbers at which something changes.
const EDGES: [u64; 12] = [0, 1, 2, 0x7f, 0xff, 4095, 4096, 0xffff, 0x40_0000, 0x40_0011, 0xffff_ffff, u64::MAX];
/// Where the fields of all structures are; behind them there is mostly padding.
const FIELDS_BYTES: usize = 256;

/// One to eight changes.
pub fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], draw: &mut StdRng) {
    for _ in 0..draw.random_range(1..=8) {
        change(bytes, others, draw);
    }
}

fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], draw: &mut StdRng) {
    let at = place(bytes.len(), draw);
    match draw.random_range(0..12) {
        0..=2 => set(bytes, at, |byte| byte ^ (1 << (at % 8))),
        3 => {
            let value = draw.random();
            set(bytes, at, |_| value);
        }
        4..=7 => number(bytes, at, draw),
        8 => {
            let length = draw.random_range(0..=64).min(bytes.len() - at);
            let to = place(bytes.len() - length + 1, draw).min(bytes.len() - length);
            bytes.copy_within(at..at + length, to);
        }
        9 => bytes.truncate(at),
        10 => {
            let length = (bytes.len() + draw.random_range(1..=8192)).min(BYTES_MAX);
            let fill = *[0, 0xff, 0x53].choose(draw).unwrap_or(&0);
            bytes.resize(length.max(bytes.len()), fill);
        }
        _ => {
            if let Some(other) = others.choose(draw) {
                let from = place(other.len(), draw);
                let count = other.len().saturating_sub(from).min(bytes.len() - at).min(draw.random_range(1..=256));
                bytes[at..at + count].copy_from_slice(&other[from..from + count]);
            }
        }
    }
}

/// An offset, more often among the fields than behind them; 0 of nothing.
fn place(length: usize, draw: &mut StdRng) -> usize {
    let reach = if draw.random_range(0..4) > 0 { length.min(FIELDS_BYTES) } else { length };
    if reach == 0 { 0 } else { draw.random_range(0..reach) }
}

fn set(bytes: &mut [u8], at: usize, value: impl Fn(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value(*byte);
    }
}

/// Sets a whole number at an aligned place to one at which something changes, or moves it by one.
fn number(bytes: &mut [u8], at: usize, draw: &mut StdRng) {
    let width = *[1, 2, 4, 8].choose(draw).unwrap_or(&1);
    let Some(place) = bytes.get_mut(at / width * width..).and_then(|rest| rest.get_mut(..width)) else { return };
    let mut old = [0; 8];
    old[..width].copy_from_slice(place);
    let old = u64::from_le_bytes(old);
    let new = match draw.random_range(0..4) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        _ => *EDGES.choose(draw).unwrap_or(&0),
    };
    place.copy_from_slice(&new.to_le_bytes()[..width]);
}
