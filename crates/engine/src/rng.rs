//! Random numbers of the sampler: the same seed gives the same numbers on every platform.
//!
//! xoshiro256++ 1.0 seeded through SplitMix64, as its authors advise (Blackman and Vigna, "Scrambled
//! Linear Pseudorandom Number Generators", ACM TOMS 2021, arXiv:1805.01407). Written out because a
//! seed is a promise that no dependency's next version may break.

/// A generator of its own for every sequence.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut mix = seed;
        let mut next = || {
            mix = mix.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (mix ^ (mix >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        Self { state: [next(), next(), next(), next()] }
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `[0, 1)`, in steps of 2^-53.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A seed for a request that named none: from the standard library's per-process random keys.
    pub fn fresh_seed() -> u64 {
        use std::hash::{BuildHasher, Hasher};
        // 53 bits, so that the seed survives a trip through JSON readers that hold numbers as f64.
        std::collections::hash_map::RandomState::new().build_hasher().finish() >> 11
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xoshiro_gives_the_numbers_of_its_reference() {
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let expected = [
            41943041,
            58720359,
            3588806011781223,
            3591011842654386,
            9228616714210784205,
            9973669472204895162,
            14011001112246962877,
            12406186145184390807,
        ];
        assert_eq!(expected.map(|_| rng.next_u64()), expected);
    }

    #[test]
    fn splitmix_gives_the_numbers_of_its_reference() {
        assert_eq!(Rng::new(1477776061723855037).state[..2], [1985237415132408290, 2979275885539914483]);
    }

    #[test]
    fn uniform_numbers_stay_below_one_and_are_even() {
        let mut rng = Rng::new(7);
        let mut buckets = [0u32; 10];
        for _ in 0..100_000 {
            let u = rng.next_f64();
            assert!((0.0..1.0).contains(&u));
            buckets[(u * 10.0) as usize] += 1;
        }
        assert!(buckets.iter().all(|&n| (9_600..10_400).contains(&n)), "{buckets:?}");
    }
}
