#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tune_fuzz::rows(data));
