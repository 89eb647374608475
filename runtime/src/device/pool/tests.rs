//! Tests of the thread pool. The machine may have fewer CPUs than the pools here have threads: that is wanted, it
//! brings out late workers and sleeping callers.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use edge_kernels::MatMut;

use super::{FORGIVEN, HELD_UP, Pool, RESTS, Rest, STACK_BYTES};
use crate::device::{DeviceError, MAX_THREADS, Scratch};

fn message(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast::<&str>().map(|text| text.to_string()).unwrap(),
    }
}

#[test]
fn every_task_runs_once_for_any_count_of_tasks_and_threads() {
    for threads in [1, 2, 3, 4, 7] {
        let pool = Pool::new(threads).unwrap();
        assert_eq!(pool.threads(), threads);
        for tasks in (0..20).chain([63, 64, 65, 1_000]) {
            let calls: Vec<AtomicU32> = (0..tasks).map(|_| AtomicU32::new(0)).collect();
            pool.run(tasks, |task, worker| {
                assert!(worker < threads);
                calls[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(calls.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{tasks} tasks, {threads} threads");
        }
    }
}

#[test]
fn borrowed_sums_are_complete_when_run_returns() {
    let pool = Pool::new(4).unwrap();
    let data: Vec<u64> = (0..10_000).collect();
    let expect: u64 = data.iter().sum();
    for _ in 0..2_000 {
        let sum = AtomicU64::new(0);
        pool.run(16, |task, _| {
            let part: u64 = data[task * 625..(task + 1) * 625].iter().sum();
            sum.fetch_add(part, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), expect);
    }
}

#[test]
fn workers_have_names_and_take_part() {
    let pool = Pool::new(3).unwrap();
    assert_eq!(pool.stack_bytes(), 2 * STACK_BYTES as u64);
    let seen = Mutex::new(HashSet::new());
    // A task that waits for a second thread: would hang if workers did not come.
    let arrived = AtomicUsize::new(0);
    pool.run(2, |_, worker| {
        seen.lock().unwrap().insert((worker, std::thread::current().name().map(str::to_string)));
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), 2);
    for (worker, name) in seen {
        assert!(
            worker == 0 || name.as_deref() == Some(&format!("edge-worker-{worker}")),
            "{worker} {name:?}"
        );
    }
}

#[test]
fn one_thread_runs_in_order_on_the_caller() {
    let pool = Pool::new(1).unwrap();
    let caller = std::thread::current().id();
    let order = Mutex::new(Vec::new());
    pool.run(5, |task, worker| {
        assert_eq!((std::thread::current().id(), worker), (caller, 0));
        order.lock().unwrap().push(task);
    });
    assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4]);
}

#[test]
fn impossible_thread_counts_are_refused() {
    for asked in [0, MAX_THREADS + 1, usize::MAX] {
        assert!(matches!(Pool::new(asked), Err(DeviceError::Threads { asked: a }) if a == asked));
    }
}

#[test]
fn a_panic_reaches_the_caller_after_all_other_tasks() {
    for threads in [1, 4] {
        let pool = Pool::new(threads).unwrap();
        for round in 0..50 {
            let done = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(40, |task, _| {
                    if task % 10 == round % 10 {
                        // resume_unwind does not print, unlike panic!.
                        std::panic::resume_unwind(Box::new(format!("task {task}")));
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }));
            let text = message(result.unwrap_err());
            assert!(text.starts_with("task ") && text.ends_with(&(round % 10).to_string()), "{text}");
            assert_eq!(done.load(Ordering::Relaxed), 36);
        }
        let sum = AtomicUsize::new(0);
        pool.run(10, |task, _| {
            sum.fetch_add(task, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45, "the pool works after panics");
    }
}

#[test]
fn a_panic_of_a_worker_alone_reaches_the_caller() {
    let pool = Pool::new(2).unwrap();
    let thrown = AtomicBool::new(false);
    let result = catch_unwind(AssertUnwindSafe(|| {
        pool.run(2, |_, worker| {
            if worker == 1 {
                thrown.store(true, Ordering::SeqCst);
                std::panic::resume_unwind(Box::new("worker"));
            }
            while !thrown.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        });
    }));
    assert_eq!(message(result.unwrap_err()), "worker");
}

#[test]
fn a_run_inside_a_task_keeps_the_worker() {
    let pool = Pool::new(4).unwrap();
    let count = AtomicUsize::new(0);
    pool.run(32, |_, outer| {
        pool.run(8, |_, inner| {
            assert_eq!(inner, outer);
            count.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(count.into_inner(), 256);
}

#[test]
fn callers_on_many_threads_do_not_disturb_each_other() {
    let pool = Pool::new(4).unwrap();
    std::thread::scope(|scope| {
        for caller in 0..4usize {
            let pool = &pool;
            scope.spawn(move || {
                let mut out = vec![0usize; 257];
                for round in 0..500 {
                    pool.chunks_mut(&mut out, 1 + round % 40, |worker, i, part| {
                        assert!(worker < 4);
                        part.iter_mut().enumerate().for_each(|(j, x)| *x = caller + i * (1 + round % 40) + j);
                    });
                    assert!(
                        out.iter().enumerate().all(|(i, x)| *x == caller + i),
                        "caller {caller} round {round}"
                    );
                }
            });
        }
    });
}

#[test]
fn late_workers_and_sleeping_callers_finish() {
    let pool = Pool::new(4).unwrap();
    for round in 0..300u64 {
        let count = AtomicUsize::new(0);
        pool.run(5, |task, worker| {
            // Some workers are slow, so that the caller has to sleep for them; pauses let workers fall asleep.
            if worker > 0 && (task as u64 + round).is_multiple_of(3) {
                std::thread::sleep(Duration::from_micros(150));
            }
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 5);
        if round % 4 == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

#[test]
fn short_runs_back_to_back_lose_nothing() {
    let pool = Pool::new(4).unwrap();
    let mut data = [0u32; 64];
    for round in 1..=20_000 {
        pool.chunks_mut(&mut data, 8, |_, _, part| part.iter_mut().for_each(|x| *x += 1));
        if round % 1_000 == 0 {
            assert_eq!(data, [round; 64]);
        }
    }
}

#[test]
fn pools_start_and_stop_at_any_moment() {
    for round in 0..100 {
        let pool = Pool::new(4).unwrap();
        if round % 2 == 0 {
            pool.run(round, |_, _| {});
        }
    }
}

#[test]
fn tiles_cover_a_strided_matrix_once_and_nothing_else() {
    let pool = Pool::new(3).unwrap();
    for (rows, cols, stride) in [(0, 5, 5), (5, 0, 3), (1, 1, 1), (7, 9, 12), (16, 32, 32), (33, 17, 20)] {
        for (row_block, col_block) in [(1, 1), (4, 16), (6, 5), (100, 100), (usize::MAX, 3)] {
            let len = rows * stride + 3;
            let mut data = vec![0u32; len];
            pool.tiles(
                MatMut::new(&mut data, rows, cols, stride),
                row_block,
                col_block,
                |_, row0, col0, mut tile| {
                    assert!(row0 % row_block == 0 && col0 % col_block == 0);
                    assert!(
                        tile.rows() >= 1
                            && tile.rows() <= row_block
                            && tile.cols() >= 1
                            && tile.cols() <= col_block
                    );
                    for r in 0..tile.rows() {
                        for (c, x) in tile.row(r).iter_mut().enumerate() {
                            *x += 1 + ((row0 + r) * cols + col0 + c) as u32;
                        }
                    }
                },
            );
            for (i, x) in data.iter().enumerate() {
                let (r, c) = (i / stride, i % stride);
                let expect = if r < rows && c < cols { 1 + (r * cols + c) as u32 } else { 0 };
                assert_eq!(*x, expect, "{rows} x {cols} by {row_block} x {col_block}, row {r} column {c}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "tiles of 0 x 4")]
fn tiles_of_nothing_are_refused() {
    Pool::new(1).unwrap().tiles(MatMut::new(&mut [0u8; 4], 2, 2, 2), 0, 4, |_, _, _, _| {});
}

#[test]
fn chunks_cover_a_slice_once() {
    let pool = Pool::new(4).unwrap();
    for len in [0, 1, 7, 64, 65] {
        for chunk in [1, 2, 16, 64, 100, usize::MAX] {
            let mut data = vec![0usize; len];
            pool.chunks_mut(&mut data, chunk, |_, i, part| {
                assert!(!part.is_empty());
                part.iter_mut().enumerate().for_each(|(j, x)| *x += 1 + i * chunk + j);
            });
            assert!(data.iter().enumerate().all(|(i, x)| *x == i + 1), "{len} by {chunk}");
        }
    }
}

#[test]
fn each_worker_of_a_run_has_its_own_scratch() {
    let pool = Pool::new(4).unwrap();
    let mut arena = vec![0usize; 4 * 32];
    for _ in 0..200 {
        let scratch = Scratch::new(&mut arena, pool.threads());
        pool.run(64, |task, worker| {
            let mut mine = scratch.slot(worker);
            mine.fill(task);
            std::hint::spin_loop();
            assert!(mine.iter().all(|x| *x == task));
        });
    }
}

/// How long the worker of [`held_up`] sleeps.
const SLEEP: Duration = Duration::from_millis(10);

/// A run whose worker sleeps in its task, while the caller's is done as soon as the worker is there: gives how long that took.
fn held_up(pool: &Pool) -> Duration {
    let arrived = AtomicBool::new(false);
    let (start, came) = (Instant::now(), Mutex::new(Duration::ZERO));
    pool.run(2, |_, worker| {
        if worker == 0 {
            while !arrived.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            *came.lock().unwrap() = start.elapsed();
        } else {
            arrived.store(true, Ordering::Release);
            std::thread::sleep(SLEEP);
        }
    });
    came.into_inner().unwrap()
}

#[test]
fn after_a_worker_held_a_run_up_the_caller_works_alone_for_a_while() {
    let pool = Pool::new(2).unwrap();
    let alone = (0..50).any(|_| {
        // Ends as it began where the worker comes again: else its task would wait for ever.
        let since = Instant::now();
        let came = held_up(&pool);
        let others = AtomicUsize::new(0);
        pool.run(1000, |_, worker| _ = others.fetch_add(worker, Ordering::Relaxed));
        // On a busy machine the worker may come so late that its sleep is no delay beside it, and this thread may be kept from its CPU at
        // any point: such tries say nothing. The rest begins when the sleep is over.
        let telling = came < SLEEP / 4 && since.elapsed() < SLEEP + RESTS[0];
        // Longer than any rest: alone, the caller would wait for the worker for ever.
        std::thread::sleep(RESTS[1] * 2);
        telling && others.into_inner() == 0
    });
    assert!(alone, "the worker came during every rest");
    held_up(&pool);
}

#[test]
fn rests_grow_and_are_forgiven() {
    let mut rest = Rest::default();
    assert!(!rest.lasts());
    let ms = Duration::from_millis;
    // Neither short waits nor those shorter than the caller's own part are delays.
    rest.after(ms(0), HELD_UP);
    rest.after(ms(9), ms(8));
    assert!(!rest.lasts());
    for want in [2, 4, 8, 16, 32, 64, 128, 256, 512, 512] {
        let before = Instant::now();
        rest.after(ms(1), ms(5));
        let until = rest.until.unwrap();
        assert!(until >= before + ms(want) && until <= Instant::now() + ms(want), "{want} ms: {rest:?}");
    }
    assert!(rest.lasts());
    (0..FORGIVEN).for_each(|_| rest.after(ms(1), ms(0)));
    rest.after(ms(1), ms(5));
    assert!(rest.until.unwrap() <= Instant::now() + RESTS[0]);
}

#[test]
#[cfg(target_os = "linux")]
fn workers_stay_where_they_are_put_and_a_refusal_changes_nothing() {
    use crate::device::cpu::{allowed_cpus, worker_cpus};
    let cpus = worker_cpus(allowed_cpus().len() - 1);
    assert_eq!(cpus.len() + 1, allowed_cpus().len());
    assert!(worker_cpus(allowed_cpus().len()).is_empty());
    // No system has the last one.
    for pinned in [&cpus[..], &[60_000]] {
        let pool = Pool::on(2, 2, pinned).unwrap();
        let arrived = AtomicUsize::new(0);
        let seen = Mutex::new(Vec::new());
        // Each task waits for the other's thread.
        pool.run(2, |_, worker| {
            arrived.fetch_add(1, Ordering::AcqRel);
            while arrived.load(Ordering::Acquire) < 2 {
                std::thread::yield_now();
            }
            if worker == 1 {
                *seen.lock().unwrap() = allowed_cpus();
            }
        });
        let want = match pinned.first() {
            Some(cpu) if *cpu < 60_000 => vec![*cpu],
            _ => allowed_cpus(),
        };
        assert_eq!(*seen.lock().unwrap(), want);
    }
}

#[test]
fn shares_are_all_tasks_once() {
    for (tasks, shares) in [(0, 3), (1, 4), (7, 3), (64, 5)] {
        let all: Vec<usize> = (0..shares).flat_map(|i| super::share(tasks, shares, i)).collect();
        assert_eq!(all, (0..tasks).collect::<Vec<_>>());
    }
}
