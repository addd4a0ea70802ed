#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| boot::fuzzing::fuzz_os_release(data));
