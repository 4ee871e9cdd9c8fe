//! Whatever arrives as a command: `RUSTC_BOOTSTRAP=1 cargo fuzz run command -- -max_total_time=600`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lineside::commands::order;
use lineside::commands::verb::Verb;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((_, order)) = order::parse(bytes, "7") {
        let _ = Verb::parse(&order.command, &order.arguments);
    }
});
