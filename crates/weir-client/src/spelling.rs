//! How far a misspelt name is from the one that was meant.

/// Levenshtein distance in characters, letter case counted. Quadratic: cut long names before.
#[must_use]
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_a_letter_more_less_or_another() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("type", "type", 0),
            ("typ", "type", 1),
            ("tyype", "type", 1),
            ("tipe", "type", 1),
            ("sitting", "kitten", 3),
            ("größe", "grosse", 3),
        ] {
            assert_eq!(edit_distance(a, b), edits, "{a} {b}");
            assert_eq!(edit_distance(b, a), edits, "{b} {a}");
        }
    }
}
