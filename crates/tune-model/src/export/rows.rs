//! The order in which llama.cpp wants the rows of query and key projections.

/// Interleaves the two halves of each head's rows, as `LlamaModel.permute` of llama.cpp's `conversion/llama.py` does;
/// the reader of [`crate::base::gguf`] puts them back.
///
/// Hugging Face rotates component `i` of a head of width `D` with component `i + D/2`, ggml's `llama` with its neighbour.
/// So row `h·D + t·D/2 + i` (`t` the half, 0 or 1) goes to `h·D + 2·i + t`. The same for a weight, a bias and the `B` of
/// a LoRA branch, whose rows are the layer's outputs. `rows` is a multiple of `2 · heads`.
pub(super) fn interleave_halves(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let (width, head_dim) = (values.len() / rows, rows / heads);
    let mut result = Vec::with_capacity(values.len());
    for head in 0..heads {
        for i in 0..head_dim / 2 {
            for half in 0..2 {
                let row = head * head_dim + half * (head_dim / 2) + i;
                result.extend_from_slice(&values[row * width..][..width]);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_interleaved_head_by_head() {
        let values: Vec<f32> = (0..8_u8).map(f32::from).collect();
        assert_eq!(interleave_halves(&values, 8, 2), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        // Rows of two values stay together.
        assert_eq!(interleave_halves(&values, 4, 1), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    }
}
