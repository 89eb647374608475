//! Runs of the thread pool and reads of the resident size allocate nothing. Alone in its program: the counter sees
//! every thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use edge_kernels::MatMut;
use edge_runtime::device::{Pool, Scratch, current_rss, peak_rss, reset_peak};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn runs_allocate_nothing() {
    let pool = Pool::new(4).expect("four threads");
    let mut data = vec![0f32; 64 * 64];
    let mut arena = vec![0f32; 4 * 64];
    let sum = AtomicU64::new(0);
    let mut work = |rounds: usize| {
        for _ in 0..rounds {
            pool.run(32, |task, _| {
                sum.fetch_add(task as u64, Ordering::Relaxed);
            });
            pool.chunks_mut(&mut data, 100, |_, i, part| part.fill(i as f32));
            let scratch = Scratch::new(&mut arena, pool.threads());
            pool.tiles(MatMut::new(&mut data, 64, 64, 64), 16, 24, |worker, row0, col0, mut tile| {
                scratch.slot(worker).fill(row0 as f32);
                tile.row(0).fill(col0 as f32);
                pool.run(2, |_, _| {});
            });
            current_rss();
            peak_rss();
            reset_peak();
        }
    };
    // Workers set themselves up while they start, beside the first runs.
    work(50);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    work(2_000);
    let after = ALLOCATIONS.load(Ordering::SeqCst);
    assert_eq!(after - before, 0, "allocations in 2000 rounds");
    assert_eq!(sum.into_inner(), 2_050 * 496);
}
