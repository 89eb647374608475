//! Arrays that a router mixes of several, knowing the choices (Jawahar et al. 2024, "Mixture-of-Supernets"): `W = sum r_e W_e`, the r being one
//! number an expert, or one for each row and expert.

use super::super::tensors;
use super::edit::Edit;
use crate::import::supernet::{Description, Layer, Mixture};
use crate::model::Array;
use edge_runtime::subnet::{Coefficients, Dense, route};
use wildmatch::WildMatch;

/// What stands in the place of what is mixed.
#[derive(Clone, Copy, Debug)]
pub enum Mixing<'a> {
    /// What routers make of the choices.
    Routed,
    /// One expert of each mixture.
    Experts(&'a [usize]),
}

/// A router's layers as they are stored: weight, bias, whether what is below 0 becomes 0.
pub type Layers = Vec<(Array, Option<Array>, bool)>;

impl Edit<'_> {
    /// A router's layers.
    ///
    /// # Errors
    /// When one is not stored, or is no floats.
    pub fn layers(&self, table: &Mixture) -> Result<Layers, String> {
        let floats = |name: &String| {
            let array = self.array(name)?;
            let floats = tensors::floats(&array);
            let floats =
                floats.ok_or_else(|| format!("[[mixture]]: `{name}` is {}, must be floats", array.dtype))?;
            Ok::<Array, String>(Array::f32(&array.dims, &floats))
        };
        let layer = |Layer { weight, bias, relu }: &Layer| {
            Ok((floats(weight)?, bias.as_ref().map(floats).transpose()?, *relu))
        };
        table.layers.iter().map(layer).collect()
    }

    /// Mixes the arrays that a table names. `index` is the table's.
    ///
    /// # Errors
    /// When there is no such array, experts have other forms, or the router does not suit them.
    pub fn mixture(
        &mut self,
        description: &Description,
        index: usize,
        choice: &[usize],
        mixing: Mixing<'_>,
    ) -> Result<(), String> {
        let table = &description.mixtures[index];
        let coefs: Coefficients = match mixing {
            Mixing::Experts(chosen) => {
                let one = |expert| vec![f32::from(u8::from(expert == chosen[index]))];
                (0..table.experts.len()).map(one).collect()
            }
            Mixing::Routed => {
                let value = |feature| description.feature(feature).value(|v| choice[v]);
                let inputs: Vec<f32> = table.features.iter().map(value).collect();
                let layers = self.layers(table)?;
                let dense = |(weight, bias, relu): &(Array, Option<Array>, bool)| -> Option<Dense> {
                    let &[_, inputs] = &weight.dims[..] else { return None };
                    let bias = bias.as_ref().map_or(Some(Vec::new()), Array::as_f32)?;
                    Some(Dense { inputs, weight: weight.as_f32()?, bias, relu: *relu })
                };
                let dense: Option<Vec<Dense>> = layers.iter().map(dense).collect();
                dense.and_then(|layers| route(&inputs, &layers, table.experts.len())).ok_or_else(|| {
                    let dims: Vec<&[usize]> = layers.iter().map(|(weight, ..)| &weight.dims[..]).collect();
                    format!(
                        "[[mixture]]: layers {dims:?} give no weights for {} experts from {} features",
                        table.experts.len(),
                        inputs.len()
                    )
                })?
            }
        };
        for item in &table.of {
            let wrong = || format!("[[mixture]]: `{item}` is not NAME:AXIS");
            let (pattern, axis) = item.rsplit_once(':').ok_or_else(wrong)?;
            let axis: usize = axis.trim().parse().map_err(|_| wrong())?;
            let pattern = WildMatch::new(pattern);
            let others = |name: &str| table.experts[1..].iter().any(|prefix| name.starts_with(prefix));
            let names = self.stored().filter(|name| pattern.matches(name) && !others(name));
            let names: Vec<String> = names.map(str::to_owned).collect();
            if names.is_empty() {
                return Err(format!("[[mixture]]: no stored tensor is called `{item}`"));
            }
            for name in names {
                self.mixed(table, &name, axis, &coefs)?;
            }
        }
        Ok(())
    }

    fn mixed(
        &mut self,
        table: &Mixture,
        name: &str,
        axis: usize,
        coefs: &Coefficients,
    ) -> Result<(), String> {
        let own = self.array(name)?;
        let rows = own.dims.get(axis).copied().unwrap_or(0);
        let inner: usize = own.dims.iter().skip(axis + 1).product();
        if !coefs.iter().all(|coefs| coefs.len() == 1 || coefs.len() == rows) {
            let given = coefs.first().map_or(0, Vec::len);
            return Err(format!(
                "[[mixture]]: the router gives weights for {given} rows, axis {axis} of `{name}` {:?} has {rows}",
                own.dims
            ));
        }
        let mut sum: Vec<f32> = Vec::new();
        for (e, (prefix, coefs)) in table.experts.iter().zip(coefs).enumerate() {
            let other = format!("{prefix}{name}");
            let array = self.array(&other)?;
            let floats = tensors::floats(&array).filter(|_| array.dims == own.dims);
            let floats = floats.ok_or_else(|| {
                let (dtype, dims) = (array.dtype, &array.dims);
                format!("[[mixture]]: `{other}` is {dtype}{dims:?}, must be floats {:?}", own.dims)
            })?;
            let coef = |i: usize| coefs[if coefs.len() == 1 { 0 } else { i / inner % rows }];
            let products = floats.iter().enumerate().map(|(i, v)| coef(i) * v);
            match e {
                0 => sum = products.collect(),
                _ => sum.iter_mut().zip(products).for_each(|(sum, product)| *sum += product),
            }
        }
        let wide: Vec<f64> = sum.into_iter().map(f64::from).collect();
        self.store(name, &tensors::from_f64(own.dtype, &own.dims, &wide))
    }
}
