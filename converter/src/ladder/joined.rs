//! Small constants that every rung reads are stored in one blob: a blob takes up to 63 bytes of padding and a line of the header, which
//! of biases is as much again.

use super::chain::Link;
use crate::draft::Draft;
use edge_runtime::pack::{BlobId, ConstantData};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a constant beside which padding is little.
const LARGE: usize = 4 << 10;

/// Moves the small constants that all of `needs` read, and nothing but constants, into one blob.
pub fn join_constants(draft: &mut Draft, golden: &[BlobId], needs: &mut [Link]) {
    let others: BTreeSet<BlobId> = super::unused::of_tensors(&draft.header, golden);
    let mut readers = vec![0; draft.blobs.len()];
    needs.iter().flat_map(|link| &link.blobs).for_each(|id| readers[*id as usize] += 1);
    let everywhere = |id: &BlobId| readers[*id as usize] == needs.len();
    let (mut places, mut bytes): (BTreeMap<BlobId, u64>, Vec<u8>) = (BTreeMap::new(), Vec::new());
    for constant in &draft.header.constants {
        let ConstantData::Blob(id) = &constant.data else { continue };
        let blob = &draft.blobs[*id as usize];
        if blob.len() > LARGE || others.contains(id) || places.contains_key(id) || !everywhere(id) {
            continue;
        }
        // Elements lie at multiples of their size, of whichever type that reads them.
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        places.insert(*id, bytes.len() as u64);
        bytes.extend_from_slice(blob);
    }
    if places.len() < 2 {
        return;
    }
    let joined = draft.blob(bytes);
    for constant in &mut draft.header.constants {
        if let ConstantData::Blob(id) = constant.data
            && let Some(place) = places.get(&id)
        {
            constant.data = ConstantData::Part(joined, *place);
        }
    }
    for link in needs {
        link.blobs.retain(|id| !places.contains_key(id));
        link.blobs.insert(0, joined);
        link.rung.bytes = link.blobs.iter().map(|id| draft.blobs[*id as usize].len() as u64).sum();
        let same = draft.header.rungs.iter_mut().filter(|rung| rung.id == link.rung.id);
        same.for_each(|rung| rung.bytes = link.rung.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::join_constants;
    use crate::draft::{Draft, plain_rung};
    use crate::ladder::{Kind, Link};
    use crate::model::Array;
    use edge_runtime::pack::{Acts, ConstantData};

    #[test]
    fn small_constants_of_every_rung_share_a_blob() {
        let mut draft = Draft::default();
        let floats = |n: usize, value: f32| Array::f32(&[n], &vec![value; n]);
        // Two small ones, one of them twice; one that only the second rung reads; a large one; one that stands in the header.
        for array in [
            floats(17, 1.0),
            floats(33, 2.0),
            floats(17, 1.0),
            floats(20, 3.0),
            floats(4000, 4.0),
            floats(2, 5.0),
        ] {
            draft.constant(&array);
        }
        let golden = [draft.blob(vec![9; 100])];
        let rung = |id: &str| plain_rung(id, 0, Acts::F32);
        draft.header.rungs = vec![rung("a"), rung("b")];
        let link =
            |id: &str, blobs: &[u32]| Link { rung: rung(id), blobs: blobs.to_vec(), kind: Kind::Floats };
        let mut needs = [link("a", &[0, 1, 3]), link("b", &[0, 1, 2, 3])];
        let bytes: Vec<Vec<u8>> = (0..6).map(|i| elements(&draft, i)).collect();
        join_constants(&mut draft, &golden, &mut needs);
        assert_eq!((0..6).map(|i| elements(&draft, i)).collect::<Vec<_>>(), bytes);
        let data = |i: usize| draft.header.constants[i].data.clone();
        assert_eq!(
            (data(0), data(1), data(2)),
            (ConstantData::Part(5, 0), ConstantData::Part(5, 72), ConstantData::Part(5, 0))
        );
        assert_eq!((data(3), data(4)), (ConstantData::Blob(2), ConstantData::Blob(3)));
        assert_eq!((&needs[0].blobs[..], &needs[1].blobs[..]), (&[5, 3][..], &[5, 2, 3][..]));
        let all = [72 + 132 + 16000, 72 + 132 + 80 + 16000];
        assert_eq!([needs[0].rung.bytes, needs[1].rung.bytes], all);
        assert_eq!([draft.header.rungs[0].bytes, draft.header.rungs[1].bytes], all);
    }

    fn elements(draft: &Draft, id: usize) -> Vec<u8> {
        let constant = &draft.header.constants[id];
        constant.bytes(&*draft.source()).unwrap().into_owned()
    }
}
