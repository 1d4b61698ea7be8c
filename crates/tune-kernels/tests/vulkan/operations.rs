//! Every operation on a Vulkan adapter, software before hardware, equals the scalar reference bit for bit, with the
//! device's own kind of `fma`.

use tune_kernels::compare::compare;
use tune_kernels::cube::device::wgpu_adapters;
use tune_kernels::cube::{Wgpu, WgpuRuntime};
use tune_kernels::reference::{Fused, Unfused};

use crate::adapter;

#[test]
fn every_operation_equals_the_reference() {
    let Some(adapter) = adapter::under_test(wgpu_adapters(), |adapter| adapter.software) else { return };
    let fused = adapter.probe::<WgpuRuntime>().expect("a report").fma_not_fused == 0;
    let device = &adapter.device;
    let compare = |fused: bool, shapes| {
        if fused { compare::<Wgpu, Fused>(device, shapes) } else { compare::<Wgpu, Unfused>(device, shapes) }
    };
    for comparison in compare(fused, 40) {
        assert_eq!(comparison.difference, None, "{comparison:?}");
        assert!(comparison.values > 10_000, "{comparison:?}");
    }
    // The comparison sees one rounding more or less, wherever an operation has an `fma`.
    for comparison in compare(!fused, 11) {
        assert!(comparison.difference.is_some(), "{comparison:?}");
    }
}
