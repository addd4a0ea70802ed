#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dpkg::fuzzing::fuzz_tar(data));
