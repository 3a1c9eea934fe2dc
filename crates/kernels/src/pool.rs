//! The threads that run every kernel: fork and join without a lock, spinning briefly, then sleeping.
//!
//! A *region* runs one closure on the team; inside it, each *stage* is a number of chunks that the threads
//! claim one by one from a shared counter. A stage ends when its chunks are done, not when all threads have
//! come: a thread that the system has taken away, or that never woke, holds up nothing but the chunk it
//! holds. Whoever does a chunk, its result is the same, so results never depend on the schedule.
//!
//! All threads of a team run the same closure, hence the same stages in the same order. Two counters that
//! only grow (chunks claimed, chunks done) therefore serve all stages of a region: stage s owns the chunk
//! numbers from the sum of the earlier stages' sizes up to its own.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread that waits keeps its core before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

const AWAKE: u8 = 0;
const IDLE: u8 = 1;
const WAITING: u8 = 2;

const OPEN: u64 = 1 << 31;
const ENTERED: u64 = OPEN - 1;

#[repr(align(128))]
struct Padded<T>(T);

type Job<'a> = dyn Fn(&Team<'_>) + Sync + 'a;

/// What all threads of a pool share.
struct Shared {
    /// Region number << 32 | open << 31 | workers inside.
    state: Padded<AtomicU64>,
    claimed: Padded<AtomicU64>,
    done: Padded<AtomicU64>,
    /// The closure of the region; only read between entering and leaving it.
    job: Mutex<Option<JobPtr>>,
    /// Thread 0 is the caller of the region.
    seats: Vec<Seat>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
}

struct Seat {
    asleep: Padded<AtomicU8>,
    thread: Mutex<Option<Thread>>,
}

#[derive(Clone, Copy)]
struct JobPtr(*const Job<'static>);
// SAFETY: the closure is Sync, and `Pool::run` keeps it alive until every worker has left the region.
unsafe impl Send for JobPtr {}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A fixed number of threads, the caller among them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Regions of different callers follow one another.
    turn: Mutex<u64>,
}

/// One thread's view of the region that it is in.
pub struct Team<'a> {
    shared: Option<&'a Shared>,
    index: usize,
    threads: usize,
    /// Chunks of all stages up to the present one.
    end: Cell<u64>,
}

impl Pool {
    /// A pool of `threads` threads (at least one); the caller of [`Pool::run`] is one of them.
    pub fn new(threads: usize) -> Pool {
        let threads = threads.max(1);
        let seat = || Seat { asleep: Padded(AtomicU8::new(AWAKE)), thread: Mutex::new(None) };
        let shared = Arc::new(Shared {
            state: Padded(AtomicU64::new(0)),
            claimed: Padded(AtomicU64::new(0)),
            done: Padded(AtomicU64::new(0)),
            job: Mutex::new(None),
            seats: (0..threads).map(|_| seat()).collect(),
            panic: Mutex::new(None),
            stop: AtomicBool::new(false),
        });
        let workers = (1..threads).filter_map(|i| {
            let shared = Arc::clone(&shared);
            // A thread that cannot be had is done without: nobody waits for it.
            let spawned = std::thread::Builder::new().name(format!("kernel-{i}"));
            spawned.spawn(move || shared.work(i)).ok()
        });
        let workers = workers.collect();
        Pool { shared, workers, turn: Mutex::new(0) }
    }

    /// Threads of the team, the caller included.
    pub fn threads(&self) -> usize {
        self.shared.seats.len()
    }

    /// Runs `job` on the team and returns when all of it is done. `job` must go through the same stages on
    /// every thread; work outside of a stage is done by each thread that comes (perhaps by the caller alone).
    /// Within a region a further one runs on the calling thread alone.
    pub fn run(&self, job: impl Fn(&Team<'_>) + Sync) {
        if self.threads() == 1 || INSIDE.get() {
            let alone = Team { shared: None, index: 0, threads: 1, end: Cell::new(0) };
            return job(&alone);
        }
        let mut turn = lock(&self.turn);
        *turn = (*turn + 1) & u64::from(u32::MAX);
        self.shared.region(*turn, &job);
    }

    /// Runs `f(0)` to `f(chunks - 1)`, each once, on whichever threads are free.
    pub fn each(&self, chunks: usize, f: impl Fn(usize) + Sync) {
        if chunks <= 1 {
            return (0..chunks).for_each(f);
        }
        self.run(|team| team.each(chunks, &f));
    }

    /// Cuts `data` into pieces of `len` (the last may be shorter) and runs `f(index, piece)` on each.
    pub fn each_piece<T: Send>(&self, data: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let (total, len) = (data.len(), len.max(1));
        let base = Pieces(data.as_mut_ptr());
        self.each(total.div_ceil(len), |i| {
            let from = i * len;
            // SAFETY: pieces of different `i` do not overlap, each `i` runs once, and `data` is ours.
            let piece = unsafe { base.piece(from, len.min(total - from)) };
            f(i, piece);
        });
    }
}

struct Pieces<T>(*mut T);
// SAFETY: only used to hand out pieces that do not overlap.
unsafe impl<T: Send> Sync for Pieces<T> {}
impl<T> Pieces<T> {
    /// # Safety
    /// The piece lies in the slice and nobody else has it.
    #[allow(clippy::mut_from_ref)]
    unsafe fn piece(&self, from: usize, len: usize) -> &mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(from), len) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.wake(IDLE);
        for w in self.workers.drain(..) {
            let _ = w.join();
        }
    }
}

impl Shared {
    /// The caller's side of a region.
    fn region(&self, number: u64, job: &Job<'_>) {
        // SAFETY: only the lifetime is changed; the pointer is not used after this function, see its end.
        let ptr = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
        *lock(&self.seats[0].thread) = Some(std::thread::current());
        *lock(&self.job) = Some(JobPtr(ptr));
        self.claimed.0.store(0, Relaxed);
        self.done.0.store(0, Relaxed);
        self.state.0.store(number << 32 | OPEN, SeqCst);
        self.wake(IDLE);
        self.take_part(0, job);
        // Whoever has not come by now need not come; whoever is inside is waited for.
        self.state.0.fetch_and(!OPEN, SeqCst);
        self.wait(0, WAITING, || self.state.0.load(SeqCst) & ENTERED == 0);
        *lock(&self.job) = None;
        let panic = lock(&self.panic).take();
        if let Some(p) = panic {
            resume_unwind(p);
        }
    }

    /// Runs the job as thread `index`, keeping a panic for the caller.
    fn take_part(&self, index: usize, job: &Job<'_>) {
        INSIDE.set(true);
        let team = Team { shared: Some(self), index, threads: self.seats.len(), end: Cell::new(0) };
        if let Err(p) = catch_unwind(AssertUnwindSafe(|| job(&team))) {
            lock(&self.panic).get_or_insert(p);
            // The others must not wait for stages that this thread will not reach.
            self.done.0.fetch_add(1 << 48, SeqCst);
            self.claimed.0.fetch_add(1 << 48, SeqCst);
            self.wake(WAITING);
        }
        INSIDE.set(false);
    }

    /// A worker's life.
    fn work(&self, index: usize) {
        *lock(&self.seats[index].thread) = Some(std::thread::current());
        let mut seen = 0;
        loop {
            let fresh = |s: u64| s & OPEN != 0 && s >> 32 != seen;
            self.wait(index, IDLE, || fresh(self.state.0.load(SeqCst)) || self.stop.load(SeqCst));
            if self.stop.load(SeqCst) {
                return;
            }
            let s = self.state.0.load(SeqCst);
            if !fresh(s) || self.state.0.compare_exchange(s, s + 1, SeqCst, SeqCst).is_err() {
                continue;
            }
            seen = s >> 32;
            let job = *lock(&self.job);
            if let Some(JobPtr(p)) = job {
                // SAFETY: this thread is counted as inside, so `region` has not returned.
                self.take_part(index, unsafe { &*p });
            }
            if self.state.0.fetch_sub(1, SeqCst) & (OPEN | ENTERED) == 1 {
                self.wake(WAITING);
            }
        }
    }

    /// Spins until `ready`, and after a while sleeps until woken for it.
    fn wait(&self, index: usize, how: u8, ready: impl Fn() -> bool) {
        let mut start = None;
        loop {
            for _ in 0..64 {
                if ready() {
                    return;
                }
                std::hint::spin_loop();
            }
            if start.get_or_insert_with(Instant::now).elapsed() > SPIN {
                break;
            }
        }
        let seat = &self.seats[index];
        loop {
            seat.asleep.0.store(how, SeqCst);
            if ready() {
                seat.asleep.0.store(AWAKE, SeqCst);
                return;
            }
            std::thread::park();
        }
    }

    /// Wakes all threads that sleep in this way.
    fn wake(&self, how: u8) {
        for seat in &self.seats {
            // The flag goes first: a thread that is woken by chance sets it again itself.
            if seat.asleep.0.load(SeqCst) == how
                && seat.asleep.0.compare_exchange(how, AWAKE, SeqCst, SeqCst).is_ok()
                && let Some(t) = lock(&seat.thread).as_ref()
            {
                t.unpark();
            }
        }
    }
}

impl Team<'_> {
    /// Which thread this is; 0 is the caller.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Threads that may take part.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// A stage: runs `f(0)` to `f(chunks - 1)`, each once, on whichever threads are free, and returns when
    /// all of them are done (by whomever), what they wrote being visible.
    pub fn each(&self, chunks: usize, f: impl Fn(usize)) {
        let Some(shared) = self.shared else {
            return (0..chunks).for_each(f);
        };
        let first = self.end.get();
        let end = first + chunks as u64;
        self.end.set(end);
        let mut at = shared.claimed.0.load(Relaxed);
        while at < end {
            match shared.claimed.0.compare_exchange_weak(at, at + 1, AcqRel, Relaxed) {
                Ok(_) => {
                    f((at - first) as usize);
                    if shared.done.0.fetch_add(1, SeqCst) + 1 == end {
                        shared.wake(WAITING);
                    }
                    at = shared.claimed.0.load(Relaxed);
                }
                Err(now) => at = now,
            }
        }
        shared.wait(self.index, WAITING, || shared.done.0.load(SeqCst) >= end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_chunk_runs_once_and_stages_follow_one_another() {
        // An interpreter is patient with few of them only.
        let (most, rounds) = if cfg!(miri) { (3, 8) } else { (5, 200) };
        for threads in 1..=most {
            let pool = Pool::new(threads);
            for round in 0..rounds {
                let n = round % 17;
                let a: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                let b: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                pool.run(|team| {
                    assert!(team.index() < team.threads());
                    team.each(n, |i| {
                        a[i].fetch_add(1, Relaxed);
                    });
                    team.each(n, |i| {
                        let all = a.iter().all(|x| x.load(Relaxed) == 1);
                        b[i].fetch_add(if all { 1 } else { 100 }, Relaxed);
                    });
                });
                assert!(b.iter().all(|x| x.load(Relaxed) == 1), "{threads} threads, {n} chunks");
            }
        }
    }

    #[test]
    fn pieces_cover_the_slice() {
        let pool = Pool::new(3);
        let mut data = vec![0u32; 1003];
        pool.each_piece(&mut data, 10, |i, p| p.iter_mut().for_each(|x| *x += i as u32 + 1));
        assert!(data.iter().enumerate().all(|(i, &x)| x == i as u32 / 10 + 1));
    }

    #[test]
    fn a_region_within_a_region_and_after_sleep_works() {
        let pool = Pool::new(2);
        let count = AtomicUsize::new(0);
        pool.each(4, |_| {
            pool.each(3, |_| {
                count.fetch_add(1, Relaxed);
            })
        });
        std::thread::sleep(Duration::from_millis(2));
        pool.each(4, |_| {
            count.fetch_add(1, Relaxed);
        });
        assert_eq!(count.load(Relaxed), 16);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        for _ in 0..if cfg!(miri) { 2 } else { 20 } {
            let r = catch_unwind(AssertUnwindSafe(|| pool.each(10, |i| assert!(i != 7, "seven"))));
            assert!(r.is_err());
            let sum = AtomicUsize::new(0);
            pool.each(10, |i| {
                sum.fetch_add(i, Relaxed);
            });
            assert_eq!(sum.load(Relaxed), 45);
        }
    }

    #[test]
    fn a_held_thread_holds_up_only_its_chunk() {
        let pool = Pool::new(2);
        let (others, start) = (AtomicUsize::new(0), Instant::now());
        pool.run(|team| {
            team.each(40, |i| {
                if i > 0 {
                    others.fetch_add(1, Relaxed);
                    return;
                }
                // Whoever has this chunk does no other before the rest is done, which a share of its own would prevent.
                while others.load(Relaxed) < 39 && start.elapsed() < Duration::from_secs(60) {
                    std::thread::yield_now();
                }
                assert_eq!(others.load(Relaxed), 39, "the free thread did not do the rest");
            });
        });
    }
}
