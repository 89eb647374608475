//! What a decoder takes: no allocation a token, a peak within the plan, the longest context that a budget has room for. Alone in its program:
//! the counter sees every thread, and what is resident is this test's.

use edge_runtime::decode::{DecodeError, Decoder};
use edge_runtime::device::{Device, current_rss, peak_rss};
use edge_runtime::pack::PackFile;
use edge_tests::{Folder, cached_model, edge_convert};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

fn converted(folder: &Folder, source: &Path) -> Arc<PackFile> {
    let pack = folder.file("m.pack");
    edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
    Arc::new(PackFile::open(pack).unwrap())
}

/// Pieces and steps, over plans of three lengths, and back to an earlier beginning.
fn steps_allocate_nothing(pack: &Arc<PackFile>, threads: usize, context: usize) {
    let device = Device::builder().threads(Some(threads)).budget(Some(1 << 30)).build().unwrap();
    let mut decoder = Decoder::open(&device, pack, None, Some(context)).unwrap();
    let ids: Vec<i64> = (0..context as i64).map(|i| i * 31 % decoder.vocabulary() as i64).collect();
    let mut round = || {
        decoder.truncate(5);
        let first = decoder.past();
        decoder.feed(&ids[first..context / 2]).unwrap();
        decoder.feed(&ids[context / 2..context / 2 + 9]).unwrap();
        for id in &ids[context / 2 + 9..] {
            decoder.feed(&[*id]).unwrap();
        }
        assert_eq!(decoder.past(), context);
    };
    round();
    // Workers set themselves up beside the first runs.
    std::thread::sleep(std::time::Duration::from_millis(50));
    round();
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    round();
    assert_eq!(ALLOCATIONS.load(Ordering::SeqCst) - before, 0, "{threads} threads");
    assert!(device.ledger().used() <= decoder.need().total());
}

/// The longest context that a budget has room for, to the unit; a longer one is refused with that number; the peak stays within the plan.
fn the_longest_context_is_what_fits(pack: &Arc<PackFile>) {
    let (mut last, base) = (0, current_rss().unwrap());
    for more in [115u64 << 20, 120 << 20, 140 << 20] {
        let budget = base + more;
        let device = Device::builder().threads(Some(1)).budget(Some(budget)).build().unwrap();
        let mut decoder = Decoder::open(&device, pack, None, None).unwrap();
        let (context, need) = (decoder.context(), decoder.need().total());
        assert!(need <= budget && device.ledger().used() <= budget, "{budget}");
        assert!(context > last && context.is_multiple_of(16) && context < decoder.longest(), "{context}");
        last = context;
        let ids: Vec<i64> = (0..context as i64).map(|i| i * 31 % 49_152).collect();
        decoder.feed(&ids[..context.min(1000)]).unwrap();
        decoder.feed(&ids[..1.max(context.min(1001)) - context.min(1000)]).map(|_| ()).ok();
        let peak = peak_rss().unwrap();
        eprintln!("budget {budget}: context {context}, planned {need}, peak {peak}");
        assert!(peak <= need, "a peak of {peak}, {need} planned");
        drop(decoder);
        assert_eq!(device.ledger().used(), 0);
        let refused = Decoder::open(&device, pack, None, Some(context + 512)).err().unwrap();
        let DecodeError::Room { fits, need, room, .. } = refused else { panic!("{refused}") };
        assert!(fits.abs_diff(context) <= 512 && need > room, "{fits} {context}");
    }
}

#[test]
fn a_decoder_takes_what_it_says() {
    let folder = Folder::new("decode");
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/gguf/gemma3.gguf");
    let pack = converted(&folder, &tiny);
    for threads in [1, 2] {
        steps_allocate_nothing(&pack, threads, 40);
    }
    if let Some(source) = cached_model("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf") {
        let folder = Folder::new("decode");
        let pack = converted(&folder, &source);
        the_longest_context_is_what_fits(&pack);
        steps_allocate_nothing(&pack, 2, 300);
    }
}
