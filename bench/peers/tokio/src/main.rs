//! The rows of bench/micro in Tokio, for bench/runtime.py: NAME<TAB>NS_PER_OP, the best of some
//! rounds.
//!
//!     runtime-tokio [--threads=N] [ROW...]
//!
//! One thread is the current_thread runtime, more are the multi_thread runtime; without the option
//! rows whose names end in _2w get two. Each row has a runtime of its own and runs as a spawned
//! task, which both runtimes are made for (what is given to block_on is polled on another path).

use std::arch::asm;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, Mutex, Notify};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

const ROUNDS: usize = 15;

/// What a task does: a call that the compiler can neither remove nor look into.
#[inline(never)]
fn opaque(arg: usize) -> usize {
    let mut out = arg;
    // Not `pure`, so it stays even if nobody looks at the result.
    unsafe { asm!("/* {0} */", inout(reg) out, options(nostack, preserves_flags)) };
    out
}

async fn nothing() -> usize {
    opaque(0)
}

/// Lets others run once. For a lone task this is cheaper than yield_now, before whose return Tokio
/// asks the kernel for events.
#[derive(Default)]
struct YieldOnce {
    has_yielded: bool,
}

impl Future for YieldOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.has_yielded {
            return Poll::Ready(());
        }
        self.has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn yield_once() -> YieldOnce {
    YieldOnce::default()
}

fn ns_each(start: Instant, n: usize) -> f64 {
    start.elapsed().as_nanos() as f64 / n as f64
}

// ---- tasks ----

async fn spawn_batches(batches: usize, size: usize) {
    let mut handles = Vec::with_capacity(size);
    for _ in 0..batches {
        for _ in 0..size {
            handles.push(tokio::spawn(nothing()));
        }
        for handle in handles.drain(..) {
            handle.await.unwrap();
        }
    }
}

async fn spawn_join_of(size: usize) -> f64 {
    let batches = 300_000 / size;
    let start = Instant::now();
    spawn_batches(batches, size).await;
    ns_each(start, batches * size)
}

async fn spawn_join() -> f64 {
    spawn_join_of(256).await
}

async fn spawn_join_1000() -> f64 {
    spawn_join_of(1000).await
}

/// Two tasks, each with batches of its own.
async fn spawn_join_2w() -> f64 {
    let (batches, size) = (300, 1000);
    let start = Instant::now();
    let first = tokio::spawn(spawn_batches(batches, size));
    let second = tokio::spawn(spawn_batches(batches, size));
    first.await.unwrap();
    second.await.unwrap();
    ns_each(start, 2 * batches * size)
}

async fn yield_1000() -> f64 {
    let (tasks, turns) = (1000, 300);
    let start = Instant::now();
    let mut handles = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        handles.push(tokio::spawn(async move {
            for _ in 0..turns {
                yield_now().await;
            }
        }));
    }
    for handle in handles {
        handle.await.unwrap();
    }
    ns_each(start, tasks * turns)
}

async fn join3_ready() -> f64 {
    let n = 300_000;
    let start = Instant::now();
    for _ in 0..n {
        tokio::join!(nothing(), nothing(), nothing());
    }
    ns_each(start, n)
}

async fn join3_pending() -> f64 {
    let n = 200_000;
    let start = Instant::now();
    for _ in 0..n {
        tokio::join!(yield_once(), yield_once(), yield_once());
    }
    ns_each(start, n)
}

async fn timeout_pending() -> f64 {
    let n = 200_000;
    let start = Instant::now();
    for _ in 0..n {
        timeout(Duration::from_secs(10), yield_once()).await.unwrap();
    }
    ns_each(start, n)
}

// ---- channels, select, mutex; Tokio has no rendezvous channel: a capacity of 1 comes nearest ----

async fn channel_pingpong() -> f64 {
    let n = 200_000;
    let (to, mut from_us) = mpsc::channel::<i64>(1);
    let (back, mut from_them) = mpsc::channel::<i64>(1);
    let start = Instant::now();
    let echo = tokio::spawn(async move {
        while let Some(item) = from_us.recv().await {
            back.send(item).await.unwrap();
        }
    });
    for i in 0..n {
        to.send(i as i64).await.unwrap();
        assert_eq!(from_them.recv().await, Some(i as i64));
    }
    drop(to);
    echo.await.unwrap();
    ns_each(start, n)
}

async fn channel_bounded() -> f64 {
    let n = 500_000;
    let (to, mut from) = mpsc::channel::<i64>(1024);
    let start = Instant::now();
    let producer = tokio::spawn(async move {
        for i in 0..n as i64 {
            to.send(i).await.unwrap();
        }
    });
    let consumer = tokio::spawn(async move {
        for i in 0..n as i64 {
            assert_eq!(from.recv().await, Some(i));
        }
    });
    producer.await.unwrap();
    consumer.await.unwrap();
    ns_each(start, n)
}

async fn select_ready() -> f64 {
    let n = 300_000;
    let (_keep_open, mut empty) = mpsc::channel::<i64>(1);
    let (to, mut full) = mpsc::channel::<i64>(n);
    for i in 0..n {
        to.try_send(i as i64).unwrap();
    }
    let start = Instant::now();
    for _ in 0..n {
        tokio::select! {
            item = empty.recv() => assert!(item.is_some()),
            item = full.recv() => assert!(item.is_some()),
        }
    }
    ns_each(start, n)
}

async fn select_pending() -> f64 {
    let n = 200_000;
    let (_keep_open, mut empty) = mpsc::channel::<i64>(1);
    let (to, mut from) = mpsc::channel::<i64>(1);
    let start = Instant::now();
    let producer = tokio::spawn(async move {
        for i in 0..n {
            to.send(i as i64).await.unwrap();
        }
    });
    for _ in 0..n {
        tokio::select! {
            item = empty.recv() => assert!(item.is_some()),
            item = from.recv() => assert!(item.is_some()),
        }
    }
    producer.await.unwrap();
    ns_each(start, n)
}

async fn mutex() -> f64 {
    let n = 1_000_000;
    let mutex = Mutex::new(0);
    let start = Instant::now();
    for _ in 0..n {
        drop(mutex.lock().await);
    }
    ns_each(start, n)
}

// ---- timers, memory ----

fn cpu_ns() -> f64 {
    let mut u: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut u) };
    let ns = |t: libc::timeval| t.tv_sec as f64 * 1e9 + t.tv_usec as f64 * 1e3;
    ns(u.ru_utime) + ns(u.ru_stime)
}

/// 100,000 tasks that sleep 1 to 20 ms each: processor time of one.
async fn timer() -> f64 {
    let n = 100_000;
    let start = cpu_ns();
    let mut handles = Vec::with_capacity(n);
    for i in 0..n as u64 {
        handles.push(tokio::spawn(sleep(Duration::from_millis(1 + i % 20))));
    }
    for handle in handles {
        handle.await.unwrap();
    }
    (cpu_ns() - start) / n as f64
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as f64
}

/// What the waiting tasks wait for, and what tells that they have.
#[derive(Clone, Default)]
struct Gate {
    end: Arc<Notify>,
    passed: Arc<AtomicUsize>,
}

async fn wait(gate: Gate) {
    gate.end.notified().await;
    gate.passed.fetch_add(1, Ordering::Relaxed);
}

async fn wait_with_deadline(gate: Gate) {
    timeout(Duration::from_secs(3600), gate.end.notified()).await.unwrap();
    gate.passed.fetch_add(1, Ordering::Relaxed);
}

/// Resident memory per waiting task. Their handles are dropped, which is the cheapest.
async fn waiting<W>(n: usize, wait: fn(Gate) -> W) -> f64
where
    W: Future<Output = ()> + Send + 'static,
{
    let gate = Gate::default();
    let before = resident_bytes();
    for _ in 0..n {
        tokio::spawn(wait(gate.clone()));
    }
    sleep(Duration::from_millis(20)).await;
    let bytes = (resident_bytes() - before) / n as f64;
    gate.end.notify_waiters();
    sleep(Duration::from_millis(20)).await;
    assert_eq!(gate.passed.load(Ordering::Relaxed), n);
    bytes
}

async fn task_bytes() -> f64 {
    waiting(100_000, wait).await
}

/// With a deadline, as the callbacks that bench/micro parks have.
async fn parked_bytes() -> f64 {
    waiting(1_000_000, wait_with_deadline).await
}

// ---- waking another processor ----

fn allowed_cpus() -> Vec<usize> {
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    unsafe { libc::sched_getaffinity(0, std::mem::size_of_val(&set), &mut set) };
    (0..1024).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

fn pin_to(cpu: usize) {
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    unsafe {
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, std::mem::size_of_val(&set), &set);
    }
}

/// Half of a round trip to a task of another thread, which has slept for a millisecond. The
/// multi_thread runtime would answer on the thread that asks, so each thread has a runtime.
fn wakeup_2w() -> f64 {
    let n = 501;
    let cpus = allowed_cpus();
    let (to, mut from_us) = mpsc::channel::<i64>(1);
    let (back, mut from_them) = mpsc::channel::<i64>(1);
    let other_cpu = cpus[cpus.len() - 1];
    let other = std::thread::spawn(move || {
        pin_to(other_cpu);
        runtime(1).block_on(async move {
            while let Some(item) = from_us.recv().await {
                back.send(item).await.unwrap();
            }
        });
    });
    pin_to(cpus[0]);
    let mut spans = runtime(1).block_on(async move {
        let mut spans = Vec::with_capacity(n);
        for i in 0..n as i64 {
            std::thread::sleep(Duration::from_millis(1));
            let start = Instant::now();
            to.send(i).await.unwrap();
            from_them.recv().await.unwrap();
            spans.push(ns_each(start, 2));
        }
        spans
    });
    other.join().unwrap();
    spans.sort_by(f64::total_cmp);
    spans[n / 2]
}

// ---- rows ----

fn runtime(threads: usize) -> Runtime {
    if threads == 1 {
        return Builder::new_current_thread().enable_all().build().unwrap();
    }
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
}

type Measure = fn() -> Pin<Box<dyn Future<Output = f64> + Send>>;

struct Row {
    name: &'static str,
    rounds: usize,
    measure: Measure,
}

macro_rules! rows {
    ($($name:literal, $rounds:expr, $measure:ident;)*) => {
        [$(Row { name: $name, rounds: $rounds, measure: || Box::pin($measure()) },)*]
    };
}

fn main() {
    let rows = rows! {
        "spawn_join", ROUNDS, spawn_join;
        "spawn_join_1000", ROUNDS, spawn_join_1000;
        "spawn_join_2w", ROUNDS, spawn_join_2w;
        "yield_1000", ROUNDS, yield_1000;
        "channel_pingpong", ROUNDS, channel_pingpong;
        "channel_bounded", ROUNDS, channel_bounded;
        "channel_bounded_2w", ROUNDS, channel_bounded;
        "select_ready", ROUNDS, select_ready;
        "select_pending", ROUNDS, select_pending;
        "join3_ready", ROUNDS, join3_ready;
        "join3_pending", ROUNDS, join3_pending;
        "timeout_pending", ROUNDS, timeout_pending;
        "mutex", ROUNDS, mutex;
        "timer", ROUNDS, timer;
        "task_bytes", 1, task_bytes;
        "parked_bytes", 1, parked_bytes;
    };
    let (mut wanted, mut threads_asked) = (Vec::new(), None);
    for arg in std::env::args().skip(1) {
        match arg.strip_prefix("--threads=") {
            Some(count) => threads_asked = Some(count.parse().unwrap()),
            None => wanted.push(arg),
        }
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    for row in rows.iter().filter(|row| is_wanted(row.name)) {
        let own = if row.name.ends_with("_2w") { 2 } else { 1 };
        let runtime = runtime(threads_asked.unwrap_or(own));
        let round = || runtime.block_on(async { tokio::spawn((row.measure)()).await.unwrap() });
        let best = (0..row.rounds).map(|_| round()).fold(f64::INFINITY, f64::min);
        println!("{}\t{:.2}", row.name, best);
    }
    if is_wanted("wakeup_2w") {
        println!("wakeup_2w\t{:.2}", wakeup_2w());
    }
}
