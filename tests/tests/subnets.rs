//! Any subnet of a shipped supernet runs from its pack, in the memory that its plan says, and nothing of a weight is copied. Alone in its
//! program: it counts the heap.
#![cfg(target_os = "linux")]

use edge_converter::import::{Norms, Supernet, supernet::Description};
use edge_converter::{Options, convert_supernet};
use edge_runtime::device::{Device, current_rss};
use edge_runtime::inputs::{NamedArray, read_npz, write_npz};
use edge_runtime::pack::{Acts, Blob, BlobSource, Candidates, Choice, Header, PackFile, Rung};
use edge_runtime::plan::InputSpec;
use edge_runtime::random::philox;
use edge_runtime::select::{Request, SelectError, select, select_foretold};
use edge_runtime::subnet::{Statistics, plays};
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use edge_tests::{Folder, Quiet, convert_in_process, edge_convert, edge_run, inputs_of, open};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        LIVE.fetch_add(new_size, Ordering::Relaxed);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn models() -> PathBuf {
    repository().join("examples/once-for-all-fashion/models")
}

/// The example's pack as its `run.sh` makes it, from fewer samples.
fn pack() -> &'static Path {
    static PACK: OnceLock<(Folder, PathBuf)> = OnceLock::new();
    let (_, path) = PACK.get_or_init(|| {
        let folder = Folder::new("subnets");
        let data = repository().join("examples/supernet-fashion");
        let few = |name: &str, n: usize| {
            let arrays = read_npz(&data.join(name), 1 << 30).unwrap().into_iter().map(|array| {
                let each = array.data.len() / array.dims[0];
                let data = array.data[..n * each].to_vec();
                let dims = [&[n], &array.dims[1..]].concat();
                NamedArray { data, dims, ..array }
            });
            let path = folder.file(name);
            write_npz(&path, &arrays.collect::<Vec<_>>()).unwrap();
            path
        };
        let options = Options {
            calib: Some(few("calibration.npz", 32)),
            held_out: Some(few("heldout.npz", 16)),
            ..Options::default()
        };
        let (model, description) = (models().join("largest.onnx"), models().join("supernet.toml"));
        let path = folder.file("family.pack");
        convert_supernet(&model, &description, &path, &options, &mut Quiet, &AtomicBool::new(false)).unwrap();
        (folder, path)
    });
    path
}

/// Options of a choice, those of blocks that are left out as in the largest network: such choices are one subnet.
fn distinct(header: &Header, options: &[usize]) -> Vec<usize> {
    let variables = &header.graphs[0].elastic.as_ref().unwrap().variables;
    let at = |name: &str| variables.iter().position(|v| v.name == name);
    let depth = |stage: &str| {
        let depth = at(&format!("{stage}.depth")).unwrap();
        variables[depth].options[options[depth]].parse::<usize>().unwrap()
    };
    let of = |(variable, option): (&edge_runtime::graph::Variable, &usize)| {
        let parts: Vec<&str> = variable.name.split('.').collect();
        let left_out = match parts[..] {
            [stage, block, _] => block.trim_start_matches("block").parse::<usize>().unwrap() > depth(stage),
            _ => false,
        };
        if left_out { variable.options.len() - 1 } else { *option }
    };
    variables.iter().zip(options).map(of).collect()
}

fn random(header: &Header, key: u64) -> Vec<usize> {
    let variables = &header.graphs[0].elastic.as_ref().unwrap().variables;
    let option = |(i, variable): (usize, &edge_runtime::graph::Variable)| {
        philox(key, i as u64)[0] as usize % variable.options.len()
    };
    variables.iter().enumerate().map(option).collect()
}

fn device() -> Arc<Device> {
    Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap()
}

fn run(session: &mut Session, input: &[u8]) -> Vec<f32> {
    session.set_input(0, input).unwrap();
    session.run().unwrap();
    session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn picture(model: &Model) -> (Vec<InputSpec>, Vec<u8>) {
    let (spec, bytes) = inputs_of(model, &model.header().rungs[0], 1, 5).swap_remove(0);
    (vec![spec], bytes)
}

/// Greatest difference over the greatest element.
fn apart(want: &[f32], got: &[f32]) -> f32 {
    assert_eq!(want.len(), got.len());
    let most = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    want.iter().zip(got).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / most
}

#[test]
fn a_thousand_subnets_run() {
    let _alone = alone();
    let model = open(pack(), Registry::standard());
    let (device, (specs, input)) = (device(), picture(&model));
    let (mut seen, mut answers) = (HashSet::new(), HashSet::new());
    let (mut key, mut own, mut slowest) = (0, 0, Duration::ZERO);
    let start = Instant::now();
    while seen.len() < 1000 {
        key += 1;
        let options = random(model.header(), key);
        if !seen.insert(distinct(model.header(), &options)) {
            continue;
        }
        let begin = Instant::now();
        let cut = model.subnet(0, &Choice::new(&options).unwrap(), None).unwrap();
        slowest = slowest.max(begin.elapsed());
        own += usize::from(cut.statistics == Statistics::Own);
        // Every precision in turn.
        let rung = &cut.rungs[key as usize % cut.rungs.len()];
        let mut session = Session::new(&device, &model, rung, &specs).unwrap();
        let answer = run(&mut session, &input);
        assert!(answer.iter().all(|v| v.is_finite()), "{}: {answer:?}", rung.id);
        answers.insert(answer.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    }
    eprintln!(
        "{} subnets in {:.1?}, {own} of them with statistics of their own; making one took at most {slowest:.1?}",
        seen.len(),
        start.elapsed()
    );
    // Those that coarse precisions make alike are few.
    assert!(answers.len() > 950, "{} different answers", answers.len());
}

/// Without statistics of any subnet, a subnet's normalizations are parts of the largest network's: so are those of the file that is cut by
/// choices.
#[test]
fn a_subnet_is_what_its_own_file_is() {
    let _alone = alone();
    let folder = Folder::new("subnets-alone");
    let file = PackFile::open(pack()).unwrap();
    let mut header = file.header().clone();
    header.subnets.iter_mut().for_each(|subnet| subnet.overlay = None);
    let elastic = header.graphs[0].elastic.as_mut().unwrap();
    (elastic.overlaid, elastic.ranged) = (Vec::new(), Vec::new());
    let source = Arc::new(file.map(file.file_len()).unwrap());
    let model = Arc::new(Model::new(Arc::new(header), source, Arc::new(Registry::standard())));
    let finest = model.header().rungs.iter().filter(|r| r.acts == Acts::F32).max_by_key(|r| r.bytes).unwrap();
    let description = Description::read(&models().join("supernet.toml")).unwrap();
    let supernet = Supernet::open(&models().join("largest.onnx"), description).unwrap();
    let (device, (specs, input)) = (device(), picture(&model));
    let last = random(model.header(), 1).len();
    let smallest = vec![0; last];
    for options in [smallest].into_iter().chain((100..112).map(|key| random(model.header(), key))) {
        let (onnx, alone) = (folder.file("alone.onnx"), folder.file("alone.pack"));
        std::fs::write(&onnx, supernet.onnx(&options, Norms::Stored).unwrap()).unwrap();
        convert_in_process(&onnx, &alone, &[]);
        let plain = open(&alone, Registry::standard());
        let float = plain.header().rungs.iter().find(|r| r.id == "float").unwrap();
        let want = run(&mut Session::new(&device, &plain, float, &specs).unwrap(), &input);
        let cut = model.subnet(0, &Choice::new(&options).unwrap(), Some(finest)).unwrap();
        assert_eq!(cut.rungs.len(), 1);
        let got = run(&mut Session::new(&device, &model, &cut.rungs[0], &specs).unwrap(), &input);
        // Codes of 16 bits are off by 1e-5 of a row's range, eight blocks add up.
        assert!(apart(&want, &got) <= 1e-3, "{options:?}: {}", apart(&want, &got));
    }
}

/// Kilobytes of the mappings of a file, by name.
fn mapped(path: &Path, names: &[&str]) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut inside, mut sum) = (false, 0);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            inside = line.ends_with(path.to_str().unwrap());
        } else if inside && names.iter().any(|name| first.strip_suffix(':') == Some(name)) {
            sum += words.next().unwrap().parse::<u64>().unwrap();
        }
    }
    sum
}

/// The pack in memory: a file system may keep a file in parts of megabytes, of which newer kernels map each as a whole, whatever was asked
/// for.
struct InMemory(PathBuf);

impl InMemory {
    fn new() -> InMemory {
        let path = PathBuf::from(format!("/dev/shm/edge-subnets-{}.pack", std::process::id()));
        std::fs::copy(pack(), &path).unwrap();
        InMemory(path)
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        // What cannot be removed is the system's.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_subnet_takes_what_its_plan_says() {
    let _alone = alone();
    let in_memory = InMemory::new();
    let path = &in_memory.0;
    let file = PackFile::open(path).unwrap();
    let device = device();
    let whole = Model::new(
        file.shared_header(),
        Arc::new(file.map(file.file_len()).unwrap()),
        Arc::new(Registry::standard()),
    );
    let (specs, input) = picture(&whole);
    let mut cuts: Vec<Rung> = Vec::new();
    for key in 200..216 {
        let choice = Choice::new(&random(whole.header(), key)).unwrap();
        let cut = whole.subnet(0, &choice, None).unwrap();
        cuts.extend([cut.rungs.first(), cut.rungs.last()].into_iter().flatten().cloned());
    }
    // Its mapping of the file is not to be counted.
    drop(whole);
    let mut worst = [i64::MIN; 2];
    for rung in cuts {
        let before = LIVE.load(Ordering::SeqCst);
        let model = Model::new(
            file.shared_header(),
            Arc::new(file.map(rung.end).unwrap()),
            Arc::new(Registry::standard()),
        );
        let model = Arc::new(model.among(vec![rung.clone()]));
        let chosen = select(&device, &model, &specs, &Request::default()).unwrap();
        let (need, plan) = (chosen.need, chosen.plan);
        let mut session = Session::with_plan(&device, &model, &rung, plan).unwrap();
        for _ in 0..2 {
            run(&mut session, &input);
        }
        let heap = (LIVE.load(Ordering::SeqCst) - before) as i64;
        let pages = 1024 * mapped(path, &["Rss"]) as i64;
        // Of a file in memory every page is dirty; a copied one is anonymous.
        assert_eq!(mapped(path, &["Anonymous"]), 0, "{}: pages of the pack are copied", rung.id);
        // What is on the heap is arena and plan: no weight is.
        let own = (need.arena + need.plan) as i64;
        let planned = own + need.weights as i64;
        let said = format!("{}: heap {heap} of {own}, pages {pages} of {}", rung.id, need.weights);
        eprintln!("{said}");
        worst = [worst[0].max(heap + pages - planned - planned / 50), worst[1].max(heap - own)];
    }
    eprintln!("bytes beyond the plan and 2 % at most: {} in all, {} on the heap", worst[0], worst[1]);
    // A fault maps up to 64 KiB around it: at the end of what is read, and where a part of the file in between is another subnet's.
    assert!(worst[0] <= 96 << 10 && worst[1] <= 16 << 10, "{worst:?}");
}

#[test]
fn a_session_moves_from_subnet_to_subnet() {
    let _alone = alone();
    let file = Arc::new(PackFile::open(pack()).unwrap());
    let model = open(pack(), Registry::standard());
    let (device, (specs, input)) = (device(), picture(&model));
    let mut session = Session::open(&device, &file, &specs).unwrap();
    let best = session.rung().to_string();
    let mut times = Vec::new();
    for key in 300..340 {
        let choice = Choice::new(&random(model.header(), key)).unwrap();
        let start = Instant::now();
        let moved = session.to_subnet(0, &choice, None).unwrap();
        times.push(start.elapsed());
        let cut = model.subnet(0, &choice, None).unwrap();
        let rung = cut.rungs.iter().find(|rung| rung.id == moved.to).unwrap();
        let own = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
        let want = run(&mut Session::new(&own, &model, rung, &specs).unwrap(), &input);
        assert_eq!(run(&mut session, &input), want, "{}", rung.id);
    }
    times.sort_unstable();
    eprintln!(
        "moves take {:.1?} (half of them), at most {:.1?}",
        times[times.len() / 2],
        times[times.len() - 1]
    );
    // A budget that has no room for it: it stays where it is, at the budget that it had.
    let (stays, budget) = (session.rung().to_string(), device.ledger().budget());
    assert!(session.resize(1 << 20).is_err());
    assert_eq!((session.rung(), device.ledger().budget()), (stays.as_str(), budget));
    assert_eq!(session.to_ladder().unwrap().to, best);
}

/// A pack's bytes, and a blob more.
struct Beside {
    inner: Arc<dyn BlobSource>,
    id: u32,
    bytes: Vec<u8>,
}

impl BlobSource for Beside {
    fn blob(&self, id: u32) -> Option<&[u8]> {
        if id == self.id { Some(&self.bytes) } else { self.inner.blob(id) }
    }

    fn release(&self, _: u32) {}
}

/// The pack with another table: its own subnets, and `n` more at random; `change` has its bytes before they are hashed.
fn with_table(n: u64, change: impl Fn(&mut Vec<u8>)) -> Model {
    let file = PackFile::open(pack()).unwrap();
    let mut header = file.header().clone();
    let shared = file.shared_header();
    let own = header.subnets.iter().map(|subnet| subnet.choice.options().collect::<Vec<_>>());
    let all = own.chain((0..n).map(|key| random(&shared, 7000 + key)));
    let mut bytes = Vec::new();
    for (i, options) in all.enumerate() {
        let part = plays(&shared, 0, &Choice::new(&options).unwrap()).unwrap();
        bytes.extend(part.iter().map(|option| option.unwrap_or(255)));
        // As many thousands as options: what is expected grows with what it costs.
        let size = options.iter().sum::<usize>() as u32 + 1;
        bytes.extend((size as f32 + (i % 7) as f32 / 7.0).to_le_bytes());
        [4000 * size, 3000 * size, size].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    }
    let count = (bytes.len() / (header.graphs[0].elastic.as_ref().unwrap().variables.len() + 16)) as u32;
    change(&mut bytes);
    let id = header.blobs.len() as u32;
    let first = *blake3::hash(&bytes).as_bytes().first_chunk::<16>().unwrap();
    header.blobs.push(Blob { offset: 0, len: bytes.len() as u64, hash: u128::from_be_bytes(first) });
    let metric = "top1_percent".into();
    header.candidates = Some(Candidates { graph: 0, count, metric, spread: 0.0, blob: id, device: None });
    let inner: Arc<dyn BlobSource> = Arc::new(file.map(file.file_len()).unwrap());
    Model::new(Arc::new(header), Arc::new(Beside { inner, id, bytes }), Arc::new(Registry::standard()))
}

#[test]
fn one_of_ten_thousand_is_found_for_any_budget() {
    let _alone = alone();
    let model = with_table(10_000, |_| ());
    let (specs, _) = picture(&model);
    let held = current_rss().unwrap();
    let (mut times, mut last) = (Vec::new(), 0.0);
    for kb in [2900, 3000, 3100, 3200, 3400, 3600, 4000, 6000] {
        let device = Device::builder().threads(Some(1)).budget(Some(held + 1024 * kb)).build().unwrap();
        let start = Instant::now();
        let found = select_foretold(&device, &model, &specs, &Request::default(), None, None).unwrap();
        times.push(start.elapsed());
        let Some(found) = found else { continue };
        assert!(found.selection.need.total() <= held + 1024 * kb, "{kb}");
        eprintln!(
            "{kb} KiB more: {} expected, {} of {}",
            found.quality,
            found.selection.need.total() - held,
            1024 * kb
        );
        assert!(found.quality >= last - 5.0, "more memory, less quality: {} {last}", found.quality);
        last = found.quality;
        let rung = &found.cut.rungs[found.selection.rung];
        let model = Arc::new(model.among(found.cut.rungs.clone()));
        let mut session = Session::with_plan(&device, &model, rung, found.selection.plan).unwrap();
        session.run().unwrap();
    }
    assert!(last > 0.0, "nothing was found");
    times.sort_unstable();
    eprintln!(
        "one of 10,000: {:.1?} (half of them), at most {:.1?}",
        times[times.len() / 2],
        times[times.len() - 1]
    );
}

#[test]
fn a_damaged_table_is_refused() {
    let _alone = alone();
    let width = |model: &Model| model.header().graphs[0].elastic.as_ref().unwrap().variables.len();
    let device = device();
    let refused = |model: &Model, words: &[&str]| {
        let (specs, _) = picture(model);
        let error = select_foretold(&device, model, &specs, &Request::default(), None, None).unwrap_err();
        assert!(matches!(error, SelectError::Candidates { .. }), "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error}");
        }
    };
    let variables = width(&with_table(1, |_| ()));
    refused(
        &with_table(3, |bytes| bytes[0] = 200),
        &["entry 0", "option 200 of `resolution`", "which has 3"],
    );
    let nan = |bytes: &mut Vec<u8>| bytes[variables..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    refused(&with_table(3, nan), &["entry 0", "NaN"]);
    // Other bytes than those that were hashed.
    let model = with_table(3, |_| ());
    let table = model.header().candidates.as_ref().unwrap().blob;
    let mut header = model.header().clone();
    header.blobs[table as usize].hash ^= 1;
    let inner: Arc<dyn BlobSource> = Arc::new(PackFile::open(pack()).unwrap().map(4096).unwrap());
    let bytes = vec![0; header.blobs[table as usize].len as usize];
    let source = Arc::new(Beside { inner, id: table, bytes });
    refused(&Model::new(Arc::new(header), source, Arc::new(Registry::standard())), &["another hash"]);
}

#[test]
fn the_program_chooses_among_rungs_and_what_is_expected() {
    let _alone = alone();
    let pack = pack();
    let header = open(pack, Registry::standard()).header().clone();
    let table = header.candidates.as_ref().unwrap();
    eprintln!(
        "{} subnets in a table of {} bytes, spread {} {}",
        table.count, header.blobs[table.blob as usize].len, table.spread, table.metric
    );
    assert!(table.count > 100 && table.spread.is_finite());
    let largest = header.rungs.iter().map(|r| r.bytes).max().unwrap();
    assert!(header.blobs[table.blob as usize].len <= largest / 50 + 1000);
    let bench =
        |args: &str| edge_run().args("bench").arg(pack).args(&format!("--repeat 1 --json {args}")).run();
    let planned = bench("--mem 1GB").expect(0).json()["planned"].as_u64().unwrap();
    let mut chosen = 0;
    for less in [0, 400_000, 600_000, 700_000, 800_000, 900_000, 1_000_000] {
        for more in ["", "--subnet any", "--subnet any --latency 200ms"] {
            let mem = planned - less + (600 << 10);
            let run = bench(&format!("--mem {mem} {more}"));
            if run.code == Some(5) {
                continue;
            }
            let json = run.expect(0).json();
            let expected = &json["subnet"]["expected"];
            chosen += usize::from(!expected.is_null());
            assert!(json["planned"].as_u64().unwrap() <= mem, "{json:#}");
            assert!(!more.is_empty() || expected.is_null(), "{json:#}");
        }
    }
    eprintln!("{chosen} times a subnet without rungs was chosen");
    bench("--subnet any --rung none").expect_saying(2, &["--rung none"]);
    // No time is enough.
    bench("--subnet any --latency 1us").expect_saying(5, &["1.0µs"]);
}

#[test]
fn the_program_runs_any_subnet() {
    let _alone = alone();
    let pack = pack();
    let header = open(pack, Registry::standard()).header().clone();
    let text = "resolution=20,stage2.depth=2,stage1.block1.kernel=3";
    let run =
        |args: &str| edge_run().args("bench").arg(pack).args(&format!("--repeat 1 --json {args}")).run();
    let json = run(&format!("--subnet {text}")).expect(0).json();
    let choices = &json["subnet"]["choices"];
    assert_eq!((&choices["resolution"], &choices["stage2.depth"]), (&"20".into(), &"2".into()), "{json:#}");
    assert_eq!(choices["stage3.block1.expand"], "6", "what is not named is the largest: {json:#}");
    assert_eq!(json["subnet"]["statistics"], "nearest", "{json:#}");
    // Of a subnet that has rungs these are what there is.
    let rung = header.rungs.iter().rev().find(|r| r.subnet == Some(0)).unwrap();
    let elastic = header.graphs[0].elastic.as_ref().unwrap();
    let named: Vec<String> =
        elastic.named(&header.subnets[0].choice).map(|(name, option)| format!("{name}={option}")).collect();
    let own = run(&format!("--subnet {} --rung {}", named.join(","), rung.id)).expect(0).json();
    assert_eq!((&own["rung"], &own["subnet"]["statistics"]), (&rung.id.as_str().into(), &"own".into()));

    let inspected = edge_run().args("inspect").arg(pack).args(&format!("--json --subnet {text}")).run();
    let inspected = inspected.expect(0).json();
    for rung in inspected["rungs"].as_array().unwrap() {
        let of = |key: &str| rung[key].as_u64().unwrap();
        assert!(of("bytes") > 0 && of("arena") > 0 && of("planned") > of("bytes") + of("arena"), "{rung:#}");
    }
    let listed = edge_run().args("inspect").arg(pack).run();
    assert!(listed.expect(0).stdout.contains("choice resolution=20|24|28"), "{listed:#?}");

    let refused = |args: &str, code: i32, words: &[&str]| {
        run(args).expect_saying(code, words);
    };
    refused("--subnet width=3", 2, &["width", "`resolution`, `stage1.depth`"]);
    refused("--subnet resolution=21", 2, &["21", "`20`, `24`, `28`"]);
    refused("--subnet resolution", 2, &["NAME=OPTION"]);
    refused("--subnet resolution=20,stage1.depth=1,resolution=24", 2, &["`resolution`", "twice", "20", "24"]);
    refused("--subnet resolution=20 --rung none", 2, &["none", &rung.id]);
    // More than the header, less than a process.
    refused("--subnet resolution=20 --mem 8MB", 5, &["8 MB", "the least that would do is"]);
    edge_run().args("verify").arg(pack).args("--subnet resolution=20").run().expect_saying(2, &["--subnet"]);
    // A file that ends before what the subnet needs.
    let folder = Folder::new("subnets-cut");
    let bytes = std::fs::read(pack).unwrap();
    let first = header.rungs.iter().map(|r| r.end).min().unwrap();
    let cut = folder.write("cut.pack", &bytes[..first as usize]);
    let run = edge_run().args("bench").arg(&cut).args("--repeat 1 --subnet resolution=20").run();
    run.expect_saying(4, &["the file ends before", "fetch the rest"]);
    // A pack without choices.
    let onnx = folder.write("m.onnx", &edge_tests::models::mlp());
    let plain = folder.file("plain.pack");
    convert_in_process(&onnx, &plain, &[]);
    let run = edge_run().args("bench").arg(&plain).args("--repeat 1 --subnet resolution=20").run();
    run.expect_saying(2, &["nothing to choose"]);
}

#[test]
fn the_page_draws_subnets_with_rungs_and_without() {
    let _alone = alone();
    let folder = Folder::new("subnets-page");
    let page = folder.file("page.html");
    let run = edge_convert().arg("report").arg(pack()).arg("-o").arg(&page);
    let figures = run.args("--shape input=1,1,28,28 --no-latency --json").run().expect(0).json();
    let subnets = &figures["subnets"];
    let header = open(pack(), Registry::standard()).header().clone();
    let all = subnets["all"].as_array().unwrap();
    assert_eq!(all.len(), header.candidates.unwrap().count as usize);
    assert!(subnets["device"].is_null());
    for subnet in all {
        assert!(
            subnet["weights"].as_u64().unwrap() > 20_000 && subnet["work"].as_u64().unwrap() > 100,
            "{subnet}"
        );
        let Some(rung) = subnet["rung"].as_u64() else { continue };
        // What was measured, not what was expected.
        let quality = header.rungs[rung as usize].quality.as_ref().unwrap().value;
        assert_eq!(subnet["quality"].as_f64().unwrap() as f32, quality, "{subnet}");
    }
    let own = all.iter().filter(|subnet| !subnet["rung"].is_null()).count();
    assert!(own > 1 && own < all.len(), "{own} of {} have rungs", all.len());
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("Quality and work of subnets"));
    assert_eq!(html.matches("class=\"dot subnet\"").count(), 2 * (all.len() - own));
}
