//! Which RSA keys are accepted.

use std::sync::LazyLock;

use openssl::bn::BigNumRef;

use super::KeyAlgorithm;

/// A modulus with a prime factor below this is refused (NIST SP 800-89 5.3.3).
const LEAST_FACTOR: u64 = 752;
/// The largest prime of the fingerprint of CVE-2017-15361.
const LAST_PRINT: u64 = 167;
/// The smallest public exponent, also the generator of the fingerprint.
const GENERATOR: u64 = 65_537;

/// The algorithm of an RSA key; `None` when it is not accepted: a modulus of another length than 2048, 3072 or 4096 bits or one that is
/// known to be weak, or an exponent that is even, below 65537 or longer than 64 bits.
#[must_use]
pub fn rsa_algorithm(modulus: &BigNumRef, exponent: &BigNumRef) -> Option<KeyAlgorithm> {
    let algorithm = match modulus.num_bits() {
        2048 => KeyAlgorithm::Rsa2048,
        3072 => KeyAlgorithm::Rsa3072,
        4096 => KeyAlgorithm::Rsa4096,
        _ => return None,
    };
    let number = |octets: &[u8]| octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
    let exponent = Some(exponent.to_vec()).filter(|octets| octets.len() <= 8).map(|octets| number(&octets))?;
    (exponent >= GENERATOR && exponent % 2 == 1 && !is_weak(&modulus.to_vec())).then_some(algorithm)
}

/// A prime that moduli are divided by.
struct Prime {
    value: u64,
    /// Which residues are powers of the generator; empty for primes outside the fingerprint.
    powers: Vec<bool>,
}

/// Products of primes that fit a word, and the primes: one long division for several of them.
static PRIMES: LazyLock<Vec<(u64, Vec<Prime>)>> = LazyLock::new(|| {
    let is_prime = |n: &u64| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    let mut products: Vec<(u64, Vec<Prime>)> = Vec::new();
    for value in (2..LEAST_FACTOR).filter(is_prime) {
        let prime = Prime { value, powers: if value <= LAST_PRINT { powers(value) } else { Vec::new() } };
        match products.last_mut() {
            Some((product, primes)) if product.checked_mul(value).is_some() => {
                *product *= value;
                primes.push(prime);
            }
            _ => products.push((value, vec![prime])),
        }
    }
    products
});

fn powers(prime: u64) -> Vec<bool> {
    let mut found: Vec<bool> = (0..prime).map(|_| false).collect();
    let mut power = 1;
    while let Some(new) = usize::try_from(power).ok().and_then(|at| found.get_mut(at)).filter(|seen| !**seen) {
        *new = true;
        power = power * (GENERATOR % prime) % prime;
    }
    found
}

/// Whether a modulus (big-endian) has a small factor, or looks as those of CVE-2017-15361 do ("The Return of Coppersmith's Attack", CCS
/// 2017): their primes are powers of 65537 modulo every small prime, so that the modulus is one, too. One sound modulus in two
/// hundred million looks like that.
fn is_weak(modulus: &[u8]) -> bool {
    let mut printed = true;
    for (product, primes) in PRIMES.iter() {
        let rest = remainder(modulus, *product);
        for prime in primes {
            let residue = rest % prime.value;
            if residue == 0 {
                return true;
            }
            printed &= usize::try_from(residue).ok().and_then(|at| prime.powers.get(at)).is_none_or(|power| *power);
        }
    }
    printed
}

fn remainder(number: &[u8], divisor: u64) -> u64 {
    let rest = number.rchunks(8).rev().fold(0u128, |rest, word| {
        let value = word.iter().fold(0, |value, octet| value << 8 | u128::from(*octet));
        (rest << 64 | value) % u128::from(divisor)
    });
    u64::try_from(rest).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::bn::{BigNum, BigNumContext, MsbOption};
    use openssl::rsa::Rsa;

    fn accepted(modulus: &BigNumRef, exponent: u64) -> Option<KeyAlgorithm> {
        rsa_algorithm(modulus, &BigNum::from_slice(&exponent.to_be_bytes()).unwrap())
    }

    /// A prime of 1024 bits as the flawed library made them: `k * M + (65537^a mod M)`.
    fn printed_prime() -> BigNum {
        let mut context = BigNumContext::new().unwrap();
        let mut product = BigNum::from_u32(1).unwrap();
        for prime in PRIMES.iter().flat_map(|(_, primes)| primes).filter(|prime| prime.value <= LAST_PRINT) {
            product.mul_word(u32::try_from(prime.value).unwrap()).unwrap();
        }
        let [mut exponent, mut power, mut factor, mut rest] = [(); 4].map(|()| BigNum::new().unwrap());
        loop {
            exponent.rand(60, MsbOption::ONE, false).unwrap();
            power.mod_exp(&BigNum::from_u32(65_537).unwrap(), &exponent, &product, &mut context).unwrap();
            factor.rand(1024, MsbOption::TWO_ONES, false).unwrap();
            rest.nnmod(&factor, &product, &mut context).unwrap();
            let prime = &(&factor - &rest) + &power;
            if prime.is_prime_fasttest(10, &mut context, true).unwrap() {
                return prime;
            }
        }
    }

    #[test]
    fn sound_keys_of_the_usual_lengths_are_accepted() {
        for (bits, algorithm) in [(2048, KeyAlgorithm::Rsa2048), (3072, KeyAlgorithm::Rsa3072)] {
            for _ in 0..4 {
                let key = Rsa::generate(bits).unwrap();
                assert_eq!(rsa_algorithm(key.n(), key.e()), Some(algorithm));
            }
        }
        assert_eq!(accepted(Rsa::generate(1024).unwrap().n(), 65_537), None);
    }

    #[test]
    fn an_exponent_is_odd_and_of_17_to_64_bits() {
        let key = Rsa::generate(2048).unwrap();
        for (exponent, good) in
            [(1, false), (3, false), (65_535, false), (65_536, false), (65_537, true), (65_538, false), (u64::MAX, true)]
        {
            assert_eq!(accepted(key.n(), exponent).is_some(), good, "{exponent}");
        }
        let mut long = BigNum::from_u32(1).unwrap();
        long.lshift(&BigNum::from_u32(1).unwrap(), 64).unwrap();
        long.add_word(1).unwrap();
        assert_eq!(rsa_algorithm(key.n(), &long), None);
    }

    #[test]
    fn moduli_with_a_small_factor_are_refused() {
        let key = Rsa::generate(2048).unwrap();
        for factor in [2, 3, 5, 65_537 % 752, 167, 173, 743, 751] {
            let mut modulus = key.n().to_owned().unwrap();
            let rest = u32::try_from(modulus.mod_word(factor).unwrap()).unwrap();
            modulus.sub_word(rest).unwrap();
            assert_eq!(accepted(&modulus, 65_537), None, "{factor}");
        }
    }

    #[test]
    fn moduli_of_the_flawed_library_are_refused() {
        let prime = printed_prime();
        for _ in 0..2 {
            let modulus = &prime * &printed_prime();
            assert_eq!((modulus.num_bits(), accepted(&modulus, 65_537)), (2048, None));
        }
        // One such factor alone does not make the print.
        let other = Rsa::generate(2048).unwrap();
        let modulus = &prime * other.p().unwrap();
        assert_eq!((modulus.num_bits(), accepted(&modulus, 65_537)), (2048, Some(KeyAlgorithm::Rsa2048)));
    }

    /// Microseconds for each modulus: run with `--ignored --nocapture`.
    #[test]
    #[ignore = "a measurement, for a machine with nothing else to do"]
    fn what_looking_costs() {
        const ROUNDS: u32 = 1000;
        for bits in [2048, 4096] {
            let modulus = Rsa::generate(bits).unwrap().n().to_vec();
            assert!(!is_weak(&modulus));
            let start = std::time::Instant::now();
            for _ in 0..ROUNDS {
                assert!(!is_weak(std::hint::black_box(&modulus)));
            }
            eprintln!("{bits} bits: {:?}", start.elapsed() / ROUNDS);
        }
    }
}
