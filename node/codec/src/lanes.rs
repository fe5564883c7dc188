//! Several SHA-256 streams interleaved on one core with the SHA-NI instructions. Contains `unsafe`: CPU intrinsics.
//!
//! Invariant: `available()` was true before any lane runs. FIPS 180-4 gives the rounds; the instruction sequence
//! (message words in four registers, two rounds per instruction) follows Intel's description of the extensions.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
};

const BLOCK: usize = 64;

/// FIPS 180-4, section 4.2.2.
#[rustfmt::skip]
static K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// FIPS 180-4, section 5.3.3.
const START: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// Whether this CPU has what [`sha256`] needs.
pub fn available() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1")
}

/// SHA-256 of `N` messages at once.
pub fn sha256<const N: usize>(messages: [&[u8]; N]) -> [[u8; 32]; N] {
    assert!(available(), "the caller asked before");
    let mut states = [START; N];
    let common = messages.iter().map(|message| message.len() / BLOCK).min().unwrap_or(0);
    // SAFETY: the features were just found; every message has at least `common` whole blocks.
    unsafe { compress(&mut states, messages.map(<[u8]>::as_ptr), common) };
    std::array::from_fn(|lane| finish(states[lane], messages[lane], common * BLOCK))
}

/// Hashes what is left of one message behind `done` bytes, and its padding.
fn finish(state: [u32; 8], message: &[u8], done: usize) -> [u8; 32] {
    let rest = &message[done..];
    let whole = rest.len() / BLOCK;
    let mut states = [state];
    // SAFETY: `sha256` found the features; `rest` has `whole` whole blocks.
    unsafe { compress(&mut states, [rest.as_ptr()], whole) };
    let tail = &rest[whole * BLOCK..];
    let mut padded = [0u8; 2 * BLOCK];
    padded[..tail.len()].copy_from_slice(tail);
    padded[tail.len()] = 0x80;
    let blocks = if tail.len() < BLOCK - 8 { 1 } else { 2 };
    let bits = (message.len() as u64) * 8;
    padded[blocks * BLOCK - 8..blocks * BLOCK].copy_from_slice(&bits.to_be_bytes());
    // SAFETY: as above; `padded` holds `blocks` blocks.
    unsafe { compress(&mut states, [padded.as_ptr()], blocks) };
    let mut digest = [0; 32];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(states[0]) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

/// Runs `blocks` 64-byte blocks of every lane through the compression function.
///
/// # Safety
/// The CPU has SHA, SSSE3 and SSE4.1; every pointer has `blocks * 64` readable bytes behind it.
#[target_feature(enable = "sha,ssse3,sse4.1")]
unsafe fn compress<const N: usize>(states: &mut [[u32; 8]; N], mut from: [*const u8; N], blocks: usize) {
    // SAFETY: loads and stores stay within `states`, `K` and the caller's messages.
    unsafe {
        let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let mut abef = [_mm_set_epi64x(0, 0); N];
        let mut cdgh = abef;
        for lane in 0..N {
            let low = _mm_shuffle_epi32::<0xb1>(_mm_loadu_si128(states[lane].as_ptr().cast()));
            let high = _mm_shuffle_epi32::<0x1b>(_mm_loadu_si128(states[lane].as_ptr().add(4).cast()));
            abef[lane] = _mm_alignr_epi8::<8>(low, high);
            cdgh[lane] = _mm_blend_epi16::<0xf0>(high, low);
        }
        for _ in 0..blocks {
            let start = (abef, cdgh);
            let mut words = [[abef[0]; 4]; N];
            for lane in 0..N {
                for (part, slot) in words[lane].iter_mut().enumerate() {
                    let word = _mm_loadu_si128(from[lane].add(part * 16).cast());
                    *slot = _mm_shuffle_epi8(word, big_endian);
                }
                from[lane] = from[lane].add(BLOCK);
            }
            rounds::<N, 0>(&mut abef, &mut cdgh, &mut words);
            rounds::<N, 1>(&mut abef, &mut cdgh, &mut words);
            rounds::<N, 2>(&mut abef, &mut cdgh, &mut words);
            rounds::<N, 3>(&mut abef, &mut cdgh, &mut words);
            for lane in 0..N {
                abef[lane] = _mm_add_epi32(abef[lane], start.0[lane]);
                cdgh[lane] = _mm_add_epi32(cdgh[lane], start.1[lane]);
            }
        }
        for lane in 0..N {
            let low = _mm_shuffle_epi32::<0x1b>(abef[lane]);
            let high = _mm_shuffle_epi32::<0xb1>(cdgh[lane]);
            _mm_storeu_si128(states[lane].as_mut_ptr().cast(), _mm_blend_epi16::<0xf0>(low, high));
            _mm_storeu_si128(states[lane].as_mut_ptr().add(4).cast(), _mm_alignr_epi8::<8>(high, low));
        }
    }
}

/// Sixteen rounds of every lane: quarter `QUARTER` of a block. From the second quarter on the words are extended first.
///
/// # Safety
/// As [`compress`].
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
unsafe fn rounds<const N: usize, const QUARTER: usize>(
    abef: &mut [__m128i; N],
    cdgh: &mut [__m128i; N],
    words: &mut [[__m128i; 4]; N],
) {
    // SAFETY: the constants are read within `K`: QUARTER is below 4.
    unsafe {
        for part in 0..4 {
            let k = _mm_loadu_si128(K.as_ptr().add(QUARTER * 16 + part * 4).cast());
            for lane in 0..N {
                let w = &mut words[lane];
                if QUARTER > 0 {
                    let [oldest, next, third, newest] =
                        [w[part], w[(part + 1) % 4], w[(part + 2) % 4], w[(part + 3) % 4]];
                    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(oldest, next), _mm_alignr_epi8::<4>(newest, third));
                    w[part] = _mm_sha256msg2_epu32(sum, newest);
                }
                let input = _mm_add_epi32(w[part], k);
                cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], input);
                abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], _mm_shuffle_epi32::<0x0e>(input));
            }
        }
    }
}
