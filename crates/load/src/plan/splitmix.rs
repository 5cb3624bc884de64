//! SplitMix64: a mixer of 64 bits with its inverse, and the generator of pseudorandom numbers made
//! of it (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).

/// Mixes the bits of a word. No two words give the same result; [`unmix`] is the inverse.
#[must_use]
pub fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Returns the word that [`mix`] turns into this one.
#[must_use]
pub fn unmix(mut word: u64) -> u64 {
    word = (word ^ (word >> 31) ^ (word >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    word = (word ^ (word >> 27) ^ (word >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    word ^ (word >> 30) ^ (word >> 60)
}

/// A generator of pseudorandom numbers. Equal seeds give equal numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Creates the generator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0xd129_42dc_8df2_55bd) ^ 0x6a09_e667_f3bc_c909)
    }

    /// Returns the next number, uniform over all 64 bits.
    pub fn next_word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number above 0 and at most 1, uniform.
    fn unit(&mut self) -> f64 {
        ((self.next_word() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Returns a number from the exponential distribution with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmix_is_the_inverse_of_mix() {
        for word in (0..1000).map(|number| mix(number << 31 | number)).chain([0, 1, u64::MAX]) {
            assert_eq!(unmix(mix(word)), word);
        }
    }
}
