//! What `tests/devices.rs` cannot reach through the public interface.

mod source;

use cubecl::prelude::*;
use cubecl::wgpu::WgpuRuntime;

use super::{device, probe};

#[path = "../../../tests/support/adapter.rs"]
mod adapter;

/// A client of the adapter under test.
fn client() -> Option<ComputeClient<WgpuRuntime>> {
    let adapter = adapter::under_test(device::wgpu_adapters(), |adapter| adapter.software);
    adapter.map(|adapter| super::client(&adapter.device))
}

#[test]
fn the_probe_knows_what_the_device_does() {
    let Some(client) = client() else { return };
    let report = probe::probe(&client).expect("a report");
    // `fma` is one of the two, and the operands tell them apart.
    assert!((report.fma_not_fused == 0) != (report.fma_not_unfused == 0), "{report:?}");
    assert_eq!(report.reasons().is_empty(), report.fma_not_fused == 0, "{:?}", report.reasons());
    let rest = [report.division, report.square_root, report.multiplication, report.integers];
    assert_eq!(([0; 4], 0, 0), (rest, report.elementary, report.product), "{report:?}");
}
