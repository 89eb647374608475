//! What no rung takes is not written.

use super::chain::Link;
use crate::draft::Draft;
use edge_runtime::pack::{Arg, BlobId, ConstantData, Expr, GoldenSource, Header};
use serde_json::Value;
use std::collections::BTreeSet;

/// Takes away the corrections of levels that no rung of the header takes, and the blobs that nothing reads any more but
/// `golden`. Takes keep their numbers: a level without its correction is the matrix alone. Blobs get other ones, in the header, in `golden`
/// and in `needs`.
pub fn drop_unused(draft: &mut Draft, golden: &mut [BlobId], needs: &mut [Link]) {
    trim(&mut draft.header);
    let read = read(&draft.header, golden);
    let ids = draft.retain_blobs(|id| read.contains(&id));
    let follow = |id: &mut BlobId| *id = ids[*id as usize].unwrap_or_default();
    for tensor in &mut draft.header.tensors {
        tensor.roots.iter_mut().for_each(|root| follow_in(root, &follow));
    }
    for constant in &mut draft.header.constants {
        match &mut constant.data {
            ConstantData::Blob(blob) | ConstantData::Part(blob, _) => follow(blob),
            ConstantData::Hex(_) => {}
        }
    }
    draft.header.subnets.iter_mut().filter_map(|subnet| subnet.overlay.as_mut()).for_each(follow);
    let values =
        draft.header.golden.iter_mut().flat_map(|golden| golden.inputs.iter_mut().chain(&mut golden.outputs));
    for value in values {
        if let GoldenSource::Blob(blob) = &mut value.source {
            follow(blob);
        }
    }
    golden.iter_mut().for_each(follow);
    needs.iter_mut().flat_map(|link| &mut link.blobs).for_each(follow);
}

/// Takes away the corrections of levels that no rung takes.
fn trim(header: &mut Header) {
    for t in 0..header.tensors.len() {
        for (root, of) in header.tensors[t].roots.iter_mut().zip(0..) {
            let takes = header.rungs.iter().filter_map(|rung| rung.takes.get(t).copied().flatten());
            keep_levels(root, &takes.filter(|take| take.0 == of).map(|take| take.1 as usize).collect());
        }
    }
}

/// The blobs that tensors and constants read, and `golden`.
fn read(header: &Header, golden: &[BlobId]) -> BTreeSet<BlobId> {
    let mut read = of_tensors(header, golden);
    for constant in &header.constants {
        read.extend(constant.data.place().map(|(blob, _)| blob));
    }
    read
}

/// The blobs that tensors and subnets read, and `golden`.
pub(super) fn of_tensors(header: &Header, golden: &[BlobId]) -> BTreeSet<BlobId> {
    let mut read: BTreeSet<BlobId> = golden.iter().copied().collect();
    for tensor in &header.tensors {
        tensor.roots.iter().for_each(|root| blobs(root, &mut read));
    }
    read.extend(header.subnets.iter().filter_map(|subnet| subnet.overlay));
    read
}

/// Of a corrected matrix, the corrections of these levels alone, counted from 1.
fn keep_levels(root: &mut Expr, used: &BTreeSet<usize>) {
    if root.kind != "corrected" || root.args.is_empty() {
        return;
    }
    let Some(Value::Array(levels)) = root.params.get_mut("levels") else { return };
    let mut thin = root.args.split_off(1).into_iter();
    let mut rows = std::mem::take(&mut root.blobs).into_iter();
    for (level, take) in levels.iter_mut().zip(1..) {
        let Value::Array(level) = level else { continue };
        let [_, sets, rank, range] = &mut level[..] else { continue };
        let keep = used.contains(&take);
        if sets.as_u64() != Some(0) {
            root.blobs.extend(rows.next().filter(|_| keep));
        }
        if rank.as_u64() != Some(0) {
            root.args.extend(thin.by_ref().take(2).filter(|_| keep));
        }
        if !keep {
            (*sets, *rank, *range) = (0.into(), 0.into(), 0.into());
        }
    }
}

/// Calls `follow` with every blob of an expression, operands' included.
fn follow_in(expr: &mut Expr, follow: &impl Fn(&mut BlobId)) {
    expr.blobs.iter_mut().for_each(follow);
    for arg in &mut expr.args {
        if let Arg::Expr(inner) = arg {
            follow_in(inner, follow);
        }
    }
}

/// Every blob of an expression, operands' included.
fn blobs(expr: &Expr, read: &mut BTreeSet<BlobId>) {
    read.extend(&expr.blobs);
    for arg in &expr.args {
        if let Arg::Expr(inner) = arg {
            blobs(inner, read);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::drop_unused;
    use crate::draft::{Draft, plain_rung};
    use crate::ladder::{Kind, Link};
    use edge_runtime::pack::{Acts, Arg, Take, Tensor};
    use serde_json::json;

    #[test]
    fn corrections_that_no_rung_takes_go_with_their_bytes() {
        let mut draft = Draft::default();
        let ids: Vec<u32> = (0..9).map(|i| draft.blob(vec![i; 8])).collect();
        let leaf = |blob: u32| json!({"expr": {"kind": "planes", "blobs": [blob]}});
        let args: Vec<_> = ids[..5].iter().map(|id| leaf(*id)).collect();
        let levels = json!([[1, 1, 0, 0.0], [1, 2, 16, 0.5], [2, 1, 16, 0.25], [3, 0, 0, 0.0]]);
        let root =
            json!({"kind": "corrected", "params": {"levels": levels}, "args": args, "blobs": ids[5..8]});
        let roots = vec![serde_json::from_value(root).unwrap()];
        draft.header.tensors.push(Tensor { name: "w".into(), n: 16, k: 16, roots });
        for take in [1, 3, 4] {
            let mut rung = plain_rung("r", 0, Acts::F32);
            rung.takes = vec![Some(Take(0, take))];
            draft.header.rungs.push(rung);
        }
        let (mut golden, mut needs) = (
            ids[8..].to_vec(),
            vec![Link { rung: plain_rung("r", 0, Acts::F32), blobs: vec![0, 3, 7], kind: Kind::Floats }],
        );
        drop_unused(&mut draft, &mut golden, &mut needs);
        let root = &draft.header.tensors[0].roots[0];
        assert_eq!(
            root.params["levels"],
            json!([[1, 1, 0, 0.0], [1, 0, 0, 0], [2, 1, 16, 0.25], [3, 0, 0, 0.0]])
        );
        // The matrix, the third level's factors, the first level's rows and the third's, golden data: the second level is gone.
        let left: Vec<u8> = draft.blobs.iter().map(|bytes| bytes[0]).collect();
        assert_eq!(left, [0, 3, 4, 5, 7, 8]);
        assert_eq!((root.args.len(), &root.blobs[..]), (3, &[3, 4][..]));
        let Arg::Expr(thin) = &root.args[1] else { panic!("{root:?}") };
        assert_eq!((&thin.blobs[..], golden, &needs[0].blobs[..]), (&[1][..], vec![5], &[0, 1, 4][..]));
        assert_eq!(draft.header.blobs.len(), draft.hashes().len());
        // Equal bytes are found where they are now.
        assert_eq!((draft.blob(vec![7; 8]), draft.blob(vec![1; 8])), (4, 6));
    }
}
