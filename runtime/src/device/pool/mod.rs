//! The threads that kernels run on.
//!
//! A run is a number of tasks. Each thread has a share of them, the same part of every run, and claims them one by one from the
//! share's counter; then those of other shares, of threads that are slower or not there. So what a layer writes is mostly read by
//! the thread that wrote it, from its own cache, which matters most where two CPUs share none. No run waits for a worker that has not arrived: on a busy machine a worker
//! may take milliseconds to wake, and the caller does its work meanwhile.
//!
//! All agreement is in one word ([`Shared::state`]):
//!
//! ```text
//! caller                                       worker
//! write the job, set the counters              see OPEN and an epoch it has not joined
//! state = next epoch + OPEN, wake              compare-exchange state -> state + 1      (joined)
//! claim tasks until there is none              claim tasks until there is none
//! clear OPEN                                   state - 1                                (left)
//! wait until no worker is inside               the last one out wakes the caller
//! ```
//!
//! A worker joins only by the compare-exchange, which fails once OPEN is cleared; so when the caller sees no worker
//! inside after clearing it, none will ever touch the job again, and the borrowed closure may end.
//!
//! A worker that another process keeps from its CPU in the middle of a task holds the whole run up, for milliseconds. After that
//! the caller works alone for a while ([`Rest`]), longer each time it happens again.

mod parts;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cpu::MAX_THREADS;
use super::error::DeviceError;

/// Stack of a worker thread in bytes. Kernels keep blocks of a few KiB there and do not recurse; only pages that are
/// touched become resident, and this is the bound on them.
pub const STACK_BYTES: usize = 256 << 10;

/// How long a thread watches for more work before it sleeps. Two kernels of one inference follow each other within a
/// few microseconds and waking a thread costs 5 to 50, so a worker that spins this long rarely sleeps between them
/// and wastes no more than one wake-up when there is nothing to come.
const SPIN: Duration = Duration::from_micros(50);

/// A run is held up when it waits for a worker longer than this, and longer than the caller's own part of it took: tasks are
/// alike, so who claims the last one is through about when the others are.
const HELD_UP: Duration = Duration::from_micros(200);
/// How long the caller works alone after a run was held up: the first time, and at most.
const RESTS: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(512)];
/// Runs without a delay after which the next rest is as short as the first again.
const FORGIVEN: u32 = 2000;

/// Spins between two looks at the clock, which costs as much as a few dozen of them.
const SPINS_PER_LOOK: u32 = 32;

/// Workers inside the run.
const ACTIVE: u64 = 0xffff;
/// Workers may join.
const OPEN: u64 = 1 << 16;
/// The caller sleeps until the last worker leaves.
const WAITING: u64 = 1 << 17;
/// The pool is being dropped.
const STOP: u64 = 1 << 18;
/// One run; the bits from here on count runs.
const EPOCH: u64 = 1 << 19;

const _: () = assert!(MAX_THREADS as u64 <= ACTIVE);

type Payload = Box<dyn Any + Send>;

/// A pool of threads that run borrowed closures without allocating.
///
/// One run at a time uses the workers. A run started while another one is going, from another thread or from inside
/// a task, does not wait: it does all of its tasks on the calling thread.
///
/// Tasks of a share are claimed in order, but by any thread. What a task computes must depend on its index only, never on the
/// worker, so that results are the same for any number of threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What the caller and the workers share.
struct Shared {
    /// ACTIVE, OPEN, WAITING, STOP and the epoch; see the module's text.
    state: Line<AtomicU64>,
    /// For each thread, the next task of its share; beyond the last one when there is none.
    next: Box<[Line<AtomicUsize>]>,
    /// A run is using the workers. Whoever sets it owns `job` and the right to open a run.
    busy: AtomicBool,
    job: UnsafeCell<Job>,
    rest: UnsafeCell<Rest>,
    /// First panic of a worker in this run.
    panic: Mutex<Option<Payload>>,
    /// With `left`: where the caller sleeps until the last worker leaves.
    gate: Mutex<()>,
    left: Condvar,
    /// Whether watching for work is worth it: not with more threads than CPUs, where it takes time from those who
    /// have work.
    spin: bool,
}

// SAFETY: `job` and `rest` are the only fields that are not Sync and Send by themselves. `rest` is touched by the owner of `busy`
// only, which is taken and given back with acquire and release. `job` is written by the owner of `busy` while no
// run is open and no worker inside, and read by workers that joined an open run; joining is an acquiring
// compare-exchange of the word that the owner stored with release after writing. What it points to is a
// `&F` with `F: Sync`, see `Pool::run`.
unsafe impl Sync for Shared {}
// SAFETY: as above; no field is tied to the thread that made it.
unsafe impl Send for Shared {}

/// For how long the caller works without the others.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    until: Option<Instant>,
    /// What the next one will last.
    next: Duration,
    /// Runs since the last delay.
    prompt: u32,
}

impl Rest {
    /// Whether the caller works alone now.
    fn lasts(&mut self) -> bool {
        let lasts = self.until.is_some_and(|until| Instant::now() < until);
        if !lasts {
            self.until = None;
        }
        lasts
    }

    /// Takes note of a run that the caller worked on for `own` and then waited for the workers.
    fn after(&mut self, own: Duration, waited: Duration) {
        if waited > HELD_UP && waited > own {
            let rest = self.next.clamp(RESTS[0], RESTS[1]);
            *self = Rest { until: Some(Instant::now() + rest), next: rest * 2, prompt: 0 };
            return;
        }
        self.prompt = self.prompt.saturating_add(1);
        if self.prompt == FORGIVEN {
            self.next = RESTS[0];
        }
    }
}

/// A value on cache lines of its own: the task counter is written by all threads, and whoever watches the state
/// should not pay for that. 128 bytes, because x86 fetches lines in pairs and some ARM cores have lines that long.
#[repr(align(128))]
struct Line<T>(T);

/// [`drain_erased`] for some type: the closure, the shares, the tasks, the worker.
type Drain = unsafe fn(*const (), &[Line<AtomicUsize>], usize, usize) -> Option<Payload>;

/// The closure of a run, its type forgotten.
#[derive(Clone, Copy)]
struct Job {
    /// `drain::<F>` behind a pointer, for the F that `closure` points to.
    drain: Drain,
    closure: *const (),
    tasks: usize,
}

thread_local! {
    /// The pool this thread works for at the moment, and as which worker.
    static PLACE: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

impl Pool {
    /// A pool of `threads` threads: the caller of a run and `threads - 1` workers, named `edge-worker-1` and so on,
    /// with stacks of [`STACK_BYTES`]. With `threads` = 1 there is no worker, and every run is a plain loop.
    ///
    /// # Errors
    /// When `threads` is 0 or above [`MAX_THREADS`], or the system refuses a thread.
    pub fn new(threads: usize) -> Result<Pool, DeviceError> {
        // The answer costs system calls, and the planner makes a pool of one for every node that it computes.
        let cpus = if threads > 1 { super::cpu::allowed_cpus().len() } else { 1 };
        Pool::on(threads, cpus, &[])
    }

    /// As [`Pool::new`], on so many CPUs: where there are fewer than threads, nobody waits for work by spinning. Each worker stays on
    /// its CPU of `pinned`, if there is one; where the system refuses that, the log says so and the worker runs anywhere.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub(super) fn on(threads: usize, cpus: usize, pinned: &[usize]) -> Result<Pool, DeviceError> {
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(DeviceError::Threads { asked: threads });
        }
        let shared = Arc::new(Shared {
            state: Line(AtomicU64::new(0)),
            next: (0..threads).map(|_| Line(AtomicUsize::new(0))).collect(),
            busy: AtomicBool::new(false),
            job: UnsafeCell::new(Job {
                drain: drain_erased::<fn(usize, usize)>,
                closure: std::ptr::null(),
                tasks: 0,
            }),
            rest: UnsafeCell::new(Rest::default()),
            panic: Mutex::new(None),
            gate: Mutex::new(()),
            left: Condvar::new(),
            spin: (2..=cpus).contains(&threads),
        });
        let mut pool = Pool { shared, workers: Vec::with_capacity(threads - 1) };
        for worker in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let cpu = pinned.get(worker - 1).copied();
            let builder =
                thread::Builder::new().name(format!("edge-worker-{worker}")).stack_size(STACK_BYTES);
            // On an error the workers started so far end when `pool` is dropped.
            let life = move || {
                if let Some(cpu) = cpu
                    && let Err(why) = super::cpu::pin(cpu)
                {
                    log::warn!("worker {worker} is not kept on CPU {cpu}: {why}");
                }
                shared.work(worker);
            };
            let handle =
                builder.spawn(life).map_err(|source| DeviceError::Spawn { worker, threads, source })?;
            pool.workers.push(handle);
        }
        Ok(pool)
    }

    /// Threads that may work on a run, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Upper bound of the memory that the workers' stacks take, in bytes.
    pub fn stack_bytes(&self) -> u64 {
        (self.workers.len() * STACK_BYTES) as u64
    }

    /// Calls `f(task, worker)` once for each task in `0..tasks` and returns when all calls have. `worker` is below
    /// [`Pool::threads`], and within one run no two threads have the same one: it can choose a thread's own scratch
    /// memory, see [`super::Scratch`]. Allocates nothing.
    ///
    /// # Panics
    /// When a task panics: the other tasks run first, then the panic goes on from here (the first one seen, when
    /// there are several).
    pub fn run<F: Fn(usize, usize) + Sync>(&self, tasks: usize, f: F) {
        // Every thread may count one past the end after it has found no task left, and the counter must not wrap.
        assert!(tasks <= usize::MAX / 2, "{tasks} tasks in one run");
        let helpers = self.workers.len().min(tasks.saturating_sub(1));
        if helpers == 0 || self.shared.busy.swap(true, Ordering::Acquire) {
            return self.alone(tasks, &f);
        }
        let shared = &*self.shared;
        // SAFETY: `busy` is ours.
        if unsafe { &mut *shared.rest.get() }.lasts() {
            shared.busy.store(false, Ordering::Release);
            return self.alone(tasks, &f);
        }
        let start = Instant::now();
        // SAFETY: `busy` is ours, so no other caller touches `job`; and the last run ended with OPEN cleared and no
        // worker inside (`close`), so no worker reads it.
        unsafe {
            *shared.job.get() = Job { drain: drain_erased::<F>, closure: (&raw const f).cast(), tasks }
        };
        for (i, next) in shared.next.iter().enumerate() {
            next.0.store(share(tasks, shared.next.len(), i).start, Ordering::Relaxed);
        }
        let epoch = shared.state.0.load(Ordering::Relaxed) & !(EPOCH - 1);
        // From here to the end of `close` nothing may unwind: `f` is in the hands of other threads. `drain` catches
        // what tasks throw.
        shared.state.0.store(epoch.wrapping_add(EPOCH) | OPEN, Ordering::Release);
        for worker in &self.workers[..helpers] {
            worker.thread().unpark();
        }
        let place = PLACE.replace((shared.id(), 0));
        let ours = drain(&shared.next, tasks, [0, 0], &f);
        PLACE.set(place);
        let own = start.elapsed();
        let waited = shared.close();
        // SAFETY: `busy` is ours.
        unsafe { &mut *shared.rest.get() }.after(own, waited);

        let theirs = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        shared.busy.store(false, Ordering::Release);
        if let Some(payload) = ours.or(theirs) {
            resume_unwind(payload);
        }
    }

    /// A run without workers.
    fn alone<F: Fn(usize, usize)>(&self, tasks: usize, f: &F) {
        // Inside a task of this pool the thread keeps its place. Elsewhere it stands alone in its run, as 0.
        let (pool, worker) = PLACE.get();
        let worker = if pool == self.shared.id() { worker } else { 0 };
        if let Some(payload) = drain(&[Line(AtomicUsize::new(0))], tasks, [0, worker], f) {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // `&mut self`: no run is going, so nobody else changes the word but workers that leave.
        self.shared.state.0.fetch_or(STOP, Ordering::Release);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        for worker in self.workers.drain(..) {
            // A worker catches every panic of a task, so there is none to pass on.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Tells this pool from others for as long as it lives.
    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// A worker's life: join each open run once, watch a while for the next one, sleep.
    fn work(&self, worker: usize) {
        PLACE.set((self.id(), worker));
        let mut joined = 0;
        let mut idle_since = Instant::now();
        loop {
            let state = self.state.0.load(Ordering::Acquire);
            if state & STOP != 0 {
                return;
            }
            let epoch = state & !(EPOCH - 1);
            if state & OPEN != 0 && epoch != joined {
                let join =
                    self.state.0.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
                if join.is_ok() {
                    joined = epoch;
                    self.help(worker);
                    idle_since = Instant::now();
                }
            } else if self.spin && idle_since.elapsed() < SPIN {
                (0..SPINS_PER_LOOK).for_each(|_| std::hint::spin_loop());
            } else {
                // A run opened since the load above has left its unpark behind, and this returns at once.
                thread::park();
                idle_since = Instant::now();
            }
        }
    }

    /// Works on the run that the worker has joined, and leaves it.
    fn help(&self, worker: usize) {
        // SAFETY: joined, so the caller of the run waits in `close` before anyone writes `job` again.
        let job = unsafe { *self.job.get() };
        // SAFETY: `drain` and `closure` were written together by `run::<F>`, whose `f` lives until `close` returns.
        let payload = unsafe { (job.drain)(job.closure, &self.next, job.tasks, worker) };
        if let Some(payload) = payload {
            let first = &mut *self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            match first {
                None => *first = Some(payload),
                Some(_) => discard(payload),
            }
        }
        let before = self.state.0.fetch_sub(1, Ordering::AcqRel);
        if before & WAITING != 0 && before & ACTIVE == 1 {
            // Through the gate, so that the caller is either before its last look at the state or asleep.
            drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
            self.left.notify_one();
        }
    }

    /// Ends the run: lets no more workers in and waits until those inside have left. How long that took.
    fn close(&self) -> Duration {
        let mut state = self.state.0.fetch_and(!OPEN, Ordering::AcqRel);
        if state & ACTIVE == 0 {
            return Duration::ZERO;
        }
        let since = Instant::now();
        while state & ACTIVE != 0 && self.spin && since.elapsed() < SPIN {
            (0..SPINS_PER_LOOK).for_each(|_| std::hint::spin_loop());
            state = self.state.0.load(Ordering::Acquire);
        }
        if state & ACTIVE == 0 {
            return since.elapsed();
        }
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.0.fetch_or(WAITING, Ordering::AcqRel);
        while self.state.0.load(Ordering::Acquire) & ACTIVE != 0 {
            gate = self.left.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        since.elapsed()
    }
}

/// The tasks of share `i` of `shares`.
fn share(tasks: usize, shares: usize, i: usize) -> Range<usize> {
    // Shares differ by one task at most.
    let (each, more) = (tasks / shares, tasks % shares);
    let start = each * i + i.min(more);
    start..start + each + usize::from(i < more)
}

/// Claims and does tasks until none is left, those of share `first` before others; the first panic among them, if any.
fn drain<F: Fn(usize, usize)>(
    next: &[Line<AtomicUsize>],
    tasks: usize,
    [first, worker]: [usize; 2],
    f: &F,
) -> Option<Payload> {
    let shares = next.len();
    let mut panic = None;
    loop {
        // One `catch_unwind` for all tasks, entered again only after a panic: the loop stays free of it.
        let pass = catch_unwind(AssertUnwindSafe(|| {
            for i in (first..shares).chain(0..first) {
                let end = share(tasks, shares, i).end;
                loop {
                    let task = next[i].0.fetch_add(1, Ordering::Relaxed);
                    if task >= end {
                        break;
                    }
                    f(task, worker);
                }
            }
        }));
        match pass {
            Ok(()) => return panic,
            Err(payload) if panic.is_none() => panic = Some(payload),
            Err(payload) => discard(payload),
        }
    }
}

/// [`drain`] with the type of the closure forgotten.
///
/// # Safety
/// `closure` must point to an `F` that is alive during the call and may be shared with this thread.
unsafe fn drain_erased<F: Fn(usize, usize)>(
    closure: *const (),
    next: &[Line<AtomicUsize>],
    tasks: usize,
    worker: usize,
) -> Option<Payload> {
    // SAFETY: passed on to the caller of this function.
    let f = unsafe { &*closure.cast::<F>() };
    drain(next, tasks, [worker, worker], f)
}

/// Gets rid of a panic that is not the first. Dropping it could panic again, in a place where that would leave the
/// caller waiting for ever; a leak is the lesser evil.
fn discard(payload: Payload) {
    std::mem::forget(payload);
}
