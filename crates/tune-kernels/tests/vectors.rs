//! The scalar reference and the kernels of every level this processor has reproduce `docs/numerics-vectors.json` bit for
//! bit. The file is written by `tests/numerics/vectors.py`, which shares no code with this crate.

#[path = "support/vectors.rs"]
mod support;

use std::collections::BTreeSet;

use support::{Case, Results, cases, hex, hex_words, hex64};
use tune_kernels::backend::{Gradients, Target};
use tune_kernels::cpu::linear::{Branch, InputGradient, Layer};
use tune_kernels::cpu::{self, Level};
use tune_kernels::elementary::{exp_one, ln, sigmoid_one};
use tune_kernels::lanes::{Fma, Fused, Lanes, One, Unfused};
use tune_kernels::layout::{Rows, Span};
use tune_kernels::philox::{StreamKey, philox4x32_10};
use tune_kernels::reference;
use tune_kernels::shapes::{AdamW, Dropout, Heads};
use tune_kernels::tree::PairwiseSum;
use tune_schema::seed::Seed;

/// Operations of the host's side, which the tests of tune-train check.
const ELSEWHERE: [&str; 5] = ["adamw_scalars", "global_norm", "lora_scale", "rope_tables", "schedule"];

/// Operations in which a device without a fused `fma` must show.
const FUSED: [&str; 12] = [
    "adamw",
    "arithmetic",
    "attention",
    "cross_entropy",
    "exp",
    "linear",
    "ln",
    "lora",
    "rms_norm",
    "rope",
    "sigmoid",
    "swiglu",
];

/// Operations that `tune_kernels::cpu` implements.
const KERNELS: [&str; 10] =
    ["adamw", "arithmetic", "attention", "cross_entropy", "dropout", "linear", "lora", "rms_norm", "rope", "swiglu"];

fn own_cases() -> Vec<Case> {
    cases().into_iter().filter(|case| !ELSEWHERE.contains(&case.operation.as_str())).collect()
}

#[test]
fn the_reference_reproduces_every_vector() {
    for case in own_cases() {
        case.compare_all(&by_reference::<Fused>(&case)).unwrap();
    }
}

#[test]
fn every_level_reproduces_every_vector() {
    for level in Level::ALL.into_iter().filter(|level| level.available()) {
        let mut compared = BTreeSet::new();
        for case in own_cases() {
            let Some(results) = by_kernels(level, &case) else { continue };
            case.compare(&results).unwrap_or_else(|problem| panic!("{level:?}: {problem}"));
            compared.insert(case.operation);
        }
        assert!(compared.iter().eq(KERNELS), "{level:?} compared only {compared:?}");
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    for mut case in own_cases() {
        let results = by_reference::<Fused>(&case);
        case.every_flipped_bit_is_seen(&results);
    }
}

#[test]
fn a_multiply_add_with_two_roundings_is_seen() {
    for operation in FUSED {
        let mut own = own_cases().into_iter().filter(|case| case.operation == operation);
        assert!(own.any(|case| case.compare(&by_reference::<Unfused>(&case)).is_err()), "{operation}");
    }
}

fn map(values: &[f32], function: impl Fn(f32) -> f32) -> Vec<String> {
    hex(&values.iter().map(|x| function(*x)).collect::<Vec<_>>())
}

fn by_reference<F: Fma>(case: &Case) -> Results {
    match case.operation.as_str() {
        "philox4x32_10" => vec![("words", hex_words(&philox4x32_10(case.words("counter"), case.words("key"))))],
        "stream_key" => {
            let seed = case.text("seed").parse().expect("a seed");
            vec![("key", hex_words(&Seed(seed).stream(case.text("name"))))]
        }
        "uniform" => vec![("values", hex64(&indices(case).map(|i| key(case).uniform(i)).collect::<Vec<_>>()))],
        "normal" => vec![("values", hex(&indices(case).map(|i| key(case).normal(i)).collect::<Vec<_>>()))],
        "arithmetic" => arithmetic::<F>(case),
        "exp" => vec![("y", map(&case.f32s("x"), exp_one::<F>))],
        "ln" => vec![("y", map(&case.f32s("x"), ln::<F>))],
        "sigmoid" => vec![("y", map(&case.f32s("x"), sigmoid_one::<F>))],
        "linear" => linear::<F>(case),
        "lora" => lora::<F>(case),
        "dropout" => dropout(case, |x, inputs, drop, rows| reference::dropout(x, inputs, Some(drop), rows)),
        "rms_norm" => rms_norm::<F>(case),
        "rope" => rope(case, |x, positions, cos, sin, head_dim, inverse| {
            reference::rope::<F>(x, positions, cos, sin, head_dim, inverse)
        }),
        "attention" => attention::<F>(case),
        "cross_entropy" => cross_entropy::<F>(case),
        "embedding_gradient" => {
            let (features, vocabulary) = (case.size("features"), case.size("vocabulary"));
            let (dy, ids) = (case.f32s("dy"), case.integers("ids"));
            let table = reference::embedding_gradient(&dy, &ids, features, vocabulary, &case.range("row"));
            vec![("table", hex(&table))]
        }
        "swiglu" => {
            let (gate, up, dy) = (case.f32s("gate"), case.f32s("up"), case.f32s("dy"));
            let (d_gate, d_up) = reference::swiglu_backward::<F>(&dy, &gate, &up);
            let y = reference::swiglu::<F>(&gate, &up);
            vec![("y", hex(&y)), ("d_gate", hex(&d_gate)), ("d_up", hex(&d_up))]
        }
        "pairwise_tree" => {
            let mut sum = PairwiseSum::default();
            case.f32s("rows").into_iter().for_each(|row| sum.push(row, |a, b| a + b));
            vec![("sum", hex(&[sum.finish(|a, b| a + b).expect("a row")]))]
        }
        "adamw" => adamw(case, reference::adamw::<F>),
        unknown => panic!("no test knows the operation `{unknown}`"),
    }
}

/// The same by the kernels of a level; nothing where the operation has none. A kernel may give fewer outputs.
fn by_kernels(level: Level, case: &Case) -> Option<Results> {
    Some(match case.operation.as_str() {
        "arithmetic" => fma_by_kernels(level, case),
        "linear" => linear_by_kernels(level, case),
        "lora" => lora_by_kernels(level, case),
        "dropout" => {
            dropout(case, |x, inputs, drop, rows| cpu::linear::dropout(x, inputs, Some(drop), rows).into_owned())
        }
        "rms_norm" => rms_norm_by_kernels(level, case),
        "rope" => rope(case, |x, positions, cos, sin, head_dim, inverse| {
            let mut y = x.to_vec();
            cpu::pointwise::rope(level, &mut y, positions, [cos, sin], head_dim, inverse);
            y
        }),
        "attention" => attention_by_kernels(level, case),
        "cross_entropy" => cross_entropy_by_kernels(level, case),
        "swiglu" => {
            let (gate, up, dy) = (case.f32s("gate"), case.f32s("up"), case.f32s("dy"));
            let y = cpu::pointwise::swiglu(level, &gate, &up);
            let [mut again, mut d_gate, mut d_up] = [dy, gate, up];
            cpu::pointwise::swiglu_backward(level, &mut again, &mut d_gate, &mut d_up);
            assert_eq!(hex(&again), hex(&y), "the backward pass computes the activation again");
            vec![("y", hex(&y)), ("d_gate", hex(&d_gate)), ("d_up", hex(&d_up))]
        }
        "adamw" => adamw(case, |p, m, v, gradient, scalars| cpu::pointwise::adamw(level, p, m, v, gradient, scalars)),
        _ => return None,
    })
}

fn key(case: &Case) -> StreamKey {
    StreamKey(case.words("key"))
}

fn indices(case: &Case) -> impl Iterator<Item = u64> {
    case.list("indices").iter().map(|index| index.as_str().expect("text").parse().expect("an index"))
}

fn arithmetic<F: Fma>(case: &Case) -> Results {
    let [a, b, c] = ["a", "b", "c"].map(|name| case.f32s(name).into_iter().map(One::<F>::new).collect::<Vec<_>>());
    let each = |one: &dyn Fn(usize) -> One<F>| hex(&(0..a.len()).map(|i| one(i).0).collect::<Vec<_>>());
    vec![
        ("fma", each(&|i| a[i].fma(b[i], c[i]))),
        ("sum", each(&|i| a[i].add(c[i]))),
        ("difference", each(&|i| a[i].sub(c[i]))),
        ("product", each(&|i| a[i].mul(b[i]))),
        ("quotient", each(&|i| a[i].div(b[i]))),
        ("root", each(&|i| One::<F>::new(a[i].0.abs()).sqrt())),
    ]
}

/// A level's `fma` as the second link of a chain of two: the first makes the addend, `fma(1, c, +0)`. That loses the
/// sign of a zero, which shows in one place of the vector and is put back.
fn fma_by_kernels(level: Level, case: &Case) -> Results {
    let (a, b, c) = (case.f32s("a"), case.f32s("b"), case.f32s("c"));
    let one = |i: usize| {
        let y = cpu::linear::linear(level, &[1.0, a[i]], cpu::linear::Weight::Values(&[c[i], b[i]]), None, 2, 1)[0];
        let negative_zero = a[i] * b[i] == 0.0 && (a[i] * b[i]).is_sign_negative() && c[i].to_bits() == 1 << 31;
        if negative_zero { -y } else { y }
    };
    vec![("fma", hex(&(0..a.len()).map(one).collect::<Vec<_>>()))]
}

fn linear<F: Fma>(case: &Case) -> Results {
    let (inputs, outputs, row) = (case.size("inputs"), case.size("outputs"), case.range("row"));
    let (x, w, bias, dy) = (case.f32s("x"), case.f32s("w"), case.f32s("bias"), case.f32s("dy"));
    // A bias's gradient is that of an embedding of which every token looks up the same entry.
    let ids = vec![0; dy.len() / outputs];
    vec![
        ("y", hex(&reference::linear::<F>(&x, &w, Some(&bias), inputs, outputs))),
        ("dx", hex(&reference::linear_input_gradient::<F>(&dy, &w, inputs, outputs))),
        ("dw", hex(&reference::linear_weight_gradient::<F>(&dy, &x, inputs, outputs, &row))),
        ("d_bias", hex(&reference::embedding_gradient(&dy, &ids, outputs, 1, &row))),
    ]
}

fn linear_by_kernels(level: Level, case: &Case) -> Results {
    let (inputs, outputs, row) = (case.size("inputs"), case.size("outputs"), case.range("row"));
    let (x, w, bias, dy) = (case.f32s("x"), case.f32s("w"), case.f32s("bias"), case.f32s("dy"));
    vec![
        ("y", hex(&cpu::linear::linear(level, &x, (&w).into(), Some(&bias), inputs, outputs))),
        ("dx", hex(&cpu::linear::linear_input_gradient(level, &dy, (&w).into(), None, inputs, outputs))),
        ("dw", hex(&cpu::linear::linear_weight_gradient(level, &dy, &x, inputs, outputs, &row))),
        ("d_bias", hex(&cpu::pointwise::bias_gradient(&dy, outputs, &row))),
    ]
}

fn rows(case: &Case) -> Rows {
    Rows::whole(case.ranges("rows"), case.integer("first") as u32)
}

fn drop(case: &Case) -> Option<Dropout> {
    case.has("p").then(|| Dropout::new(key(case), case.integer("step") as u32, case.f64("p")))
}

/// Gradients `(dA, dB)` of the rows, those of one matrix one after another.
fn join(y: &[f32], h: &[f32], dx: &[f32], gradients: Vec<(Vec<f32>, Vec<f32>)>) -> Results {
    let (da, db): (Vec<_>, Vec<_>) = gradients.into_iter().unzip();
    vec![("y", hex(y)), ("h", hex(h)), ("dx", hex(dx)), ("da", hex(&da.concat())), ("db", hex(&db.concat()))]
}

fn lora<F: Fma>(case: &Case) -> Results {
    let sizes = ["inputs", "outputs", "rank"].map(|name| case.size(name));
    let (x, w, dy) = (case.f32s("x"), case.f32s("w"), case.f32s("dy"));
    let (a, b, scale) = (case.f32s("a"), case.f32s("b"), case.f32("scale"));
    let (rows, drop, bias) = (rows(case), drop(case), case.has("bias").then(|| case.f32s("bias")));
    let (y, h) = reference::linear_lora::<F>(&x, &w, bias.as_deref(), &a, &b, scale, drop, sizes, &rows);
    let (dx, gradients) = reference::linear_lora_backward::<F>(&dy, &x, &h, &w, &a, &b, scale, drop, sizes, &rows);
    join(&y, &h, &dx, gradients)
}

fn lora_by_kernels(level: Level, case: &Case) -> Results {
    let [inputs, outputs, rank] = ["inputs", "outputs", "rank"].map(|name| case.size(name));
    let (x, w, dy) = (case.f32s("x"), case.f32s("w"), case.f32s("dy"));
    let (a, b, scale) = (case.f32s("a"), case.f32s("b"), case.f32("scale"));
    let (rows, bias) = (rows(case), case.has("bias").then(|| case.f32s("bias")));
    let branch = Branch { a: &a, b: &b, scale, dropout: drop(case), rank };
    let bias = bias.as_deref();
    let layer = Layer { weight: (&w).into(), shape: [inputs, outputs], bias, branch: Some(branch) };
    let (y, h) = cpu::linear::linears(level, &x, &[layer], None, &rows, &[]).remove(0);
    let h = h.expect("the layer has a branch");
    let (dx, gradients) = cpu::linear::linear_lora_backward(level, &dy, &x, &h, &layer, &rows, InputGradient::Alone);
    join(&y, &h, &dx.expect("asked for"), gradients)
}

fn dropout(case: &Case, apply: impl Fn(&[f32], usize, Dropout, &Rows) -> Vec<f32>) -> Results {
    let drop = drop(case).expect("a probability");
    let y = apply(&case.f32s("x"), case.size("inputs"), drop, &rows(case));
    vec![("threshold", hex_words(&[drop.threshold])), ("scale", hex(&[drop.scale])), ("y", hex(&y))]
}

fn rms_norm<F: Fma>(case: &Case) -> Results {
    let (x, w, dy, row) = (case.f32s("x"), case.f32s("w"), case.f32s("dy"), case.range("row"));
    let (y, roots) = reference::rms_norm::<F>(&x, &w, case.f32("epsilon"));
    vec![
        ("y", hex(&y)),
        ("roots", hex(&roots)),
        ("dx", hex(&reference::rms_norm_input_gradient::<F>(&dy, &x, &w, &roots))),
        ("dw", hex(&reference::rms_norm_weight_gradient::<F>(&dy, &x, &roots, w.len(), &row))),
        ("squares", hex(&reference::row_sums_of_squares::<F>(&x, w.len()))),
    ]
}

fn rms_norm_by_kernels(level: Level, case: &Case) -> Results {
    let (x, w, dy, row) = (case.f32s("x"), case.f32s("w"), case.f32s("dy"), case.range("row"));
    let (y, roots) = cpu::pointwise::rms_norm(level, &x, &w, case.f32("epsilon"));
    vec![
        ("y", hex(&y)),
        ("roots", hex(&roots)),
        ("dx", hex(&cpu::pointwise::rms_norm_input_gradient(level, &dy, &x, &w, &roots, None))),
        ("dw", hex(&cpu::pointwise::rms_norm_weight_gradient(level, &dy, &x, &roots, w.len(), &row))),
        ("squares", hex(&cpu::pointwise::row_sums_of_squares(level, &x, w.len()))),
    ]
}

fn rope(case: &Case, turn: impl Fn(&[f32], &[u32], &[f32], &[f32], usize, bool) -> Vec<f32>) -> Results {
    let (x, cos, sin) = (case.f32s("x"), case.f32s("cos"), case.f32s("sin"));
    let (positions, head_dim) = (case.integers("positions"), case.size("head_dim"));
    let turned = |inverse| hex(&turn(&x, &positions, &cos, &sin, head_dim, inverse));
    vec![("y", turned(false)), ("inverse", turned(true))]
}

fn spans(case: &Case) -> Vec<Span> {
    let pair = |span: &serde_json::Value| {
        let [queries, keys] = [0, 1].map(|i| {
            let bound = |j: usize| span[i][j].as_u64().expect("a bound") as usize;
            bound(0)..bound(1)
        });
        Span { queries, keys }
    };
    case.list("spans").iter().map(pair).collect()
}

fn heads(case: &Case) -> Heads {
    Heads { heads: case.size("heads"), kv_heads: case.size("kv_heads"), head_dim: case.size("head_dim") }
}

fn attention_results(forward: (Vec<f32>, Vec<f32>), (dq, dk, dv): (Vec<f32>, Vec<f32>, Vec<f32>)) -> Results {
    vec![
        ("output", hex(&forward.0)),
        ("statistics", hex(&forward.1)),
        ("dq", hex(&dq)),
        ("dk", hex(&dk)),
        ("dv", hex(&dv)),
    ]
}

fn attention<F: Fma>(case: &Case) -> Results {
    let [q, k, v, dy] = ["q", "k", "v", "d_output"].map(|name| case.f32s(name));
    let (spans, heads) = (spans(case), heads(case));
    let (output, statistics) = reference::attention::<F>(&q, &k, &v, &spans, heads);
    let backward = reference::attention_backward::<F>(&dy, &q, &k, &v, &output, &statistics, &spans, heads);
    attention_results((output, statistics), backward)
}

fn attention_by_kernels(level: Level, case: &Case) -> Results {
    let [q, k, v, dy] = ["q", "k", "v", "d_output"].map(|name| case.f32s(name));
    let (spans, heads) = (spans(case), heads(case));
    let (output, statistics) = cpu::attention::attention(level, &q, &k, &v, &spans, heads);
    let backward = cpu::attention::attention_backward(level, &dy, &q, &k, &v, &output, &statistics, &spans, heads);
    attention_results((output, statistics), backward)
}

fn targets(case: &Case) -> Vec<Target> {
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    let targets = case.list("targets").iter();
    targets.map(|pair| Target { position: number(&pair[0]) as usize, label: number(&pair[1]) as u32 }).collect()
}

fn cross_entropy<F: Fma>(case: &Case) -> Results {
    let (x, w, features, targets) = (case.f32s("x"), case.f32s("w"), case.size("features"), targets(case));
    let (losses, d_logits, dx) = reference::cross_entropy::<F>(&x, &w, features, &targets);
    // The head's weight gradient is that of a linear layer over the supervised tokens of a row.
    let gathered: Vec<f32> = targets.iter().flat_map(|t| x[t.position * features..][..features].to_vec()).collect();
    let before = |position: usize| targets.partition_point(|target| target.position < position);
    let row_gradient = |row: std::ops::Range<usize>| {
        let own = before(row.start)..before(row.end);
        reference::linear_weight_gradient::<F>(&d_logits, &gathered, features, w.len() / features, &own)
    };
    let dw = case.ranges("rows").into_iter().flat_map(row_gradient).collect::<Vec<_>>();
    vec![("losses", hex(&losses)), ("d_logits", hex(&d_logits)), ("dx", hex(&dx)), ("dw", hex(&dw))]
}

fn cross_entropy_by_kernels(level: Level, case: &Case) -> Results {
    let (x, w, features, targets) = (case.f32s("x"), case.f32s("w"), case.size("features"), targets(case));
    let rows = Rows::whole(case.ranges("rows"), 0);
    let (losses, dx, dw) =
        cpu::head::cross_entropy(level, &x, (&w).into(), features, &targets, &rows, Gradients::InputAndWeight);
    vec![("losses", hex(&losses)), ("dx", hex(&dx.expect("asked for"))), ("dw", hex(&dw.concat()))]
}

fn adamw(case: &Case, step: impl Fn(&mut [f32], &mut [f32], &mut [f32], &[f32], AdamW)) -> Results {
    let [mut p, mut m, mut v] = ["p", "m", "v"].map(|name| case.f32s(name));
    let scalars = AdamW {
        gradient_factor: case.f32("gradient_factor"),
        decay: case.f32("decay"),
        one_minus_beta1: case.f32("one_minus_beta1"),
        beta2: case.f32("beta2"),
        one_minus_beta2: case.f32("one_minus_beta2"),
        root_bias_correction2: case.f32("root_bias_correction2"),
        epsilon: case.f32("epsilon"),
        step_size: case.f32("step_size"),
    };
    step(&mut p, &mut m, &mut v, &case.f32s("gradient"), scalars);
    vec![("p", hex(&p)), ("m", hex(&m)), ("v", hex(&v))]
}
