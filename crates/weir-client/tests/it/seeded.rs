//! Runs by a seed, in virtual time.

use std::future::Future;
use std::time::Duration;

/// The longest that a run may take of virtual time.
const LIMIT: Duration = Duration::from_secs(3_600);

/// xorshift64: the same seed gives the same run.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}

/// Runs seeds from 1 on: `PROPTEST_CASES` says how many (`cases` if it does not), and `WEIR_SEED` that only this one.
pub(crate) fn for_seeds<F: Future<Output = ()>>(cases: u64, run: impl Fn(u64) -> F) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("WEIR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("PROPTEST_CASES").unwrap_or(cases),
    };
    for seed in seeds {
        // Shown only when it fails.
        println!("seed {seed}");
        in_virtual_time(async {
            let ended = tokio::time::timeout(LIMIT, run(seed)).await;
            assert!(ended.is_ok(), "seed {seed}: not done in {LIMIT:?} of virtual time");
        });
    }
}

/// Runs it on one thread, whose clock stands while anything is to be done.
pub(crate) fn in_virtual_time<T>(run: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(run)
}
