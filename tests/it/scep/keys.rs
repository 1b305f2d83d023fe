//! Keys that nobody gets a certificate for.

use openssl::bn::{BigNum, BigNumContext, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Rsa, RsaPrivateKeyBuilder};

use muster::wire::pkcs10::Wish;
use muster::wire::scep::{FailInfo, MessageType};

use super::{Answer, Device, grant, issued, mint, reason, rsa, start};
use crate::support::server::Options;

const BAD_REQUEST: Result<Vec<u8>, Answer> = Err(Answer::Failure(FailInfo::BadRequest));

/// A key that leaves everything as it is.
fn of_exponent_one() -> PKey<Private> {
    let one = || BigNum::from_u32(1).unwrap();
    let modulus = Rsa::generate(2048).unwrap().n().to_owned().unwrap();
    PKey::from_rsa(RsaPrivateKeyBuilder::new(modulus, one(), one()).unwrap().build()).unwrap()
}

/// A prime as the library of CVE-2017-15361 made them: `k * M + (65537^a mod M)`, where M is the product of the first 39 primes.
fn flawed_prime(exponent: &BigNum, context: &mut BigNumContext) -> BigNum {
    let mut product = BigNum::from_u32(1).unwrap();
    for prime in (2..=167).filter(|n| (2..*n).all(|d| n % d != 0)) {
        product.mul_word(prime).unwrap();
    }
    let [mut power, mut random, mut factor, mut rest] = [(); 4].map(|()| BigNum::new().unwrap());
    loop {
        random.rand(60, MsbOption::ONE, false).unwrap();
        power.mod_exp(exponent, &random, &product, context).unwrap();
        factor.rand(1024, MsbOption::TWO_ONES, false).unwrap();
        rest.nnmod(&factor, &product, context).unwrap();
        let prime = &(&factor - &rest) + &power;
        if prime.is_prime_fasttest(20, context, true).unwrap() {
            return prime;
        }
    }
}

/// A whole key of that library.
fn flawed() -> PKey<Private> {
    let mut context = BigNumContext::new().unwrap();
    let e = BigNum::from_u32(65_537).unwrap();
    let (p, q) = (flawed_prime(&e, &mut context), flawed_prime(&e, &mut context));
    let one = BigNum::from_u32(1).unwrap();
    let mut d = BigNum::new().unwrap();
    d.mod_inverse(&e, &(&(&p - &one) * &(&q - &one)), &mut context).unwrap();
    let key = RsaPrivateKeyBuilder::new(&p * &q, e, d).unwrap().set_factors(p, q).unwrap().build();
    assert!(key.check_key().unwrap());
    PKey::from_rsa(key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_weak_keys_get_nothing() {
    let tweak = Box::new(|config: &mut muster::config::Config| config.scep.renewal_percent = 100);
    let server = start(Options { tweak, ..Options::default() }).await;
    let app = &server.app;
    for (what, key) in [("1024 bits", rsa(1024)), ("exponent 1", of_exponent_one()), ("CVE-2017-15361", flawed())] {
        let challenge = mint(app, grant("PC"), false).await;
        let device = Device::with_key(app, key);
        assert_eq!(device.send(app, &device.csr("PC", &challenge)).await, BAD_REQUEST, "{what}");
        assert_eq!(reason(app).await, "KeyLengthMismatch", "{what}");
    }
    assert_eq!(issued(app).await, 0);
    // Elliptic curves are asked for by those who have a certificate with an RSA key.
    let device = Device::new(app);
    let challenge = mint(app, grant("PC"), false).await;
    let certificate = device.send(app, &device.csr("PC", &challenge)).await.unwrap();
    let mut holder = device.holding(certificate, MessageType::RenewalReq);
    for curve in [Nid::X9_62_PRIME192V1, Nid::SECP256K1, Nid::SECP521R1] {
        let key = PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()).unwrap();
        assert_eq!(holder.ask_for_key(app, "default", &Wish::common_name("PC"), &key).await, BAD_REQUEST);
        assert_eq!(reason(app).await, "KeyLengthMismatch");
    }
    assert_eq!(issued(app).await, 1);
}
