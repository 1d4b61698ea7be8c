//! The operations in vector registers and threads.
//!
//! Each kernel is one generic function over [`Lanes`](crate::lanes::Lanes); `dispatch!` compiles it once for every level and picks one at
//! run time. Widths, tiles and threads decide which outputs are computed together, never the order inside one output.
//!
//! - [`product`]: every matrix product, whatever its direction
//! - [`linear`]: linear layers with and without LoRA, forward and backward
//! - [`attention`], [`head`], [`pointwise`]: the rest
//! - [`memory`]: what becomes of freed memory; `cache`: how large the processor's caches are
//! - [`peak`]: what the processor can do at most, for benchmarks

pub mod attention;
mod cache;
pub mod head;
pub mod linear;
pub mod memory;
pub mod peak;
pub mod pointwise;
pub mod product;

use std::sync::OnceLock;

/// Which instructions the kernels use. The level never changes a bit; the variable `TUNE_CPU` forces one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// One value at a time with an `fma` of two roundings: what a device without a fused one computes. Its results are
    /// not the contract's; only [`Level::fix`] chooses it.
    Unfused,
    /// One value at a time.
    Scalar,
    /// Fixed lanes in arrays, which a compiler may turn into vectors.
    Portable,
    /// 256-bit registers with fused multiply-add.
    Avx2,
    /// 512-bit registers.
    Avx512,
}

/// A level that was asked for and cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// Not the name of a level.
    #[error("`TUNE_CPU={0}` names no level; known are `scalar`, `portable`, `avx2`, `avx512`")]
    Unknown(String),
    /// This processor lacks the level's instructions.
    #[error("`TUNE_CPU={0}` asks for instructions that this processor does not have; the best it has is `{1}`")]
    Unavailable(&'static str, &'static str),
}

impl Level {
    /// All levels of the contract, slowest first.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Portable, Self::Avx2, Self::Avx512];

    /// The name that `TUNE_CPU` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unfused => "unfused",
            Self::Scalar => "scalar",
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this processor can run the level.
    #[must_use]
    pub fn available(self) -> bool {
        match self {
            Self::Unfused | Self::Scalar | Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The best available level.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|level| level.available()).unwrap_or(Self::Portable)
    }

    /// The level that `TUNE_CPU` names, or the best one where it is not set or empty.
    ///
    /// # Errors
    /// An unknown name, or a level this processor cannot run.
    pub fn from_environment() -> Result<Self, LevelError> {
        let Some(name) = std::env::var_os("TUNE_CPU").filter(|name| !name.is_empty()) else {
            return Ok(Self::best());
        };
        let name = name.to_string_lossy().into_owned();
        let level = Self::ALL.into_iter().find(|level| level.name() == name).ok_or(LevelError::Unknown(name))?;
        if level.available() { Ok(level) } else { Err(LevelError::Unavailable(level.name(), Self::best().name())) }
    }

    /// The level all kernels of this process use: [`Self::from_environment`], read once. A binary checks
    /// `from_environment` first, so that a wrong variable is an error; here it falls back to the best level.
    #[must_use]
    pub fn current() -> Self {
        *CURRENT.get_or_init(|| Self::from_environment().unwrap_or_else(|_| Self::best()))
    }

    /// Sets the level of this process, for a comparison with another device.
    ///
    /// # Panics
    /// If a level was set or used before.
    pub fn fix(self) {
        CURRENT.set(self).expect("the level is set before any kernel runs, and once");
    }
}

/// See [`Level::current`].
static CURRENT: OnceLock<Level> = OnceLock::new();

/// Runs `$body` with `$lanes` standing for the lanes of a level, compiled with that level's instructions.
macro_rules! dispatch {
    ($level:expr, $lanes:ident => $body:expr) => {{
        match $level {
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::Level::Avx512 if $level.available() => {
                type $lanes = $crate::lanes::Avx512;
                // SAFETY: the instructions were just found to be there.
                #[expect(unsafe_code, reason = "calls code compiled for detected instructions")]
                unsafe {
                    $crate::cpu::with_avx512(
                        #[inline(always)]
                        || $body,
                    )
                }
            }
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::Level::Avx2 if $level.available() => {
                type $lanes = $crate::lanes::Avx2;
                // SAFETY: as above.
                #[expect(unsafe_code, reason = "calls code compiled for detected instructions")]
                unsafe {
                    $crate::cpu::with_avx2(
                        #[inline(always)]
                        || $body,
                    )
                }
            }
            $crate::cpu::Level::Unfused => {
                type $lanes = $crate::lanes::One<$crate::lanes::Unfused>;
                $body
            }
            $crate::cpu::Level::Scalar => {
                type $lanes = $crate::lanes::One<$crate::lanes::Fused>;
                $crate::cpu::with_hardware_fma(
                    #[inline(always)]
                    || $body,
                )
            }
            _ => {
                type $lanes = $crate::lanes::Portable;
                $crate::cpu::with_hardware_fma(
                    #[inline(always)]
                    || $body,
                )
            }
        }
    }};
}
pub(crate) use dispatch;

/// Compiles `f` for AVX-512.
///
/// # Safety
/// The processor must have AVX-512F and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
#[inline]
#[expect(unsafe_code, reason = "a function with target features")]
unsafe fn with_avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Compiles `f` for AVX2.
///
/// # Safety
/// The processor must have AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline]
#[expect(unsafe_code, reason = "a function with target features")]
unsafe fn with_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Compiles `f` so that `f32::mul_add` is an instruction where the processor has one. Without it the call into the
/// platform's correctly rounded `fmaf` gives the same bits, some fifty times slower.
#[inline]
fn with_hardware_fma<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "fma")]
        #[inline]
        #[expect(unsafe_code, reason = "a function with target features")]
        unsafe fn with_fma<R>(f: impl FnOnce() -> R) -> R {
            f()
        }
        if is_x86_feature_detected!("fma") {
            // SAFETY: the feature was just detected.
            #[expect(unsafe_code, reason = "calls code compiled for detected instructions")]
            return unsafe { with_fma(f) };
        }
    }
    f()
}

/// A pointer into an output that several tasks write at places that do not overlap.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: tasks write disjoint places; each use says which.
#[expect(unsafe_code, reason = "disjoint writes from several threads")]
unsafe impl Send for Shared {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "disjoint writes from several threads")]
unsafe impl Sync for Shared {}

impl Shared {
    fn new(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// Memory that tasks write before anything reads it.
    fn unwritten(slice: &mut [std::mem::MaybeUninit<f32>]) -> Self {
        Self(slice.as_mut_ptr().cast())
    }

    /// The pointer; a method, so that closures capture the whole (shareable) value.
    fn get(self) -> *mut f32 {
        self.0
    }
}
