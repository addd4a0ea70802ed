#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| image::fuzzing::fuzz_qcow2(data));
