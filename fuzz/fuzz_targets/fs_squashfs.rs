#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fs::fuzzing::fuzz_squashfs(data));
