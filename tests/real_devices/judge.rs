//! The judge of the reset test: outside of the machine, it writes down what is acknowledged inside, resets the machine
//! at a moment of its choice, and holds every later life of it to what was written down.
//!
//!     rig-judge PORT QMP RESETS
//!
//! PORT and QMP are sockets of QEMU: the port its guest writes to, and its control protocol. Ends with 0 only when after
//! the last reset everything acknowledged in all lives was read back, byte for byte.

mod content;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use shingle_seam::entropy::{Entropy, SystemEntropy};

/// How long after the first acknowledgement of a life its end comes, at most.
const RESET_WITHIN: Duration = Duration::from_millis(2500);
/// Nothing said for so long: something hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// As the guest numbers them.
const FILES_PER_LIFE: u64 = 1_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, qmp, resets] = &arguments[..] else {
        eprintln!("rig-judge PORT QMP RESETS");
        return ExitCode::from(2);
    };
    let resets = resets.parse().expect("a number of resets");
    let mut machine = Machine::connect(qmp);
    match Judge::new(connect(port), resets).run(&mut machine) {
        Ok(summary) => {
            println!("judge: {summary}");
            ExitCode::SUCCESS
        }
        Err(cause) => {
            eprintln!("judge: FAILED: {cause}");
            machine.tell("quit");
            ExitCode::FAILURE
        }
    }
}

/// QEMU makes its sockets when it starts.
fn connect(path: &str) -> UnixStream {
    let since = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) => assert!(since.elapsed() < PATIENCE, "{path}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The machine's control.
struct Machine {
    stream: UnixStream,
}

impl Machine {
    fn connect(path: &str) -> Self {
        let mut machine = Self { stream: connect(path) };
        machine.tell("qmp_capabilities");
        machine
    }

    /// Does not wait for an answer: what matters is what happens.
    fn tell(&mut self, command: &str) {
        if let Err(error) = writeln!(self.stream, "{{\"execute\": \"{command}\"}}") {
            eprintln!("judge: {command}: {error}");
        }
    }
}

/// What was said and what follows from it.
struct Judge {
    port: UnixStream,
    lines: Receiver<String>,
    resets: u64,
    /// Lives that have begun.
    lives: u64,
    acknowledged: BTreeSet<u64>,
    /// Files that this life has read back.
    found: BTreeSet<u64>,
    read_from: u64,
    first_of_life: Option<Instant>,
    /// When to reset, once the life has stored something.
    reset_at: Option<Instant>,
    /// A reset was ordered and its life has not begun.
    resetting: bool,
}

impl Judge {
    fn new(port: UnixStream, resets: u64) -> Self {
        let (sender, lines) = channel();
        let reader = BufReader::new(port.try_clone().expect("the port twice"));
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let (acknowledged, found) = (BTreeSet::new(), BTreeSet::new());
        let (lives, read_from, first_of_life, reset_at, resetting) = (0, 0, None, None, true);
        Self { port, lines, resets, lives, acknowledged, found, read_from, first_of_life, reset_at, resetting }
    }

    fn run(mut self, machine: &mut Machine) -> Result<String, String> {
        loop {
            let wait = self.reset_at.map_or(PATIENCE, |at| at.saturating_duration_since(Instant::now()));
            match self.lines.recv_timeout(wait) {
                Ok(line) => {
                    if self.hear(&line)? {
                        let (resets, count) = (self.resets, self.acknowledged.len());
                        return Ok(format!("{count} files acknowledged before {resets} resets, all of them read back"));
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.reset_at.take().is_some() => {
                    self.resetting = true;
                    machine.tell("system_reset");
                    let after = self.first_of_life.take().map_or(0, |first| first.elapsed().as_millis());
                    let life = self.lives - 1;
                    let stored = self.acknowledged.range(life * FILES_PER_LIFE..).count();
                    println!("judge: life {life}: reset {after} ms after its first of {stored} files acknowledged");
                }
                Err(RecvTimeoutError::Timeout) => return Err(format!("nothing was said for {PATIENCE:?}")),
                Err(RecvTimeoutError::Disconnected) => return Err("the machine has ended".to_owned()),
            }
        }
    }

    /// True when all is done.
    fn hear(&mut self, line: &str) -> Result<bool, String> {
        // What was cut off by a reset was not said.
        let Some(line) = line.strip_suffix(" .") else { return Ok(false) };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["life"] => self.begin_life()?,
            ["stored", file] => {
                self.acknowledged.insert(number(file)?);
                if !self.resetting && self.first_of_life.is_none() {
                    let now = Instant::now();
                    self.first_of_life = Some(now);
                    self.reset_at = Some(now + RESET_WITHIN.mul_f64(SystemEntropy.u64() as f64 / u64::MAX as f64));
                }
            }
            ["found", file, digest] => {
                let file = number(file)?;
                if digest != content::digest(&content::content(file)) {
                    return Err(format!("file {file} was read back with other content"));
                }
                self.found.insert(file);
            }
            ["read"] => {
                let lives = self.read_from * FILES_PER_LIFE..(self.lives - 1) * FILES_PER_LIFE;
                let lost: Vec<_> = self.acknowledged.range(lives).filter(|file| !self.found.contains(file)).collect();
                if !lost.is_empty() {
                    return Err(format!("acknowledged, and lost after reset {}: {lost:?}", self.lives - 1));
                }
                return Ok(self.lives > self.resets);
            }
            _ => return Err(format!("the guest says {line:?}")),
        }
        Ok(false)
    }

    fn begin_life(&mut self) -> Result<(), String> {
        if !self.resetting {
            return Err("the machine restarted by itself".to_owned());
        }
        self.resetting = false;
        self.found.clear();
        let life = self.lives;
        self.lives += 1;
        // The newest files are most at risk; the last life reads all.
        let last = life == self.resets;
        self.read_from = if last { 0 } else { life.saturating_sub(1) };
        writeln!(self.port, "{life} {} {}", self.read_from, u64::from(!last)).map_err(|error| error.to_string())
    }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("the guest says {word:?} where a number should be"))
}
