//! [`subject`]: the name in a certificate, as `X500Principal.getName()` of Java writes it (RFC 2253), which is how Kafka
//! names who came with a certificate: `CN=pump-7,OU=Plant,O=Acme,C=DE`.
//!
//! Looks at certificates that TLS has accepted. Reads DER no further than the bytes there are, and allocates no more than
//! the name takes.

use std::fmt::Write as _;

/// Tags of DER (X.690).
const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// The attributes that have a name of their own in RFC 2253, by the bytes of their object ids.
const NAMES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// One value: its tag, what is in it, and all of its bytes.
#[derive(Debug, Clone, Copy)]
struct Value<'a> {
    tag: u8,
    content: &'a [u8],
    all: &'a [u8],
}

/// Takes the next value off `der`.
fn next<'a>(der: &mut &'a [u8]) -> Option<Value<'a>> {
    let all = *der;
    let (tag, rest) = all.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        // Longer ones than 4 bytes are no certificate's.
        long @ 0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (len.iter().fold(0, |len, byte| (len << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    *der = rest;
    Some(Value { tag: *tag, content, all: &all[..all.len() - rest.len()] })
}

fn expect<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    next(der).filter(|value| value.tag == tag).map(|value| value.content)
}

/// The subject of a certificate in DER; `None` if it has none that can be read.
#[must_use]
pub fn subject(certificate: &[u8]) -> Option<String> {
    let mut outer = certificate;
    let mut certificate = expect(&mut outer, SEQUENCE)?;
    let mut body = expect(&mut certificate, SEQUENCE)?;
    // version, serial number, signature algorithm, issuer, validity, subject (RFC 5280, 4.1).
    let mut value = next(&mut body)?;
    if value.tag == VERSION {
        value = next(&mut body)?;
    }
    if value.tag != INTEGER {
        return None;
    }
    for _ in 0..3 {
        expect(&mut body, SEQUENCE)?;
    }
    let mut names = expect(&mut body, SEQUENCE)?;
    let mut written = Vec::new();
    while !names.is_empty() {
        let mut set = expect(&mut names, SET)?;
        let mut parts = Vec::new();
        while !set.is_empty() {
            parts.push(attribute(expect(&mut set, SEQUENCE)?)?);
        }
        written.push(parts.join("+"));
    }
    // The most particular comes last in a certificate and first in a name.
    written.reverse();
    Some(written.join(","))
}

fn attribute(mut pair: &[u8]) -> Option<String> {
    let id = expect(&mut pair, OBJECT_ID)?;
    let value = next(&mut pair)?;
    let known = NAMES.iter().find(|(bytes, _)| *bytes == id).map(|(_, name)| *name);
    Some(match (known, text(value)) {
        (Some(name), Some(text)) => format!("{name}={}", escaped(&text)),
        (Some(name), None) => format!("{name}=#{}", hex(value.all)),
        // Java writes the value of one it has no name for as its bytes.
        (None, _) => format!("{}=#{}", dotted(id)?, hex(value.all)),
    })
}

fn text(value: Value<'_>) -> Option<String> {
    match value.tag {
        // UTF8String, PrintableString, IA5String.
        0x0c | 0x13 | 0x16 => String::from_utf8(value.content.to_vec()).ok(),
        // TeletexString, in practice Latin 1.
        0x14 => Some(value.content.iter().map(|byte| char::from(*byte)).collect()),
        // BMPString.
        0x1e => {
            let units = value.content.chunks(2);
            let units = units.map(|unit| unit.iter().fold(0, |u, b| (u << 8) | u16::from(*b)));
            String::from_utf16(&units.collect::<Vec<u16>>()).ok()
        }
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, letter) in text.chars().enumerate() {
        let at_edge = at == 0 || at == last;
        let escapes = matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (letter == ' ' && at_edge)
            || (letter == '#' && at == 0);
        if escapes {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `1.2.840.113549.1.9.1`
fn dotted(id: &[u8]) -> Option<String> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number = 0_u64;
    for byte in id {
        number = number.checked_mul(128)? | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            numbers.push(std::mem::take(&mut number));
        }
    }
    let first = *numbers.first()?;
    let root = (first / 40).min(2);
    let mut out = format!("{root}.{}", first - root * 40);
    for number in &numbers[1..] {
        let _ = write!(out, ".{number}");
    }
    Some(out)
}

#[cfg(test)]
mod tests;
