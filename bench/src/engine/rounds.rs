//! The rounds: in each, two runs of a peer alternate with two of ours, so that what gets faster or slower meanwhile does so
//! for both. Who begins changes every round.
//!
//! Invariant: a peer writes at the very places that our next run appends to, in the same order, and reads the records we
//! read. A zone takes one append at a time, so a drive is written in as many places as commands are in flight; and the
//! places of a disk differ by more than what is measured.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use shingle_node::osd::policy::DiskPolicy;
use shingle_proto::limits::MIB;
use shingle_seam::tasks::LocalFuture;

use super::host::{Host, Rig};
use super::load::{Load, Outcome};
use super::memory::{Memory, Quiet};
use super::profile::Recorder;
use super::report::{Amplification, Commands, Comparison, Cpu, EngineReport, Profile, Scope, per_gib};
use super::sizes::Sizes;
use super::space::{self, DriveFile, Place};
use super::{EnginePlan, READ_DEPTH};
use crate::error::BenchError;
use crate::fio::{self, Direction, Done, Engine, Job, Sync, Work};
use crate::ratio::{Ratio, median};

/// Of one run.
const READ_SECONDS: u64 = 1;

/// When a peer makes its writes durable.
#[derive(Clone, Copy, Debug)]
pub enum Flushes {
    /// As often as ours did in the latest run, with `fdatasync`.
    AsOurs,
    Each(Sync),
}

/// What we are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub name: &'static str,
    pub engine: Engine,
    pub flushes: Flushes,
    pub depth: u32,
    pub threads: u32,
    /// `None`: for information.
    pub target: Option<f64>,
}

/// Rounds of appends of the same kind.
pub struct AppendRounds {
    pub loads: &'static [Load],
    pub name: &'static str,
    /// Per run; fewer when many runs must fit into the extents, or people bound them.
    pub records: u64,
    pub written_target: f64,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Ours,
    Peer,
}

/// Runs of either side in a round.
pub const RUNS_PER_ROUND: usize = 2;
/// The turns of even and of odd rounds.
const TURNS: [[Side; 2 * RUNS_PER_ROUND]; 2] =
    [[Side::Ours, Side::Peer, Side::Peer, Side::Ours], [Side::Peer, Side::Ours, Side::Ours, Side::Peer]];

/// What a round came to.
struct Round {
    ours: Vec<Outcome>,
    peer: Vec<Done>,
    quiet: Quiet,
}

impl Round {
    /// Records a second.
    fn ours(&self) -> f64 {
        let records: u64 = self.ours.iter().map(|outcome| outcome.records).sum();
        records as f64 / self.ours.iter().map(|outcome| outcome.seconds).sum::<f64>()
    }

    /// The peer's operations a second.
    fn peer(&self) -> f64 {
        let operations: u64 = self.peer.iter().map(|done| done.operations).sum();
        operations as f64 / self.peer.iter().map(|done| done.seconds).sum::<f64>()
    }
}

/// A prepared run and what it has found so far.
pub struct Bench {
    folder: PathBuf,
    drive: DriveFile,
    plan: EnginePlan,
    sizes: Sizes,
    /// Of the shard; its pool is twice that.
    budget_bytes: u64,
    host: Host,
    memory: Memory,
    report: EngineReport,
    /// The most of fio's memory seen on huge pages.
    fio_huge_bytes: u64,
    /// Given to the file system by our jobs since a load began.
    file_bytes: u64,
}

impl Bench {
    /// Makes and writes the files, and starts the shard.
    pub fn prepare(folder: &Path, plan: EnginePlan, loads: &[Load]) -> Result<Self, BenchError> {
        let drive = folder.join("drive");
        let sizes = Sizes::of(&plan);
        space::check_room(folder, sizes.free_bytes(loads))?;
        let extents = loads.iter().flat_map(|load| std::iter::repeat_n(sizes.extent_bytes(*load), load.extents));
        let drive = DriveFile::make(&drive, extents)?;
        let budget_bytes = sizes.budget_bytes(loads);
        let host = Host::start(drive.path(), budget_bytes)?;
        let folder = folder.to_path_buf();
        let (memory, report) = (Memory::new(plan.patience), EngineReport::default());
        Ok(Self { folder, drive, plan, sizes, budget_bytes, host, memory, report, fio_huge_bytes: 0, file_bytes: 0 })
    }

    /// The rounds of appends, load by load, with a profile of the last, and the end of their extents.
    pub fn append(&mut self, rounds: &AppendRounds) -> Result<(), BenchError> {
        let before_bytes = self.device_bytes()?;
        self.file_bytes = 0;
        let mut accepted_bytes = 0;
        for (number, load) in rounds.loads.iter().copied().enumerate() {
            self.append_beside_peers(rounds, load)?;
            if number + 1 == rounds.loads.len() {
                let records = self.sizes.run_records(load, rounds.records);
                self.write_over(load, records)?;
                self.profile(rounds.name, move |bench| bench.append_once(load, records))?;
            }
            // An OSD has no more extents open than a load has.
            self.write_job(move |rig| Box::pin(load.close(rig)))?;
            accepted_bytes += self.stored(load)? * u64::from(load.plain_bytes());
        }
        let device_bytes = self.device_bytes()? - before_bytes;
        self.amplification(rounds, accepted_bytes, device_bytes);
        Ok(())
    }

    /// The rounds of one load, peer by peer.
    fn append_beside_peers(&mut self, rounds: &AppendRounds, load: Load) -> Result<(), BenchError> {
        let records = self.sizes.run_records(load, rounds.records);
        self.write_job(move |rig| Box::pin(load.create(rig)))?;
        let flushes = Cell::new(self.append_over(load, records)?.device.flushes);
        let mut measured: Vec<Vec<Round>> = load.peers.iter().map(|_| Vec::new()).collect();
        for number in 0..self.plan.rounds {
            for (peer, measured) in load.peers.iter().zip(&mut measured) {
                let ours = |bench: &mut Self| {
                    let outcome = bench.append_over(load, records)?;
                    flushes.set(outcome.device.flushes);
                    Ok(outcome)
                };
                let theirs = |bench: &mut Self| bench.write_once(peer, load, (records, flushes.get()));
                measured.push(self.round(number, ours, theirs)?);
            }
        }
        for (peer, measured) in load.peers.iter().zip(&measured) {
            let line = self.write_of(peer, load, (records, flushes.get()), &[]).line();
            self.compare((rounds.name, peer.name, peer.target), load, measured, line);
        }
        Ok(())
    }

    /// One round.
    fn round(
        &mut self,
        number: usize,
        mut ours: impl FnMut(&mut Self) -> Result<Outcome, BenchError>,
        mut theirs: impl FnMut(&mut Self) -> Result<Done, BenchError>,
    ) -> Result<Round, BenchError> {
        let mut round = Round { ours: Vec::new(), peer: Vec::new(), quiet: self.memory.wait_for_quiet() };
        for side in TURNS[number % TURNS.len()] {
            match side {
                Side::Ours => round.ours.push(ours(self)?),
                Side::Peer => round.peer.push(theirs(self)?),
            }
        }
        Ok(round)
    }

    /// A peer's run of as many writes as ours of appends, over what was written right before it: the places of our next
    /// run.
    fn write_once(&mut self, peer: &Peer, load: Load, counts: (u64, u64)) -> Result<Done, BenchError> {
        let places = self.write_over(load, counts.0)?;
        self.fio(&self.write_of(peer, load, counts, &places))
    }

    /// Records of a load that are stored.
    fn stored(&self, load: Load) -> Result<u64, BenchError> {
        self.host.run(move |rig| Box::pin(async move { Ok(load.stored(&rig)) }))
    }

    /// Where its next records go to.
    fn next_places(&self, load: Load, records: u64) -> Result<Vec<Place>, BenchError> {
        self.host.run(move |rig| {
            Box::pin(async move {
                let stored = load.stored(&rig);
                load.places(&rig, stored..stored + records)
            })
        })
    }

    /// Stores records to be read: as many as a measurement of appends would have left.
    fn fill(&mut self, load: Load) -> Result<(), BenchError> {
        let records = self.sizes.records_to_read(load);
        self.host.run(move |rig| Box::pin(load.create(rig)))?;
        let mut left = records;
        while left > 0 {
            let some = left.min(self.sizes.fill_records(load));
            self.append_once(load, some)?;
            left -= some;
        }
        self.host.run(move |rig| Box::pin(load.close(rig)))
    }

    /// The rounds of random reads of what a load has stored; it is stored first where no appends were measured.
    pub fn read(&mut self, load: Load, name: &'static str, target: f64) -> Result<(), BenchError> {
        if self.stored(load)? == 0 {
            self.fill(load)?;
        }
        let among = self.stored(load)?.min(load.records_to_read);
        let places = self.host.run(move |rig| Box::pin(async move { load.places(&rig, 0..among) }))?;
        let latest = Cell::new(self.read_once(load, among, 0)?.records);
        let (seed, mut measured) = (Cell::new(0), Vec::new());
        for number in 0..self.plan.rounds {
            let ours = |bench: &mut Self| {
                seed.set(seed.get() + 1);
                let outcome = bench.read_once(load, among, seed.get())?;
                latest.set(outcome.records);
                Ok(outcome)
            };
            let theirs = |bench: &mut Self| {
                seed.set(seed.get() + 1);
                let mut random = SmallRng::seed_from_u64(seed.get());
                let picked: Vec<&Place> = (0..latest.get().max(1)).filter_map(|_| places.choose(&mut random)).collect();
                bench.fio(&bench.read_of(load, &picked))
            };
            measured.push(self.round(number, ours, theirs)?);
        }
        self.profile(name, move |bench| bench.read_once(load, among, u64::MAX >> 32))?;
        let line = self.read_of(load, &[]).line();
        self.compare((name, "fio, same size and depth", Some(target)), load, &measured, line);
        Ok(())
    }

    /// The report.
    pub fn finish(mut self) -> EngineReport {
        let mib = |bytes: u64| bytes / MIB;
        let ours = fio::huge_bytes_of(std::process::id());
        self.report.conditions = vec![
            format!(
                "memory on huge pages, by the kernel's count: {} MiB of this process (its buffers: {} MiB), {} MiB of fio",
                mib(ours),
                mib(2 * self.budget_bytes),
                mib(self.fio_huge_bytes)
            ),
            format!(
                "{} rounds; both sides O_DIRECT at the same places of one file, which were written right before",
                self.plan.rounds
            ),
            self.report.memory(),
        ];
        self.report
    }

    /// Writes over the places the next appends go to.
    fn write_over(&self, load: Load, records: u64) -> Result<Vec<Place>, BenchError> {
        let places = self.next_places(load, records)?;
        self.drive.write(&places)?;
        Ok(places)
    }

    /// A round of appends over what was written right before it.
    fn append_over(&mut self, load: Load, records: u64) -> Result<Outcome, BenchError> {
        self.write_over(load, records)?;
        self.append_once(load, records)
    }

    fn append_once(&mut self, load: Load, records: u64) -> Result<Outcome, BenchError> {
        self.write_job(move |rig| Box::pin(load.append(rig, records)))
    }

    /// A job whose writes are counted.
    fn write_job<T, F>(&mut self, job: F) -> Result<T, BenchError>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Rig>) -> LocalFuture<'static, Result<T, BenchError>> + Send + 'static,
    {
        // Only around our own jobs: what fio writes is counted to this process when fio ends.
        let before_bytes = space::written_by_this_process()?;
        let result = self.host.run(job);
        self.file_bytes += space::written_by_this_process()? - before_bytes;
        result
    }

    fn time_calls(&self, on: bool) -> Result<(), BenchError> {
        self.host.run(move |rig| {
            rig.meter.timed.set(on);
            Box::pin(async { Ok(()) })
        })
    }

    fn read_once(&self, load: Load, among: u64, seed: u64) -> Result<Outcome, BenchError> {
        self.host.run(move |rig| Box::pin(load.read(rig, among, Duration::from_secs(READ_SECONDS), seed)))
    }

    fn device_bytes(&self) -> Result<u64, BenchError> {
        self.host.run(|rig| Box::pin(async move { Ok(rig.meter.read().written_bytes) }))
    }

    fn fio(&mut self, job: &Job) -> Result<Done, BenchError> {
        let done = job.run()?;
        self.fio_huge_bytes = self.fio_huge_bytes.max(done.huge_page_bytes);
        Ok(done)
    }

    /// A peer's run of writes at these places, as many as we append records.
    fn write_of(&self, peer: &Peer, load: Load, (records, flushes): (u64, u64), places: &[Place]) -> Job {
        let sync = match peer.flushes {
            Flushes::AsOurs => Sync::Data { writes: records.div_ceil(flushes.max(1)) },
            Flushes::Each(sync) => sync,
        };
        let offsets = places.iter().map(|place| self.drive.offset_bytes(place)).collect();
        Job {
            file: self.drive.path().to_path_buf(),
            work: Work::Replay { direction: Direction::Write, offsets, sync },
            engine: peer.engine,
            block_bytes: load.record_bytes(),
            depth: peer.depth,
            threads: peer.threads,
        }
    }

    /// fio's run of reads at these places.
    fn read_of(&self, load: Load, places: &[&Place]) -> Job {
        let offsets = places.iter().map(|place| self.drive.offset_bytes(place)).collect();
        Job {
            file: self.drive.path().to_path_buf(),
            work: Work::Replay { direction: Direction::Read, offsets, sync: Sync::Never },
            engine: Engine::IoUring,
            block_bytes: load.record_bytes(),
            depth: READ_DEPTH,
            threads: 1,
        }
    }

    fn compare(&mut self, (name, peer, target): (&str, &str, Option<f64>), load: Load, rounds: &[Round], line: String) {
        let outcomes: Vec<&Outcome> = rounds.iter().flat_map(|round| &round.ours).collect();
        let reads = outcomes.iter().any(|outcome| outcome.device.reads > 0);
        let mut ratio = Ratio::new(name, peer, "records/s");
        ratio.ours = rounds.iter().map(Round::ours).collect();
        ratio.peer = rounds.iter().map(Round::peer).collect();
        let mib = load.record_bytes() as f64 / MIB as f64;
        ratio.notes.push(format!(
            "{:.0} / {:.0} MiB/s, {} bytes each on disk",
            median(&ratio.ours) * mib,
            median(&ratio.peer) * mib,
            load.record_bytes(),
        ));
        if reads {
            let ours = DiskPolicy::default().depths().in_flight(load.record_bytes());
            let readers = load.readers;
            ratio.notes.push(format!("{readers} readers; in flight at the drive: {ours}, fio's {READ_DEPTH}"));
        } else {
            let flushes: Vec<f64> = outcomes.iter().map(|outcome| outcome.device.flushes as f64).collect();
            let records = outcomes.first().map_or(0, |outcome| outcome.records);
            ratio.notes.push(format!(
                "{records} records and {:.0} flushes a run; {} writers, {} open extents",
                median(&flushes),
                load.writers,
                load.extents
            ));
        }
        ratio.notes.push(line);
        let per_record = |value: f64, records: u64| per_gib(value, records * u64::from(load.payload_bytes));
        let of = |pick: &dyn Fn(&Outcome) -> f64| {
            median(&outcomes.iter().map(|outcome| per_gib(pick(outcome), outcome.payload_bytes)).collect::<Vec<_>>())
        };
        let done = rounds.iter().flat_map(|round| &round.peer);
        let fio_cpu: Vec<f64> = done.map(|done| per_record(done.cpu_seconds, done.operations)).collect();
        if !self.report.cpu.iter().any(|cpu| cpu.load == name) {
            self.report.cpu.push(Cpu {
                load: name.to_owned(),
                thread_seconds_per_gib: of(&|outcome| outcome.thread_cpu_seconds),
                process_seconds_per_gib: of(&|outcome| outcome.process_cpu_seconds),
                fio_seconds_per_gib: median(&fio_cpu),
            });
        }
        let quiet = rounds.iter().map(|round| round.quiet).collect();
        self.report.comparisons.push(Comparison::new(ratio, target, quiet));
    }

    fn amplification(&mut self, rounds: &AppendRounds, accepted_bytes: u64, device_bytes: u64) {
        self.report.amplification.push(Amplification {
            load: rounds.name.to_owned(),
            accepted_bytes,
            device_bytes,
            file_bytes: self.file_bytes,
            ratio: device_bytes as f64 / accepted_bytes as f64,
            target: rounds.written_target,
        });
    }

    fn profile(
        &mut self,
        name: &str,
        run: impl FnOnce(&mut Self) -> Result<Outcome, BenchError>,
    ) -> Result<(), BenchError> {
        self.time_calls(true)?;
        let recorder = Recorder::start(&self.folder);
        let outcome = run(self)?;
        let stages = recorder.map_or(Ok(Vec::new()), Recorder::stop)?;
        self.time_calls(false)?;
        let device = outcome.device;
        let scope = |what, seconds| Scope { what, seconds_per_gib: per_gib(seconds, outcome.payload_bytes) };
        let commands = |what, count: u64, bytes: u64, seconds: f64| Commands {
            what,
            count,
            mean_bytes: bytes / count.max(1),
            mean_us: seconds * 1e6 / count.max(1) as f64,
            mean_in_flight: seconds / outcome.seconds,
        };
        let in_calls = device.write_call_seconds + device.read_call_seconds + device.flush_call_seconds;
        self.report.profiles.push(Profile {
            load: name.to_owned(),
            cpu_seconds_per_gib: per_gib(outcome.process_cpu_seconds, outcome.payload_bytes),
            scopes: vec![
                scope(
                    "calls of the drive: submission to the kernel; for appends the drive's own checksum too",
                    in_calls,
                ),
                scope(
                    "the rest of the thread: completions, engine with its checksums, executor, the bench's loop",
                    outcome.thread_cpu_seconds - in_calls,
                ),
            ],
            commands: vec![
                commands("appends", device.writes, device.written_bytes, device.write_answer_seconds),
                commands("reads", device.reads, device.read_bytes, device.read_answer_seconds),
                commands("flushes", device.flushes, 0, device.flush_answer_seconds),
            ],
            stages,
        });
        Ok(())
    }
}
