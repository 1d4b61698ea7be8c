//! Matrix products of LoRA training, beside the `gemm` crate and the measured peak, in one run:
//!
//! ```text
//! cargo bench -p tune-kernels
//! ```
//!
//! Shapes are those of SmolLM2-135M at 1024 tokens. Both sides run on all threads; rounds alternate between the two, and
//! the figure is the median. `gemm` gives no promise about order: it is the peer in speed only.

#![expect(unsafe_code, reason = "`gemm` takes pointers")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(missing_docs, clippy::print_stdout, clippy::many_single_char_names)]

use std::time::Instant;

use tune_kernels::cpu::{Level, linear, memory, peak};

const TOKENS: usize = 1024;
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

/// `c[m, n] = a[m, k] · b[k, n]` by `gemm`; strides are (row, column).
fn peer([m, n, k]: [usize; 3], a: (&[f32], [usize; 2]), b: (&[f32], [usize; 2]), c: &mut [f32]) {
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
            false,
            a.0.as_ptr(),
            stride(a.1[1]),
            stride(a.1[0]),
            b.0.as_ptr(),
            stride(b.1[1]),
            stride(b.1[0]),
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
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
    println!("{:<44} {:>9} {:>9} {:>7} {:>8}", "product", "tune", "gemm", "ratio", "of peak");
    for (name, tokens, inputs, outputs) in [
        ("q, o", TOKENS, 576, 576),
        ("k, v", TOKENS, 576, 192),
        ("gate, up", TOKENS, 576, 1536),
        ("down", TOKENS, 1536, 576),
        ("head", 256, 576, 49152),
        ("LoRA A", TOKENS, 576, 16),
        ("LoRA A of down", TOKENS, 1536, 16),
        ("LoRA B", TOKENS, 16, 576),
        ("LoRA B of gate, up", TOKENS, 16, 1536),
    ] {
        let (x, w) = (values(tokens * inputs, 1), values(outputs * inputs, 2));
        let dy = values(tokens * outputs, 3);
        let mut c = vec![0.0; (tokens * outputs).max(tokens * inputs).max(outputs * inputs)];
        let report = |what: &str, operations: usize, (ours, theirs): (f64, f64)| {
            #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
            let gflops = |seconds: f64| operations as f64 / seconds / 1e9;
            let (ours, theirs) = (gflops(ours), gflops(theirs));
            let label = format!("{name} {what} {tokens}x{inputs}x{outputs}");
            println!("{label:<44} {ours:>9.1} {theirs:>9.1} {:>7.2} {:>8.2}", ours / theirs, ours / peak);
        };
        let operations = 2 * tokens * inputs * outputs;
        let forward = compare(
            &mut || drop(std::hint::black_box(linear::linear(level, &x, (&w).into(), None, inputs, outputs))),
            &mut || peer([tokens, outputs, inputs], (&x, [inputs, 1]), (&w, [1, inputs]), &mut c),
        );
        report("x W^T", operations, forward);
        let backward = compare(
            &mut || {
                drop(std::hint::black_box(linear::linear_input_gradient(
                    level,
                    &dy,
                    (&w).into(),
                    None,
                    inputs,
                    outputs,
                )))
            },
            &mut || peer([tokens, inputs, outputs], (&dy, [outputs, 1]), (&w, [inputs, 1]), &mut c),
        );
        report("dy W", operations, backward);
        if outputs <= 16 || inputs <= 16 {
            // The gradient of a LoRA matrix, a row of 256 tokens.
            let row = 0..256;
            let weight = compare(
                &mut || {
                    drop(std::hint::black_box(linear::linear_weight_gradient(level, &dy, &x, inputs, outputs, &row)));
                },
                &mut || peer([outputs, inputs, 256], (&dy, [1, outputs]), (&x, [inputs, 1]), &mut c),
            );
            report("dy^T x of a row", 2 * 256 * inputs * outputs, weight);
        }
    }
}
