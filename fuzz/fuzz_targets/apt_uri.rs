#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| apt::fuzzing::fuzz_uri(data));
