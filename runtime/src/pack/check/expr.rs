//! Tensors and their weight expressions: ids, depth, and how large an expression is when it is written out.
//!
//! A root may be shared by later tensors, so a chain of tensors that each use the one before twice doubles with
//! every tensor: depth and size are counted through sharing.
#![forbid(unsafe_code)]

use super::{MAX_ELEMENTS, MAX_FEW, at_most, in_range};
use crate::pack::{Arg, Expr, Header, PackError};

/// How deep nodes of an expression may nest, shared ones included.
const MAX_DEPTH: usize = 32;
/// Most nodes, leaves and blobs of an expression that is written out.
const MAX_PARTS: u64 = 1 << 16;

#[derive(Clone, Copy)]
struct Extent {
    depth: usize,
    parts: u64,
}

pub(super) fn check_tensors(header: &Header) -> Result<(), PackError> {
    let mut extents: Vec<Vec<Extent>> = Vec::new();
    for (t, tensor) in header.tensors.iter().enumerate() {
        let place = || format!("tensor {t} `{}`", tensor.name);
        let elements = (tensor.n as u64).checked_mul(tensor.k as u64);
        if !elements.is_some_and(|e| (1..=MAX_ELEMENTS).contains(&e)) {
            return Err(PackError::Shape {
                place: place(),
                dims: vec![tensor.n, tensor.k],
                cap: MAX_ELEMENTS,
            });
        }
        at_most(|| format!("{}: roots", place()), tensor.roots.len(), MAX_FEW)?;
        let mut roots = Vec::new();
        for (r, root) in tensor.roots.iter().enumerate() {
            let walk = Walk { header, tensor: t, root: r, extents: &extents };
            roots.push(walk.extent(root, 1)?);
        }
        extents.push(roots);
    }
    Ok(())
}

struct Walk<'a> {
    header: &'a Header,
    tensor: usize,
    root: usize,
    /// Of the roots of each tensor before this one.
    extents: &'a [Vec<Extent>],
}

impl Walk<'_> {
    fn place(&self) -> String {
        format!("tensor {} `{}`, root {}", self.tensor, self.header.tensors[self.tensor].name, self.root)
    }

    /// `depth`: of this node, 1 for the root.
    fn extent(&self, expr: &Expr, depth: usize) -> Result<Extent, PackError> {
        self.check_depth(depth)?;
        for &blob in &expr.blobs {
            in_range(|| self.place(), "blob", blob, self.header.blobs.len())?;
        }
        let mut all = Extent { depth: 1, parts: 1 + expr.blobs.len() as u64 };
        for arg in &expr.args {
            let extent = match arg {
                Arg::Expr(arg) => self.extent(arg, depth + 1)?,
                Arg::Shared(tensor, root) => {
                    let extent = self.shared(*tensor, *root)?;
                    self.check_depth(depth + extent.depth)?;
                    extent
                }
            };
            all.depth = all.depth.max(1 + extent.depth);
            // Each extent is at most MAX_PARTS, so the sum cannot overflow before it is refused.
            all.parts += extent.parts;
            if all.parts > MAX_PARTS {
                return Err(PackError::ExpressionSize { place: self.place(), cap: MAX_PARTS });
            }
        }
        Ok(all)
    }

    fn shared(&self, tensor: u32, root: u32) -> Result<Extent, PackError> {
        let Some(roots) = self.extents.get(tensor as usize) else {
            in_range(|| self.place(), "tensor", tensor, self.header.tensors.len())?;
            return Err(PackError::SharedOrder {
                place: self.place(),
                tensor: self.tensor as u32,
                shared: tensor,
            });
        };
        in_range(|| format!("{}, shared tensor {tensor}", self.place()), "root", root, roots.len())?;
        Ok(roots[root as usize])
    }

    fn check_depth(&self, depth: usize) -> Result<(), PackError> {
        if depth > MAX_DEPTH {
            return Err(PackError::Nesting {
                place: self.place(),
                what: "expressions",
                depth,
                cap: MAX_DEPTH,
            });
        }
        Ok(())
    }
}
