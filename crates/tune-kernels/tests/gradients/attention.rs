//! Causal attention within spans.

use burn_autodiff::Autodiff;
use burn_flex::Flex;
use burn_tensor::{Tensor, activation};
use tune_kernels::KernelBackend;
use tune_kernels::layout::Span;
use tune_kernels::shapes::Heads;

use super::{Differentiable, Matrix, Operation, Random};

/// Whether the query at `query` within the span sees its key at `key`: queries are the last of the keys.
fn sees(span: &Span, query: usize, key: usize) -> bool {
    key + span.queries.len() <= query + span.keys.len()
}

/// Softmax of scaled scores over the visible keys, times the values, for one token and head.
fn plain_row(i: &[Vec<f64>], span: &Span, query: usize, head: usize, heads: Heads) -> Vec<f64> {
    let Heads { heads: count, kv_heads, head_dim } = heads;
    let kv_head = head * kv_heads / count;
    let of_key = |x: &[f64], key: usize, d: usize| x[((span.keys.start + key) * kv_heads + kv_head) * head_dim + d];
    let q = &i[0][((span.queries.start + query) * count + head) * head_dim..][..head_dim];
    let score = |key: usize| (0..head_dim).map(|d| q[d] * of_key(&i[1], key, d)).sum::<f64>();
    let visible = (0..span.keys.len()).filter(|key| sees(span, query, *key));
    let weights: Vec<f64> = visible.map(|key| libm::exp(score(key) / (head_dim as f64).sqrt())).collect();
    let sum: f64 = weights.iter().sum();
    let value = |d: usize| weights.iter().enumerate().map(|(key, weight)| weight * of_key(&i[2], key, d)).sum::<f64>();
    (0..head_dim).map(|d| value(d) / sum).collect()
}

/// The spans' queries cover the tokens in order.
fn plain(i: &[Vec<f64>], spans: &[Span], heads: Heads) -> Vec<f64> {
    let mut output = Vec::new();
    for span in spans {
        for query in 0..span.queries.len() {
            output.extend((0..heads.heads).flat_map(|head| plain_row(i, span, query, head, heads)));
        }
    }
    output
}

fn composed(i: &[Differentiable], spans: &[Span], heads: Heads) -> Differentiable {
    let one = |span: &Span, head: usize| {
        let columns = |head: usize| head * heads.head_dim..(head + 1) * heads.head_dim;
        let kv_head = head * heads.kv_heads / heads.heads;
        let q = i[0].clone().slice([span.queries.clone(), columns(head)]);
        let [k, v] = [1, 2].map(|input| i[input].clone().slice([span.keys.clone(), columns(kv_head)]));
        let [queries, keys] = [span.queries.len(), span.keys.len()];
        let hidden = (0..queries * keys).map(|at| if sees(span, at / keys, at % keys) { 0.0 } else { -1e30 });
        let mask = Matrix { values: hidden.collect(), shape: [queries, keys] }.tensor::<Autodiff<Flex>>();
        let scores = q.matmul(k.transpose()) / (heads.head_dim as f64).sqrt() + mask;
        activation::softmax(scores, 1).matmul(v)
    };
    let of_span = |span: &Span| Tensor::cat((0..heads.heads).map(|head| one(span, head)).collect(), 1);
    Tensor::cat(spans.iter().map(of_span).collect(), 0)
}

fn check_attention(test: u32, spans: &[Span], key_tokens: usize, heads: Heads) {
    let Heads { heads: count, kv_heads, head_dim } = heads;
    let mut random = Random::new(test);
    let tokens = spans.last().expect("a span").queries.end;
    let (q, dy) = (random.matrix(tokens, count * head_dim), random.matrix(tokens, count * head_dim));
    let (k, v) = (random.matrix(key_tokens, kv_heads * head_dim), random.matrix(key_tokens, kv_heads * head_dim));
    let operation = Operation {
        name: "attention",
        inputs: vec![&q, &k, &v],
        plain: &|i| plain(i, spans, heads),
        composed: &|i| composed(i, spans, heads),
    };
    let [tq, tk, tv, tdy] = [&q, &k, &v, &dy].map(Matrix::tensor::<Flex>);
    let (o, statistics) = <Flex as KernelBackend>::attention(&tq, &tk, &tv, spans, heads);
    operation.check_output(&o);
    let (dq, dk, dv) = <Flex as KernelBackend>::attention_backward(&tdy, &tq, &tk, &tv, &o, &statistics, spans, heads);
    operation.check(0, &dy, &dq);
    operation.check(1, &dy, &dk);
    operation.check(2, &dy, &dv);
    operation.check_rejects(0, &dy, &(dq / heads.scale()));
    operation.check_rejects(1, &dy, &(dk / heads.scale()));
    operation.check_rejects(2, &dy, &dv.neg());
}

/// Segments of these lengths that attend to themselves.
fn segments(lengths: &[usize]) -> Vec<Span> {
    super::rows(lengths).ranges.into_iter().map(Span::segment).collect()
}

#[test]
fn attention_gradients() {
    check_attention(400, &segments(&[3]), 3, Heads { heads: 1, kv_heads: 1, head_dim: 2 });
    check_attention(401, &segments(&[5, 1, 7]), 13, Heads { heads: 2, kv_heads: 2, head_dim: 34 });
    // Longer than a block of keys in any register width.
    check_attention(402, &segments(&[2, 71]), 73, Heads { heads: 1, kv_heads: 1, head_dim: 6 });
}

#[test]
fn attention_gradients_with_shared_key_heads() {
    check_attention(410, &segments(&[5, 1, 7]), 13, Heads { heads: 6, kv_heads: 2, head_dim: 6 });
    check_attention(411, &segments(&[1, 8, 2]), 11, Heads { heads: 3, kv_heads: 1, head_dim: 10 });
}

/// Queries that also see keys before them, as with a cache; two keys (7 and 13) belong to no span.
#[test]
fn attention_gradients_with_a_prefix() {
    let spans =
        [Span { queries: 0..3, keys: 0..7 }, Span { queries: 3..4, keys: 8..13 }, Span { queries: 4..9, keys: 14..19 }];
    check_attention(420, &spans, 19, Heads { heads: 4, kv_heads: 2, head_dim: 6 });
    check_attention(421, &spans, 19, Heads { heads: 3, kv_heads: 3, head_dim: 2 });
}

/// A token that sees only itself has weight 1 whatever its query and key: their gradients are exactly 0.
#[test]
fn a_lone_token_has_no_gradient_of_query_and_key() {
    let heads = Heads { heads: 2, kv_heads: 1, head_dim: 6 };
    let mut random = Random::new(430);
    let [q, dy, k, v] = [(1, 12), (1, 12), (1, 6), (1, 6)].map(|(rows, n)| random.matrix(rows, n).tensor::<Flex>());
    let spans = segments(&[1]);
    let (o, statistics) = <Flex as KernelBackend>::attention(&q, &k, &v, &spans, heads);
    let (dq, dk, _) = <Flex as KernelBackend>::attention_backward(&dy, &q, &k, &v, &o, &statistics, &spans, heads);
    assert!(super::values(&dq).iter().chain(&super::values(&dk)).all(|d| *d == 0.0));
}
