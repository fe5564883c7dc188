//! Prints how much faster four interleaved SHA-256 streams are than one after the other (median of 15, thread CPU
//! time is what matters: run it on an idle core).

use std::time::Instant;

use shingle_codec::hash;

fn main() {
    let blocks: Vec<Vec<u8>> = (0..4u8).map(|fill| vec![fill; 4 << 20]).collect();
    let views: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
    let mut ratios = Vec::new();
    let mut rates = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        let single: Vec<_> = views.iter().map(|block| hash::sha256(block)).collect();
        let one_by_one = start.elapsed();
        let start = Instant::now();
        let many = hash::sha256_interleaved([views[0], views[1], views[2], views[3]]);
        let interleaved = start.elapsed();
        assert_eq!(single[..], many[..]);
        ratios.push(one_by_one.as_secs_f64() / interleaved.as_secs_f64());
        rates.push((4 << 22) as f64 / interleaved.as_secs_f64() / 1e9);
    }
    ratios.sort_by(f64::total_cmp);
    rates.sort_by(f64::total_cmp);
    println!("interleaving is chosen here: {}", hash::interleaving_is_faster());
    println!("interleaved {:.2} GB/s, {:.2} x one stream", rates[7], ratios[7]);
}
