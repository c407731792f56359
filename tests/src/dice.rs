//! Dice: a small generator of our own, so that the same seed makes the same choices wherever the tests run.

/// Numbers nobody chose.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that roll the same for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % limit
    }

    /// Whether something happens that happens so many times in a hundred.
    pub fn percent(&mut self, times: u8) -> bool {
        self.below(100) < u64::from(times)
    }

    /// One of these.
    ///
    /// # Panics
    /// When there is none.
    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let choice = self.below(choices.len() as u64);
        &choices[usize::try_from(choice).expect("an index")]
    }
}

/// Printed, and taken from `APPLIANCE_SEED` to see a run's choices again (its timing can not be).
#[must_use]
pub fn seed() -> u64 {
    let given = std::env::var("APPLIANCE_SEED").ok().and_then(|text| text.parse().ok());
    let now = || {
        std::time::UNIX_EPOCH.elapsed().map_or(0, |since| u64::from(since.subsec_nanos()) ^ since.as_secs())
    };
    let seed = given.unwrap_or_else(now);
    eprintln!("APPLIANCE_SEED={seed}");
    seed
}
