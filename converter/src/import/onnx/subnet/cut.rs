//! Axes of stored arrays cut to their first elements.

use super::edit::{Edit, int};
use crate::import::supernet::Cut;
use crate::model::Array;
use wildmatch::WildMatch;

impl Edit<'_> {
    /// Cuts the axes that a table names.
    ///
    /// # Errors
    /// When it names nothing, or an axis that is not as long.
    pub fn cut(&mut self, table: &Cut, size: usize) -> Result<(), String> {
        for item in &table.of {
            let wrong = || format!("[[cut]] of choice `{}`: `{item}` is not NAME:AXIS", table.choice);
            let (pattern, axis) = item.rsplit_once(':').ok_or_else(wrong)?;
            let axis: usize = axis.trim().parse().map_err(|_| wrong())?;
            let pattern = WildMatch::new(pattern);
            let names: Vec<String> =
                self.stored().filter(|n| pattern.matches(n)).map(str::to_owned).collect();
            if names.is_empty() {
                let choice = &table.choice;
                return Err(format!("[[cut]] of choice `{choice}`: no stored tensor is called `{item}`"));
            }
            for name in names {
                let array = self.array(&name)?;
                let cut = first(&array, axis, size, table.parts)
                    .map_err(|why| format!("[[cut]] of choice `{}`: `{name}`: {why}", table.choice))?;
                self.store(&name, &cut)?;
                if axis == 0 {
                    self.fewer_groups(&name, &array.dims, size)?;
                }
            }
        }
        Ok(())
    }

    /// A convolution in groups that loses output channels loses groups.
    fn fewer_groups(&mut self, weight: &str, dims: &[usize], size: usize) -> Result<(), String> {
        for (n, position) in self.readers(weight) {
            let node = &mut self.graph.node[n];
            let groups = node.int("group").unwrap_or(1);
            if position != 1 || node.op_type != "Conv" || groups <= 1 {
                continue;
            }
            let each = dims[0] / (groups as usize).max(1);
            if each == 0 || !size.is_multiple_of(each) {
                let name = &node.name;
                return Err(format!("node `{name}`: {size} channels are no whole groups of {each} each"));
            }
            node.set(int("group", (size / each) as i64));
        }
        Ok(())
    }
}

/// The first elements of each of `parts` equal parts of an axis, `size` in all.
fn first(array: &Array, axis: usize, size: usize, parts: usize) -> Result<Array, String> {
    let whole = *array.dims.get(axis).ok_or_else(|| format!("axis {axis} of shape {:?}", array.dims))?;
    if parts == 0 || !whole.is_multiple_of(parts) || !size.is_multiple_of(parts) || size > whole {
        return Err(format!("{size} elements in {parts} parts of axis {axis} of shape {:?}", array.dims));
    }
    let inner = array.dims[axis + 1..].iter().product::<usize>() * array.dtype.bytes();
    let (part, kept) = (whole / parts * inner, size / parts * inner);
    let outer: usize = array.dims[..axis].iter().product();
    let mut data = Vec::with_capacity(outer * parts * kept);
    if part > 0 {
        array.data.chunks_exact(part).for_each(|part| data.extend_from_slice(&part[..kept]));
    }
    let mut dims = array.dims.clone();
    dims[axis] = size;
    Ok(Array { dtype: array.dtype, dims, data: data.into() })
}

#[cfg(test)]
mod tests {
    use super::first;
    use crate::model::Array;

    #[test]
    fn parts_are_cut_each() {
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let array = Array::f32(&[2, 6], &values);
        let cut = |axis, size, parts| first(&array, axis, size, parts).unwrap().as_f32().unwrap();
        assert_eq!(cut(1, 2, 1), [0.0, 1.0, 6.0, 7.0]);
        assert_eq!(cut(1, 4, 2), [0.0, 1.0, 3.0, 4.0, 6.0, 7.0, 9.0, 10.0]);
        assert_eq!(cut(0, 1, 1), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(first(&array, 1, 3, 2).is_err() && first(&array, 2, 1, 1).is_err());
        assert!(first(&array, 1, 7, 1).is_err());
    }
}
