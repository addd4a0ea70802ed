#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| boot::fuzzing::fuzz_entry(data));
