//! Runs a scenario on each runtime, and tests what a runtime owes to everybody.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use shingle_seam::net::Net;
use shingle_seam::stop::Stop;
use shingle_seam::tasks::{LocalFuture, on_cpu};
use shingle_seam::{World, on_glommio, on_tokio};

/// No scenario may take longer.
const SCENARIO_LIMIT: Duration = Duration::from_secs(60);

/// Runs `scenario` on tokio.
pub fn tokio<F: Future<Output = ()> + 'static>(scenario: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = on_tokio::world(2);
    let tasks = world.tasks.clone();
    tokio::task::LocalSet::new()
        .block_on(&runtime, async { tasks.timeout(SCENARIO_LIMIT, scenario(world)).await })
        .expect("the scenario ends in time");
}

/// Runs `scenario` on glommio.
pub fn glommio<F: Future<Output = ()> + 'static>(scenario: impl FnOnce(World) -> F + Send + 'static) {
    let main = move |world: World| -> LocalFuture<'static, ()> {
        Box::pin(async move {
            let tasks = world.tasks.clone();
            tasks.timeout(SCENARIO_LIMIT, scenario(world)).await.expect("the scenario ends in time");
        })
    };
    on_glommio::run_shard("test-shard", None, main).unwrap().join().unwrap().unwrap();
}

/// Makes two tests of one scenario.
macro_rules! on_both_runtimes {
    ($($name:ident),+ $(,)?) => {
        mod with_tokio {
            $(#[test] fn $name() { crate::runtimes::tokio(super::$name); })+
        }
        mod with_glommio {
            $(#[test] fn $name() { crate::runtimes::glommio(super::$name); })+
        }
    };
}
pub(crate) use on_both_runtimes;

/// Processor time this thread has used.
fn thread_cpu() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

async fn cpu_jobs_run_beside_the_executor_and_come_back(world: World) {
    let beats = Rc::new(Cell::new(0));
    let (ticking, tasks) = (beats.clone(), world.tasks.clone());
    world.tasks.spawn(
        "ticking",
        Box::pin(async move {
            loop {
                tasks.sleep(Duration::from_millis(5)).await;
                ticking.set(ticking.get() + 1);
            }
        }),
    );
    let work = || {
        std::thread::sleep(Duration::from_millis(100));
        std::thread::current().name().map(str::to_owned)
    };
    let name = on_cpu(&world.tasks, work).await;
    assert_eq!(name.as_deref().map(|name| name.starts_with("cpu-")), Some(true));
    assert!(beats.get() >= 5, "the executor stood still: {} beats", beats.get());
    // More jobs than the queue holds, whose ends race with their callers going to sleep.
    let jobs = (0..1000_u64).map(|number| {
        let tasks = world.tasks.clone();
        async move { on_cpu(&tasks, move || number * number).await }
    });
    let squares = futures_util::future::join_all(jobs).await;
    assert!(squares.iter().zip(0..).all(|(square, number)| *square == number * number));
    for number in 0..1000_u64 {
        assert_eq!(on_cpu(&world.tasks, move || number + 1).await, number + 1);
    }
}

async fn a_dropped_cpu_job_is_withdrawn_and_others_go_on(world: World) {
    for _ in 0..200 {
        let slow = on_cpu(&world.tasks, || std::thread::sleep(Duration::from_millis(1)));
        let _ = world.tasks.timeout(Duration::from_micros(200), slow).await; // either way is fine
    }
    assert_eq!(on_cpu(&world.tasks, || 7).await, 7);
}

async fn a_spawned_task_begins_after_its_spawner_has_let_others_run(world: World) {
    let begun = Rc::new(Cell::new(0));
    for spawned in 0..3 {
        let counting = begun.clone();
        world.tasks.spawn("counting", Box::pin(async move { counting.set(counting.get() + 1) }));
        assert_eq!(begun.get(), 0, "after {spawned} others");
    }
    world.tasks.yield_now().await;
    assert_eq!(begun.get(), 3);
}

async fn an_idle_world_sleeps(world: World) {
    let listener = world.net.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection = world.net.connect(listener.local_address()).await.unwrap();
    let accepted = listener.accept().await.unwrap();
    let before = thread_cpu();
    world.tasks.sleep(Duration::from_secs(1)).await;
    let spent = thread_cpu() - before;
    assert!(spent < Duration::from_millis(20), "an idle second cost {spent:?}");
    drop((connection, accepted));
}

async fn sleeping_never_ends_early(world: World) {
    for ms in [0, 1, 2, 7, 30] {
        let start = Instant::now();
        world.tasks.sleep(Duration::from_millis(ms)).await;
        assert!(start.elapsed() >= Duration::from_millis(ms));
    }
}

async fn a_port_in_use_is_refused(world: World) {
    let listener = world.net.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let again = world.net.listen(listener.local_address()).map(|_| ()).unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::AddrInUse);
    let elsewhere = world.net.listen("0.0.0.0:0".parse().unwrap()).map(|_| ()).unwrap_err();
    assert_eq!(elsewhere.kind(), std::io::ErrorKind::InvalidInput);
    let address = listener.local_address();
    drop(listener);
    world.tasks.sleep(Duration::from_millis(50)).await;
    let refused = world.net.connect(address).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "a dropped listener is closed");
    let _: &Rc<dyn Net> = &world.net;
}

on_both_runtimes!(
    cpu_jobs_run_beside_the_executor_and_come_back,
    a_dropped_cpu_job_is_withdrawn_and_others_go_on,
    a_spawned_task_begins_after_its_spawner_has_let_others_run,
    an_idle_world_sleeps,
    sleeping_never_ends_early,
    a_port_in_use_is_refused,
);

#[test]
fn a_stop_reaches_every_runtime_and_those_who_come_late() {
    let stop = Stop::new().unwrap();
    let waits: Vec<_> = (0..4)
        .map(|number| {
            let stop = stop.clone();
            std::thread::spawn(move || match number % 2 {
                0 => tokio(move |_| async move { on_tokio::stopped(&stop).await.unwrap() }),
                _ => glommio(move |_| async move { on_glommio::stopped(&stop).await.unwrap() }),
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(200));
    assert!(waits.iter().all(|wait| !wait.is_finished()) && !stop.is_triggered());
    stop.trigger();
    stop.trigger();
    waits.into_iter().for_each(|wait| wait.join().unwrap());
    assert!(stop.is_triggered());
    let late = stop.clone();
    tokio(move |_| async move { on_tokio::stopped(&late).await.unwrap() });
    glommio(move |_| async move { on_glommio::stopped(&stop).await.unwrap() });
}

#[test]
fn an_eventfd_signalled_from_another_thread_wakes_a_shard_every_time() {
    use std::os::fd::AsFd;
    const SIGNALS: u64 = 2000;
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let (seen, ask) = std::sync::mpsc::channel();
    let watched = event.try_clone().unwrap();
    let shard = std::thread::spawn(move || {
        glommio(move |_| async move {
            let signals = on_glommio::EventFd::new(watched.as_fd()).unwrap();
            for _ in 0..SIGNALS {
                signals.signalled().await.unwrap();
                seen.send(()).unwrap();
            }
            on_glommio::eventfd_signal(watched.as_fd()).await.unwrap();
        });
    });
    for _ in 0..SIGNALS {
        rustix::io::write(&event, &1_u64.to_ne_bytes()).unwrap();
        ask.recv_timeout(Duration::from_secs(10)).expect("no signal is lost");
    }
    rustix::io::write(&event, &1_u64.to_ne_bytes()).unwrap();
    shard.join().unwrap();
}
