#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| debian::fuzzing::fuzz_version(data));
