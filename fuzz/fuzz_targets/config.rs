//! A config.json of any architecture, to a spec.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = fuzz::file("config.json", data);
    let Ok(checkpoint) = models::Checkpoint::open_config(&path) else { return };
    let Ok(spec) = checkpoint.spec() else { return };
    let _ = (spec.cache_numbers(), spec.active_parameters(), spec.both_ways());
    let _ = [1, 100, usize::MAX].map(|length| spec.rope_regime(length));
});
