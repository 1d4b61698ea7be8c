//! Largest errors of `exp`, `ln` and `sigmoid` over all f32 inputs, the figures that `docs/numerics.md` publishes.
//!
//! ```text
//! cargo run --release -p tune-kernels --example elementary_error [-- --stride N]
//! ```
//!
//! `--stride N` takes every N-th bit pattern only. The reference is the `libm` crate in f64, whose error is below one
//! unit of f64 for `exp` and `log`: some 2^-29 of the unit that errors are counted in. Whether a result is the correctly
//! rounded one cannot be told where the reference lies within that error of the middle between two f32; such inputs are
//! counted as undecided. Neither threads nor chunks show in the output.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::process::ExitCode;

use rayon::prelude::*;
use tune_kernels::elementary::{exp_one, ln, sigmoid_one};
use tune_kernels::lanes::Fused;

/// Inputs of one task.
const CHUNK: u64 = 1 << 20;

/// A function beside its reference in f64.
struct Function {
    name: &'static str,
    ours: fn(f32) -> f32,
    reference: fn(f64) -> f64,
    /// Inputs and results that are exact by definition.
    special: &'static [(f32, f32)],
}

const NAN: f32 = f32::NAN;
const INFINITY: f32 = f32::INFINITY;

const FUNCTIONS: [Function; 3] = [
    Function {
        name: "exp",
        ours: exp_one::<Fused>,
        reference: libm::exp,
        special: &[
            (0.0, 1.0),
            (-0.0, 1.0),
            (1e-45, 1.0),
            (-1e-45, 1.0),
            (INFINITY, INFINITY),
            (-INFINITY, 0.0),
            (f32::MAX, INFINITY),
            (f32::MIN, 0.0),
            (-104.0, 0.0),
            (NAN, NAN),
            (-NAN, NAN),
        ],
    },
    Function {
        name: "ln",
        ours: ln::<Fused>,
        reference: libm::log,
        special: &[
            (1.0, 0.0),
            (0.0, -INFINITY),
            (-0.0, -INFINITY),
            (INFINITY, INFINITY),
            (-INFINITY, NAN),
            (-1.0, NAN),
            (-1e-45, NAN),
            (NAN, NAN),
            (-NAN, NAN),
        ],
    },
    Function {
        name: "sigmoid",
        ours: sigmoid_one::<Fused>,
        reference: |x| 1.0 / (1.0 + libm::exp(-x)),
        special: &[
            (0.0, 0.5),
            (-0.0, 0.5),
            (1e-45, 0.5),
            (-1e-45, 0.5),
            (INFINITY, 1.0),
            (-INFINITY, 0.0),
            (f32::MAX, 1.0),
            (f32::MIN, 0.0),
            (NAN, NAN),
            (-NAN, NAN),
        ],
    },
];

/// The largest error met, in units of the last place, and the lowest bit pattern of an input that has it.
#[derive(Clone, Copy, Default)]
struct Worst {
    error: f64,
    bits: u32,
}

impl Worst {
    fn meet(&mut self, error: f64, bits: u32) {
        if error > self.error || (error == self.error && error > 0.0 && bits < self.bits) {
            *self = Self { error, bits };
        }
    }
}

/// What a sweep found. Results are kept apart by the size of the exact value: below 2^-126 a unit is no longer relative.
#[derive(Clone, Copy, Default)]
struct Found {
    inputs: u64,
    nan: u64,
    /// Results that are NaN where the reference is not, or the other way round.
    nan_mismatches: u64,
    normal: Worst,
    denormal: Worst,
    not_rounded: u64,
    not_rounded_denormal: u64,
    undecided: u64,
}

impl Found {
    /// The order of merging does not matter: sums of integers, and maxima with ties broken by the input.
    fn merge(mut self, other: Self) -> Self {
        self.inputs += other.inputs;
        self.nan += other.nan;
        self.nan_mismatches += other.nan_mismatches;
        self.normal.meet(other.normal.error, other.normal.bits);
        self.denormal.meet(other.denormal.error, other.denormal.bits);
        self.not_rounded += other.not_rounded;
        self.not_rounded_denormal += other.not_rounded_denormal;
        self.undecided += other.undecided;
        self
    }

    fn count(&mut self, function: &Function, bits: u32) {
        let x = f32::from_bits(bits);
        let (got, want) = ((function.ours)(x), (function.reference)(f64::from(x)));
        self.inputs += 1;
        if got.is_nan() || want.is_nan() {
            self.nan += 1;
            self.nan_mismatches += u64::from(got.is_nan() != want.is_nan());
            return;
        }
        let normal = want.abs() >= f64::from(f32::MIN_POSITIVE);
        let worst = if normal { &mut self.normal } else { &mut self.denormal };
        worst.meet(ulps(got, want), bits);
        if undecided(want) {
            self.undecided += 1;
        } else if got != want as f32 {
            self.not_rounded += u64::from(normal);
            self.not_rounded_denormal += u64::from(!normal);
        }
    }
}

/// Distance of `got` from `want` in units of the last place of an f32 of the size of `want`.
fn ulps(got: f32, want: f64) -> f64 {
    if f64::from(got) == want || got == want as f32 && got.is_infinite() {
        return 0.0;
    }
    // Results stop at 2^128, as if the exponents went on.
    let beyond = libm::ldexp(1.0, 128);
    let got = f64::from(got).clamp(-beyond, beyond);
    let exponent = ((want.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    (got - want.clamp(-beyond, beyond)).abs() / libm::ldexp(1.0, exponent.max(-126) - 23)
}

/// Whether `want` lies within four units of f64 of the middle between two f32, but not exactly on an f32.
fn undecided(want: f64) -> bool {
    let magnitude = want.abs();
    if magnitude < f64::from(f32::MIN_POSITIVE) {
        // In units of the smallest denormal, the middles are the halves.
        let units = magnitude * libm::ldexp(1.0, 149);
        return (units - libm::floor(units) - 0.5).abs() <= units * libm::ldexp(1.0, -50);
    }
    let discarded = (magnitude.to_bits() & 0x1fff_ffff) as i64;
    magnitude.is_finite() && (discarded - 0x1000_0000).abs() <= 4
}

fn sweep(function: &Function, stride: u64) -> Found {
    let inputs = (1_u64 << 32).div_ceil(stride);
    let chunks = (0..inputs.div_ceil(CHUNK)).into_par_iter();
    let one = |chunk: u64| {
        let mut found = Found::default();
        for i in chunk * CHUNK..((chunk + 1) * CHUNK).min(inputs) {
            found.count(function, (i * stride) as u32);
        }
        found
    };
    chunks.map(one).reduce(Found::default, Found::merge)
}

fn print(name: &str, found: &Found) {
    let place =
        |worst: Worst| format!("{:.6} ulp at {:e} ({:08x})", worst.error, f32::from_bits(worst.bits), worst.bits);
    println!("{name}");
    println!("  inputs                             {}", found.inputs);
    println!("  NaN results                        {} ({} unexpected or missing)", found.nan, found.nan_mismatches);
    println!("  largest error, normal results      {}", place(found.normal));
    println!("  largest error, denormal results    {}", place(found.denormal));
    println!("  not correctly rounded, normal      {}", found.not_rounded);
    println!("  not correctly rounded, denormal    {}", found.not_rounded_denormal);
    println!("  undecided                          {}", found.undecided);
}

/// Checks the exact results; gives how many were wrong.
fn special_values(function: &Function) -> usize {
    let wrong = function.special.iter().filter(|(x, want)| {
        let got = (function.ours)(*x);
        let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
        if !same {
            println!("  wrong: {}({x:e}) = {got:e}, expected {want:e}", function.name);
        }
        !same
    });
    let wrong = wrong.count();
    println!("  special values                     {} checked, {wrong} wrong", function.special.len());
    wrong
}

/// The stride from the command line.
fn stride() -> Option<u64> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => Some(1),
        [flag, n] if flag == "--stride" => n.parse().ok().filter(|n| (1..1 << 32).contains(n)),
        _ => None,
    }
}

fn main() -> ExitCode {
    let Some(stride) = stride() else {
        println!("usage: elementary_error [--stride N], N from 1 to 2^32 - 1");
        return ExitCode::from(2);
    };
    println!("one of every {stride} bit patterns; errors in units of the last place of the exact value");
    let mut wrong = 0;
    for function in &FUNCTIONS {
        let found = sweep(function, stride);
        print(function.name, &found);
        wrong += special_values(function) as u64 + found.nan_mismatches;
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
