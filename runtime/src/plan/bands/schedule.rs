//! Which rows of each picture a group of steps makes in each band, and which it keeps for the next.

use super::{Line, panels};
use crate::plan::BufferId;
use crate::plan::arena::ALIGN;
use crate::plan::rows::{Makes, row_bytes};

/// A picture that a group makes.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub buffer: BufferId,
    /// Bytes of a row.
    pub row: usize,
    /// Rows made before each band, and in the end.
    pub made: Vec<usize>,
    /// The first row that is still needed when a band begins; empty for a picture that is there as a whole.
    pub first: Vec<usize>,
    height: usize,
    /// Rows at multiples of which a band may begin.
    align: usize,
    /// `made` is final.
    settled: bool,
}

impl Picture {
    /// Most rows that are there at once.
    pub fn most_rows(&self) -> usize {
        let mut most = 0;
        for (end, first) in self.made.iter().skip(1).zip(&self.first) {
            most = most.max(end - first);
        }
        most
    }

    /// Whether a band needs rows of an earlier one.
    pub fn is_kept(&self) -> bool {
        self.first.iter().zip(&self.made).any(|(first, made)| first < made)
    }
}

/// The bands of a group.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// For each step, the rows made before each band, and in the end.
    pub made: Vec<Vec<usize>>,
    pub pictures: Vec<Picture>,
}

impl Schedule {
    /// `count` bands of the steps `lines`, where `streamed` pictures exist band by band only. `None` when the steps cannot be cut
    /// so.
    pub fn new(lines: &[&Line], streamed: &[bool], count: usize) -> Option<Schedule> {
        let mut pictures = pictures(lines)?;
        let mut made: Vec<Vec<usize>> = vec![Vec::new(); lines.len()];
        for (t, line) in lines.iter().enumerate().rev() {
            let by = line.by.as_ref()?;
            let result = line.step.outputs[0].buffer;
            let even = || (0..=count).map(|i| by.height * i / count).collect();
            made[t] = match pictures.iter_mut().find(|p| p.buffer == result && by.makes == Makes::Rows) {
                None => even(),
                Some(picture) => {
                    // All that read it come later, so the last step that writes it sees what they need.
                    if !picture.settled {
                        picture.settled = true;
                        if picture.made.is_empty() {
                            picture.made = even();
                        }
                        for rows in &mut picture.made {
                            *rows = rows.next_multiple_of(picture.align).min(picture.height);
                        }
                        if !streamed[result as usize] {
                            *picture.made.last_mut()? = picture.height;
                        }
                    }
                    picture.made.clone()
                }
            };
            for (slot, operand) in line.pictures().filter(|(_, o)| o.buffer != result) {
                let Some(picture) = pictures.iter_mut().find(|p| p.buffer == operand.buffer) else {
                    continue;
                };
                picture.made.resize(count + 1, 0);
                for i in 1..=count {
                    let rows = made[t][i - 1]..made[t][i];
                    let needed = if rows.is_empty() { 0 } else { by.needs(&line.step, slot, &rows).end };
                    picture.made[i] = picture.made[i].max(needed).max(picture.made[i - 1]);
                }
            }
        }
        for picture in pictures.iter_mut().filter(|p| streamed[p.buffer as usize]) {
            picture.first = picture.made[..count].to_vec();
            for (t, line) in
                lines.iter().enumerate().filter(|(_, l)| l.step.outputs[0].buffer != picture.buffer)
            {
                let by = line.by.as_ref()?;
                for (slot, _) in line.pictures().filter(|(_, o)| o.buffer == picture.buffer) {
                    for (first, before) in picture.first.iter_mut().zip(&made[t]) {
                        if *before < made[t][count] {
                            *first = (*first).min(by.needs_from(&line.step, slot, *before));
                        }
                    }
                }
            }
        }
        Some(Schedule { made, pictures })
    }

    /// Most bytes at one time of what exists band by band, and of scratch.
    pub fn bytes(&self, lines: &[&Line]) -> usize {
        let mut always = 0;
        let mut at: Vec<usize> = lines.iter().map(|l| l.step.scratch.map_or(0, |s| s.bytes)).collect();
        for picture in &self.pictures {
            let bytes = (picture.most_rows() * picture.row).next_multiple_of(ALIGN);
            if picture.is_kept() {
                always += bytes;
                continue;
            }
            // From the step that makes a band to the last that needs it.
            let touches = |line: &&Line| {
                let mut operands = line.step.inputs.iter().flatten().chain(&line.step.outputs);
                operands.any(|o| o.buffer == picture.buffer)
            };
            if let (Some(first), Some(last)) =
                (lines.iter().position(touches), lines.iter().rposition(touches))
            {
                at[first..=last].iter_mut().for_each(|live| *live += bytes);
            }
        }
        for line in lines.iter().filter(|l| l.by.as_ref().is_some_and(|by| by.makes == Makes::Sums)) {
            always += (3 * line.step.outputs[0].bytes()).next_multiple_of(ALIGN);
        }
        always + at.into_iter().max().unwrap_or(0)
    }
}

/// The pictures that the steps make. `None` when one is read otherwise than row by row, seen with other rows, or written again
/// after it was read.
fn pictures(lines: &[&Line]) -> Option<Vec<Picture>> {
    let mut pictures: Vec<Picture> = Vec::new();
    // Results that are there only in the end.
    let mut late: Vec<BufferId> = Vec::new();
    for line in lines {
        let by = line.by.as_ref()?;
        let result = &line.step.outputs[0];
        let buffer = result.buffer;
        if by.makes != Makes::Rows {
            late.push(buffer);
            continue;
        }
        let (row, height) = (row_bytes(result, by.height)?, by.height);
        let at = pictures.iter().position(|p| p.buffer == buffer).unwrap_or_else(|| {
            let (made, first) = (Vec::new(), Vec::new());
            pictures.push(Picture { buffer, row, made, first, height, align: 1, settled: false });
            pictures.len() - 1
        });
        let picture = &mut pictures[at];
        picture.align = picture.align.max(by.align);
        if (picture.row, picture.height) != (row, height) || result.offset >= row {
            return None;
        }
    }
    let mut read: Vec<BufferId> = Vec::new();
    for line in lines {
        let by = line.by.as_ref()?;
        let result = line.step.outputs[0].buffer;
        let made_here = |b: BufferId| late.contains(&b) || pictures.iter().any(|p| p.buffer == b);
        if read.contains(&result) || panels(&line.step).any(made_here) {
            return None;
        }
        for (operand, height) in line.step.inputs.iter().zip(&by.inputs) {
            let Some(operand) = operand else { continue };
            if late.contains(&operand.buffer) {
                return None;
            }
            let Some(picture) = pictures.iter().find(|p| p.buffer == operand.buffer) else { continue };
            let height = (*height)?;
            if (row_bytes(operand, height)?, height) != (picture.row, picture.height)
                || operand.offset >= picture.row
            {
                return None;
            }
            if operand.buffer != result {
                read.push(operand.buffer);
            }
        }
    }
    Some(pictures)
}
