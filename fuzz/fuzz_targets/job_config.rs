#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| etcd_release::foreign::job_config(bytes));
