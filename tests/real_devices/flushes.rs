//! A benchmark, for `hw/rig/run flushes`: durable appends beside fio on a disk whose flushes take long.
//!
//! The disk is scsi_debug's, without zones and with a write cache: a command takes 20 ms, a flush after a write 250 ms, by
//! timers of the kernel. How long they really take is measured first. The machine is emulated and its processors a
//! hundred times slower than real ones, so the disk is slow as well: ratios mean something only where nearly all of the
//! time is the flushes'.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use shingle_hw::buffer::Buffer;

use crate::cell::PROGRAM;
use crate::devices::wait_for;

const BLOCK_BYTES: usize = 64 << 10;
/// Flushes timed beforehand.
const FLUSHES: usize = 20;
/// A flush that takes less is not what is wanted here.
const FLUSH_MIN: Duration = Duration::from_millis(30);

#[test]
#[ignore = "a benchmark on a disk of its own, for `hw/rig/run flushes`"]
fn durable_appends_are_measured_where_a_flush_takes_long() {
    let disk = wait_for("scsi_debug", scsi_debug);
    let flush = time_flushes(&disk);
    assert!(flush >= FLUSH_MIN, "a flush takes {flush:?}: this is not the disk it should be");
    let at = Path::new("/tmp/disk");
    fs::create_dir_all(at).expect("a folder");
    // Nothing is left for the kernel to do later.
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&disk));
    run(Command::new("mount").args(["-t", "ext4"]).arg(&disk).arg(at));
    let options = std::env::var("RIG_BENCH").unwrap_or_default();
    let bench = ["bench", "engine", "--only", "append-64k", "--at"];
    let since = Instant::now();
    run(Command::new(PROGRAM).args(bench).arg(at).args(options.split_whitespace()));
    println!("the bench took {:.0} s", since.elapsed().as_secs_f64());
}

fn scsi_debug() -> Option<PathBuf> {
    let is_it = |disk: &PathBuf| {
        fs::read_to_string(disk.join("device/model")).is_ok_and(|model| model.trim() == "scsi_debug")
            && fs::read_to_string(disk.join("queue/write_cache")).is_ok_and(|cache| cache.trim() == "write back")
    };
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    let disk = disks.map(|entry| entry.path()).find(is_it)?;
    Some(Path::new("/dev").join(disk.file_name()?)).filter(|node| node.exists())
}

/// Prints how long writes and the flushes behind them take on the bare disk; the median of the flushes.
fn time_flushes(disk: &Path) -> Duration {
    let file = File::options().write(true).custom_flags(libc::O_DIRECT).open(disk).expect("opens");
    let block = Buffer::new_unpooled(BLOCK_BYTES);
    let (mut writes, mut flushes) = (Vec::new(), Vec::new());
    for number in 0..FLUSHES {
        let since = Instant::now();
        file.write_all_at(&block, (number * BLOCK_BYTES) as u64).expect("writes");
        writes.push(since.elapsed());
        let since = Instant::now();
        file.sync_data().expect("flushes");
        flushes.push(since.elapsed());
    }
    for (what, times) in [("a write of 64 KiB", &mut writes), ("a flush behind it", &mut flushes)] {
        times.sort();
        let ms = |at: usize| times[at].as_secs_f64() * 1e3;
        println!("{what} takes {:.1} ms ({:.1}-{:.1}, of {FLUSHES})", ms(FLUSHES / 2), ms(0), ms(FLUSHES - 1));
    }
    flushes[FLUSHES / 2]
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
