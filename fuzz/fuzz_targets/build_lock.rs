#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| build::archive::fuzzing::fuzz_lock(data));
