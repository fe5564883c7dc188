//! Where the processor's time goes: samples of this process by `perf`, counted by stage.
//!
//! A sample belongs to the first stage whose rule it meets, so the shares add up to one. Kernel stacks are whole, of
//! our own code only the innermost function is known; what is inlined counts to the function it is inlined into.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::error::BenchError;

/// Samples a second and thread; not a divisor of any timer's rate.
const SAMPLES_PER_SECOND: &str = "1997";
/// Time perf takes to attach to every thread.
const ATTACH: Duration = Duration::from_millis(400);

/// One stage's part of a profile.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    pub stage: &'static str,
    /// Of all samples.
    pub share: f64,
    pub samples: u64,
    /// The functions sampled most often, innermost frame, with their samples.
    pub functions: Vec<(String, u64)>,
}

/// A perf that is recording this process.
pub struct Recorder {
    perf: Child,
    file: std::path::PathBuf,
}

impl Recorder {
    /// Starts recording into a file of `folder`; `None` when there is no perf here or it may not look at us.
    pub fn start(folder: &Path) -> Option<Self> {
        let file = folder.join("perf.data");
        let mut command = Command::new("perf");
        command.args(["record", "-q", "-e", "cpu-clock", "-g", "-F", SAMPLES_PER_SECOND, "-o"]).arg(&file);
        command.args(["-p", &std::process::id().to_string()]);
        let mut perf = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        std::thread::sleep(ATTACH);
        match perf.try_wait() {
            Ok(None) => Some(Self { perf, file }),
            Ok(Some(_)) | Err(_) => None,
        }
    }

    /// Ends the recording; the stages, largest first.
    pub fn stop(mut self) -> Result<Vec<Stage>, BenchError> {
        if let Some(pid) = i32::try_from(self.perf.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::INT).map_err(|error| BenchError::io("stop perf")(error.into()))?;
        }
        self.perf.wait().map_err(BenchError::io("wait for perf"))?;
        let mut command = Command::new("perf");
        command.args(["script", "-F", "comm,ip,sym", "-i"]).arg(&self.file);
        let output = command.output().map_err(BenchError::io("run perf script"))?;
        std::fs::remove_file(&self.file).map_err(BenchError::io("remove perf's file"))?;
        Ok(stages(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// One sample: who ran, and the stack from the innermost frame on.
struct Sample<'a> {
    thread: &'a str,
    in_kernel: bool,
    frames: Vec<&'a str>,
}

fn stages(script: &str) -> Vec<Stage> {
    let mut counted: BTreeMap<&'static str, (u64, BTreeMap<String, u64>)> = BTreeMap::new();
    for text in script.split("\n\n").filter(|text| !text.trim().is_empty()) {
        let Some(sample) = parse(text) else { continue };
        let (count, functions) = counted.entry(stage(&sample)).or_default();
        *count += 1;
        let innermost = sample.frames.first().copied().unwrap_or("unknown");
        *functions.entry(innermost.to_owned()).or_default() += 1;
    }
    let total: u64 = counted.values().map(|(count, _)| count).sum();
    let mut stages: Vec<Stage> = counted
        .into_iter()
        .map(|(stage, (samples, functions))| {
            let mut functions: Vec<(String, u64)> = functions.into_iter().collect();
            functions.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            functions.truncate(4);
            Stage { stage, share: samples as f64 / total.max(1) as f64, samples, functions }
        })
        .collect();
    stages.sort_by_key(|stage| std::cmp::Reverse(stage.samples));
    stages
}

fn parse(text: &str) -> Option<Sample<'_>> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let thread = lines.next()?.trim();
    let frames: Vec<(&str, &str)> = lines.filter_map(|line| line.trim().split_once(' ')).collect();
    let in_kernel = frames.first()?.0.starts_with("ffff");
    Some(Sample { thread, in_kernel, frames: frames.into_iter().map(|(_, symbol)| symbol.trim()).collect() })
}

fn stage(sample: &Sample<'_>) -> &'static str {
    let innermost = sample.frames.first().copied().unwrap_or_default();
    let any = |words: &[&str]| sample.frames.iter().any(|frame| words.iter().any(|word| frame.contains(word)));
    let leaf = |words: &[&str]| words.iter().any(|word| innermost.contains(word));
    if sample.thread.starts_with("iou-wrk") {
        return "kernel workers of the ring (flushes)";
    }
    if sample.in_kernel {
        return match () {
            () if any(&["sysvec", "common_interrupt", "irq_exit", "softirq"]) => "kernel: interrupts",
            () if any(&["bio_iov_iter", "gup_", "iov_iter_extract", "pin_user"]) => "kernel: pinning of buffer pages",
            () if any(&["iomap", "ext4", "xfs", "btrfs", "blk_", "submit_bio"]) => {
                "kernel: file system and block layer"
            }
            () if any(&["io_uring", "io_submit", "io_cqring", "task_work", "io_issue"]) => "kernel: io_uring itself",
            () if any(&["page_fault", "exc_page"]) => "kernel: page faults",
            () => "kernel: the rest",
        };
    }
    match () {
        () if leaf(&["completes_within"]) => "looking for completions before sleeping",
        () if leaf(&["crc32", "crc_fast", "checksum"]) => "checksums",
        () if leaf(&["memcpy", "memmove", "memset", "__mem"]) => "copies and fills",
        () if leaf(&["shingle_bench"]) => "the bench's own loop",
        () if leaf(&["glommio", "task::", "scheduled_io"]) => "executor",
        () if leaf(&["shingle_hw", "io_uring"]) => "drive and ring (hw)",
        () if leaf(&["shingle_node", "shingle_codec", "shingle_seam", "hdrhistogram"]) => "engine (node)",
        () if leaf(&["mi_", "malloc", "alloc"]) => "allocator",
        () => "user: the rest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_counted_by_stage() {
        let script = "bench-shard \n\t    55d crc_fast::arch::update\n\t    7ff start\n\n\
            bench-shard \n\tffffffff81 nvme_map ([kernel])\n\tffffffff82 blk_mq_submit_bio\n\n\
            iou-wrk-12 \n\tffffffff83 ext4_sync_file\n\n\
            bench-shard \n\tffffffff84 read_hpet\n\tffffffff82 asm_sysvec_apic\n\tffffffff82 blk_x\n\n";
        let stages = stages(script);
        let names: Vec<_> = stages.iter().map(|stage| (stage.stage, stage.samples)).collect();
        assert_eq!(names.len(), 4);
        assert!(names.contains(&("checksums", 1)));
        assert!(names.contains(&("kernel: file system and block layer", 1)));
        assert!(names.contains(&("kernel workers of the ring (flushes)", 1)));
        assert!(names.contains(&("kernel: interrupts", 1)));
        assert!((stages.iter().map(|stage| stage.share).sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
