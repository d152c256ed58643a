//! Every message, at every version: against the crate `kafka-protocol` (generated from Kafka's
//! schemas, written by others), and against bytes that lie.
//!
//! `WEIR_SEED=n` runs another seed than today's; it is in every failure's text.

#![allow(clippy::print_stdout)] // The seed of a run must be seen.

use std::fmt::Debug;
use std::panic::{catch_unwind, AssertUnwindSafe};

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message, Request as OracleRequest};

use super::sample::{Random, Sample};
use super::Request;
use crate::primitive::{Decoder, Encoder, Layout, Wire};
use crate::{ApiKey, DecodeError};

const SEED_DEFAULT: u64 = 20_250_902;

/// Samples of each message at each version.
const SAMPLES: usize = 12;

/// What a test does with one message type at one version.
trait Visitor {
    fn visit<T, O>(&mut self, case: Case)
    where
        T: Wire + Sample + Default + PartialEq + Debug,
        O: Message + Encodable + Decodable + Debug;
}

#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    api_key: ApiKey,
    version: i16,
    seed: u64,
}

impl Case {
    fn random(self, index: usize) -> Random {
        Random::new(
            self.seed
                ^ (self.api_key.get() as u64) << 40
                ^ (self.version as u64) << 20
                ^ index as u64,
        )
    }

    fn sample<T: Sample>(self, random: &mut Random) -> T {
        let flexible = self.api_key.is_flexible(self.version);
        T::sample(random, Layout { version: self.version, flexible, nullable: false })
    }
}

fn visit_all(visitor: &mut impl Visitor) {
    let seed =
        std::env::var("WEIR_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(SEED_DEFAULT);
    println!("WEIR_SEED={seed}");
    macro_rules! visit {
        ($($module:ident::$request:ident;)+) => {$(
            visit_api::<super::$module::$request, kafka_protocol::messages::$request>(visitor, seed);
        )+};
    }
    for_each_request!(visit);
}

fn visit_api<R, O>(visitor: &mut impl Visitor, seed: u64)
where
    R: Request + Sample + Default + PartialEq + Debug,
    R::Response: Sample + Default + PartialEq + Debug,
    O: OracleRequest + Message + Encodable + Decodable + Debug,
    O::Response: Message + Encodable + Decodable + Debug,
{
    for version in R::VERSIONS {
        let case = |name| Case { name, api_key: R::API_KEY, version, seed };
        visitor.visit::<R, O>(case("request"));
        visitor.visit::<R::Response, O::Response>(case("response"));
    }
}

fn encode<T: Wire>(message: &T, version: i16) -> Bytes {
    let mut encoder = Encoder::new();
    message.encode(&mut encoder, version);
    encoder.finish().unwrap().freeze()
}

fn decode<T: Wire>(bytes: &Bytes, version: i16) -> Result<T, DecodeError> {
    let mut decoder = Decoder::new(bytes.clone());
    let message = T::decode(&mut decoder, version)?;
    decoder.finish()?;
    Ok(message)
}

#[test]
fn every_message_agrees_with_the_oracle_both_ways() {
    #[derive(Default)]
    struct Golden {
        checked: usize,
        unknown_to_oracle: Vec<(ApiKey, &'static str, i16)>,
    }
    impl Visitor for Golden {
        fn visit<T, O>(&mut self, case: Case)
        where
            T: Wire + Sample + Default + PartialEq + Debug,
            O: Message + Encodable + Decodable + Debug,
        {
            let version = case.version;
            let known = O::VERSIONS.min <= version && version <= O::VERSIONS.max;
            if !known {
                self.unknown_to_oracle.push((case.api_key, case.name, version));
            }
            for index in 0..SAMPLES {
                // The first sample is the default: what everybody leaves out must agree too.
                let ours = if index == 0 {
                    default_at::<T>(version)
                } else {
                    case.sample(&mut case.random(index))
                };
                let bytes = encode(&ours, version);
                assert_eq!(decode::<T>(&bytes, version).as_ref(), Ok(&ours), "{case:?}");
                if known {
                    let mut rest = bytes.clone();
                    let theirs = O::decode(&mut rest, version)
                        .unwrap_or_else(|e| panic!("{case:?} {e} {ours:#?}"));
                    assert!(
                        rest.is_empty(),
                        "{case:?}: oracle leaves {} bytes of {ours:#?}",
                        rest.len()
                    );
                    let mut again = BytesMut::new();
                    theirs
                        .encode(&mut again, version)
                        .unwrap_or_else(|e| panic!("{case:?} {e} {ours:#?}"));
                    assert_eq!(again, bytes, "{case:?} {ours:#?} {theirs:#?}");
                    self.checked += 1;
                }
            }
        }
    }
    let mut golden = Golden::default();
    visit_all(&mut golden);
    println!(
        "{} frames agree; not known to the oracle: {:?}",
        golden.checked, golden.unknown_to_oracle
    );
    assert!(golden.checked > 4_000, "the oracle saw only {}", golden.checked);
}

/// A message read at one version and written at another shows the defaults of the fields that the first
/// version lacks, at every depth.
#[test]
fn defaults_of_missing_fields_agree_with_the_oracle() {
    #[derive(Default)]
    struct Transcoded {
        checked: usize,
    }
    impl Visitor for Transcoded {
        fn visit<T, O>(&mut self, case: Case)
        where
            T: Wire + Sample + Default + PartialEq + Debug,
            O: Message + Encodable + Decodable + Debug,
        {
            let Case { api_key, version, .. } = case;
            for index in 0..SAMPLES {
                let sample: T = case.sample(&mut case.random(index));
                let mut bytes = encode(&sample, version);
                let ours: T = decode(&bytes, version).unwrap();
                let theirs = O::decode(&mut bytes, version).unwrap();
                for other in O::VERSIONS.min..=O::VERSIONS.max.min(*api_key.versions().end()) {
                    let mut expected = BytesMut::new();
                    let mut encoder = Encoder::new();
                    ours.encode(&mut encoder, other);
                    // The oracle refuses to drop fields that Kafka does not call ignorable; we drop.
                    if let (Ok(bytes), Ok(())) =
                        (encoder.finish(), theirs.encode(&mut expected, other))
                    {
                        assert_eq!(bytes, expected, "{case:?} as {other} {ours:#?} {theirs:#?}");
                        self.checked += 1;
                    }
                }
            }
        }
    }
    let mut transcoded = Transcoded::default();
    visit_all(&mut transcoded);
    println!("{} frames agree", transcoded.checked);
    assert!(transcoded.checked > 10_000, "the oracle wrote only {}", transcoded.checked);
}

/// The default, if it can be written at all in this version (Kafka's can everywhere).
fn default_at<T: Wire + Default>(version: i16) -> T {
    // Fields that the version lacks come back as defaults, so this is the default itself.
    decode(&encode(&T::default(), version), version).unwrap()
}

#[test]
fn every_truncated_message_is_an_error() {
    struct Truncated;
    impl Visitor for Truncated {
        fn visit<T, O>(&mut self, case: Case)
        where
            T: Wire + Sample + Default + PartialEq + Debug,
            O: Message + Encodable + Decodable + Debug,
        {
            let ours: T = case.sample(&mut case.random(0));
            let bytes = encode(&ours, case.version);
            for len in 0..bytes.len().min(600) {
                assert!(
                    decode::<T>(&bytes.slice(..len), case.version).is_err(),
                    "{case:?} {len} {ours:#?}"
                );
            }
        }
    }
    visit_all(&mut Truncated);
}

/// The attack that makes `kafka-protocol` 0.18 ask for 154 GB.
#[test]
fn a_body_that_is_only_a_count_of_2_147_483_647_is_an_error() {
    struct Lies;
    impl Visitor for Lies {
        fn visit<T, O>(&mut self, case: Case)
        where
            T: Wire + Sample + Default + PartialEq + Debug,
            O: Message + Encodable + Decodable + Debug,
        {
            let classic = [0x7f, 0xff, 0xff, 0xff];
            // The varint of 2^31, which says 2^31−1.
            let compact = [0x80, 0x80, 0x80, 0x80, 0x08];
            let flexible = case.api_key.is_flexible(case.version);
            for lie in if flexible { vec![&classic[..], &compact[..]] } else { vec![&classic[..]] }
            {
                let result = decode::<T>(&Bytes::copy_from_slice(lie), case.version);
                assert!(result.is_err(), "{case:?} {result:?}");
            }
        }
    }
    visit_all(&mut Lies);
}

/// Wherever a count or length may stand, it is replaced by one that lies; and bytes are changed at
/// random.
#[test]
fn no_lie_inside_a_message_panics_or_breaks_the_budget() {
    const HEAP_BYTES_MAX: usize = 1 << 16;

    struct Lies;
    impl Lies {
        fn check<T: Wire + PartialEq + Debug>(bytes: &Bytes, case: Case) {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let mut decoder = Decoder::with_heap_bytes_max(bytes.clone(), HEAP_BYTES_MAX);
                if let Ok(message) = T::decode(&mut decoder, case.version) {
                    let again = encode(&message, case.version);
                    // Not `==` of the values: a NaN quota is not equal to itself.
                    let twice = encode(&decode::<T>(&again, case.version).unwrap(), case.version);
                    assert_eq!(twice, again);
                }
            }));
            assert!(outcome.is_ok(), "{case:?} {bytes:?}");
        }
    }
    impl Visitor for Lies {
        fn visit<T, O>(&mut self, case: Case)
        where
            T: Wire + Sample + Default + PartialEq + Debug,
            O: Message + Encodable + Decodable + Debug,
        {
            let mut random = case.random(1_000);
            let ours: T = case.sample(&mut random);
            let bytes = encode(&ours, case.version);
            for position in 0..bytes.len().min(200) {
                for lie in [
                    &[0x7f, 0xff, 0xff, 0xff][..],
                    &[0x00, 0x00, 0xff, 0xff],
                    &[0xff, 0xff, 0xff, 0xff, 0x07],
                ] {
                    let mut lying = BytesMut::from(&bytes[..]);
                    for (slot, byte) in lying[position..].iter_mut().zip(lie) {
                        *slot = *byte;
                    }
                    Self::check::<T>(&lying.freeze(), case);
                }
            }
            for _ in 0..20 {
                let mut noisy = BytesMut::from(&bytes[..]);
                for _ in 0..=random.below(3) {
                    if !noisy.is_empty() {
                        let position = random.below(noisy.len());
                        noisy[position] = random.next() as u8;
                    }
                }
                Self::check::<T>(&noisy.freeze(), case);
            }
        }
    }
    visit_all(&mut Lies);
}

#[test]
fn versions_outside_the_range_are_refused_both_ways() {
    fn check<R: Request + Default>() {
        for version in [R::VERSIONS.start() - 1, R::VERSIONS.end() + 1, i16::MAX, i16::MIN] {
            let refused = DecodeError::UnsupportedVersion { api_key: R::API_KEY, version };
            assert_eq!(decode::<R>(&Bytes::new(), version).err(), Some(refused));
            let mut encoder = Encoder::new();
            R::default().encode(&mut encoder, version);
            assert!(encoder.finish().is_err());
        }
        // What is advertised is read, but for Produce 0 to 2 (KAFKA-18659).
        let first = if R::API_KEY == ApiKey::Produce { 3 } else { *R::API_KEY.versions().start() };
        assert_eq!(R::VERSIONS, first..=*R::API_KEY.versions().end(), "{}", R::API_KEY);
    }
    macro_rules! check_all {
        ($($module:ident::$request:ident;)+) => { $(check::<super::$module::$request>();)+ };
    }
    for_each_request!(check_all);
}
