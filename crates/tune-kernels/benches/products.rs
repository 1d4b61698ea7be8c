//! Matrix products of LoRA training, beside the `gemm` crate and the measured peak, in one run:
//!
//! ```text
//! cargo bench -p tune-kernels
//! ```
//!
//! Shapes are those of SmolLM2-135M at 1024 tokens, four rows of 256. First the calls that a step makes, adapters of rank
//! 16 included, beside as many products of `gemm`; then single products. Both sides run on all threads; rounds alternate
//! between the two, and the figure is the median. `gemm` gives no promise about order: it is the peer in speed only.

#![expect(unsafe_code, reason = "`gemm` takes pointers")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(missing_docs, clippy::print_stdout, clippy::many_single_char_names)]

use std::time::Instant;

use tune_kernels::cpu::linear::{Branch, InputGradient, Layer};
use tune_kernels::cpu::{Level, linear, memory, peak};
use tune_kernels::layout::Rows;

const TOKENS: usize = 1024;
const ROWS: usize = 4;
/// Tokens of a row.
const ROW: usize = TOKENS / ROWS;
const RANK: usize = 16;
const SCALE: f32 = 2.0;
const ROUNDS: usize = 15;

/// Values of no special structure.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).expect("16 bits")) / 65536.0 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

/// Seconds that `f` takes.
fn time(f: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

/// Median seconds of two competitors that take turns.
fn compare(f: &mut dyn FnMut(), g: &mut dyn FnMut()) -> (f64, f64) {
    let (mut of_f, mut of_g) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_f.push(time(f));
        of_g.push(time(g));
    }
    let median = |mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    (median(of_f), median(of_g))
}

/// An operand of the peer: its values, and its strides by row and column.
type Operand<'a> = (&'a [f32], [usize; 2]);

/// `c[m, n] = keep · c + factor · a[m, k] · b[k, n]` by `gemm`.
fn peer([m, n, k]: [usize; 3], a: Operand<'_>, b: Operand<'_>, c: &mut [f32], keep: bool, factor: f32) {
    let stride = |n: usize| isize::try_from(n).expect("a stride");
    assert!(a.0.len() >= m * k && b.0.len() >= k * n && c.len() >= m * n, "operands of the peer");
    // SAFETY: operands hold what the sizes say, and `c` is not shared.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            stride(n),
            keep,
            a.0.as_ptr(),
            stride(a.1[1]),
            stride(a.1[0]),
            b.0.as_ptr(),
            stride(b.1[1]),
            stride(b.1[0]),
            if keep { 1.0 } else { 0.0 },
            factor,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

/// A linear layer with its adapter, and buffers for the peer's results.
struct Adapted {
    inputs: usize,
    outputs: usize,
    w: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    h: Vec<f32>,
    y: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
}

impl Adapted {
    fn new(inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            w: values(outputs * inputs, 2),
            a: values(RANK * inputs, 3),
            b: values(outputs * RANK, 4),
            h: values(TOKENS * RANK, 5),
            y: vec![0.0; TOKENS * outputs],
            dy: values(TOKENS * outputs, 6),
            dx: vec![0.0; TOKENS * inputs],
        }
    }

    fn layer(&self) -> Layer<'_> {
        let branch = Branch { a: &self.a, b: &self.b, scale: SCALE, dropout: None, rank: RANK };
        Layer { weight: (&self.w).into(), shape: [self.inputs, self.outputs], bias: None, branch: Some(branch) }
    }

    /// Multiply-adds of the forward pass. The backward pass computes the branch's gradients beside as many.
    fn work(&self) -> usize {
        TOKENS * (self.inputs * self.outputs + RANK * (self.inputs + self.outputs))
    }

    fn peer_forward(&mut self, x: &[f32]) {
        let Self { inputs, outputs, .. } = *self;
        peer([TOKENS, RANK, inputs], (x, [inputs, 1]), (&self.a, [1, inputs]), &mut self.h, false, 1.0);
        peer([TOKENS, outputs, inputs], (x, [inputs, 1]), (&self.w, [1, inputs]), &mut self.y, false, 1.0);
        peer([TOKENS, outputs, RANK], (&self.h, [RANK, 1]), (&self.b, [1, RANK]), &mut self.y, true, SCALE);
    }

    fn peer_backward(&mut self, x: &[f32], gradients: &mut [f32]) {
        let Self { inputs, outputs, .. } = *self;
        let mut u = vec![0.0; TOKENS * RANK];
        peer([TOKENS, RANK, outputs], (&self.dy, [outputs, 1]), (&self.b, [RANK, 1]), &mut u, false, 1.0);
        peer([TOKENS, inputs, outputs], (&self.dy, [outputs, 1]), (&self.w, [inputs, 1]), &mut self.dx, false, 1.0);
        peer([TOKENS, inputs, RANK], (&u, [RANK, 1]), (&self.a, [inputs, 1]), &mut self.dx, true, SCALE);
        for row in 0..ROWS {
            let first = row * ROW;
            let (u, h) = (&u[first * RANK..], &self.h[first * RANK..]);
            let (x, dy) = (&x[first * inputs..], &self.dy[first * outputs..]);
            peer([RANK, inputs, ROW], (u, [1, RANK]), (x, [inputs, 1]), gradients, false, SCALE);
            peer([outputs, RANK, ROW], (dy, [1, outputs]), (h, [RANK, 1]), gradients, false, SCALE);
        }
    }
}

/// Prints a line of the table.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn report(peak: f64, label: &str, multiply_adds: usize, (ours, theirs): (f64, f64)) {
    let gflops = |seconds: f64| 2.0 * multiply_adds as f64 / seconds / 1e9;
    let (ours, theirs) = (gflops(ours), gflops(theirs));
    println!("{label:<44} {ours:>9.1} {theirs:>9.1} {:>7.2} {:>8.2}", ours / theirs, ours / peak);
}

/// The calls of a step.
fn calls(level: Level, peak: f64) {
    let rows = Rows::whole((0..ROWS).map(|row| row * ROW..(row + 1) * ROW).collect(), 0);
    for (name, inputs, outputs) in [
        ("q, k, v", 576, &[576, 192, 192][..]),
        ("o", 576, &[576]),
        ("gate, up", 576, &[1536, 1536]),
        ("down", 1536, &[576]),
    ] {
        let x = values(TOKENS * inputs, 1);
        let ours: Vec<Adapted> = outputs.iter().map(|&outputs| Adapted::new(inputs, outputs)).collect();
        let mut theirs: Vec<Adapted> = outputs.iter().map(|&outputs| Adapted::new(inputs, outputs)).collect();
        let layers: Vec<Layer<'_>> = ours.iter().map(Adapted::layer).collect();
        let work: usize = ours.iter().map(Adapted::work).sum();
        let forward = compare(
            &mut || drop(std::hint::black_box(linear::linears(level, &x, &layers, None, &rows, &[]))),
            &mut || theirs.iter_mut().for_each(|layer| layer.peer_forward(&x)),
        );
        report(peak, &format!("{name}: forward"), work, forward);
        let mut gradients = vec![0.0; RANK * 1536];
        let backward = compare(
            &mut || {
                for (layer, of) in layers.iter().zip(&ours) {
                    let input = InputGradient::Alone;
                    let result = linear::linear_lora_backward(level, &of.dy, &x, &of.h, layer, &rows, input);
                    drop(std::hint::black_box(result));
                }
            },
            &mut || theirs.iter_mut().for_each(|layer| layer.peer_backward(&x, &mut gradients)),
        );
        let gradients: usize = ours.iter().map(|of| TOKENS * RANK * (of.inputs + of.outputs)).sum();
        report(peak, &format!("{name}: backward"), work + gradients, backward);
    }
}

/// Products by themselves.
fn single(level: Level, peak: f64) {
    for (name, tokens, inputs, outputs) in [
        ("q, o", TOKENS, 576, 576),
        ("k, v", TOKENS, 576, 192),
        ("gate, up", TOKENS, 576, 1536),
        ("down", TOKENS, 1536, 576),
        ("head", 384, 576, 49152),
        ("LoRA A", TOKENS, 576, RANK),
        ("LoRA A of down", TOKENS, 1536, RANK),
        ("LoRA B", TOKENS, RANK, 576),
        ("LoRA B of gate, up", TOKENS, RANK, 1536),
    ] {
        let (x, w) = (values(tokens * inputs, 1), values(outputs * inputs, 2));
        let dy = values(tokens * outputs, 3);
        let mut c = vec![0.0; (tokens * outputs).max(tokens * inputs).max(outputs * inputs)];
        let label = |what: &str| format!("{name} {what} {tokens}x{inputs}x{outputs}");
        let forward = compare(
            &mut || drop(std::hint::black_box(linear::linear(level, &x, (&w).into(), None, inputs, outputs))),
            &mut || peer([tokens, outputs, inputs], (&x, [inputs, 1]), (&w, [1, inputs]), &mut c, false, 1.0),
        );
        report(peak, &label("x W^T"), tokens * inputs * outputs, forward);
        let backward = compare(
            &mut || {
                let dx = linear::linear_input_gradient(level, &dy, (&w).into(), None, inputs, outputs);
                drop(std::hint::black_box(dx));
            },
            &mut || peer([tokens, inputs, outputs], (&dy, [outputs, 1]), (&w, [inputs, 1]), &mut c, false, 1.0),
        );
        report(peak, &label("dy W"), tokens * inputs * outputs, backward);
        if outputs <= RANK || inputs <= RANK {
            // The gradient of a LoRA matrix, a row of 256 tokens.
            let row = 0..ROW;
            let shape = [outputs, inputs, ROW];
            let weight = compare(
                &mut || {
                    drop(std::hint::black_box(linear::linear_weight_gradient(level, &dy, &x, inputs, outputs, &row)));
                },
                &mut || peer(shape, (&dy, [1, outputs]), (&x, [inputs, 1]), &mut c, false, 1.0),
            );
            report(peak, &label("dy^T x of a row"), shape.iter().product(), weight);
        }
    }
}

fn main() {
    // As the tool does at its start.
    memory::keep_freed_memory();
    let level = Level::current();
    let mut peaks: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let mut operations = 0.0;
            let seconds = time(&mut || operations = peak::multiply_adds(level, 20_000_000));
            operations / seconds / 1e9
        })
        .collect();
    peaks.sort_by(f64::total_cmp);
    let peak = peaks[ROUNDS / 2];
    println!("level {}, {} threads, multiply-add peak {peak:.0} GFLOP/s", level.name(), rayon::current_num_threads());
    println!("{:<44} {:>9} {:>9} {:>7} {:>8}", "calls of a step", "tune", "gemm", "ratio", "of peak");
    calls(level, peak);
    println!("{:<44} {:>9} {:>9} {:>7} {:>8}", "products by themselves", "tune", "gemm", "ratio", "of peak");
    single(level, peak);
}
