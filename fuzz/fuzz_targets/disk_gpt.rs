#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| disk::fuzzing::fuzz_gpt(data));
