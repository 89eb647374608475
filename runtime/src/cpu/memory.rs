//! The memory of a session, and the views that a step gets of it.

use crate::model::Model;
use crate::plan::{Buffer, BufferKind, BufferPlace, Matrix, Operand, Plan, Step};
use bytemuck::Zeroable;
use std::ops::Range;

/// Most operands of a step, matrices apart.
pub(crate) const INPUTS: usize = 5;
/// Most results of a step.
pub(crate) const OUTPUTS: usize = 3;
/// Most matrices of a step.
pub(crate) const MATRICES: usize = 4;

/// One cache line; gives the arena its alignment.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

// SAFETY: 64 bytes, for which zeros are a value.
unsafe impl Zeroable for Line {}

/// Zeroed bytes that start at a multiple of 64. Pages are not touched before their first use.
pub(crate) struct Aligned {
    lines: Vec<Line>,
    bytes: usize,
}

impl Aligned {
    pub fn new(bytes: usize) -> Aligned {
        Aligned { lines: bytemuck::zeroed_vec(bytes.div_ceil(64)), bytes }
    }

    /// Changes the length, to at most what was allocated. What the bytes hold is left over from before.
    fn cut(&mut self, bytes: usize) {
        assert!(bytes <= self.lines.len() * 64, "{bytes} bytes of {} lines", self.lines.len());
        self.bytes = bytes;
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the lines are `bytes` or more initialised bytes, borrowed with self.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.bytes) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; `&mut self` makes the view the only one.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.bytes) }
    }
}

/// Arena and known values of one session (or of one evaluation by the planner).
///
/// The arena's start, what is kept from run to run, is memory of its own: a larger rest can take the place of a smaller one beside it.
pub(crate) struct Memory {
    kept: Aligned,
    rest: Aligned,
    known: Aligned,
}

/// The values that a plan knows, of a plan that does not run at the moment.
pub(crate) struct KnownValues(Aligned);

/// What a step reads and writes.
pub(crate) struct Views<'a> {
    pub inputs: [Option<&'a [u8]>; INPUTS],
    pub outputs: [&'a mut [u8]; OUTPUTS],
    pub panels: [Option<&'a [u8]>; MATRICES],
    pub scratch: &'a mut [u8],
    /// The input that output 0 overwrites: it holds the operand when the step starts.
    pub in_place: Option<usize>,
}

impl Memory {
    /// The memory that a plan asks for, with its known values in place.
    pub fn new(plan: &Plan) -> Memory {
        Memory { kept: Aligned::new(plan.kept_bytes), ..Memory::beside(plan, plan.arena_bytes) }
    }

    pub fn for_buffers(buffers: &[Buffer], arena_bytes: usize, known_bytes: usize) -> Memory {
        Memory {
            kept: Aligned::new(0),
            rest: Aligned::new(arena_bytes),
            known: KnownValues::new(buffers, known_bytes).0,
        }
    }

    /// Memory for a plan with an arena of so many bytes, without those that are kept.
    fn beside(plan: &Plan, arena_bytes: usize) -> Memory {
        Memory::for_buffers(&plan.buffers, arena_bytes - plan.kept_bytes, plan.known_bytes)
    }

    /// Room for a plan with a larger arena, what is kept being the same. What else lies in the arena is lost.
    pub fn grow(&mut self, arena_bytes: usize) {
        let rest = arena_bytes.saturating_sub(self.kept.bytes);
        if rest > self.rest.bytes {
            // The two never count together.
            self.rest = Aligned::new(0);
            self.rest = Aligned::new(rest);
        }
    }

    /// Runs another plan from now on.
    pub fn exchange(&mut self, known: &mut KnownValues) {
        std::mem::swap(&mut self.known, &mut known.0);
    }

    /// Bytes of the arena.
    fn bytes(&self) -> usize {
        self.kept.bytes + self.rest.bytes
    }

    /// A range of the arena, which lies in one part of it.
    fn at(&self, range: Range<usize>) -> &[u8] {
        match range.start.checked_sub(self.kept.bytes) {
            Some(start) => &self.rest.as_slice()[start..start + range.len()],
            None => &self.kept.as_slice()[range],
        }
    }

    fn at_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        match range.start.checked_sub(self.kept.bytes) {
            Some(start) => &mut self.rest.as_mut_slice()[start..start + range.len()],
            None => &mut self.kept.as_mut_slice()[range],
        }
    }

    /// The memory of another plan in place of this one's. An arena that is large enough is kept, with whatever lies in
    /// it.
    pub fn refit(&mut self, plan: &Plan) {
        let rest = plan.arena_bytes - plan.kept_bytes;
        if plan.kept_bytes > 0 || self.kept.bytes > 0 || rest > self.rest.lines.len() * 64 {
            return self.renew(plan);
        }
        let mut arena = std::mem::replace(&mut self.rest, Aligned::new(0));
        arena.cut(rest);
        // The known values are few and differ between plans.
        *self = Memory { rest: arena, ..Memory::for_buffers(&plan.buffers, 0, plan.known_bytes) };
    }

    /// As [`Memory::new`], in place of what there is. That is let go first, so that the two never count together.
    pub fn renew(&mut self, plan: &Plan) {
        *self = Memory::for_buffers(&[], 0, 0);
        *self = Memory::new(plan);
    }

    /// The bytes of an operand.
    pub fn read<'a>(&'a self, model: &'a Model, buffers: &[Buffer], operand: &Operand) -> &'a [u8] {
        let buffer = &buffers[operand.buffer as usize];
        let range = operand.offset..operand.offset + operand.extent();
        match (buffer.place, &buffer.kind) {
            (BufferPlace::Arena(at), _) => &self.at(at..at + buffer.bytes)[range],
            (BufferPlace::Known(at), _) => &self.known.as_slice()[at..at + buffer.bytes][range],
            (BufferPlace::Pack, BufferKind::Constant(id)) => {
                &model.constant_bytes_mapped(*id).unwrap_or_default()[range]
            }
            _ => &[],
        }
    }

    /// The bytes of an operand of the arena, to be written.
    pub fn write(&mut self, buffers: &[Buffer], operand: &Operand) -> &mut [u8] {
        let range = arena_range(buffers, operand).expect("only operands of the arena are written");
        self.at_mut(range)
    }

    /// Copies one operand of the arena over another of the same size.
    pub fn copy(&mut self, buffers: &[Buffer], from: &Operand, to: &Operand) {
        if let (Some(from), Some(to)) = (arena_range(buffers, from), arena_range(buffers, to)) {
            // Neither is kept: that is written in place.
            let kept = self.kept.bytes;
            self.rest.as_mut_slice().copy_within(from.start - kept..from.end - kept, to.start - kept);
        }
    }

    /// The views of a step. Results and scratch are proved disjoint from each other and from every operand, but
    /// for the one that is overwritten in place.
    ///
    /// # Panics
    /// When the plan gives a step overlapping memory: a fault of the planner.
    pub fn views<'a>(&'a mut self, model: &'a Model, buffers: &[Buffer], step: &Step) -> Views<'a> {
        let mut written: [Range<usize>; OUTPUTS + 1] = [const { 0..0 }; OUTPUTS + 1];
        for (slot, operand) in written.iter_mut().zip(&step.outputs) {
            *slot = arena_range(buffers, operand).expect("results lie in the arena");
        }
        if let Some(scratch) = &step.scratch {
            let buffer = &buffers[scratch.buffer as usize];
            let BufferPlace::Arena(at) = buffer.place else { panic!("scratch lies in the arena") };
            assert!(scratch.bytes <= buffer.bytes, "scratch beyond its buffer");
            written[OUTPUTS] = at..at + scratch.bytes;
        }
        for (i, a) in written.iter().enumerate() {
            assert!(a.end <= self.bytes(), "step `{}` leaves the arena", step.op.name());
            assert!(written[..i].iter().all(|b| apart(a, b)), "results of step `{}` overlap", step.op.name());
        }
        let mut in_place = None;
        let panels = step.weights.iter().filter_map(|m| match m {
            Matrix::Panels(operand) => Some(operand),
            Matrix::Tensor(_) | Matrix::Factor(..) => None,
        });
        for operand in panels {
            let read = arena_range(buffers, operand);
            assert!(read.is_none_or(|r| written.iter().all(|w| apart(&r, w))), "a matrix is overwritten");
        }
        for (i, operand) in step.inputs.iter().enumerate() {
            let Some(read) = operand.as_ref().and_then(|o| arena_range(buffers, o)) else { continue };
            if !read.is_empty() && read == written[0] && in_place.is_none() {
                in_place = Some(i);
                continue;
            }
            assert!(
                written.iter().all(|w| apart(&read, w)),
                "step `{}` overwrites its operand {i}",
                step.op.name()
            );
        }

        let kept = self.kept.bytes;
        let bases = [self.kept.as_mut_slice().as_mut_ptr(), self.rest.as_mut_slice().as_mut_ptr()];
        let address = |range: Range<usize>| {
            // Plans place what is kept first, and the rest from there on.
            assert!(range.start >= kept || range.end <= kept, "bytes of both parts of the arena");
            match range.start.checked_sub(kept) {
                // SAFETY: inside the rest (the range belongs to a buffer of the arena, whose end was held against its size).
                Some(at) => unsafe { bases[1].add(at) },
                // SAFETY: inside what is kept.
                None => unsafe { bases[0].add(range.start) },
            }
        };
        let known = self.known.as_slice();
        let read = |operand: &Operand| -> &'a [u8] {
            let buffer = &buffers[operand.buffer as usize];
            let range = operand.offset..operand.offset + operand.extent();
            match (buffer.place, &buffer.kind) {
                (BufferPlace::Arena(at), _) => {
                    assert!(range.end <= buffer.bytes, "operand beyond its buffer");
                    // SAFETY: inside the arena (`place_arena` made it as large as its buffers, and the assertion
                    // keeps the operand in its buffer), and apart from everything that is written (above).
                    unsafe {
                        std::slice::from_raw_parts(address(at + range.start..at + range.end), range.len())
                    }
                }
                (BufferPlace::Known(at), _) => &known[at..at + buffer.bytes][range],
                (BufferPlace::Pack, BufferKind::Constant(id)) => {
                    &model.constant_bytes_mapped(*id).unwrap_or_default()[range]
                }
                _ => &[],
            }
        };
        let mut inputs = [None; INPUTS];
        for (i, (slot, operand)) in inputs.iter_mut().zip(&step.inputs).enumerate() {
            *slot = operand.as_ref().filter(|_| in_place != Some(i)).map(read);
        }
        let mut matrices = [None; MATRICES];
        for (slot, matrix) in matrices.iter_mut().zip(&step.weights) {
            if let Matrix::Panels(operand) = matrix {
                *slot = Some(read(operand));
            }
        }
        let write = |range: &Range<usize>| -> &'a mut [u8] {
            // SAFETY: inside the arena and apart from every other range that is read or written (both above).
            unsafe { std::slice::from_raw_parts_mut(address(range.clone()), range.len()) }
        };
        let [a, b, c, scratch] = &written;
        Views {
            inputs,
            outputs: [write(a), write(b), write(c)],
            panels: matrices,
            scratch: write(scratch),
            in_place,
        }
    }
}

impl KnownValues {
    /// A plan's known values, so many bytes of them.
    pub fn new(buffers: &[Buffer], bytes: usize) -> KnownValues {
        let mut known = Aligned::new(bytes);
        for buffer in buffers {
            if let (BufferKind::Known(bytes), BufferPlace::Known(at)) = (&buffer.kind, buffer.place) {
                known.as_mut_slice()[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
        KnownValues(known)
    }
}

/// The bytes of the arena that an operand covers; `None` when it lies elsewhere.
fn arena_range(buffers: &[Buffer], operand: &Operand) -> Option<Range<usize>> {
    let buffer = &buffers[operand.buffer as usize];
    match buffer.place {
        BufferPlace::Arena(at) if operand.offset + operand.extent() <= buffer.bytes => {
            Some(at + operand.offset..at + operand.offset + operand.extent())
        }
        _ => None,
    }
}

fn apart(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.is_empty() || b.is_empty() || a.end <= b.start || b.end <= a.start
}
