//! Attention over packed segments: its cost for each token grows with the length of a segment, not with that of a row.
//!
//! ```text
//! cargo bench -p tune-kernels --bench attention
//! ```
//!
//! 8192 tokens with the heads of SmolLM2-135M, cut into segments of one length.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![allow(missing_docs, clippy::print_stdout, clippy::many_single_char_names)]

use std::time::Instant;

use tune_kernels::cpu::{Level, attention};
use tune_kernels::layout::Span;
use tune_kernels::philox::StreamKey;
use tune_kernels::shapes::Heads;

const TOKENS: usize = 8192;
const ROUNDS: usize = 5;

fn values(count: usize, key: u32) -> Vec<f32> {
    (0..count as u64).map(|i| StreamKey([key, 0]).normal(i)).collect()
}

/// Median seconds.
fn time(mut f: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[ROUNDS / 2]
}

fn main() {
    let (level, heads) = (Level::current(), Heads { heads: 9, kv_heads: 3, head_dim: 64 });
    let features = heads.heads * heads.head_dim;
    let [q, d_output] = [1, 2].map(|key| values(TOKENS * features, key));
    let [k, v] = [3, 4].map(|key| values(TOKENS * heads.kv_heads * heads.head_dim, key));
    println!("level {}, {} threads", level.name(), rayon::current_num_threads());
    println!("{:>8} {:>20} {:>20}", "segment", "forward, ns a token", "backward, ns a token");
    for length in [32, 64, 128, 256, 512, 1024, 2048] {
        let spans: Vec<Span> = (0..TOKENS)
            .step_by(length)
            .map(|start| Span { queries: start..start + length, keys: start..start + length })
            .collect();
        let (output, statistics) = attention::attention(level, &q, &k, &v, &spans, heads);
        let forward = time(|| drop(std::hint::black_box(attention::attention(level, &q, &k, &v, &spans, heads))));
        let backward = time(|| {
            let gradients =
                attention::attention_backward(level, &d_output, &q, &k, &v, &output, &statistics, &spans, heads);
            drop(std::hint::black_box(gradients));
        });
        #[expect(clippy::cast_precision_loss, reason = "a token count")]
        let nanoseconds = |seconds: f64| seconds * 1e9 / TOKENS as f64;
        println!("{length:>8} {:>20.0} {:>20.0}", nanoseconds(forward), nanoseconds(backward));
    }
}
