use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use proptest::prelude::*;

use super::*;

fn der(pem: &str) -> Vec<u8> {
    let lines: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(lines).unwrap()
}

/// The names are what Java 17 prints for these files (`X500Principal.getName()`).
#[test]
fn names_are_those_of_java() {
    let names = [
        (include_str!("../../../tests/tls/server.pem"), "CN=localhost"),
        (
            include_str!("../../../tests/tls/client.pem"),
            r"CN=pump-7,OU=\#Pümpen,L=Ulm+OU=Plant\;7,O=Acme\, Inc.,C=DE",
        ),
        (
            include_str!("../../../tests/tls/odd.pem"),
            r"CN=\ x\ ,1.2.840.113549.1.9.1=#160d61406578616d706c652e6f7267,UID=7,DC=example,DC=org",
        ),
    ];
    for (pem, name) in names {
        assert_eq!(subject(&der(pem)).as_deref(), Some(name));
    }
}

#[test]
fn no_prefix_of_a_certificate_has_a_name() {
    let certificate = der(include_str!("../../../tests/tls/client.pem"));
    for len in 0..certificate.len() {
        assert_eq!(subject(&certificate[..len]), None, "{len} bytes");
    }
}

proptest! {
    #[test]
    fn damaged_certificates_have_a_name_or_none(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut certificate = der(include_str!("../../../tests/tls/odd.pem"));
        for (at, byte) in changes {
            let at = at.index(certificate.len());
            certificate[at] = byte;
        }
        let name = subject(&certificate);
        prop_assert!(name.is_none_or(|name| name.len() < 4 * certificate.len()));
    }
}
