//! The page's way through the three models.

use crate::boxes::{TextBox, boxes};
use crate::failure::Failure;
use crate::models::{MULTIPLE, Trio};
use crate::text::decode;
use edge_runtime::inputs::{Frame, Region};
use serde_json::{Value, json};

/// A line is read the other way up when the classifier is this sure.
const TURNED: f32 = 0.9;
/// Lines whose mean probability is less are not text.
const LEAST_SCORE: f32 = 0.5;

/// A line of text.
#[derive(Debug)]
pub struct Line {
    /// What it says.
    pub text: String,
    /// Mean probability of its characters.
    pub score: f32,
    /// Where it is on the page, and whether it is upside down.
    pub region: Region,
}

impl Line {
    /// As JSON; the box is left, top, width, height in pixels.
    pub fn json(&self) -> Value {
        let Region { left, top, width, height, turned } = self.region;
        json!({"text": self.text, "score": self.score, "box": [left, top, width, height], "upside_down": turned})
    }
}

/// Every line of the page in reading order.
pub fn read(trio: &mut Trio, page: &Frame) -> Result<Vec<Line>, Failure> {
    let map = trio.map;
    let (dims, values) = trio.det.look(page, page.region(), map, map)?;
    if dims.len() != 4 || dims[2..] != map {
        return Err(Failure::Model { name: "det", why: format!("its output {dims:?} is no map of {map:?}") });
    }
    let found = boxes(values, map[1]);
    let found = found.ok_or_else(|| {
        Failure::Page("more than 4,096 spots that look like text: this is no page of text".into())
    })?;
    let mut lines = Vec::with_capacity(found.len());
    for found in found {
        let region = on_page(&found, map, page);
        let region = Region { turned: upside_down(trio, page, region)?, ..region };
        let (text, score) = words(trio, page, region)?;
        if score >= LEAST_SCORE && !text.trim().is_empty() {
            lines.push(Line { text, score, region });
        }
    }
    Ok(lines)
}

/// A box of the detector's map as whole pixels of the page.
fn on_page(found: &TextBox, map: [usize; 2], page: &Frame) -> Region {
    let span = |from: f32, to: f32, map: usize, page: usize| {
        let scale = page as f32 / map as f32;
        let start = ((from * scale).round().max(0.0) as usize).min(page - 1);
        let end = ((to * scale).round().max(0.0) as usize).clamp(start + 1, page);
        (start, end - start)
    };
    let (left, width) = span(found.left, found.right, map[1], page.width());
    let (top, height) = span(found.top, found.bottom, map[0], page.height());
    Region { top, left, height, width, turned: false }
}

/// Columns of a region that is scaled to `height` rows.
fn scaled_width(region: Region, height: usize, most: usize) -> usize {
    (height * region.width).div_ceil(region.height).clamp(1, most)
}

/// Asks about the middle of a line, as much as the classifier takes in at once: squeezed letters mislead it.
fn upside_down(trio: &mut Trio, page: &Frame, region: Region) -> Result<bool, Failure> {
    let canvas = trio.cls.canvas;
    let width = region.width.min((region.height * canvas[1] / canvas[0]).max(1));
    let region = Region { left: region.left + (region.width - width) / 2, width, ..region };
    let size = [canvas[0], scaled_width(region, canvas[0], canvas[1])];
    let (dims, values) = trio.cls.look(page, region, size, canvas)?;
    if dims.iter().product::<usize>() != 2 {
        return Err(Failure::Model { name: "cls", why: format!("its output {dims:?} is not two classes") });
    }
    Ok(values.iter().nth(1).is_some_and(|turned| turned > TURNED))
}

fn words(trio: &mut Trio, page: &Frame, region: Region) -> Result<(String, f32), Failure> {
    let [height, most] = trio.line;
    let width = scaled_width(region, height, most);
    // Steps of 32 columns: lines of about one length share a plan.
    let canvas = [height, width.next_multiple_of(MULTIPLE)];
    let (dims, values) = trio.rec.look(page, region, [height, width], canvas)?;
    if dims.last() != Some(&trio.characters.len()) {
        let why = format!("its output {dims:?} does not suit its {} characters", trio.characters.len());
        return Err(Failure::Model { name: "rec", why });
    }
    Ok(decode(values.iter(), &trio.characters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_kept_inside_the_page() {
        let page = Frame::from_rgb(100, 200, vec![0; 60_000]).unwrap();
        let whole = TextBox { left: -3.0, top: -2.0, right: 105.0, bottom: 60.0, score: 1.0 };
        let region = on_page(&whole, [50, 100], &page);
        assert_eq!(region, page.region());
        let part = TextBox { left: 10.2, top: 5.0, right: 20.0, bottom: 10.0, score: 1.0 };
        let region = on_page(&part, [50, 100], &page);
        assert_eq!((region.left, region.top, region.width, region.height), (20, 10, 20, 10));
        assert_eq!((scaled_width(region, 48, 960), scaled_width(region, 48, 64)), (96, 64));
    }
}
