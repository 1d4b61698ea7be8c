//! The Vulkan adapter that tests compare with the CPU. Included by the tests of more than one crate.

/// Software before hardware. Without an adapter nothing is compared, which `TUNE_TEST_GPU=1` turns into a failure.
pub(crate) fn under_test<A>(mut adapters: Vec<A>, software: impl Fn(&A) -> bool) -> Option<A> {
    adapters.sort_by_key(|adapter| !software(adapter));
    let first = adapters.into_iter().next();
    if first.is_none() {
        assert!(std::env::var_os("TUNE_TEST_GPU").is_none(), "TUNE_TEST_GPU asks for a Vulkan adapter; there is none");
        #[allow(clippy::print_stderr, reason = "a test that compares nothing says so")]
        {
            eprintln!("NOT COMPARED: no Vulkan adapter; mesa-vulkan-drivers brings one in software");
        }
    }
    first
}
