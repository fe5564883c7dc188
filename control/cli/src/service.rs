//! `shingle control`, `gateway` and `host`: configuration, log and signals around the processes themselves.

use shingle_control::config::ControlConfig;
use shingle_control::process::ControlError;
use shingle_control::service::StartError;
use shingle_control::store::embedded::OpenError;
use shingle_gateway::config::GatewayConfig;
use shingle_gateway::process::GatewayProcessError;
use shingle_gateway::s3::ServeError;
use shingle_node::config::HostConfig;
use shingle_node::osd::shard::ShardError;
use shingle_node::process::HostError;
use shingle_seam::stop::Stop;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::LogFlags;
use crate::failure::Failure;
use crate::log;

/// Ours is news; the store's library reports every file it writes as such, the S3 library every refused request.
const LOG_FILTER: &str = "info,s3s=off,fjall=warn,lsm_tree=warn";

/// Runs the control plane until it is told to stop.
pub fn control(config: ControlConfig, flags: &LogFlags) -> Result<(), Failure> {
    let stop = prepare(flags)?;
    shingle_control::process::run(config, stop).map_err(|error| match &error {
        ControlError::Config(_) => unfit("the control plane", &error),
        ControlError::Start(StartError::Listen { source, .. }) if is_taken(source) => {
            in_use("the control plane", &error)
        }
        ControlError::Store(OpenError::Locked { .. }) => Failure::InUse {
            what: told("the control plane", &error),
            advice: "stop the control process that has it, or choose another --dir".into(),
        },
        ControlError::Store(OpenError::Damaged { .. }) => Failure::failed(
            told("the control plane", &error),
            "the store was left as it is: look after the disk below it, then put back a copy of the directory",
        ),
        _ => ended("the control plane", &error),
    })
}

/// Runs a gateway until it is told to stop.
pub fn gateway(config: GatewayConfig, flags: &LogFlags) -> Result<(), Failure> {
    let stop = prepare(flags)?;
    shingle_gateway::process::run(config, stop).map_err(|error| match &error {
        GatewayProcessError::NoCredential(_) | GatewayProcessError::Keys(_) => unfit("the gateway", &error),
        GatewayProcessError::Serve(ServeError::NotLoopback(_)) => unfit("the gateway", &error),
        GatewayProcessError::Serve(ServeError::InUse(_)) => in_use("the gateway", &error),
        _ => ended("the gateway", &error),
    })
}

/// Runs a host until it is told to stop.
pub fn host(config: HostConfig, flags: &LogFlags) -> Result<(), Failure> {
    let stop = prepare(flags)?;
    let name = format!("host {}", config.host);
    shingle_node::process::run(config, stop).map_err(|error| match &error {
        HostError::Config(_) | HostError::Profile { .. } | HostError::OtherDrive { .. } => unfit(&name, &error),
        HostError::Shard(ShardError::Listen { cause, .. }) if is_taken(cause) => in_use(&name, &error),
        _ => ended(&name, &error),
    })
}

fn prepare(flags: &LogFlags) -> Result<Stop, Failure> {
    log::start(flags, LOG_FILTER)?;
    let stop = Stop::new().map_err(Failure::io("cannot make the stop signal"))?;
    stop_on_signals(stop.clone())?;
    Ok(stop)
}

/// A thread of its own waits for SIGTERM and SIGINT: the process's runtimes are not this program's business.
fn stop_on_signals(stop: Stop) -> Result<(), Failure> {
    let (armed, wait_armed) = std::sync::mpsc::sync_channel(1);
    let wait = move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            armed.send(()).map_err(std::io::Error::other)?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.trigger();
            Ok(())
        })
    };
    let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Err(error) = wait() {
            tracing::error!(%error, "signals cannot be caught");
        }
    });
    thread.map_err(Failure::io("cannot start the thread for signals"))?;
    // Only when signals are caught may the process begin: before that, SIGTERM would end it half-way.
    wait_armed.recv().map_err(|_| Failure::failed("signals cannot be caught", ""))
}

fn is_taken(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrInUse
}

fn unfit(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::unfit(told(what, error), "`shingle config` shows every key with an example")
}

fn in_use(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::InUse { what: told(what, error), advice: "choose another port, or stop the process that has it".into() }
}

fn ended(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::failed(told(what, error), "")
}

/// An error with its causes.
fn told(what: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(deeper) = cause {
        // Many errors already show their cause.
        if !text.contains(&deeper.to_string()) {
            text.push_str(&format!(": {deeper}"));
        }
        cause = deeper.source();
    }
    text
}
