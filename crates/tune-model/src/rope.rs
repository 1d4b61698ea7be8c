//! Tables of rotary position embedding: on the host in f64 with the pure-Rust `libm`, rounded once.

use crate::base::{ModelConfig, RopeScaling};

/// Cosines and sines, each `[positions, head_dim / 2]`.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "rounded once; small integers")]
pub fn tables(config: &ModelConfig, positions: usize) -> (Vec<f32>, Vec<f32>) {
    let frequencies = frequencies(config);
    let angles =
        (0..positions).flat_map(|position| frequencies.iter().map(move |frequency| position as f64 * frequency));
    angles.map(|angle| (libm::cos(angle) as f32, libm::sin(angle) as f32)).unzip()
}

/// `theta^(-2i / head_dim)`, scaled where the model says so.
#[expect(clippy::cast_precision_loss, reason = "small integers")]
pub(crate) fn frequencies(config: &ModelConfig) -> Vec<f64> {
    let plain =
        (0..config.head_dim / 2).map(|i| libm::pow(config.rope_theta, -(2.0 * i as f64) / config.head_dim as f64));
    plain.map(|frequency| scaled(frequency, config.rope_scaling.as_ref())).collect()
}

/// The scaling of Llama 3.1 (`_compute_llama3_parameters` of transformers), or a plain factor.
fn scaled(frequency: f64, scaling: Option<&RopeScaling>) -> f64 {
    match scaling {
        None => frequency,
        Some(RopeScaling::Linear { factor }) => frequency / factor,
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }) => {
            let wavelength = 2.0 * std::f64::consts::PI / frequency;
            #[expect(clippy::cast_precision_loss, reason = "a small integer")]
            let context = *original_max_position_embeddings as f64;
            if wavelength < context / high_freq_factor {
                frequency
            } else if wavelength > context / low_freq_factor {
                frequency / factor
            } else {
                let smooth = (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}
