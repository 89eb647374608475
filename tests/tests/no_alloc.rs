//! A run allocates nothing, and many shapes leave nothing behind. Alone in its program: the counter sees every thread.

use edge_runtime::Session;
use edge_runtime::decode::Decoder;
use edge_runtime::device::{Device, current_rss};
use edge_runtime::pack::{Acts, PackFile};
use edge_runtime::random::philox;
use edge_runtime::text::{Generator, Sampler, Sampling, Until};
use edge_runtime::tokenizer::Tokenizer;
use edge_runtime::weights::Registry;
use edge_tests::gguf::talking;
use edge_tests::{Folder, convert_in_process, edge_convert, inputs_of, models, open};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Bytes asked for and not given back.
static LIVE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(new_size as isize - layout.size() as isize, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn runs_allocate_nothing(name: &str, onnx: &[u8], states: &[(&str, &str)]) {
    let folder = Folder::new("alloc");
    let pack = folder.file("m.pack");
    convert_in_process(&folder.write("m.onnx", onnx), &pack, states);
    let model = open(&pack, Registry::standard());
    for acts in [Acts::F32, Acts::I8] {
        let Some(rung) = model.header().rungs.iter().rev().find(|r| r.acts == acts) else {
            eprintln!("{name} has no {acts:?} rung");
            continue;
        };
        for threads in [1, 2] {
            let device = Device::builder().threads(Some(threads)).budget(Some(1 << 30)).build().unwrap();
            let inputs = inputs_of(&model, rung, 3, 5);
            let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
            let before = device.ledger().used();
            let mut session = Session::new(&device, &model, rung, &specs).unwrap();
            let plan = session.plan();
            let reserved = device.ledger().used() - before;
            assert_eq!(reserved, (plan.memory() + plan.own_bytes()) as u64, "{name} {}", rung.id);
            assert!(plan.live_bytes <= plan.arena_bytes, "{name} {}", rung.id);
            for (i, (_, data)) in inputs.iter().enumerate() {
                session.set_input(i, data).unwrap();
            }
            session.run().unwrap();
            // Workers set themselves up beside the first runs.
            std::thread::sleep(std::time::Duration::from_millis(50));
            session.run().unwrap();
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            for _ in 0..32 {
                session.run().unwrap();
            }
            let count = ALLOCATIONS.load(Ordering::SeqCst) - before;
            assert_eq!(count, 0, "allocations in 32 runs of {name} {}, {threads} threads", rung.id);
        }
    }
}

/// Makes a session for each of 200 batch sizes and runs it 50 times.
fn shapes_leave_nothing_behind() {
    let folder = Folder::new("shapes");
    let pack = folder.file("m.pack");
    convert_in_process(&folder.write("m.onnx", &models::mlp()), &pack, &[]);
    let model = open(&pack, Registry::standard());
    let rung = model.header().rungs.last().unwrap();
    let device = Device::builder().threads(Some(2)).budget(Some(1 << 30)).build().unwrap();
    let round = |key: u64| {
        for i in 0..200 {
            // The greatest shape first, so that the allocator's own high-water mark is reached in the warm-up.
            let batch = if i == 0 { 64 } else { 1 + philox(key, i)[0] as usize % 64 };
            let inputs = inputs_of(&model, rung, batch, i);
            let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
            let mut session = Session::new(&device, &model, rung, &specs).unwrap();
            session.set_input(0, &inputs[0].1).unwrap();
            for _ in 0..50 {
                session.run().unwrap();
            }
        }
    };
    round(1);
    round(2);
    let held = || (LIVE.load(Ordering::SeqCst), device.ledger().used());
    let (before, rss) = (held(), current_rss().unwrap());
    round(3);
    assert_eq!(held(), before, "bytes of the heap and of the ledger after 10000 runs over 200 shapes");
    let grown = current_rss().unwrap().saturating_sub(rss);
    eprintln!("10000 runs over 200 shapes: 0 bytes more on the heap, {grown} more resident");
    // Nothing is held, but the allocator may keep pages of what came back: one arena's fragments.
    assert!(grown <= 64 << 10, "{grown} bytes more after 10000 runs over 200 shapes");
}

/// An answer allocates at its start, and nothing for each of its tokens.
fn answers_allocate_nothing_per_token() {
    let folder = Folder::new("alloc");
    let (source, pack) = (folder.write("m.gguf", &talking(None).finish()), folder.file("m.pack"));
    edge_convert().arg(source).arg("-o").arg(&pack).run().expect(0);
    let pack = Arc::new(PackFile::open(&pack).unwrap());
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
    let tokenizer = Tokenizer::new(pack.header(), Arc::new(pack.map(pack.file_len()).unwrap())).unwrap();
    let decoder = Decoder::open(&device, &pack, None, Some(64)).unwrap();
    let mut generator = Generator::new(decoder, tokenizer).unwrap();
    for how in [Sampling::default(), Sampling { top_k: 0, repeat_penalty: 1.1, ..Sampling::default() }] {
        let mut sampler = Sampler::new(how, generator.decoder().vocabulary()).unwrap();
        let mut count = |tokens: usize| {
            let stops = ["never".to_string()];
            let until = Until {
                tokens: Some(tokens),
                stops: &stops,
                ignore_last: true,
                stopped: &AtomicBool::new(false),
            };
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            let answer = generator.answer(&[1, 2, 3, 4, 5], &mut sampler, &until, &mut |_| Ok(())).unwrap();
            assert_eq!(answer.tokens, tokens);
            ALLOCATIONS.load(Ordering::SeqCst) - before
        };
        count(48);
        assert_eq!(count(4), count(48), "allocations of 4 tokens and of 48");
    }
}

#[test]
fn runs_allocate_nothing_and_shapes_leave_nothing_behind() {
    runs_allocate_nothing("classifier", &models::classifier(), &[]);
    runs_allocate_nothing("shrinking", &models::shrinking(0.5, 0.01, false), &[]);
    runs_allocate_nothing("mlp", &models::mlp(), &[]);
    runs_allocate_nothing("lstm", &models::lstm(), &[("hn", "h"), ("cn", "c")]);
    answers_allocate_nothing_per_token();
    shapes_leave_nothing_behind();
}
