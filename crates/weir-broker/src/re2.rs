//! Patterns of clients in the syntax of RE2/J, which Kafka's brokers use, as a [`Regex`] that takes linear time.
//!
//! The two syntaxes are near to each other. What differs is rewritten: `\Q...\E` (Java's `Pattern.quote` writes it), `\d`, `\s`,
//! `\w` and `\b`, which mean ASCII there, `\<` and `\>`, which are no boundaries there, braces that are no repetition, and the
//! operations on sets that only [`regex`] has. Octal escapes are refused.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

/// How long a pattern may be.
const BYTES_MAX: usize = 4_096;
/// How large its compiled form may be, so that a client takes neither the memory nor the time of others.
const COMPILED_BYTES_MAX: usize = 256 << 10;
/// What it may remember while it searches.
const REMEMBERED_BYTES_MAX: usize = 64 << 10;

/// The pattern that must match a whole text.
///
/// # Errors
/// Words, without an end: why it is none.
///
/// Cost: up to some milliseconds, by its length and its repetitions.
pub(crate) fn whole_match(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > BYTES_MAX {
        return Err(format!("longer than {BYTES_MAX} bytes"));
    }
    let framed = format!("^(?:{})$", rewritten(pattern)?);
    RegexBuilder::new(&framed)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(REMEMBERED_BYTES_MAX)
        .build()
        .map_err(|error| error.to_string().lines().last().unwrap_or_default().to_owned())
}

/// The pattern in the syntax of [`regex`]. What it does not close does not close the frame around it.
fn rewritten(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut depth = 0_usize;
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('Q') => quote(&mut chars, &mut out),
                Some('b') => out.push_str(r"(?-u:\b)"),
                escaped => {
                    escape(escaped, &mut out)?;
                    if matches!(escaped, Some('p' | 'P' | 'x')) && chars.peek() == Some(&'{') {
                        // A name or a number in braces.
                        out.extend(std::iter::from_fn(|| chars.next_if(|char| *char != '}')));
                    }
                }
            },
            '[' => class(&mut chars, &mut out)?,
            '(' => {
                depth += 1;
                check_flags(&chars)?;
                out.push('(');
            }
            ')' => {
                depth = depth.checked_sub(1).ok_or("unopened group")?;
                out.push(')');
            }
            '{' if !is_repetition(&chars) => out.push_str(r"\{"),
            char => out.push(char),
        }
    }
    Ok(out)
}

/// Takes what is quoted, up to its end or that of the pattern.
fn quote(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    while let Some(char) = chars.next() {
        if char == '\\' && chars.next_if_eq(&'E').is_some() {
            return;
        }
        literal(char, out);
    }
}

fn literal(char: char, out: &mut String) {
    if char.is_ascii_punctuation() && !matches!(char, '<' | '>') {
        out.push('\\');
    }
    out.push(char);
}

/// What follows a backslash, in a class or outside.
fn escape(escaped: Option<char>, out: &mut String) -> Result<(), String> {
    match escaped.ok_or("trailing backslash")? {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        's' => out.push_str(r"[\t\n\f\r ]"),
        'S' => out.push_str(r"[^\t\n\f\r ]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        char if char.is_ascii_punctuation() => literal(char, out),
        char => {
            out.push('\\');
            out.push(char);
        }
    }
    Ok(())
}

/// A class in brackets. The first has been taken.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    out.push('[');
    if chars.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    if chars.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    while let Some(char) = chars.next() {
        match char {
            ']' => {
                out.push(']');
                return Ok(());
            }
            '\\' => escape(chars.next(), out)?,
            '[' => match posix(chars) {
                Some(name) => {
                    let _ = write!(out, "[{name}]");
                }
                None => out.push_str(r"\["),
            },
            '&' | '~' => literal(char, out),
            char => out.push(char),
        }
    }
    Err("unclosed character class".to_owned())
}

/// Takes the rest of `[:alpha:]`, if it is one.
fn posix(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let rest = chars.clone().collect::<String>();
    let end = rest.find(":]").filter(|_| rest.starts_with(':'))?;
    let name = &rest[..=end];
    let is_name = |char: char| char.is_ascii_lowercase() || matches!(char, ':' | '^');
    if end == 0 || !name.chars().all(is_name) {
        return None;
    }
    // As many as its text and the bracket behind it.
    chars.by_ref().take(name.len() + 1).for_each(drop);
    Some(name.to_owned())
}

/// `(?flags)` and `(?flags:`: `x` and others are not of RE2, and could hide the end of the frame.
fn check_flags(chars: &Peekable<Chars<'_>>) -> Result<(), String> {
    let mut chars = chars.clone();
    if chars.next() != Some('?') {
        return Ok(());
    }
    let named = chars.clone().collect::<String>();
    if named.starts_with("P<") || named.starts_with('<') {
        return Ok(());
    }
    for char in chars {
        match char {
            ':' | ')' => return Ok(()),
            'i' | 'm' | 's' | 'U' | '-' => {}
            other => return Err(format!("unrecognized flag {other:?}")),
        }
    }
    Err("unclosed group".to_owned())
}

/// Whether what follows a brace makes it `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(chars: &Peekable<Chars<'_>>) -> bool {
    let mut chars = chars.clone();
    let mut digits = 0;
    let mut is_second = false;
    loop {
        match chars.next() {
            Some('0'..='9') => digits += 1,
            Some(',') if !is_second && digits > 0 => is_second = true,
            Some('}') => return digits > 0,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RE2/J 1.8 has it: pattern, what it matches whole, what it does not.
    const CASES: &[(&str, &[&str], &[&str])] = &[
        (r"\Qa.b\E", &["a.b"], &["axb", r"\Qa.b\E"]),
        (r"\Qa.b\E.*", &["a.b", "a.bc"], &["axbc"]),
        (r"\Qa[(|*+?{^$\", &[r"a[(|*+?{^$\"], &["a"]),
        (r"\Q\E", &[""], &["a"]),
        (r"\Qab\E+", &["ab", "abb"], &["abab"]),
        (r"x\Q<a>-_\E", &["x<a>-_"], &["x<a>"]),
        (r"\d+\.\w+", &["12.a_B9"], &["x.a", "1.-", "\u{0663}.a", "1.\u{e9}"]),
        (r"[\d.]+[^\W_]", &["1.2a"], &["1.2_", "1.2."]),
        (r"a\b-b", &["a-b"], &["ab"]),
        (r"a\<b\>", &["a<b>"], &["ab"]),
        ("a{2}b{1,}c{0,1}", &["aabb", "aabc"], &["ab"]),
        ("a{b}{,2}", &["a{b}{,2}"], &["ab"]),
        ("[[:alpha:][:digit:]]+", &["ab1"], &["a-"]),
        ("[[:^alpha:]]", &["1"], &["a"]),
        ("[[a]+", &["[a["], &["b"]),
        ("[a&&b]+", &["a&b"], &["c"]),
        ("[a~~b]+", &["a~b"], &["c"]),
        ("[]a]+", &["a]"], &["b"]),
        ("[^]a]", &["b"], &["]", "a"]),
        (r"[\]\-a]+", &["a]-"], &["b", "\\"]),
        ("(?i)ab(?-i:C)", &["aBC", "abC"], &["abc"]),
        ("(?P<n>a)(?<m>b)(?:c)", &["abc"], &["ab"]),
        ("a|bc", &["a", "bc"], &["abc", "ac"]),
        ("", &[""], &["a"]),
        (r"\pL+\p{Greek}\PN", &["a\u{fc}\u{3b1}x"], &["a\u{fc}x", "1\u{3b1}x"]),
        (r"\x61\x{62}{2}[\x{63}]", &["abbc"], &["abc"]),
        ("\u{fc}.", &["\u{fc}\u{e9}"], &["u"]),
    ];

    #[test]
    fn patterns_mean_what_they_mean_to_re2() {
        for (pattern, matching, others) in CASES {
            let regex = whole_match(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            for text in *matching {
                assert!(regex.is_match(text), "{pattern} matches {text}");
            }
            for text in *others {
                assert!(!regex.is_match(text), "{pattern} does not match {text}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_in_words() {
        let long = "a".repeat(BYTES_MAX + 1);
        for pattern in [
            "(",
            ")",
            "a)|(b",
            "(?=x)",
            "(?!x)",
            "(?<=x)",
            "(?x)a#)",
            "(?x: a)",
            "(?",
            "(?i",
            "[",
            "[a",
            "[^]",
            r"\",
            r"[\",
            "*",
            r"\1",
            r"a\E",
            "(.{1000}){1000}",
            &long,
        ] {
            let why = whole_match(pattern).expect_err(pattern);
            assert!(!why.is_empty() && !why.contains('\n'), "{pattern}: {why}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_pattern_or_none(pattern in r#"([a\\QEdwbB\[\](){}?*+|^$:,<>&~0-9P!=-]|\PC){0,40}"#) {
            let _ = whole_match(&pattern);
        }

        #[test]
        fn a_quoted_text_matches_itself_alone(text in r"[ -~]{0,30}") {
            proptest::prop_assume!(!text.contains(r"\E"));
            // A backslash at the end would be one with the end of the quote.
            proptest::prop_assume!(!text.ends_with('\\'));
            let regex = whole_match(&format!(r"\Q{text}\E")).unwrap();
            proptest::prop_assert!(regex.is_match(&text));
            let longer = format!("{text}x");
            proptest::prop_assert!(!regex.is_match(&longer));
        }
    }
}
