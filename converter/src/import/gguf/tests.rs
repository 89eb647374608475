//! Blocks against what the format's own Python package makes of them (`tests/reference/gguf/make_blocks.py`).

use super::blocks::Block;
use super::{Form, KINDS};
use edge_runtime::inputs::read_npz;
use std::path::Path;

#[test]
fn blocks_are_decoded_bit_for_bit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/gguf/blocks.npz");
    let arrays = read_npz(&path, 1 << 24).unwrap();
    let mut checked = 0;
    for kind in KINDS {
        let Form::Codes(codes) = kind.form else { continue };
        let find = |part: &str| arrays.iter().find(|a| a.name == format!("{}:{part}", kind.name)).unwrap();
        let (bytes, values) = (find("bytes"), find("values"));
        assert_eq!(bytes.dims[1], kind.bytes, "{}", kind.name);
        assert_eq!(values.dims[1], kind.elements, "{}", kind.name);
        let mut block = Block::default();
        let mut reals = vec![0.0; kind.elements];
        let rows = bytes.data.chunks_exact(kind.bytes).zip(values.data.chunks_exact(4 * kind.elements));
        for (i, (bytes, values)) in rows.enumerate() {
            (codes.decode)(bytes, &mut block);
            block.reals(&codes, &mut reals);
            for (at, (real, want)) in reals.iter().zip(values.as_chunks::<4>().0).enumerate() {
                let want = f32::from_le_bytes(*want);
                assert_eq!(
                    real.to_bits(),
                    want.to_bits(),
                    "{} block {i}, element {at}: {real}, {want}",
                    kind.name
                );
            }
            let half = if codes.minima { 0 } else { 1i16 << (codes.bits - 1) };
            let range = -half..(1i16 << codes.bits) - half;
            assert!(
                block.codes[..kind.elements].iter().all(|code| range.contains(&i16::from(*code))),
                "{}",
                kind.name
            );
        }
        checked += 1;
    }
    assert_eq!(checked, 13);
}
