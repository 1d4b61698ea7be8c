#!/usr/bin/env python3
"""Test vectors of the numerics contract `exact-f32/1`, computed independently of the Rust code.

    python3 tests/numerics/vectors.py > docs/numerics-vectors.json
    python3 tests/numerics/vectors.py --check docs/numerics-vectors.json

Only Python's standard library, and none of its float functions but the square root of IEEE 754. An f32 is held as a
Python float of the same value; every operation computes the exact result as a fraction and rounds it once, to nearest,
ties to even. The tables' f64 functions are computed to 80 digits and rounded once.

The formulas are those of docs/numerics.md, written anew as directly as possible: a reader who checks this file checks
the contract. Wherever an order or a fused operation decides bits, an assertion here makes sure that the vector would
show another order, or two roundings in place of one.
"""

import hashlib
import json
import math
import struct
import sys
from decimal import Decimal, getcontext
from fractions import Fraction

# --- f32 ---------------------------------------------------------------------------------------------------------

INFINITY, NAN = math.inf, math.nan


def rounded(exact):
    """The f32 nearest to a fraction other than 0, ties to even; with denormals, and infinity from 2^128 on."""
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if size < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    value = round(size / unit) * unit  # `round` of a fraction takes ties to even
    value = float(value) if value < 2**128 else INFINITY
    return math.copysign(value, exact)


def f32(text):
    """The f32 nearest to a decimal number, or to the exact value of a float."""
    exact = Fraction(text)
    return rounded(exact) if exact else 0.0


def to_f32(value):
    """An f64 as f32, with one rounding; keeps the sign of zero."""
    return rounded(Fraction(value)) if value and math.isfinite(value) else value


def finite(*values):
    return all(map(math.isfinite, values))


def add(a, b):
    if not finite(a, b):
        return a + b
    exact = Fraction(a) + Fraction(b)
    return rounded(exact) if exact else a + b  # a sum that is exactly 0 has IEEE's sign in any precision


def sub(a, b):
    return add(a, -b)


def mul(a, b):
    if not finite(a, b) or a == 0 or b == 0:
        return a * b
    return rounded(Fraction(a) * Fraction(b))


def div(a, b):
    if math.isnan(a) or math.isnan(b):
        return NAN
    if b == 0:
        return NAN if a == 0 else math.copysign(INFINITY, math.copysign(1, a) * math.copysign(1, b))
    if not finite(a, b) or a == 0:
        return a / b
    return rounded(Fraction(a) / Fraction(b))


def fma(a, b, c):
    if not finite(a, b, c):
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    return rounded(exact) if exact else a * b + c  # the product of two f32 is exact in f64: so is the sign of 0


def unfused(a, b, c):
    return add(mul(a, b), c)


def sqrt(x):
    """By integers: the root of x · 4^k to so many bits that a sticky last bit makes the rounding right."""
    if x == 0 or math.isnan(x) or x == INFINITY:
        return x
    if x < 0:
        return NAN
    shift = 200
    square = Fraction(x) * 4**shift
    assert square.denominator == 1
    root = math.isqrt(square.numerator)
    sticky = root * root != square.numerator
    return rounded(Fraction(2 * root + sticky, 2 ** (shift + 1)))


def bits(value):
    """The bit pattern of an f32; every NaN is written as the same one."""
    if math.isnan(value):
        return 0x7FC00000
    return struct.unpack("<I", struct.pack("<f", value))[0]


def from_bits(pattern):
    return struct.unpack("<f", struct.pack("<I", pattern))[0]


# --- f64 functions of the tables, correctly rounded ------------------------------------------------------------------

getcontext().prec = 80


def arctan_of_inverse(n):
    term, total, k = Decimal(1) / n, Decimal(0), 0
    while abs(term) > Decimal(10) ** -82:
        total += term / (2 * k + 1) * (-1) ** k
        term /= n * n
        k += 1
    return total


PI_EXACT = 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))
PI = float(PI_EXACT)


def cosine_exact(angle):
    """Taylor's series after reduction to [-π, π]."""
    angle -= 2 * PI_EXACT * (angle / (2 * PI_EXACT)).to_integral_value()
    total, term, k = Decimal(0), Decimal(1), 0
    while abs(term) > Decimal(10) ** -78:
        total += term
        k += 2
        term *= -angle * angle / (k * (k - 1))
    return total


def cos64(x):
    return float(cosine_exact(Decimal(x)))


def sin64(x):
    return float(cosine_exact(Decimal(x) - PI_EXACT / 2)) if x else x


def log64(x):
    return float(Decimal(x).ln())


def pow64(base, exponent):
    return float((Decimal(exponent) * Decimal(base).ln()).exp())


# --- Philox and its streams --------------------------------------------------------------------------------------------

MASK = 0xFFFFFFFF


def philox(counter, key):
    """Philox4x32-10 of Salmon et al. 2011, in the paper's own terms: L and R are the halves of a multiplied word."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 1 << 32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1, c2, c3]


def stream_key(name, seed):
    digest = hashlib.sha256(f"tune/1/{name}/{seed}".encode()).digest()
    return list(struct.unpack("<II", digest[:8]))


def unit_open(high, low):
    """(0, 1) from 52 bits; exact in f64."""
    return float(Fraction(2 * ((high << 20) | (low >> 12)) + 1, 2**53))


def uniform(key, index):
    words = philox([index & MASK, index >> 32, 0, 0], key)
    return unit_open(words[0], words[1])


def normal(key, index):
    """Box-Muller; f64 arithmetic throughout, one rounding to f32."""
    pair = index // 2
    a, b, c, d = philox([pair & MASK, pair >> 32, 0, 0], key)
    radius = math.sqrt(-2.0 * log64(unit_open(a, b)))
    angle = 2.0 * PI * unit_open(c, d)
    return to_f32(radius * (sin64(angle) if index % 2 else cos64(angle)))


# --- elementary functions: S. L. Moshier's Cephes polynomials ---------------------------------------------------------

LN2_HIGH, LN2_LOW = f32("0.693359375"), f32("-2.12194440e-4")
LOG2_E, ROOT_HALF = f32("1.44269504088896340736"), f32("0.70710678118654752440")
ROUND = f32(3 * 2**22)
EXP = list(map(f32, "1.9875691500e-4 1.3981999507e-3 8.3334519073e-3 4.1665795894e-2 1.6666665459e-1 5.0000001201e-1".split()))
# The third and the seventh are the contract's: written with fewer digits than in Cephes (1.1676998740e-1 and
# 2.0000714765e-1), they round to the next larger f32.
LN = [
    *map(f32, "7.0376836292e-2 -1.1514610310e-1 1.1676999e-1 -1.2420140846e-1 1.4249322787e-1".split()),
    *map(f32, "-1.6668057665e-1 2.0000715e-1 -2.4999993993e-1 3.3333331174e-1".split()),
]


def polynomial(coefficients, x, fma=fma):
    total = coefficients[0]
    for coefficient in coefficients[1:]:
        total = fma(total, x, coefficient)
    return total


def exp(x, fma=fma):
    if math.isnan(x):
        return NAN
    x = min(max(x, -104.0), 89.0)
    n = sub(fma(x, LOG2_E, ROUND), ROUND)
    r = fma(n, -LN2_HIGH, x)
    r = fma(n, -LN2_LOW, r)
    y = add(fma(polynomial(EXP, r, fma), mul(r, r), r), 1.0)
    half = sub(fma(n, 0.5, ROUND), ROUND)
    power = lambda k: from_bits((int(k) + 127) << 23)
    return fma(mul(y, power(half)), power(n - half), -0.0)


def sigmoid(x, fma=fma):
    return div(1.0, add(1.0, exp(sub(0.0, x), fma)))


def ln(x, fma=fma):
    if math.isnan(x) or x < 0:
        return NAN
    if x == 0:
        return -INFINITY
    if x == INFINITY:
        return INFINITY
    mantissa, exponent = math.frexp(x)  # exact: x = mantissa · 2^exponent, mantissa in [1/2, 1)
    if mantissa < ROOT_HALF:
        mantissa, exponent = 2 * mantissa, exponent - 1
    r, e = sub(mantissa, 1.0), float(exponent)
    z = mul(r, r)
    y = mul(mul(polynomial(LN, r, fma), r), z)
    y = fma(e, LN2_LOW, y)
    y = fma(-0.5, z, y)
    return fma(e, LN2_HIGH, add(r, y))


# --- sums and products ------------------------------------------------------------------------------------------------

LANES = 32


def chain(pairs, fma=fma):
    """One sequential chain of fused multiply-adds from +0."""
    total = 0.0
    for a, b in pairs:
        total = fma(a, b, total)
    return total


def lanes(terms, accumulate):
    """32 interleaved lanes, then a pairwise tree at distance 16, 8, 4, 2, 1. `accumulate(acc, term)` adds a term."""
    sums = [0.0] * LANES
    for i, term in enumerate(terms):
        sums[i % LANES] = accumulate(sums[i % LANES], term)
    while len(sums) > 1:
        middle = len(sums) // 2
        sums = [add(a, b) for a, b in zip(sums[:middle], sums[middle:])]
    return sums[0]


def lanes_of_products(pairs):
    return lanes(pairs, lambda acc, pair: fma(*pair, acc))


def tree(values):
    """Balanced pairwise tree: the left side takes the largest power of two below the count."""
    if len(values) == 1:
        return values[0]
    left = 1 << ((len(values) - 1).bit_length() - 1)
    return add(tree(values[:left]), tree(values[left:]))


def matrix(values, columns):
    return [values[i : i + columns] for i in range(0, len(values), columns)]


def flat(rows):
    return [value for row in rows for value in row]


def columns(rows):
    return [list(column) for column in zip(*rows)]


def product(a, b):
    """`a · bᵀ` for lists of rows, each element its own chain."""
    return [[chain(zip(x, y)) for y in b] for x in a]


# --- operations of the contract; matrices are lists of rows -------------------------------------------------------------


def linear(x, w, bias=None):
    y = product(x, w)
    return y if bias is None else [[add(y, b) for y, b in zip(row, bias)] for row in y]


def input_gradient(dy, w):
    return product(dy, columns(w))


def weight_gradient(dy, x):
    """Over the tokens of one row."""
    return product(columns(dy), columns(x))


def dropout_scalars(p):
    """Threshold and scale. `p · 2^32` is exact in f64; halves are rounded away from 0."""
    return min(math.floor(p * 2.0**32 + 0.5), MASK), to_f32(1.0 / (1.0 - p))


def dropout(x, p, key, step, rows, first):
    """`rows` are ranges (start, end) of tokens; a token's coordinate is its place within its row."""
    threshold, scale = dropout_scalars(p)
    y = [list(token) for token in x]
    for r, (start, end) in enumerate(rows):
        for token in range(start, end):
            for f, value in enumerate(x[token]):
                word = philox([f // 4, token - start, first + r, step], key)[f % 4]
                y[token][f] = mul(value, scale) if word >= threshold else 0.0
    return y


def add_scaled(y, scale, branch):
    return [[fma(scale, b, y) for y, b in zip(*rows)] for rows in zip(y, branch)]


def scaled(rows, factor):
    return [[mul(value, factor) for value in row] for row in rows]


def lora(x, w, bias, a, b, scale, drop):
    h = linear(drop(x), a)
    return add_scaled(linear(x, w, bias), scale, linear(h, b)), h


def lora_backward(dy, x, h, w, a, b, scale, drop, rows):
    u = input_gradient(dy, b)
    dx = add_scaled(input_gradient(dy, w), scale, drop(input_gradient(u, a)))
    dropped = drop(x)
    da = [scaled(weight_gradient(u[s:e], dropped[s:e]), scale) for s, e in rows]
    db = [scaled(weight_gradient(dy[s:e], h[s:e]), scale) for s, e in rows]
    return dx, da, db


def rms_norm(x, w, epsilon):
    y, roots = [], []
    for token in x:
        mean = div(lanes_of_products(zip(token, token)), float(len(w)))
        root = div(1.0, sqrt(add(mean, epsilon)))
        roots.append(root)
        y.append([mul(mul(value, root), weight) for value, weight in zip(token, w)])
    return y, roots


def rms_norm_input_gradient(dy, x, w, roots):
    dx = []
    for dy, x, root in zip(dy, x, roots):
        g = [mul(d, weight) for d, weight in zip(dy, w)]
        n = [mul(value, root) for value in x]
        c = div(lanes_of_products(zip(g, n)), float(len(w)))
        dx.append([mul(root, fma(-c, n, g)) for g, n in zip(g, n)])
    return dx


def rms_norm_weight_gradient(dy, x, roots):
    normed = [[mul(value, root) for value in token] for token, root in zip(x, roots)]
    return [chain(zip(d, n)) for d, n in zip(columns(dy), columns(normed))]


def rope_frequencies(theta, head_dim, scaling):
    plain = [pow64(theta, -(2.0 * i) / head_dim) for i in range(head_dim // 2)]
    return [scaling(frequency) for frequency in plain]


def linear_scaling(factor):
    return lambda frequency: frequency / factor


def llama3_scaling(factor, low, high, context):
    """`_compute_llama3_parameters` of transformers, in f64."""

    def scale(frequency):
        wavelength = 2.0 * PI / frequency
        if wavelength < context / high:
            return frequency
        if wavelength > context / low:
            return frequency / factor
        smooth = (context / wavelength - low) / (high - low)
        return (1.0 - smooth) * frequency / factor + smooth * frequency

    return scale


def rope_tables(frequencies, positions):
    angles = [position * frequency for position in map(float, positions) for frequency in frequencies]
    return [to_f32(cos64(a)) for a in angles], [to_f32(sin64(a)) for a in angles]


def rope(x, positions, cos, sin, head_dim, inverse):
    half = head_dim // 2
    y = [list(token) for token in x]
    for token, position in enumerate(positions):
        for first in (h + i for h in range(0, len(x[token]), head_dim) for i in range(half)):
            entry = position * half + (first % head_dim)
            c, s = cos[entry], -sin[entry] if inverse else sin[entry]
            x1, x2 = x[token][first], x[token][first + half]
            y[token][first] = fma(x1, c, -mul(x2, s))
            y[token][first + half] = fma(x2, c, mul(x1, s))
    return y


class Attention:
    """Causal attention of one query head of one token; forward and backward both start from its scores."""

    def __init__(self, query, keys, values, scale):
        self.query = [mul(q, scale) for q in query]
        self.keys, self.values = keys, values
        scores = [chain(zip(self.query, key)) for key in keys]
        self.maximum = max(scores)
        self.weights = [exp(sub(score, self.maximum)) for score in scores]
        self.sum = 0.0
        for weight in self.weights:
            self.sum = add(self.sum, weight)

    def output(self):
        return [div(chain(zip(self.weights, column)), self.sum) for column in columns(self.values)]


def head_scale(head_dim):
    return to_f32(1.0 / math.sqrt(float(head_dim)))


def heads_of(token, head_dim):
    return matrix(token, head_dim)


def attention(q, k, v, spans, heads, kv_heads, head_dim):
    """Gives the output, (maximum, sum) of each token and head, and the places in the order of the gradients' chains."""
    output = [[0.0] * (heads * head_dim) for _ in q]
    statistics = [[0.0] * (2 * heads) for _ in q]
    places = []
    for (q_start, q_end), (k_start, k_end) in spans:
        for head in range(heads):
            own = head * kv_heads // heads
            for token in range(q_start, q_end):
                visible = k_end - (q_end - 1 - token)
                keys = [heads_of(k[j], head_dim)[own] for j in range(k_start, visible)]
                values = [heads_of(v[j], head_dim)[own] for j in range(k_start, visible)]
                place = Attention(heads_of(q[token], head_dim)[head], keys, values, head_scale(head_dim))
                output[token][head * head_dim : (head + 1) * head_dim] = place.output()
                statistics[token][2 * head : 2 * head + 2] = [place.maximum, place.sum]
                places.append((token, head, own, k_start, place))
    return output, statistics, places


def attention_backward(d_output, output, k, q, places, head_dim):
    dq = [[0.0] * len(token) for token in q]
    dk = [[0.0] * len(token) for token in k]
    dv = [[0.0] * len(token) for token in k]
    for token, head, own, k_start, place in places:
        d_out = heads_of(d_output[token], head_dim)[head]
        dot = chain(zip(d_out, heads_of(output[token], head_dim)[head]))
        for j, weight in enumerate(place.weights):
            p = div(weight, place.sum)
            ds = mul(p, sub(chain(zip(d_out, place.values[j])), dot))
            for d in range(head_dim):
                at, to = head * head_dim + d, own * head_dim + d
                dq[token][at] = fma(ds, place.keys[j][d], dq[token][at])
                dk[k_start + j][to] = fma(ds, place.query[d], dk[k_start + j][to])
                dv[k_start + j][to] = fma(p, d_out[d], dv[k_start + j][to])
    return scaled(dq, head_scale(head_dim)), dk, dv


def cross_entropy(x, w, targets, rows):
    losses, d_logits, dx = [], [], [[0.0] * len(token) for token in x]
    for position, label in targets:
        logits = linear([x[position]], w)[0]
        maximum = max(logits)
        e = [exp(sub(logit, maximum)) for logit in logits]
        total = lanes(e, add)
        losses.append(sub(ln(total), sub(logits[label], maximum)))
        gradient = [div(e, total) for e in e]
        gradient[label] = sub(gradient[label], 1.0)
        d_logits.append(gradient)
        dx[position] = input_gradient([gradient], w)[0]
    dw = []
    for start, end in rows:
        own = [i for i, (position, _) in enumerate(targets) if start <= position < end]
        dw.append(weight_gradient([d_logits[i] for i in own], [x[targets[i][0]] for i in own]))
    return losses, d_logits, dx, dw


def embedding_gradient(dy, ids, vocabulary):
    table = [[0.0] * len(dy[0]) for _ in range(vocabulary)]
    for token, row in zip(ids, dy):
        table[token] = [add(total, d) for total, d in zip(table[token], row)]
    return table


def swiglu(gate, up):
    return [mul(mul(g, sigmoid(g)), u) for g, u in zip(gate, up)]


def swiglu_backward(dy, gate, up):
    d_gate, d_up = [], []
    for d, g, u in zip(dy, gate, up):
        s = sigmoid(g)
        d_gate.append(mul(mul(d, u), mul(s, fma(g, sub(1.0, s), 1.0))))
        d_up.append(mul(d, mul(g, s)))
    return d_gate, d_up


def adamw(p, m, v, gradient, scalars):
    s = scalars
    result = []
    for p, m, v, raw in zip(p, m, v, gradient):
        g = mul(raw, s["gradient_factor"])
        m = fma(s["one_minus_beta1"], fma(raw, s["gradient_factor"], -m), m)
        v = fma(mul(g, s["one_minus_beta2"]), g, mul(v, s["beta2"]))
        denominator = add(div(sqrt(v), s["root_bias_correction2"]), s["epsilon"])
        result.append((fma(-s["step_size"], div(m, denominator), mul(p, s["decay"])), m, v))
    return zip(*result)


def adamw_scalars(o, rate, step, supervised, norm):
    clip = min(o["max_grad_norm"] / (norm + 1e-6), 1.0) if o["max_grad_norm"] > 0 else 1.0
    correction = lambda beta: 1.0 - pow64(beta, float(step))
    exact = {
        "gradient_factor": clip / float(supervised),
        "decay": 1.0 - rate * o["weight_decay"],
        "one_minus_beta1": 1.0 - o["adam_beta1"],
        "beta2": o["adam_beta2"],
        "one_minus_beta2": 1.0 - o["adam_beta2"],
        "root_bias_correction2": math.sqrt(correction(o["adam_beta2"])),
        "epsilon": o["adam_epsilon"],
        "step_size": rate / correction(o["adam_beta1"]),
    }
    return {name: to_f32(value) for name, value in exact.items()}


def global_norm(tensors):
    """f32 lanes within a row of a matrix; rows and tensors, in the order of the names' bytes, one after another in f64."""
    total = 0.0
    for name in sorted(tensors, key=str.encode):
        for row in tensors[name]:
            total += lanes_of_products(zip(row, row))
    return math.sqrt(total)


def rate(kind, peak, warmup, total, done):
    """Hugging Face `get_scheduler`, in f64."""
    if done < warmup:
        return peak * (float(done) / float(warmup))
    progress = float(done - warmup) / float(max(total - warmup, 1))
    factor = {"constant": lambda: 1.0, "linear": lambda: 1.0 - progress, "cosine": lambda: 0.5 * (1.0 + cos64(PI * progress))}
    return peak * max(factor[kind](), 0.0)


# --- inputs -----------------------------------------------------------------------------------------------------------


class Inputs:
    """Numbers for one case: full mantissas and a spread of exponents, so that orders of addition differ in their bits."""

    count = 0

    def __init__(self):
        Inputs.count += 1
        self.key, self.at = [Inputs.count, 2024], 0

    def words(self, n):
        result = []
        while len(result) < n:
            result += philox([self.at, 0, 0, 0], self.key)
            self.at += 1
        return result[:n]

    def values(self, n, spread=3):
        one = lambda word: Fraction(((word >> 8) << 1) - (1 << 24) + 1, 1 << 24) * Fraction(2) ** (word % spread - 1)
        return [rounded(one(word)) for word in self.words(n)]

    def rows(self, rows, columns, spread=3):
        return matrix(self.values(rows * columns, spread), columns)


# --- cases ------------------------------------------------------------------------------------------------------------

CASES = []


def hexadecimal(value):
    """f32 as 8 hexadecimal digits; nested lists are flattened."""
    if isinstance(value, list):
        return [text for part in value for text in (hexadecimal(part) if isinstance(part, list) else [hexadecimal(part)])]
    return f"{bits(value):08x}"


def words(values):
    return [f"{value:08x}" for value in values]


def hexadecimal64(values):
    return [struct.pack(">d", value).hex() for value in values]


def case(operation, inputs, outputs):
    CASES.append({"operation": operation, "inputs": inputs, "outputs": outputs})


def differs(a, b):
    return hexadecimal(a) != hexadecimal(b)


def philox_cases():
    known = [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([MASK] * 4, [MASK] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0], "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for counter, key, expected in known:  # the known answers of the Random123 library
        assert words(philox(counter, key)) == expected.split()
        case("philox4x32_10", {"counter": words(counter), "key": words(key)}, {"words": expected.split()})
    for counter, key in [([1, 0, 0, 0], [2, 3]), ([0, 0, 0x80000000, 1], [MASK, 0])]:
        case("philox4x32_10", {"counter": words(counter), "key": words(key)}, {"words": words(philox(counter, key))})
    for name, seed in [("shuffle", 42), ("adapter-init/model.layers.0.self_attn.q_proj", 0), ("dropout/x", 2**64 - 1)]:
        case("stream_key", {"name": name, "seed": str(seed)}, {"key": words(stream_key(name, seed))})
    key, indices = stream_key("weight-init/t", 7), [0, 1, 2, 3, 4, 5, 1000, 1001, 2**32, 2**33 + 1, 2**63, 2**64 - 1]
    inputs = {"key": words(key), "indices": [str(i) for i in indices]}
    case("uniform", inputs, {"values": hexadecimal64([uniform(key, i) for i in indices])})
    case("normal", inputs, {"values": hexadecimal([normal(key, i) for i in indices])})


def arithmetic_cases():
    """Each of these goes wrong on a device without a fused fma, without denormals, or with f64 in place of f32."""
    h = from_bits
    triples = [
        # a · b is 1 less than half a unit away from c: two roundings give another result
        (h(0x3F800001), h(0x3F800001), h(0xBF800002)),
        (h(0x3F800001), h(0x3F7FFFFE), -1.0),
        # the sum lies so near the middle of two f32 that rounding to f64 first would end on it
        (h(0x3F800001), h(0x33800000), h(0x3F800000)),
        (h(0x3F800800), h(0x3F801000), h(0x30800000)),
        (h(0x4B800001), h(0x3F000001), h(0xA0000000)),
        # denormal operands, results, and products that vanish
        (h(0x00000001), 1.0, 0.0),
        (h(0x00000001), 0.5, h(0x00000001)),
        (h(0x00800000), h(0x3F7FFFFF), 0.0),
        (h(0x1F800000), h(0x1F800000), h(0x80000001)),
        # signs of zero, overflow, infinity, NaN
        (1.0, 1.0, -1.0),
        (-0.0, 1.0, -0.0),
        (0.0, -1.0, 0.0),
        (h(0x7F7FFFFF), 1.0, h(0x73000000)),
        (h(0x7F7FFFFF), 2.0, h(0xFF7FFFFF)),
        (INFINITY, 1.0, -INFINITY),
        (INFINITY, 0.0, 1.0),
        (NAN, 1.0, 1.0),
    ]
    random = Inputs()
    for a, b in zip(random.values(40, 9), random.values(40, 9)):
        triples.append((a, b, -mul(a, b)))  # what is left is the rounding of the product
    a, b, c = (list(column) for column in zip(*triples))
    assert sum(differs(fma(*t), unfused(*t)) for t in triples) > 30
    outputs = {
        "fma": [fma(*t) for t in triples],
        "sum": list(map(add, a, c)),
        "difference": list(map(sub, a, c)),
        "product": list(map(mul, a, b)),
        "quotient": list(map(div, a, b)),
        "root": [sqrt(abs(x)) for x in a],
    }
    inputs = {"a": hexadecimal(a), "b": hexadecimal(b), "c": hexadecimal(c)}
    case("arithmetic", inputs, {name: hexadecimal(value) for name, value in outputs.items()})


def elementary_cases():
    special = [0.0, -0.0, 1.0, -1.0, INFINITY, -INFINITY, NAN, from_bits(1), from_bits(0x80000001), from_bits(0x7F7FFFFF)]
    special += [0.5, 2.0, 3.0, -3.0, 10.0, -10.0, from_bits(0x33800000), from_bits(0xB3800000)]
    # where n changes, where exp overflows, where it becomes denormal and 0, and the ends of the clamp
    edges = "0.34657359 0.3465736 -0.34657359 88.72283 88.722839 88.73 89 89.5 -87.336 -87.337 -88.5 -88.73 -103.97 -103.972 -104 -105 200 -200"
    special += [f32(text) for text in edges.split()]
    chosen = WORST["exp"] + WORST["sigmoid"] + SENSITIVE["exp"] + SENSITIVE["sigmoid"]
    x = special + list(map(from_bits, chosen)) + [mul(value, 20.0) for value in Inputs().values(60, 4)]
    for function in [exp, sigmoid]:
        assert any(differs(function(v), function(v, unfused)) for v in x)
    case("exp", {"x": hexadecimal(x)}, {"y": hexadecimal([exp(v) for v in x])})
    case("sigmoid", {"x": hexadecimal(x)}, {"y": hexadecimal([sigmoid(v) for v in x])})
    edges = [ROOT_HALF, from_bits(bits(ROOT_HALF) - 1), from_bits(bits(ROOT_HALF) + 1), from_bits(0x007FFFFF), from_bits(0x00800000)]
    edges += [from_bits(0x3F7FFFFF), from_bits(0x3F800001), from_bits(0x80800000)] + [from_bits(b) for b in WORST["ln"]]
    any_positive = [from_bits(word % 0x7F800000) for word in Inputs().words(60)]
    x = special + edges + any_positive + list(map(from_bits, SENSITIVE["ln"]))
    assert any(differs(ln(v), ln(v, unfused)) for v in x)
    case("ln", {"x": hexadecimal(x)}, {"y": hexadecimal([ln(v) for v in x])})


def product_cases():
    for tokens, inputs, outputs in [(1, 1, 1), (3, 37, 19), (2, 300, 3), (17, 5, 33)]:
        random = Inputs()
        x, w, dy = random.rows(tokens, inputs), random.rows(outputs, inputs), random.rows(tokens, outputs)
        bias = random.values(outputs)
        row = [tokens // 3, tokens]
        y = linear(x, w, bias)
        if inputs > 100:
            pairs = [list(zip(*rows)) for rows in zip(x, w)]
            assert differs(list(map(chain, pairs)), [chain(reversed(p)) for p in pairs])
            assert differs(list(map(chain, pairs)), [chain(p, unfused) for p in pairs])
            assert differs(list(map(chain, pairs)), list(map(lanes_of_products, pairs)))
        case(
            "linear",
            {"inputs": inputs, "outputs": outputs, "row": row}
            | {"x": hexadecimal(x), "w": hexadecimal(w), "bias": hexadecimal(bias), "dy": hexadecimal(dy)},
            {
                "y": hexadecimal(y),
                "dx": hexadecimal(input_gradient(dy, w)),
                "dw": hexadecimal(weight_gradient(dy[row[0] :], x[row[0] :])),
                "d_bias": hexadecimal(embedding_gradient(dy[row[0] :], [0] * (tokens - row[0]), 1)),
            },
        )


def lora_cases():
    for p, rank, use_bias in [(None, 3, True), (0.25, 5, False)]:
        random = Inputs()
        inputs, outputs, rows, first, step, key = 11, 18, [[0, 2], [2, 5]], 3, 9, [5, 6]
        x, w, dy = random.rows(5, inputs), random.rows(outputs, inputs), random.rows(5, outputs)
        a, b, scale = random.rows(rank, inputs), random.rows(outputs, rank), f32("1.7")
        bias = random.values(outputs) if use_bias else None
        drop = (lambda x: dropout(x, p, key, step, rows, first)) if p else (lambda x: x)
        y, h = lora(x, w, bias, a, b, scale, drop)
        dx, da, db = lora_backward(dy, x, h, w, a, b, scale, drop, rows)
        merged = [[add(y, mul(scale, b)) for y, b in zip(*pair)] for pair in zip(linear(x, w, bias), linear(h, b))]
        assert differs(y, merged)
        drop_inputs = {"p": hexadecimal64([p]), "key": words(key), "step": step} if p else {}
        case(
            "lora",
            {"inputs": inputs, "outputs": outputs, "rank": rank, "rows": rows, "first": first}
            | drop_inputs
            | ({"bias": hexadecimal(bias)} if use_bias else {})
            | {"x": hexadecimal(x), "w": hexadecimal(w), "dy": hexadecimal(dy)}
            | {"a": hexadecimal(a), "b": hexadecimal(b), "scale": hexadecimal([scale])},
            {name: hexadecimal(v) for name, v in {"y": y, "h": h, "dx": dx, "da": da, "db": db}.items()},
        )
    scales = [(32.0, 16, False), (16.0, 3, False), (16.0, 8, True), (0.1, 7, True)]
    exact = [alpha / math.sqrt(float(r)) if rslora else alpha / r for alpha, r, rslora in scales]
    alphas, ranks, rslora = zip(*scales)
    inputs = {"alpha": hexadecimal64(alphas), "rank": list(ranks), "rslora": list(rslora)}
    case("lora_scale", inputs, {"scale": hexadecimal([to_f32(value) for value in exact])})


def dropout_cases():
    for p in [0.1, 0.5, 2.0**-33, 1.0 - 2.0**-34]:
        random = Inputs()
        inputs, rows, first, step, key = 6, [[0, 1], [1, 4]], 4294967290, 77, stream_key("dropout/m", 1)
        x = random.rows(4, inputs)
        threshold, scale = dropout_scalars(p)
        y = dropout(x, p, key, step, rows, first)
        case(
            "dropout",
            {"p": hexadecimal64([p]), "key": words(key), "step": step, "inputs": inputs, "rows": rows, "first": first}
            | {"x": hexadecimal(x)},
            {"threshold": words([threshold]), "scale": hexadecimal([scale]), "y": hexadecimal(y)},
        )


def norm_cases():
    for features in [1, 31, 33, 70, 128]:
        random = Inputs()
        x, w, dy, epsilon = random.rows(3, features), random.values(features), random.rows(3, features), f32("1e-5")
        y, roots = rms_norm(x, w, epsilon)
        if features > 64:
            squares = [list(zip(token, token)) for token in x]
            assert differs(list(map(lanes_of_products, squares)), list(map(chain, squares)))
        outputs = {
            "y": y,
            "roots": roots,
            "dx": rms_norm_input_gradient(dy, x, w, roots),
            "dw": rms_norm_weight_gradient(dy[1:], x[1:], roots[1:]),
            "squares": [lanes_of_products(zip(token, token)) for token in x],
        }
        case(
            "rms_norm",
            {"row": [1, 3], "x": hexadecimal(x), "w": hexadecimal(w), "dy": hexadecimal(dy), "epsilon": hexadecimal([epsilon])},
            {name: hexadecimal(value) for name, value in outputs.items()},
        )


def rope_cases():
    head_dim, heads, positions = 10, 2, [0, 1, 7, 12]
    tables = rope_tables(rope_frequencies(10000.0, head_dim, lambda f: f), range(13))
    x = Inputs().rows(len(positions), heads * head_dim)
    case(
        "rope",
        {"head_dim": head_dim, "positions": positions, "cos": hexadecimal(tables[0]), "sin": hexadecimal(tables[1])}
        | {"x": hexadecimal(x)},
        {
            "y": hexadecimal(rope(x, positions, *tables, head_dim, False)),
            "inverse": hexadecimal(rope(x, positions, *tables, head_dim, True)),
        },
    )
    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    kinds = [
        (100_000.0, 64, {}, lambda f: f),
        (10_000.0, 6, {"factor": 3.0}, linear_scaling(3.0)),
        (500_000.0, 64, llama3, llama3_scaling(8.0, 1.0, 4.0, 8192.0)),
    ]
    for theta, head_dim, scaling, scale in kinds:
        positions = [0, 1, 2, 1023, 8191]
        cos, sin = rope_tables(rope_frequencies(theta, head_dim, scale), positions)
        case(
            "rope_tables",
            {"theta": theta, "head_dim": head_dim, "scaling": scaling, "positions": positions},
            {"cos": hexadecimal(cos), "sin": hexadecimal(sin)},
        )


def attention_cases():
    # The second span has two keys more than queries: a cache.
    spans = [[[0, 3], [0, 3]], [[3, 5], [3, 7]]]
    for heads, kv_heads, head_dim in [(1, 1, 4), (4, 2, 6)]:
        random = Inputs()
        q, k, v = random.rows(5, heads * head_dim), random.rows(7, kv_heads * head_dim), random.rows(7, kv_heads * head_dim)
        d_output = random.rows(5, heads * head_dim)
        output, statistics, places = attention(q, k, v, spans, heads, kv_heads, head_dim)
        dq, dk, dv = attention_backward(d_output, output, k, q, places, head_dim)
        results = {"output": output, "statistics": statistics, "dq": dq, "dk": dk, "dv": dv}
        case(
            "attention",
            {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "spans": spans}
            | {"q": hexadecimal(q), "k": hexadecimal(k), "v": hexadecimal(v), "d_output": hexadecimal(d_output)},
            {name: hexadecimal(value) for name, value in results.items()},
        )


def head_cases():
    random = Inputs()
    features, vocabulary, rows, targets = 7, 45, [[0, 3], [3, 5]], [[0, 44], [1, 0], [2, 13], [4, 13]]
    x, w = random.rows(5, features), random.rows(vocabulary, features)
    losses, d_logits, dx, dw = cross_entropy(x, w, targets, rows)
    case(
        "cross_entropy",
        {"features": features, "targets": targets, "rows": rows, "x": hexadecimal(x), "w": hexadecimal(w)},
        {name: hexadecimal(v) for name, v in {"losses": losses, "d_logits": d_logits, "dx": dx, "dw": dw}.items()},
    )
    dy, ids, row = random.rows(6, 3), [1, 0, 1, 1, 3, 1], [0, 6]
    inputs = {"features": 3, "vocabulary": 4, "ids": ids, "row": row, "dy": hexadecimal(dy)}
    case("embedding_gradient", inputs, {"table": hexadecimal(embedding_gradient(dy, ids, 4))})


def swiglu_cases():
    random = Inputs()
    gate = random.values(40) + [mul(g, 50.0) for g in random.values(30)] + [0.0, -0.0, -88.0, -89.0, -104.0, 104.0]
    gate += [INFINITY, -INFINITY, NAN, from_bits(1)]
    up, dy = random.values(len(gate)), random.values(len(gate))
    d_gate, d_up = swiglu_backward(dy, gate, up)
    case(
        "swiglu",
        {"gate": hexadecimal(gate), "up": hexadecimal(up), "dy": hexadecimal(dy)},
        {"y": hexadecimal(swiglu(gate, up)), "d_gate": hexadecimal(d_gate), "d_up": hexadecimal(d_up)},
    )


def tree_cases():
    for rows in [1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 21]:
        values = Inputs().values(rows, 9)
        if rows > 10:
            chained = 0.0
            for value in values:
                chained = add(chained, value)
            assert differs(tree(values), chained)
        case("pairwise_tree", {"rows": hexadecimal(values)}, {"sum": hexadecimal([tree(values)])})


ADAM = {"weight_decay": 0.01, "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "max_grad_norm": 1.0}


def optimizer_cases():
    settings = [
        (ADAM, 2e-4, 1, 100, 3.5),
        (ADAM | {"max_grad_norm": 0.0, "weight_decay": 0.0}, 1e-3, 7, 3, 250.0),
        (ADAM | {"adam_beta1": 0.95, "adam_beta2": 0.98, "adam_epsilon": 1e-6}, 3e-4, 12345, 4096, 0.25),
    ]
    for o, lr, step, supervised, norm in settings:
        scalars = adamw_scalars(o, lr, step, supervised, norm)
        host = {name: hexadecimal64([value]) for name, value in (o | {"rate": lr, "norm": norm}).items()}
        written = {name: hexadecimal([value]) for name, value in scalars.items()}
        case("adamw_scalars", host | {"step": step, "supervised": supervised}, written)
        random = Inputs()
        p, m, gradient = random.values(21), random.values(21), [mul(g, float(supervised)) for g in random.values(21)]
        v = [mul(value, value) for value in random.values(21)]
        p[0] = m[0] = v[0] = gradient[0] = 0.0
        state = {"p": hexadecimal(p), "m": hexadecimal(m), "v": hexadecimal(v), "gradient": hexadecimal(gradient)}
        new = dict(zip("pmv", map(list, adamw(p, m, v, gradient, scalars))))
        case("adamw", state | written, {name: hexadecimal(value) for name, value in new.items()})


def global_norm_cases():
    random = Inputs()
    shapes = {"b.lora_A": (2, 40), "a.lora_B": (3, 5), "a": (1, 70), "B": (1, 1)}
    tensors = {name: random.rows(*shape, 9) for name, shape in shapes.items()}
    written = {name: {"columns": shapes[name][1], "values": hexadecimal(value)} for name, value in tensors.items()}
    case("global_norm", {"tensors": written}, {"norm": hexadecimal64([global_norm(tensors)])})


def schedule_cases():
    kinds = [
        ("constant", 2e-4, {"warmup_steps": 3}, 3, 8),
        ("linear", 1e-3, {"warmup_ratio": 0.1}, 2, 15),
        ("cosine", 2e-4, {"warmup_steps": 4}, 4, 24),
        ("cosine", 3e-4, {"warmup_ratio": 0.03}, 1, 17),
        ("cosine", 1.0, {"warmup_steps": 5}, 5, 5),
    ]
    for kind, peak, given, warmup, total in kinds:
        if "warmup_ratio" in given:
            assert warmup == math.ceil(float(total) * given["warmup_ratio"])
        rates = [rate(kind, peak, warmup, total, done) for done in range(total)]
        host = {name: hexadecimal64([v]) if name == "warmup_ratio" else v for name, v in given.items()}
        inputs = {"kind": kind, "learning_rate": hexadecimal64([peak]), "total": total} | host
        case("schedule", inputs, {"rates": hexadecimal64(rates)})


# Inputs with the largest errors, as `elementary_error` of tune-kernels finds them.
WORST = {"exp": [0xC0BC17A1, 0xC2AEACBA], "ln": [0x3FB4F239], "sigmoid": [0xC18515EC, 0xC2B17218]}

# Few results change where the fma of these functions rounds twice; these do.
SENSITIVE = {
    "exp": [0x42090AF9, 0x42727983, 0xC25C2950],
    "ln": [0x3FA0CCD7, 0x3FAAFD50, 0x3F3D12EE],
    "sigmoid": [0xBFD32E2C, 0xC2879616, 0xC28203E4],
}

ABOUT = (
    "Test vectors of the numerics contract exact-f32/1 (docs/numerics.md), written by tests/numerics/vectors.py. "
    "Eight hexadecimal digits are the bits of an f32 or a u32, sixteen those of an f64; any NaN is written 7fc00000. "
    "Matrices are flat, row after row. Ranges are [start, end), end excluded."
)


def text():
    """One line for each input and output, so that a change shows in a diff."""
    lines = lambda part: ",\n".join(f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in part.items())
    one = lambda c: (
        f'  {{"operation": {json.dumps(c["operation"])},\n   "inputs": {{\n{lines(c["inputs"])}}},\n'
        f'   "outputs": {{\n{lines(c["outputs"])}}}}}'
    )
    cases = ",\n".join(map(one, CASES))
    return f'{{\n"profile": "exact-f32/1",\n"about": {json.dumps(ABOUT)},\n"cases": [\n{cases}\n]\n}}\n'


def main(arguments):
    philox_cases()
    arithmetic_cases()
    elementary_cases()
    product_cases()
    lora_cases()
    dropout_cases()
    norm_cases()
    rope_cases()
    attention_cases()
    head_cases()
    swiglu_cases()
    tree_cases()
    optimizer_cases()
    global_norm_cases()
    schedule_cases()
    if arguments[:1] == ["--check"] and len(arguments) == 2:
        with open(arguments[1], encoding="utf-8") as file:
            if file.read() != text():
                sys.exit(f"{arguments[1]} is not what this program writes")
        return
    if arguments:
        sys.exit(__doc__)
    sys.stdout.write(text())


if __name__ == "__main__":
    main(sys.argv[1:])
