//! A prefix is a pack: cut anywhere, a file opens exactly when a rung is whole, and says what is missing.

use crate::fixture::*;
use edge_runtime::pack::*;
use std::fs::OpenOptions;

#[test]
fn cut_at_a_thousand_places() {
    let dir = Dir::new();
    let (path, written, source) = small_pack(&dir, "model.pack");
    let whole = std::fs::read(&path).unwrap();
    let header_end = written.header_end;
    let ends: Vec<u64> = written.header.rungs.iter().map(|r| r.end).collect();
    let mut random = Random(7);
    let mut cuts: Vec<u64> = (0..1000).map(|_| random.below(whole.len() + 1) as u64).collect();
    // Most bytes are the third rung's: draw near the start too, and each edge.
    cuts.extend((0..1000).map(|_| random.below(ends[1] as usize + 4096) as u64));
    for edge in [0, 8, 64, header_end, ends[0], ends[1], ends[2], whole.len() as u64] {
        cuts.extend([edge.saturating_sub(1), edge, (edge + 1).min(whole.len() as u64)]);
    }
    let cut_path = dir.file("cut.pack");
    std::fs::write(&cut_path, &whole).unwrap();
    cuts.sort_unstable_by_key(|&len| std::cmp::Reverse(len));
    for len in cuts {
        OpenOptions::new().write(true).open(&cut_path).unwrap().set_len(len).unwrap();
        let opened = PackFile::open(&cut_path);
        if len >= ends[0] {
            let pack = opened.unwrap_or_else(|e| panic!("cut at {len}: {e}"));
            let there: Vec<usize> = (0..3).filter(|&i| ends[i] <= len).collect();
            assert_eq!(pack.available(), there, "cut at {len}");
            assert_eq!(pack.missing_bytes(), whole.len() as u64 - len, "cut at {len}");
            for (i, state) in pack.rung_states().iter().enumerate() {
                let expected = match ends[i].checked_sub(len) {
                    None | Some(0) => RungState::Whole,
                    Some(missing) => RungState::Cut { missing },
                };
                assert_eq!(*state, expected, "cut at {len}, rung {i}");
            }
            let best = *there.last().unwrap();
            let mapped = pack.map(ends[best]).unwrap();
            assert_eq!(mapped.blob(0), source.blob(0));
            assert!(best == 2 || matches!(pack.map(ends[best + 1]), Err(PackError::MapEnd { .. })));
            let verified = pack.verify(&NEVER, |_, _| {}).unwrap();
            let blobs = &written.header.blobs;
            let good = blobs.iter().filter(|b| b.len == 0 || b.offset + b.len <= len).count();
            assert_eq!((verified.blobs, verified.missing_blobs), (good, 8 - good), "cut at {len}");
            if len < ends[2] {
                assert!(matches!(pack.load(&[3], true), Err(PackError::CutBlob { blob: 3, .. })));
            }
            continue;
        }
        let error = opened.err().unwrap_or_else(|| panic!("cut at {len}: opened"));
        assert_eq!(error.trouble(), PackTrouble::BadFile);
        match error {
            PackError::Empty { .. } => assert_eq!(len, 0),
            PackError::CutPreamble { file_len } => {
                assert!((1..64).contains(&len));
                assert_eq!(file_len, len);
            }
            PackError::CutHeader { end, file_len } => {
                assert!((64..header_end).contains(&len), "cut at {len}");
                assert_eq!((end, file_len), (header_end, len));
            }
            PackError::NoWholeRung { rung, section, end, file_len } => {
                assert!((header_end..ends[0]).contains(&len), "cut at {len}");
                assert_eq!((rung.as_str(), section, end, file_len), ("w2", 0, ends[0], len));
            }
            other => panic!("cut at {len}: {other}"),
        }
    }
}
