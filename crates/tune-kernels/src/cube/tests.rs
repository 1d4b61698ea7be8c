//! Kernels on software Vulkan, or whatever Vulkan adapter there is, against the scalar reference with the device's own
//! kind of `fma`; and the CUDA source that is generated from them.

use std::collections::BTreeSet;

use cubecl::CubeTask;
use cubecl::cuda::CudaCompiler;
use cubecl::prelude::*;
use cubecl::wgpu::WgpuRuntime;

use super::probe::normals;
use super::product::{Shape, product_of};
use super::{device, probe, product};
use crate::lanes::{Fma, Fused, Unfused};
use crate::philox::philox4x32_10;
use crate::reference;

/// A client of the first Vulkan adapter, software before hardware. Without one nothing is compared, which
/// `TUNE_TEST_GPU=1` turns into a failure.
fn client() -> Option<ComputeClient<WgpuRuntime>> {
    let mut adapters = device::wgpu_adapters();
    adapters.sort_by_key(|adapter| !adapter.software);
    let Some(adapter) = adapters.first() else {
        assert!(std::env::var_os("TUNE_TEST_GPU").is_none(), "TUNE_TEST_GPU asks for a Vulkan adapter; there is none");
        eprintln!("NOT COMPARED: no Vulkan adapter; mesa-vulkan-drivers brings one in software");
        return None;
    };
    Some(super::client(&adapter.device))
}

fn same_bits(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let first = got.iter().zip(want).position(|(got, want)| got.to_bits() != want.to_bits());
    assert_eq!(first, None, "{what}: the first element that differs");
}

fn products_equal<F: Fma>(client: &ComputeClient<WgpuRuntime>) {
    for test in 0..60 {
        let sizes = philox4x32_10([test, 0, 0, 0], [3, 4]);
        let [tokens, inputs, outputs] = [0, 1, 2].map(|i| match sizes[i] % 4 {
            0 => [1, 15, 16, 17, 31, 63, 64, 65, 127, 128, 129][sizes[i] as usize / 4 % 11],
            _ => 1 + sizes[i] as usize / 4 % 140,
        });
        let what = format!("{tokens} tokens, {inputs} inputs, {outputs} outputs");
        let (x, w) = (normals(tokens * inputs, 3 * test), normals(outputs * inputs, 3 * test + 1));
        let dy = normals(tokens * outputs, 3 * test + 2);
        let of = |a: &[f32], b: &[f32], shape| product_of(client, a, b, shape).expect("a result");
        let y = of(&x, &w, Shape::linear(tokens, inputs, outputs));
        same_bits(&what, &y, &reference::linear::<F>(&x, &w, None, inputs, outputs));
        let dx = of(&dy, &w, Shape::input_gradient(tokens, inputs, outputs));
        same_bits(&what, &dx, &reference::linear_input_gradient::<F>(&dy, &w, inputs, outputs));
        let dw = of(&dy, &x, Shape::weight_gradient(tokens, inputs, outputs));
        same_bits(&what, &dw, &reference::linear_weight_gradient::<F>(&dy, &x, inputs, outputs, &(0..tokens)));
    }
}

#[test]
fn products_equal_the_reference() {
    let Some(client) = client() else { return };
    if probe::probe(&client).expect("a report").fma_not_fused == 0 {
        products_equal::<Fused>(&client);
    } else {
        products_equal::<Unfused>(&client);
    }
}

#[test]
fn the_probe_knows_what_the_device_does() {
    let Some(client) = client() else { return };
    let report = probe::probe(&client).expect("a report");
    // `fma` is one of the two, and the operands tell them apart.
    assert!((report.fma_not_fused == 0) != (report.fma_not_unfused == 0), "{report:?}");
    assert_eq!(report.reasons().is_empty(), report.fma_not_fused == 0, "{:?}", report.reasons());
    assert_eq!([report.division, report.square_root, report.multiplication, report.integers, report.product], [0; 5]);
}

/// The CUDA source of a kernel, as NVRTC gets it.
fn cuda<K: CubeKernel>(kernel: K) -> String {
    let address = kernel.address_type();
    let task = KernelTask::<CudaCompiler, K>::new(kernel);
    let compiled = task.compile(&mut Default::default(), &Default::default(), ExecutionMode::Unchecked, address);
    compiled.map_err(|error| error.to_string()).expect("the kernel compiles").source
}

/// What the contract forbids in a kernel's source: a float product that feeds an addition, intrinsics that are less
/// than correctly rounded, atomics.
fn violations(source: &str) -> Vec<String> {
    let mut products = BTreeSet::new();
    let mut found = Vec::new();
    for line in source.lines().map(str::trim) {
        for forbidden in
            ["__fdividef", "__frcp", "__fsqrt", "__expf", "__logf", "__powf", "rsqrt", "atomic", "use_fast_math"]
        {
            if line.contains(forbidden) {
                found.push(line.to_owned());
            }
        }
        let Some((left, right)) = line.split_once(" = ") else { continue };
        let words: Vec<&str> = right.trim_end_matches(';').split_whitespace().collect();
        if left.contains("float") && words.contains(&"*") {
            products.insert(left.split_whitespace().last().unwrap_or_default().to_owned());
            if words.contains(&"+") || words.contains(&"-") {
                found.push(line.to_owned());
            }
        } else if let [a, "+" | "-", b] = words.as_slice()
            && (products.contains(*a) || products.contains(*b))
        {
            found.push(line.to_owned());
        }
    }
    found
}

#[cube(launch_unchecked)]
fn naked(a: &Array<f32>, b: &mut Array<f32>) {
    b[ABSOLUTE_POS] = a[ABSOLUTE_POS] * a[ABSOLUTE_POS] + b[ABSOLUTE_POS];
}

#[test]
fn cuda_source_holds_no_naked_multiply_add() {
    let Some(client) = client() else { return };
    let array = || ArrayCompilationArg { inplace: None };
    let s = || KernelSettings::default().cube_dim(CubeDim::new_1d(256));
    let c = || client.clone();
    let product = product::product_kernel::ProductKernel::<WgpuRuntime>::new;
    let product = cuda(product(s(), c(), array(), array(), array(), (), (), (), (), (), (), ()));
    let probe = probe::probe_kernel::ProbeKernel::<WgpuRuntime>::new;
    let probe = cuda(probe(s(), c(), array(), array(), array(), array(), array(), ()));
    // The check can fail: this kernel has one.
    let naked = cuda(naked::Naked::<WgpuRuntime>::new(s(), c(), array(), array()));
    assert_eq!(violations(&naked).len(), 1, "{naked}");
    for (source, chains) in [(&product, 16), (&probe, 1)] {
        assert_eq!(violations(source), Vec::<String>::new(), "{source}");
        assert_eq!(source.matches("fma(").count(), chains, "{source}");
    }
    // Fixed, so that an update of the compiler under us is seen and read before it is accepted.
    let digests = [&product, &probe].map(|source| tune_schema::Digest::of(source.as_bytes()).to_string());
    assert_eq!(digests, GOLDEN, "the generated source changed: read it, then set the digests");
}

/// Digests of the CUDA source of the product and the probe.
const GOLDEN: [&str; 2] = [
    "sha256:7c43fec9a28055b3d4cae9500bffb0c6bf2ac29e13adb6eb5d664763ca182500",
    "sha256:c6a90b856c04c4faadbaade02698cfcdf25b9364033038e34b9e6ed4657ec652",
];
