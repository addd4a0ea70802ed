#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| os::fuzzing::fuzz_tmpfiles(data));
