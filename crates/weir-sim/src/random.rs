//! Random numbers that are the same for a seed, in as many independent streams as there are devices.
//!
//! SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014):
//! the state is a counter, its output a mix of it. A stream starts at the mix of seed and stream
//! number, so a device draws the same numbers whatever the others do and in whatever order they run.

use std::sync::LazyLock;

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// One stream.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Stream `stream` of `seed`.
    pub const fn new(seed: u64, stream: u64) -> Self {
        Self { state: mix(seed ^ mix(stream.wrapping_add(GAMMA))) }
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Uniform in 0 (included) to 1 (not included).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// Uniform in `0..count`, by a multiplication (Lemire 2019); its bias is below 2^-32 for small counts.
    ///
    /// # Panics
    /// If `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        assert!(count > 0, "nothing to choose from");
        ((u128::from(self.bits()) * count as u128) >> 64) as usize
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Standard normal, by Marsaglia's polar method.
    pub fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (self.between(-1.0, 1.0), self.between(-1.0, 1.0));
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * square.ln() / square).sqrt();
            }
        }
    }
}

/// Standard normals at a few nanoseconds each: the ziggurat of Marsaglia and Tsang ("The ziggurat method
/// for generating random variables", J. Stat. Soft. 5(8), 2000), 256 layers of equal area, exact tails.
impl Random {
    /// Standard normal, six times as fast as [`Random::normal`]; the numbers are others.
    pub fn gaussian(&mut self) -> f64 {
        let layers: &Layers = &LAYERS;
        loop {
            let bits = self.bits();
            // The layer from the low bits, the place in it from the high ones: no bit serves both.
            let layer = (bits & 0xff) as usize;
            let x = ((bits >> 11) as f64 / (1_u64 << 52) as f64 - 1.0) * layers.edge[layer];
            if x.abs() < layers.edge[layer + 1] {
                return x;
            }
            if layer == 0 {
                return self.beyond(x < 0.0);
            }
            let (high, low) = (layers.density[layer + 1], layers.density[layer]);
            if low + (high - low) * self.unit() < (-0.5 * x * x).exp() {
                return x;
            }
        }
    }

    /// A normal beyond the lowest layer's edge (Marsaglia 1964).
    fn beyond(&mut self, negative: bool) -> f64 {
        loop {
            // 1 - u is never 0, so its logarithm is finite.
            let x = -(1.0 - self.unit()).ln() / EDGE;
            let y = -(1.0 - self.unit()).ln();
            if y + y > x * x {
                return if negative { -(EDGE + x) } else { EDGE + x };
            }
        }
    }
}

/// Where the tail begins, and the area of each of the 256 layers: the pair that closes the ziggurat.
const EDGE: f64 = 3.654_152_885_361_009;
const LAYER_AREA: f64 = 0.004_928_673_233_974_655;

struct Layers {
    edge: [f64; 257],
    density: [f64; 257],
}

static LAYERS: LazyLock<Layers> = LazyLock::new(|| {
    let density_at = |x: f64| (-0.5 * x * x).exp();
    let (mut edge, mut density) = ([0.0; 257], [1.0; 257]);
    // The lowest layer is as wide as its area makes it with the tail counted in.
    edge[0] = LAYER_AREA / density_at(EDGE);
    edge[1] = EDGE;
    for layer in 1..256 {
        let next = LAYER_AREA / edge[layer] + density_at(edge[layer]);
        // The topmost reaches 1 but for rounding.
        edge[layer + 1] = if layer == 255 { 0.0 } else { (-2.0 * next.ln()).sqrt() };
    }
    for layer in 0..257 {
        density[layer] = density_at(edge[layer]);
    }
    Layers { edge, density }
});

/// Mixes 64 bits so that each depends on each: SplitMix64's output function.
pub const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_its_published_numbers() {
        // State 1234567, as in the reference implementation's test vector.
        let mut random = Random { state: 1_234_567 };
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_deviation_one() {
        let mut random = Random::new(7, 0);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..100_000 {
            let value = random.normal();
            sum += value;
            squares += value * value;
        }
        // Five standard errors: 5/sqrt(n) for the mean, 5*sqrt(2/n) for the variance.
        assert!((sum / 1e5_f64).abs() < 0.016, "{}", sum / 1e5);
        assert!((squares / 1e5_f64 - 1.0).abs() < 0.0224, "{}", squares / 1e5);
    }

    #[test]
    fn gaussians_have_the_moments_and_the_tails_of_the_normal() {
        let mut random = Random::new(8, 0);
        let count = 400_000;
        let values: Vec<f64> = (0..count).map(|_| random.gaussian()).collect();
        let moment =
            |power: i32| values.iter().map(|x| x.powi(power)).sum::<f64>() / f64::from(count);
        // Five standard errors of each moment: var(x^k) = E x^2k - (E x^k)^2.
        for (power, expected, variance) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)]
        {
            let error = 5.0 * f64::sqrt(variance / f64::from(count));
            assert!((moment(power) - expected).abs() < error, "{power}: {}", moment(power));
        }
        // Beyond the lowest layer's edge lie 2.58 in 10,000, which only the tail can make.
        let beyond = values.iter().filter(|x| x.abs() > EDGE).count();
        assert!((60..150).contains(&beyond), "{beyond} of about 103");
        assert!(values.iter().any(|x| *x > 4.2) && values.iter().any(|x| *x < -4.2));
    }

    #[test]
    fn streams_differ() {
        let first: Vec<u64> = (0..100).map(|stream| Random::new(1, stream).bits()).collect();
        let mut sorted = first.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), first.len());
    }
}
