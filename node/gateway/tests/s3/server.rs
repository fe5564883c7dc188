//! The listener: where it may listen, and how it ends.

use std::time::Duration;

use shingle_gateway::s3::{S3Options, S3Server, ServeError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use shingle_gateway::config::GatewayConfig;
use shingle_gateway::process::{self, GatewayProcessError};
use shingle_seam::entropy::SystemEntropy;
use shingle_seam::keys::KeyFile;
use shingle_seam::stop::Stop;

use super::client::{ACCESS_KEY, Client, SECRET_KEY};
use super::fake_core;

fn options(listen: &str) -> S3Options {
    S3Options {
        listen: listen.parse().unwrap(),
        access_key: "A".into(),
        secret_key: "s".into(),
        region: "us-east-1".into(),
    }
}

#[tokio::test]
async fn addresses_off_loopback_and_taken_ports_are_refused_clearly() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9000"] {
        let refused = S3Server::bind(options(address), fake_core::start(), 1).await.err().unwrap();
        assert!(matches!(refused, ServeError::NotLoopback(_)));
        assert!(refused.to_string().contains("not a loopback address"), "{refused}");
    }
    let server = S3Server::bind(options("127.0.0.1:0"), fake_core::start(), 1).await.unwrap();
    let taken = server.local_address().to_string();
    let refused = S3Server::bind(options(&taken), fake_core::start(), 1).await.err().unwrap();
    assert!(refused.to_string().contains(&format!("{taken} is in use")), "{refused}");
}

#[tokio::test]
async fn a_stop_ends_the_server_and_its_idle_connections() {
    let server = S3Server::bind(options("127.0.0.1:0"), fake_core::start(), 1).await.unwrap();
    let address = server.local_address();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async { drop(stopped.await) }));
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 4096];
    let count = idle.read(&mut answer).await.unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 403"), "{}", String::from_utf8_lossy(&answer[..count]));
    drop(stop);
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
    // What is left of the answer, then the end.
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), idle.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "an idle connection ends with the server");
    assert!(TcpStream::connect(address).await.is_err());
}

fn config(dir: &std::path::Path) -> GatewayConfig {
    GatewayConfig {
        s3_listen: free_address(),
        control: free_address(),
        key_file: dir.join("keys"),
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        ..GatewayConfig::default()
    }
}

fn free_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn the_process_serves_until_it_is_stopped_with_or_without_a_control_plane() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    KeyFile::create(&config.key_file, &SystemEntropy).unwrap();
    let stop = Stop::new().unwrap();
    let process = std::thread::spawn({
        let (config, stop) = (config.clone(), stop.clone());
        move || process::run(config, stop)
    });
    let start = std::time::Instant::now();
    while TcpStream::connect(config.s3_listen).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "the gateway does not listen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let client = Client {
        address: config.s3_listen,
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        clock_offset_s: 0,
    };
    // Refused by the front door alone; what needs the control plane waits for it.
    let stranger = Client { secret_key: "wrong".into(), ..client };
    stranger.request("GET", "/").send().await.expect(403, "SignatureDoesNotMatch");
    stop.trigger();
    tokio::task::spawn_blocking(|| process.join().unwrap()).await.unwrap().unwrap();
}

#[test]
fn a_process_that_cannot_serve_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let good = config(dir.path());
    let run = |config: GatewayConfig| process::run(config, Stop::new().unwrap()).unwrap_err();
    assert!(matches!(run(good.clone()), GatewayProcessError::Keys(_)), "there is no key file");
    KeyFile::create(&good.key_file, &SystemEntropy).unwrap();
    let nameless = GatewayConfig { access_key: String::new(), ..good.clone() };
    assert!(run(nameless).to_string().starts_with("access-key is missing"));
    let open = GatewayConfig { s3_listen: "0.0.0.0:0".parse().unwrap(), ..good.clone() };
    assert!(matches!(run(open), GatewayProcessError::Serve(ServeError::NotLoopback(_))));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = GatewayConfig { s3_listen: taken.local_addr().unwrap(), ..good };
    assert!(matches!(run(busy), GatewayProcessError::Serve(ServeError::InUse(_))));
}
