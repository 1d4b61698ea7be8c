//! Weights before the first step and after the last, tensor by tensor.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use tune_model::base::SafetensorsFile;

use super::report::{Bearing, Difference, Part, Run, Values, What};
use super::side::Side;
use tune_schema::text::printable;

/// Where weights lie before the first step, and after the last: adapters, or whole models.
const INITIAL: [&str; 2] =
    ["checkpoints/step-000000/adapter_model.safetensors", "checkpoints/step-000000/model.safetensors"];
const LAST: [&str; 2] = ["adapter/adapter_model.safetensors", "model/model.safetensors"];

/// Tensors that are listed.
const LISTED: usize = 10;

/// How the final weights of two runs differ.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WeightsDifference {
    /// Tensors that either run has.
    pub tensors: usize,
    /// Those that differ.
    pub differing: usize,
    /// The first tensors that only one run has, that differ in shape, or that cannot be read.
    pub unlike: Vec<Unlike>,
    /// The tensors with the largest distances, by relative distance.
    pub distances: Vec<Distance>,
}

/// A tensor without a counterpart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unlike {
    /// Its name.
    pub name: String,
    /// Why it has none.
    pub reason: String,
}

/// How far a tensor is from its counterpart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Distance {
    /// Its name.
    pub name: String,
    /// Values with other bits.
    pub values: usize,
    /// Largest absolute difference of two values.
    pub largest: f64,
    /// Norm of the difference relative to that of the tensor in A; absent where that is 0.
    pub relative: Option<f64>,
}

impl WeightsDifference {
    /// The tensor that stands for all.
    pub(super) fn first(&self) -> &str {
        let distant = self.distances.first().map(|distance| &distance.name);
        distant.or_else(|| self.unlike.first().map(|unlike| &unlike.name)).map_or("", String::as_str)
    }
}

impl fmt::Display for WeightsDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} tensors differ", self.differing, self.tensors)?;
        for Unlike { name, reason } in &self.unlike {
            write!(f, "\n{}: {}", printable(name), printable(reason))?;
        }
        for Distance { name, values, largest, relative } in &self.distances {
            let relative =
                relative.map_or_else(|| "all zeros in A".to_owned(), |norm| format!("relative norm {norm:.3e}"));
            write!(
                f,
                "\n{}: largest difference {largest:.3e}, {relative}, differing values: {values}",
                printable(name)
            )?;
        }
        Ok(())
    }
}

/// The initial weights, by their roots.
///
/// # Errors
/// Weights that cannot be read.
pub(super) fn initial(sides: [&Side; 2]) -> Result<Vec<Difference>, String> {
    // Where every file was checked, the claim's root is that of the weights, which a published folder may not have.
    let root = |side: &Side| match side.checked_initial_root() {
        Some(root) => Ok(root),
        None => side.tensors(&INITIAL)?.tensor_root().map_err(|error| side.unreadable(INITIAL[0], &error)),
    };
    let values = Values::differing("the root of the initial weights", Some(root(sides[0])?), Some(root(sides[1])?));
    Ok(values.map(|values| Difference::of_values(Part::InitialState, Bearing::Trained, values)).into_iter().collect())
}

/// The final weights, tensor by tensor: memory holds one tensor of each run.
///
/// # Errors
/// Files that are not there, or break the format.
pub(super) fn last([a, b]: [&Side; 2]) -> Result<Vec<Difference>, String> {
    let (file_a, file_b) = (a.tensors(&LAST)?, b.tensors(&LAST)?);
    let names: BTreeSet<&str> = file_a.tensor_names().chain(file_b.tensor_names()).collect();
    let mut found = WeightsDifference { tensors: names.len(), ..WeightsDifference::default() };
    for name in names {
        match compare([&file_a, &file_b], name) {
            Ok(None) => continue,
            Ok(Some(distance)) => found.distances.push(distance),
            Err(reason) if found.unlike.len() < LISTED => found.unlike.push(Unlike { name: name.to_owned(), reason }),
            Err(_) => {}
        }
        found.differing += 1;
    }
    // What has no relative distance is the furthest away.
    let key = |distance: &Distance| (distance.relative.unwrap_or(f64::INFINITY), distance.largest);
    found.distances.sort_by(|a, b| {
        let ((relative_a, largest_a), (relative_b, largest_b)) = (key(a), key(b));
        relative_b.total_cmp(&relative_a).then(largest_b.total_cmp(&largest_a)).then_with(|| a.name.cmp(&b.name))
    });
    found.distances.truncate(LISTED);
    if found.differing == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![Difference { part: Part::Weights, bearing: Bearing::Trained, what: What::Weights(found) }])
}

/// The distance of a tensor, where it is not the same; an error says why there is none.
fn compare([a, b]: [&SafetensorsFile; 2], name: &str) -> Result<Option<Distance>, String> {
    let shapes = match (a.tensor_shape(name), b.tensor_shape(name)) {
        (Some(a), Some(b)) => [a, b],
        (Some(_), None) => return Err("only in A".to_owned()),
        _ => return Err("only in B".to_owned()),
    };
    if shapes[0] != shapes[1] {
        return Err(format!("its shape is {:?} in A, {:?} in B", shapes[0], shapes[1]));
    }
    let load = |file: &SafetensorsFile, run: Run| {
        file.load_tensor(name, shapes[0]).map_err(|error| format!("it cannot be read in {run}: {error}"))
    };
    Ok(distance(name, &load(a, Run::A)?, &load(b, Run::B)?))
}

/// The distance of two tensors of the same shape, nothing where they have the same bits.
fn distance(name: &str, a: &[f32], b: &[f32]) -> Option<Distance> {
    let (mut values, mut largest, mut apart, mut norm) = (0, 0.0_f64, 0.0_f64, 0.0_f64);
    for (a, b) in a.iter().zip(b) {
        values += usize::from(a.to_bits() != b.to_bits());
        let (a, b) = (f64::from(*a), f64::from(*b));
        largest = largest.max((a - b).abs());
        apart += (a - b) * (a - b);
        norm += a * a;
    }
    let relative = (norm > 0.0).then(|| (apart / norm).sqrt());
    (values > 0).then(|| Distance { name: name.to_owned(), values, largest, relative })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("w", &[1.0, 2.0], &[1.0, 2.0]), None);
        let found = distance("w", &[3.0, 4.0], &[3.0, 4.5]).unwrap();
        assert_eq!((found.values, found.largest, found.relative), (1, 0.5, Some(0.1)));
        assert_eq!(distance("w", &[0.0], &[2.0]).unwrap().relative, None);
        // Another zero is another value, at no distance.
        let zero = distance("w", &[1.0, 0.0], &[1.0, -0.0]).unwrap();
        assert_eq!((zero.values, zero.largest, zero.relative), (1, 0.0, Some(0.0)));
    }
}
