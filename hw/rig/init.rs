//! The guest's first process: mounts, loads modules, runs the programs it was given, switches off with their verdict.
//!
//! Invariant: the machine ends with the passing status only when every program ended with 0; whatever else happens
//! (a panic here, an oops, a hang) ends it otherwise.
//! This file uses `unsafe` for system calls that have no safe form here, and to write to an I/O port.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Port of QEMU's isa-debug-exit device: a byte `b` ends it with status `2 b + 1`.
const EXIT_PORT: u16 = 0xf4;
const PASSED: u8 = 0x10;
const FAILED: u8 = 0x11;

fn main() {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")] {
        must(at, mount(kind, at));
    }
    must("/dev/shm", fs::create_dir_all("/dev/shm"));
    must("/dev/shm", mount("tmpfs", "/dev/shm"));
    if let Err(error) = loopback_up() {
        eprintln!("rig: no loopback network: {error}");
    }
    mount_store();
    println!("rig: up");
    // Some devices take seconds to appear; the programs wait for those they need.
    std::thread::spawn(load_modules);
    let verdict = if run_all() { PASSED } else { FAILED };
    must("the exit port", switch_off(verdict));
}

fn must<T>(what: &str, outcome: io::Result<T>) -> T {
    outcome.unwrap_or_else(|error| panic!("rig: {what}: {error}"))
}

fn run_all() -> bool {
    let variables = fs::read_to_string("/rig/env").unwrap_or_default();
    let variables: Vec<(&str, &str)> = variables.lines().filter_map(|line| line.split_once('=')).collect();
    let commands = must("commands", fs::read_to_string("/rig/commands"));
    let mut passed = true;
    for line in commands.lines() {
        let mut words = line.split('\t');
        let Some(program) = words.next() else { continue };
        let mut command = Command::new(program);
        command.args(words).env_clear().env("PATH", "/bin").env("TMPDIR", "/tmp").envs(variables.iter().copied());
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => {
                eprintln!("rig: {program}: {status}");
                passed = false;
            }
            Err(error) => {
                eprintln!("rig: {program} cannot be started: {error}");
                passed = false;
            }
        }
    }
    passed
}

/// Mounts the file system that survives a reset of the machine at `/store`, if this machine has it.
fn mount_store() {
    let is_store = |index: &u32| {
        let serial = fs::read_to_string(format!("/sys/class/nvme/nvme{index}/serial"));
        serial.is_ok_and(|serial| serial.trim() == "store")
    };
    let find = || (0..16).find(is_store).map(|index| format!("/dev/nvme{index}n1"));
    if !Path::new("/rig/store").exists() {
        return;
    }
    for _ in 0..500 {
        if let Some(device) = find().filter(|device| Path::new(device).exists()) {
            must("/store", fs::create_dir_all("/store"));
            return must("/store", mount_from(&device, "ext4", "/store"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("rig: the store's drive does not appear");
}

/// Loads the modules in the order of the list, which has dependencies first. Parameters of this boot come behind those of
/// the list: the last one counts.
fn load_modules() {
    let of_boot = fs::read_to_string("/rig/parameters").unwrap_or_default();
    for line in must("modules", fs::read_to_string("/modules/list")).lines() {
        let (file, parameters) = line.split_once(' ').unwrap_or((line, ""));
        let name = file.trim_end_matches(".ko");
        let own = of_boot.lines().filter_map(|line| line.split_once(' ')).find(|(module, _)| *module == name);
        let parameters = format!("{parameters} {}", own.map_or("", |(_, parameters)| parameters));
        if let Err(error) = load(&format!("/modules/{file}"), parameters.trim()) {
            eprintln!("rig: module {file}: {error}");
        }
        if file == "configfs.ko" {
            must("configfs", mount("configfs", "/sys/kernel/config"));
        }
    }
}

fn mount(kind: &str, at: &str) -> io::Result<()> {
    mount_from(kind, kind, at)
}

fn mount_from(device: &str, kind: &str, at: &str) -> io::Result<()> {
    let (device, kind, at) = (CString::new(device)?, CString::new(kind)?, CString::new(at)?);
    // SAFETY: the strings end with a zero and live until the call returns; these file systems need no data.
    check(unsafe { libc::mount(device.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) }.into())
}

fn loopback_up() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeroes are a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request outlives the call, which only reads it.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())
}

fn load(path: &str, parameters: &str) -> io::Result<()> {
    let (file, parameters) = (File::open(path)?, CString::new(parameters)?);
    // SAFETY: the descriptor is open and the string ends with a zero; both live until the call returns.
    check(unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), 0) })
}

/// Ends the machine. Returns only if that failed.
fn switch_off(verdict: u8) -> io::Result<()> {
    // SAFETY: it changes nothing but which ports this process may use.
    check(unsafe { libc::ioperm(EXIT_PORT.into(), 1, 1) }.into())?;
    // SAFETY: the port is this process's since the call above; a write to it touches no memory.
    unsafe { std::arch::asm!("out dx, al", in("dx") EXIT_PORT, in("al") verdict, options(nomem, nostack)) };
    Err(io::ErrorKind::Other.into())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
