//! What no rung takes is not written.

use crate::draft::Draft;
use edge_runtime::pack::{Arg, BlobId, Expr};
use serde_json::Value;
use std::collections::BTreeSet;

/// Takes away the corrections of levels that no rung of the header takes, and the bytes of blobs that nothing reads any more but
/// `golden`. Takes keep their numbers: a level without its correction is the matrix alone.
pub fn drop_unused(draft: &mut Draft, golden: &[BlobId]) {
    for t in 0..draft.header.tensors.len() {
        let takes = draft.header.rungs.iter().filter_map(|rung| rung.takes.get(t).copied().flatten());
        let used: BTreeSet<usize> = takes.filter(|take| take.0 == 0).map(|take| take.1 as usize).collect();
        if let Some(root) = draft.header.tensors[t].roots.first_mut() {
            keep_levels(root, &used);
        }
    }
    let mut read: BTreeSet<BlobId> = golden.iter().copied().collect();
    for tensor in &draft.header.tensors {
        tensor.roots.iter().for_each(|root| blobs(root, &mut read));
    }
    for constant in &draft.header.constants {
        read.extend(constant.data.place().map(|(blob, _)| blob));
    }
    read.extend(draft.header.subnets.iter().filter_map(|subnet| subnet.overlay));
    for (id, (entry, bytes)) in draft.header.blobs.iter_mut().zip(&mut draft.blobs).enumerate() {
        if !read.contains(&(id as BlobId)) {
            entry.len = 0;
            *bytes = Default::default();
        }
    }
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
    use edge_runtime::pack::{Acts, Take, Tensor};
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
        drop_unused(&mut draft, &ids[8..]);
        let root = &draft.header.tensors[0].roots[0];
        assert_eq!(
            root.params["levels"],
            json!([[1, 1, 0, 0.0], [1, 0, 0, 0], [2, 1, 16, 0.25], [3, 0, 0, 0.0]])
        );
        assert_eq!((root.args.len(), &root.blobs[..]), (3, &[ids[5], ids[7]][..]));
        let left: Vec<usize> = draft.blobs.iter().map(|bytes| bytes.len()).collect();
        // The matrix, the second level's factors and its rows gone, the third's there, golden data.
        assert_eq!(left, [8, 0, 0, 8, 8, 8, 0, 8, 8]);
        assert!(draft.header.blobs.iter().zip(&left).all(|(entry, len)| entry.len == *len as u64));
    }
}
