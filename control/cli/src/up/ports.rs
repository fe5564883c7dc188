//! Ports of this machine: which are free, and who has those that are not.

use std::net::{Ipv4Addr, TcpListener};

use shingle_seam::entropy::{Entropy, SystemEntropy};

use crate::failure::Failure;
use crate::up::cell_file::Ports;

/// Below the range the kernel takes ports for outgoing connections from, so that a kept port stays free.
const PICK_FROM: u16 = 20_000;
const PICK_COUNT: u16 = 12_000;
const PICK_TRIES: u32 = 1_000;

/// A port nobody listens on now, not one of `taken`.
pub fn pick_free(taken: &[u16]) -> Result<u16, Failure> {
    for _ in 0..PICK_TRIES {
        let port = PICK_FROM + SystemEntropy.below(u64::from(PICK_COUNT)) as u16;
        if !taken.contains(&port) && is_free(port) {
            return Ok(port);
        }
    }
    Err(Failure::InUse { what: "no free port was found".into(), advice: "choose ports with --s3-port, ...".into() })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Refuses to start when somebody has one of the ports.
pub fn check_free(ports: &Ports) -> Result<(), Failure> {
    for (port, flag) in ports.all() {
        if !is_free(port) {
            let who =
                holder(port).map_or_else(|| "another process".into(), |(pid, name)| format!("process {pid} ({name})"));
            return Err(Failure::InUse {
                what: format!("port {port} is in use by {who}"),
                advice: format!("stop that process, or choose another port with --{flag}"),
            });
        }
    }
    Ok(())
}

/// The process that listens on a port, as far as this user may see it.
pub fn holder(port: u16) -> Option<(u32, String)> {
    let sockets = listening_inodes(&std::fs::read_to_string("/proc/net/tcp").ok()?, port);
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let mut open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let has = open.any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|link| sockets.iter().any(|socket| link == *socket.as_str()))
        });
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        has.then(|| (pid, name.trim().to_string()))
    })
}

/// What /proc/PID/fd calls the listening sockets of a port, from the kernel's table.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = rows
        .filter(|fields| fields.get(1).is_some_and(|local| local.ends_with(&wanted)) && fields.get(3) == Some(&"0A"));
    listening.filter_map(|fields| fields.get(9).map(|inode| format!("socket:[{inode}]"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused_with_its_holder_and_its_flag() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(holder(port).map(|(pid, _)| pid), Some(std::process::id()));
        let failure = check_free(&Ports { s3: port, control: 1, hosts: vec![] }).unwrap_err();
        assert!(failure.to_string().contains(&format!("port {port}")), "{failure}");
        assert!(failure.to_string().contains(&std::process::id().to_string()), "{failure}");
        assert!(failure.advice().contains("--s3-port"), "{}", failure.advice());
    }

    #[test]
    fn a_picked_port_is_free_and_not_taken() {
        let port = pick_free(&[]).unwrap();
        assert!(is_free(port) && (PICK_FROM..PICK_FROM + PICK_COUNT).contains(&port));
    }

    #[test]
    fn only_listening_sockets_of_the_port_are_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1B58 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 0 100 0 0 10 0\n\
             1: 0100007F:1B58 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 4712 1 0 100 0 0 10 0\n\
             2: 0100007F:1B59 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4713 1 0 100 0 0 10 0\n";
        assert_eq!(listening_inodes(table, 7000), ["socket:[4711]"]);
    }
}
