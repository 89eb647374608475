//! Conversions that go on where an earlier one was: killed, repeated, beside another one, with a journal that is not what it was.

use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, write_npz};
use edge_runtime::random::uniform;
use edge_tests::onnx::Attr::{Int, Ints};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::N;
use edge_tests::{Ended, Folder, Program, SmallDisk, edge_convert, models};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Side of a picture.
const SIDE: usize = 24;

/// Convolutions of 3 x 3 in a row: products that are corrected, values that are measured.
fn stack(layers: usize, scale: f32) -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(3), N(SIDE as i64), N(SIDE as i64)]).output("y");
    let (mut value, mut channels) = ("x".to_string(), 3);
    for i in 0..layers {
        b.weight(&format!("w{i}"), &[48, channels, 3, 3], scale / (channels as f32).sqrt());
        let shape = [("kernel_shape", Ints(&[3, 3])), ("pads", Ints(&[1, 1, 1, 1]))];
        b.node("Conv", &format!("{value} w{i}"), &format!("c{i}"), &shape);
        b.node("Relu", &format!("c{i}"), &format!("r{i}"), &[]);
        (value, channels) = (format!("r{i}"), 48);
    }
    b.weight("last", &[10, 48], 0.3);
    b.node("GlobalAveragePool", &value, "g", &[]).node("Flatten", "g", "f", &[("axis", Int(1))]);
    b.node("Gemm", "f last", "y", &[("transB", Int(1))]);
    b.finish("stack")
}

/// A folder with a model and samples for it.
struct Case {
    folder: Folder,
    model: PathBuf,
    calib: PathBuf,
}

impl Case {
    fn new(model: &[u8], seed: u64) -> Case {
        let folder = Folder::new("resume");
        let (model, calib) = (folder.write("m.onnx", model), folder.file("calib"));
        std::fs::create_dir(&calib).unwrap();
        let case = Case { folder, model, calib };
        (0..8).for_each(|i| case.sample(i, seed));
        case
    }

    fn sample(&self, i: u64, seed: u64) {
        let dims = vec![1, 3, SIDE, SIDE];
        let count = dims.iter().product::<usize>() as u64;
        let data = (0..count).flat_map(|j| uniform(100 * seed + i, j).to_le_bytes()).collect();
        let array = NamedArray { name: "x".into(), dtype: DType::F32, dims, data };
        write_npz(&self.calib.join(format!("{i}.npz")), &[array]).unwrap();
    }

    fn convert(&self, pack: &str, cache: &Path) -> Program {
        let program = edge_convert().arg(&self.model).arg("-o").arg(self.folder.file(pack)).arg("--json");
        program.arg("--calib").arg(&self.calib).arg("--cache").arg(cache)
    }

    /// Converts; gives the pack, and how many measurements were made and taken.
    fn converted(&self, cache: &Path) -> (Vec<u8>, [u64; 2]) {
        let ended = self.convert("m.pack", cache).run();
        assert_eq!(ended.expect(0).stderr, "");
        (self.pack("m.pack"), counts(&ended))
    }

    /// The pack as it is without any journal.
    fn measured(&self) -> Vec<u8> {
        let program = edge_convert().arg(&self.model).arg("-o").arg(self.folder.file("plain.pack"));
        program.arg("--calib").arg(&self.calib).arg("--no-cache").run().expect(0);
        self.pack("plain.pack")
    }

    fn pack(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.file(name)).unwrap()
    }
}

/// Measurements made and taken.
fn counts(ended: &Ended) -> [u64; 2] {
    let report = ended.json();
    ["made", "taken"].map(|count| report["measurements"][count].as_u64().unwrap())
}

/// The one journal of a folder.
fn journal(cache: &Path) -> Option<PathBuf> {
    let mut all = std::fs::read_dir(cache).ok()?.map(|entry| entry.unwrap().path());
    let one = all.next();
    assert!(all.next().is_none(), "more than one file in {}", cache.display());
    one
}

#[test]
fn the_same_again_measures_nothing_and_is_the_same() {
    let case = Case::new(&stack(3, 1.2), 1);
    let cache = case.folder.file("cache");
    let (first, [made, taken]) = case.converted(&cache);
    assert!(made > 30 && taken == 0, "{made} made, {taken} taken");
    assert!(first == case.measured(), "with a journal the pack is another");
    let length = std::fs::metadata(journal(&cache).unwrap()).unwrap().len();
    let (again, [made, taken]) = case.converted(&cache);
    assert!(made == 0 && taken > 30, "{made} made, {taken} taken");
    assert!(again == first, "the second pack is another");
    assert_eq!(std::fs::metadata(journal(&cache).unwrap()).unwrap().len(), length);
    // Other sizes are other choices from the same measurements but for those of the rungs.
    let other = case.convert("other.pack", &cache).args("--step 8KB").run();
    let [made, taken] = counts(other.expect(0));
    assert!(taken > made, "{made} made, {taken} taken");
    let text = edge_convert().arg(&case.model).arg("-o").arg(case.folder.file("text.pack"));
    let text = text.arg("--calib").arg(&case.calib).env("EDGE_CACHE_DIR", cache.to_str().unwrap()).run();
    assert!(text.expect(0).stdout.contains("measurements: 0 made, "), "{text:#?}");
}

#[test]
fn a_killed_conversion_goes_on_where_it_was() {
    let case = Case::new(&stack(5, 1.2), 2);
    let (whole, cache) = (case.folder.file("whole"), case.folder.file("cache"));
    let (want, [all, _]) = case.converted(&whole);
    let length = std::fs::metadata(journal(&whole).unwrap()).unwrap().len();
    std::fs::remove_file(case.folder.file("m.pack")).unwrap();
    let mut before = 0;
    // Among the corrections, which are most of the bytes, then among the searches.
    for share in [0.3, 0.7, 0.99] {
        let mut child = case.convert("m.pack", &cache).spawn();
        let give_up = Instant::now() + Duration::from_secs(120);
        let enough = (share * length as f64) as u64;
        while journal(&cache).and_then(|file| std::fs::metadata(file).ok()).is_none_or(|m| m.len() < enough) {
            assert!(Instant::now() < give_up, "no journal of {enough} bytes after two minutes");
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        let ended = Ended::of(child);
        assert_eq!(ended.signal, Some(libc::SIGKILL), "it was through before it was killed: {ended:#?}");
        assert!(!case.folder.file("m.pack").exists());
        let now = std::fs::metadata(journal(&cache).unwrap()).unwrap().len();
        assert!(now > before && now < length, "{now} bytes after {before}, of {length}");
        before = now;
    }
    let (got, [made, taken]) = case.converted(&cache);
    assert!(made > 0 && taken > 0 && made < all, "{made} made, {taken} taken, {all} in all");
    assert!(got == want, "the pack is not that of a conversion in one go");
}

#[test]
fn other_samples_and_other_weights_take_nothing() {
    let case = Case::new(&stack(2, 1.2), 3);
    let cache = case.folder.file("cache");
    case.converted(&cache);
    let measurements = std::fs::read(journal(&cache).unwrap()).unwrap();
    let others =
        [Case::new(&stack(2, 1.2), 4), Case::new(&stack(2, 1.2000002), 3), Case::new(&stack(2, 1.0), 3)];
    for other in others {
        let want = other.measured();
        let (got, [_, taken]) = other.converted(&cache);
        assert!(taken == 0 && got == want, "{taken} taken");
        // Not even where the other conversion's measurements are where its own should be.
        let own = other.folder.file("own");
        other.converted(&own);
        std::fs::write(journal(&own).unwrap(), &measurements).unwrap();
        let (got, [made, taken]) = other.converted(&own);
        assert!(made > 0 && taken == 0 && got == want, "{made} made, {taken} taken");
    }
    // One sample of the eight is another: ranges of the others stay.
    let own = case.folder.file("own");
    case.converted(&own);
    case.sample(0, 9);
    let want = case.measured();
    let name = case.folder.file("name");
    case.converted(&name);
    std::fs::write(journal(&name).unwrap(), &measurements).unwrap();
    let (got, [made, taken]) = case.converted(&name);
    assert!(got == want && taken < 10 && made > 20, "{made} made, {taken} taken");
}

#[test]
fn a_journal_that_is_not_what_it_was_is_not_believed() {
    let case = Case::new(&stack(2, 1.2), 5);
    let cache = case.folder.file("cache");
    let (want, [all, _]) = case.converted(&cache);
    let file = journal(&cache).unwrap();
    let whole = std::fs::read(&file).unwrap();
    let taken_from = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let (got, [made, taken]) = case.converted(&cache);
        assert!(got == want, "{} bytes: the pack is another", bytes.len());
        // What was missing is there again.
        assert_eq!(case.converted(&cache).1[0], 0);
        [made, taken]
    };
    // Torn within its last record, in the middle, in its header.
    let [made, taken] = taken_from(&whole[..whole.len() - 1]);
    assert!(made == 1 && taken > 0, "{made} made, {taken} taken");
    let [made, taken] = taken_from(&whole[..whole.len() / 2]);
    assert!(made > 1 && taken > 0, "{made} made, {taken} taken");
    assert_eq!(taken_from(&whole[..20]), [all, 0]);
    assert_eq!(taken_from(&[]), [all, 0]);
    // A bit in every 1000 bytes of what was measured.
    let mut damaged = whole.clone();
    damaged[40..].iter_mut().skip(500).step_by(1000).for_each(|byte| *byte ^= 4);
    assert!(taken_from(&damaged)[0] > 0);
    // A number of the last record turned into another: it is all right but for its checksum.
    let mut damaged = whole.clone();
    let last = damaged.len() - 8 - 2;
    damaged[last] ^= 1;
    assert_eq!(taken_from(&damaged)[0], 1);
    // Of another version of this program, or of the file's form.
    for byte in [7, 8, 39] {
        let mut other = whole.clone();
        other[byte] ^= 1;
        assert_eq!(taken_from(&other), [all, 0]);
    }
    assert_eq!(taken_from(&vec![0xAB; 5000]), [all, 0]);
}

#[test]
fn two_at_once_do_not_disturb_each_other() {
    let case = Case::new(&stack(4, 1.2), 6);
    let cache = case.folder.file("cache");
    let first = case.convert("first.pack", &cache).spawn();
    let second = case.convert("second.pack", &cache).spawn();
    let (first, second) = (Ended::of(first), Ended::of(second));
    let told = |ended: &Ended| ended.expect(0).stderr.contains("another conversion is writing it");
    assert!(told(&first) != told(&second), "one of them cannot write: {first:#?} {second:#?}");
    assert!(case.pack("first.pack") == case.pack("second.pack"), "their packs differ");
    let (third, [made, taken]) = case.converted(&cache);
    assert!(made == 0 && taken > 0, "{made} made, {taken} taken");
    assert!(third == case.pack("first.pack"));
}

#[test]
fn a_place_that_takes_nothing_warns_once() {
    let case = Case::new(&stack(2, 1.2), 7);
    let blocked = case.folder.write("file", b"");
    let ended = case.convert("m.pack", &blocked).run();
    assert_eq!(ended.expect(0).stderr.lines().count(), 1, "{ended:#?}");
    ended.expect_saying(0, &["warning: ", "--no-cache", blocked.to_str().unwrap()]);
    let want = case.measured();
    assert!(case.pack("m.pack") == want);
    // A disk that is full after a few of them keeps those.
    let Some(disk) = SmallDisk::mount(&case.folder.file("disk"), "size=8k") else { return };
    let ended = case.convert("m.pack", disk.path()).run();
    ended.expect_saying(0, &["warning: ", "--no-cache", disk.path().to_str().unwrap()]);
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
    assert!(case.pack("m.pack") == want);
    let again = case.convert("m.pack", disk.path()).run();
    let [made, taken] = counts(again.expect(0));
    assert!(made > 0 && taken > 0, "{made} made, {taken} taken");
    assert!(case.pack("m.pack") == want);
}

#[test]
fn the_journal_is_where_the_user_says() {
    let case = Case::new(&stack(1, 1.2), 8);
    let in_folder = |name: &str| case.folder.file(name).to_str().unwrap().to_string();
    let plain = || {
        let program = edge_convert().arg(&case.model).arg("-o").arg(case.folder.file("m.pack"));
        program.arg("--calib").arg(&case.calib)
    };
    plain().env("EDGE_CACHE_DIR", &in_folder("own")).run().expect(0);
    assert!(journal(&case.folder.file("own")).is_some());
    plain().env("EDGE_CACHE_DIR", &in_folder("none")).arg("--no-cache").run().expect(0);
    assert!(!case.folder.file("none").exists());
    let xdg = plain().without("EDGE_CACHE_DIR").env("XDG_CACHE_HOME", &in_folder("xdg"));
    xdg.env("HOME", &in_folder("home")).run().expect(0);
    assert!(journal(&case.folder.file("xdg/edge-convert")).is_some());
    let home = plain().without("EDGE_CACHE_DIR").without("XDG_CACHE_HOME");
    home.env("HOME", &in_folder("home")).run().expect(0);
    assert!(journal(&case.folder.file("home/.cache/edge-convert")).is_some());
    plain().args("--no-cache --cache x").run().expect(2);
}

#[test]
fn a_family_goes_on_too() {
    let folder = Folder::new("family");
    let (small, large) = (folder.write("s.onnx", &stack(1, 1.0)), folder.write("l.onnx", &stack(2, 1.0)));
    let (pack, cache) = (folder.file("m.pack"), folder.file("cache"));
    let convert = || edge_convert().arg(&small).arg(&large).arg("-o").arg(&pack).arg("--json");
    convert().arg("--no-cache").run().expect(0);
    let want = std::fs::read(&pack).unwrap();
    for again in [false, true] {
        let ended = convert().arg("--cache").arg(&cache).run();
        let [made, taken] = counts(ended.expect(0));
        assert_eq!((made == 0, taken > 0), (again, again), "{made} made, {taken} taken");
        assert!(std::fs::read(&pack).unwrap() == want, "the pack is another");
    }
}

#[test]
fn a_state_is_measured_but_once() {
    let folder = Folder::new("state");
    let (source, pack, cache) =
        (folder.write("m.onnx", &models::lstm()), folder.file("m.pack"), folder.file("cache"));
    let mut packs = Vec::new();
    for again in [false, true] {
        let program =
            edge_convert().arg(&source).arg("-o").arg(&pack).args("--json --state hn=h --state cn=c");
        let ended = program.arg("--cache").arg(&cache).run();
        assert_eq!(counts(ended.expect(0))[0] == 0, again);
        packs.push(std::fs::read(&pack).unwrap());
    }
    assert!(packs[0] == packs[1]);
}
