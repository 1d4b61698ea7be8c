//! The CUDA source that is generated from the kernels, read line by line, and where NVRTC is at hand what that makes of it.
//! No GPU is needed for either.

use std::collections::{BTreeMap, BTreeSet};

use cubecl::CubeTask;
use cubecl::cuda::CudaCompiler;
use cubecl::prelude::*;
use cubecl::wgpu::WgpuRuntime;
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use half::bf16;

use crate::cube::product::Form;
use crate::cube::{attention, head, peak, pinned, pointwise, probe, product, rows, stored};
use crate::encoding::Encoding;

/// The CUDA source of a kernel, as NVRTC gets it.
fn cuda<K: CubeKernel>(kernel: K) -> String {
    let address = kernel.address_type();
    let task = KernelTask::<CudaCompiler, K>::new(kernel);
    let compiled = task.compile(&mut Default::default(), &Default::default(), ExecutionMode::Unchecked, address);
    compiled.map_err(|error| error.to_string()).expect("the kernel compiles").source
}

/// What the contract forbids in a kernel's source: a float product that feeds an addition, an `fma` whose addend the
/// compiler knows to be zero (it may make a product of it), intrinsics that are less than correctly rounded, atomics.
fn violations(source: &str) -> Vec<String> {
    const FORBIDDEN: [&str; 9] =
        ["__fdividef", "__frcp", "__fsqrt", "__expf", "__logf", "__powf", "rsqrt", "atomic", "use_fast_math"];
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let forbidden = |line: &&&str| FORBIDDEN.iter().any(|word| line.contains(word));
    let zero_addend =
        |line: &&&str| line.contains("fma(") && (line.contains("float(-0.0))") || line.contains("float(0.0))"));
    let mut found: Vec<String> =
        lines.iter().filter(|line| forbidden(line) || zero_addend(line)).map(|line| (*line).to_owned()).collect();
    let name = |word: &str| word.split('[').next().unwrap_or(word).to_owned();
    // Floats, and those of them that hold a product. Twice over the source: a loop brings values back to its start.
    let (mut floats, mut products) = (BTreeSet::new(), BTreeSet::new());
    for pass in 0..2 {
        for line in &lines {
            let statement = line.trim_end_matches(';');
            let (left, right) = statement.split_once(" = ").unwrap_or((statement, ""));
            let target = name(left.split_whitespace().last().unwrap_or_default().trim_start_matches('*'));
            if left.contains("float") {
                floats.insert(target.clone());
            }
            let words: Vec<&str> = right.split_whitespace().collect();
            let holds_product = |word: &str| products.contains(&name(word.trim_start_matches('-')));
            let product = match words.as_slice() {
                [_, "*", _] => floats.contains(&target),
                [value] => holds_product(value),
                // A choice between two values.
                [_, "?", a, ":", b] => holds_product(a) || holds_product(b),
                [a, "+" | "-", b] => {
                    if pass == 1 && floats.contains(&target) && (holds_product(a) || holds_product(b)) {
                        found.push((*line).to_owned());
                    }
                    false
                }
                _ => {
                    let naked = words.contains(&"*") && (words.contains(&"+") || words.contains(&"-"));
                    if pass == 1 && naked && left.contains("float") {
                        found.push((*line).to_owned());
                    }
                    false
                }
            };
            // A barrier lies between writing to shared memory and reading from it, which no contraction passes.
            if product && !target.starts_with("shared_memory") {
                products.insert(target);
            }
        }
    }
    found
}

/// The source with the declarations of types and variables sorted: the compiler writes them in the order of a hash map.
fn canonical(source: &str) -> String {
    let declares = |line: &&str| {
        let mut words = line.trim().split(' ');
        words.next().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
            && words.next().is_some_and(|word| word.starts_with("l_") && word.ends_with(';'))
            && words.next().is_none()
    };
    // Two lines each; in some order only where there are several.
    let shared = |line: &&str| line.starts_with("// Shared array") || line.contains("(&dynamic_shared_mem[");
    let (mut types, mut rest, mut inside) = (Vec::new(), Vec::new(), false);
    for line in source.lines() {
        if line.starts_with("struct __align__") {
            types.push(String::new());
            inside = true;
        }
        if inside {
            types.last_mut().expect("begun above").push_str(line);
        } else {
            rest.push(line);
        }
        inside &= line != "};";
    }
    types.sort_unstable();
    let several = rest.iter().filter(|line| shared(line)).count() > 2;
    let (mut declarations, others): (Vec<&str>, Vec<&str>) =
        rest.into_iter().partition(|line| declares(line) || several && shared(line));
    declarations.sort_unstable();
    [types.iter().map(String::as_str).collect(), declarations, others].concat().join("\n")
}

/// The source of every kernel, in every form whose arithmetic differs.
fn sources(client: &ComputeClient<WgpuRuntime>) -> BTreeMap<String, String> {
    kernels(client).into_iter().map(|(name, source)| (name, canonical(&source))).collect()
}

/// The same as it would be compiled.
fn kernels(client: &ComputeClient<WgpuRuntime>) -> BTreeMap<String, String> {
    let a = || ArrayCompilationArg { inplace: None };
    let s = || KernelSettings::default().cube_dim(CubeDim::new_1d(256));
    let mut sources = BTreeMap::new();
    // `a` is an array, `n` a scalar.
    macro_rules! kernel {
        ($name:expr, $module:ident, $kernel:ident, $Kernel:ident, [$($argument:tt),*] $(, $comptime:expr)*) => {
            let kernel = $module::$kernel::$Kernel::<WgpuRuntime>::new(
                s(), client.clone(), $(kernel!(@ $argument)),* $(, $comptime)*
            );
            sources.insert($name.to_owned(), cuda(kernel));
        };
        (@ a) => { a() };
        (@ n) => { () };
    }
    for side in [1, 4, 8] {
        for (name, with, times) in
            [("", false, false), (" with epilogue", true, false), (" with a factor", false, true)]
        {
            let along = [with, !with];
            let form = Form { side, along, continues: !with, bias: with, previous: with, plus: with, times };
            kernel!(
                format!("product of {side} × {side}{name}"),
                product,
                product_kernel,
                ProductKernel,
                [a, a, a, a, a, n, n, n, n, n, n, n, n, n, n],
                form
            );
        }
    }
    // Every layout of the operands, in both squares.
    for large in [true, false] {
        for along in [[true, true], [true, false], [false, false]] {
            let form = pinned::product::Form {
                matrix: true,
                large,
                along,
                bias: along[1],
                previous: along[0],
                plus: along[0] != along[1],
                times: !along[0],
            };
            let side = if large { 128 } else { 32 };
            let name = format!("pinned product of {side} × {side}, along the depth {along:?}");
            sources.insert(name, cuda(pinned_product(client, form)));
        }
    }
    let y = || ArrayCompilationArg { inplace: None };
    sources.insert(
        "pinned rounding".to_owned(),
        cuda(pinned::round_kernel::RoundKernel::<bf16, WgpuRuntime>::new(
            s(),
            client.clone(),
            y(),
            y(),
            (),
            (),
            8,
            true,
        )),
    );
    sources.insert(
        "pinned gather".to_owned(),
        cuda(pinned::widen_kernel::WidenKernel::<bf16, WgpuRuntime>::new(
            s(),
            client.clone(),
            y(),
            y(),
            y(),
            (),
            (),
            8,
        )),
    );
    kernel!("probe", probe, probe_kernel, ProbeKernel, [a, a, a, a, a, n]);
    kernel!("elementary functions", probe, elementary_kernel, ElementaryKernel, [a, a, n, n]);
    kernel!("peak", peak, peak_kernel, PeakKernel, [a, n, n, n]);
    kernel!("rms_norm", rows, rms_norm_kernel, RmsNormKernel, [a, a, a, a, n, n, n]);
    for plus in [false, true] {
        let name = format!("rms_norm input gradient{}", if plus { " onto" } else { "" });
        kernel!(
            name,
            rows,
            rms_norm_input_gradient_kernel,
            RmsNormInputGradientKernel,
            [a, a, a, a, a, a, n, n, n],
            plus
        );
        let name = if plus { "sums of squares" } else { "sums" };
        kernel!(name, rows, sums_kernel, SumsKernel, [a, a, n, n], plus);
        let name = format!("rope{}", if plus { " inverse" } else { "" });
        kernel!(name, pointwise, rope_kernel, RopeKernel, [a, a, a, a, a, n, n, n], plus);
    }
    kernel!("swiglu", pointwise, swiglu_kernel, SwigluKernel, [a, a, a, n, n]);
    kernel!("swiglu backward", pointwise, swiglu_backward_kernel, SwigluBackwardKernel, [a, a, a, a, a, n, n]);
    kernel!("adamw", pointwise, adamw_kernel, AdamwKernel, [a, a, a, a, a, a, a, n, n, n, n, n, n, n, n, n]);
    kernel!("dropout", pointwise, dropout_kernel, DropoutKernel, [a, a, a, n, n, n, n, n, n, n]);
    kernel!("bias gradient", pointwise, bias_gradient_kernel, BiasGradientKernel, [a, a, n, n, n]);
    kernel!(
        "rms_norm weight gradient",
        pointwise,
        rms_norm_weight_gradient_kernel,
        RmsNormWeightGradientKernel,
        [a, a, a, a, n, n, n]
    );
    for head_dim in [64, 128] {
        kernel!(
            format!("attention of {head_dim}"),
            attention,
            forward_kernel,
            ForwardKernel,
            [a, a, a, a, a, a, n, n, n, n, n],
            head_dim
        );
        kernel!(
            format!("attention of {head_dim}, query gradient"),
            attention,
            query_gradient_kernel,
            QueryGradientKernel,
            [a, a, a, a, a, a, a, a, n, n, n, n],
            head_dim
        );
        kernel!(
            format!("attention of {head_dim}, key gradient"),
            attention,
            key_gradient_kernel,
            KeyGradientKernel,
            [a, a, a, a, a, a, a, a, a, n, n, n, n],
            head_dim
        );
    }
    kernel!("attention, dots", attention, dots_kernel, DotsKernel, [a, a, a, n, n]);
    kernel!("gather", head, gather_kernel, GatherKernel, [a, a, a, n, n]);
    kernel!("scatter", head, scatter_kernel, ScatterKernel, [a, a, a, n, n]);
    kernel!("zero", head, zero_kernel, ZeroKernel, [a, n]);
    kernel!("embedding gradient", head, embedding_gradient_kernel, EmbeddingGradientKernel, [a, a, a, n, n, n]);
    kernel!("exponentials", head, exponentials_kernel, ExponentialsKernel, [a, a, a, n, n, n, n]);
    kernel!("losses", head, losses_kernel, LossesKernel, [a, a, a, n, n]);
    kernel!("logits gradient", head, logits_gradient_kernel, LogitsGradientKernel, [a, a, a, n, n]);
    for encoding in Encoding::ALL {
        for gathered in [false, true] {
            let name = format!("{} decoded{}", encoding.name(), if gathered { ", some rows" } else { "" });
            kernel!(name, stored, decode_kernel, DecodeKernel, [a, a, a, n, n], encoding, gathered);
        }
    }
    sources
}

/// The product of rounded operands in a form.
fn pinned_product(client: &ComputeClient<WgpuRuntime>, form: pinned::product::Form) -> impl CubeKernel {
    let a = || ArrayCompilationArg { inplace: None };
    let units = u32::try_from(form.units()).expect("a few units");
    pinned::product::product_kernel::ProductKernel::<bf16, WgpuRuntime>::new(
        KernelSettings::default().cube_dim(CubeDim::new_1d(units)),
        client.clone(),
        a(),
        a(),
        a(),
        a(),
        a(),
        (),
        (),
        (),
        (),
        (),
        (),
        (),
        (),
        8,
        form,
    )
}

#[cube(launch_unchecked)]
fn naked(a: &Array<f32>, b: &mut Array<f32>) {
    b[ABSOLUTE_POS] = a[ABSOLUTE_POS] * a[ABSOLUTE_POS] + b[ABSOLUTE_POS];
}

#[cube(launch_unchecked)]
fn naked_later(a: &Array<f32>, b: &mut Array<f32>) {
    let mut products = Array::<f32>::new(2usize);
    products[1] = a[ABSOLUTE_POS] * a[ABSOLUTE_POS];
    let mut value = products[1];
    for i in 0..4usize {
        value = b[i] - value;
    }
    b[ABSOLUTE_POS] = value;
}

#[cube(launch_unchecked)]
fn known_addend(a: &Array<f32>, b: &mut Array<f32>) {
    b[ABSOLUTE_POS] = fma(a[ABSOLUTE_POS], a[ABSOLUTE_POS], -0.0) + b[ABSOLUTE_POS];
}

/// Sources that break the contract.
fn naked_kernels(client: &ComputeClient<WgpuRuntime>) -> [String; 3] {
    let a = || ArrayCompilationArg { inplace: None };
    let s = || KernelSettings::default().cube_dim(CubeDim::new_1d(256));
    let naked = cuda(naked::Naked::<WgpuRuntime>::new(s(), client.clone(), a(), a()));
    let later = cuda(naked_later::NakedLater::<WgpuRuntime>::new(s(), client.clone(), a(), a()));
    let known = cuda(known_addend::KnownAddend::<WgpuRuntime>::new(s(), client.clone(), a(), a()));
    [naked, later, known]
}

#[test]
fn the_check_can_fail() {
    let Some(client) = super::client() else { return };
    for source in naked_kernels(&client) {
        assert!(!violations(&source).is_empty(), "{source}");
    }
}

/// Digests of the sources, by kernel: fixed, so that an update of the compiler under us is seen and read before it is
/// accepted. `TUNE_UPDATE_GOLDEN=1` writes them anew.
const GOLDEN: &str = "src/cube/tests/cuda_sources.txt";

#[test]
#[expect(clippy::disallowed_methods, reason = "a golden file of the sources")]
fn cuda_source_holds_no_naked_multiply_add() {
    let Some(client) = super::client() else { return };
    let sources = sources(&client);
    for (name, source) in &sources {
        assert_eq!(violations(source), Vec::<String>::new(), "{name}");
    }
    // What lies in the order of a hash map would not be the same twice.
    assert_eq!(self::sources(&client), sources, "sources made twice");
    // Each step of the depth is multiplied once, by each of the pieces that a plane computes: 8 of two depths, or 1 of eight.
    for (name, pieces) in [("128 × 128", 16), ("32 × 32", 8)] {
        let source = &sources[&format!("pinned product of {name}, along the depth [true, true]")];
        assert_eq!(source.matches("mma_sync(").count(), pieces, "{source}");
    }
    // A chain an output, of which each step is one `fma`.
    assert_eq!(sources["product of 8 × 8"].matches("fma(").count(), 64);
    let digest = |source: &String| tune_schema::Digest::of(source.as_bytes());
    let now: String = sources.iter().map(|(name, source)| format!("{} {name}\n", digest(source))).collect();
    if std::env::var_os("TUNE_UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &now).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(GOLDEN).expect("the golden file");
    assert_eq!(now, golden, "a generated source changed: read it, then set the digests with TUNE_UPDATE_GOLDEN=1");
}

/// What NVRTC makes of a source for a recent GPU; `contract` as by default, or switched off.
fn ptx(source: &str, headers: &str, contract: Option<bool>) -> Result<String, String> {
    let options = CompileOptions {
        fmad: contract,
        include_paths: vec![headers.to_owned()],
        arch: Some("compute_90"),
        ..CompileOptions::default()
    };
    compile_ptx_with_opts(source, options).map(|ptx| ptx.to_src()).map_err(|error| format!("{error:?}"))
}

/// What is left to contract in PTX, or was contracted: instructions that only contraction makes, products whose register
/// feeds an addition, and whatever is only approximately right.
fn contractions(with: &str, without: &str) -> Vec<String> {
    let plain = |ptx: &str| {
        let lines = ptx.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.starts_with('.'));
        lines.map(|line| line.replace(".rn.f32", ".f32")).collect::<Vec<String>>()
    };
    let (with, without) = (plain(with), plain(without));
    let mut found = Vec::new();
    if with != without {
        found.push("contraction makes another program".to_owned());
    }
    let mut products = BTreeSet::new();
    for line in &with {
        if line.contains(".approx") || line.contains(".ftz") {
            found.push(line.clone());
        }
        let Some((instruction, operands)) = line.trim_end_matches(';').split_once([' ', '\t']) else { continue };
        let mut operands = operands.split(',').map(str::trim);
        let target = operands.next().unwrap_or_default();
        match instruction {
            "mul.f32" => drop(products.insert(target.to_owned())),
            "add.f32" | "sub.f32" if operands.any(|operand| products.contains(operand)) => found.push(line.clone()),
            _ => {}
        }
    }
    found
}

/// `TUNE_TEST_NVRTC` names the folder of CUDA's headers; NVRTC itself is found as any library is.
#[test]
fn nvrtc_compiles_every_kernel_and_finds_nothing_to_contract() {
    let Some(client) = super::client() else { return };
    let headers = std::env::var("TUNE_TEST_NVRTC").unwrap_or_default();
    // SAFETY: this only tries to load the library that the platform's loader finds under NVRTC's names.
    if headers.is_empty() || !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        assert!(headers.is_empty(), "TUNE_TEST_NVRTC asks for NVRTC; the library was not found");
        #[allow(clippy::print_stderr, reason = "a test that compares nothing says so")]
        {
            eprintln!("NOT COMPARED: no NVRTC; the Python packages nvidia-cuda-nvrtc, -runtime and -crt bring it");
        }
        return;
    }
    let both = |source: &str| {
        let compile = |contract| ptx(source, &headers, contract).unwrap_or_else(|error| panic!("{error}\n{source}"));
        contractions(&compile(None), &compile(Some(false)))
    };
    for (name, source) in kernels(&client) {
        assert_eq!(both(&source), Vec::<String>::new(), "{name}");
        if name.starts_with("pinned product") {
            let ptx = ptx(&source, &headers, None).expect("compiled above");
            assert!(ptx.contains(".f32.bf16.bf16.f32"), "{name}: no matrix instruction for bf16 with sums in f32");
            let mut instructions = ptx.lines().map(str::trim_start);
            assert!(
                !instructions.any(|line| line.starts_with("atom.") || line.starts_with("red.")),
                "{name}: an atomic"
            );
        }
    }
    // The third is one that this release of NVRTC leaves alone.
    for source in &naked_kernels(&client)[..2] {
        assert!(!both(source).is_empty(), "{source}");
    }
}
