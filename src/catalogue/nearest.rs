//! What somebody may have meant by a name that does not exist.

/// The longest name that is compared, in letters.
const LONGEST: usize = 128;

/// The known name that is nearest: at most a third of its letters are others, missing or too many.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.to_lowercase().chars().take(LONGEST + 1).collect();
    if name.len() > LONGEST {
        return None;
    }
    let near = known.filter_map(|other| {
        let letters: Vec<char> = other.to_lowercase().chars().take(LONGEST).collect();
        let most = letters.len().max(name.len()) / 3;
        // Too long or too short to be near: no need to look.
        let distance = (letters.len().abs_diff(name.len()) <= most).then(|| distance(&name, &letters))?;
        (distance <= most).then_some((distance, other))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, other)| other)
}

/// A question after the nearest name, for the end of a message; empty when there is none.
pub fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map(|other| format!("did you mean {other}? ")).unwrap_or_default()
}

/// The same in brackets, after a message.
pub fn asked_after<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map(|other| format!(" (did you mean {other}?)")).unwrap_or_default()
}

/// How many letters have to be changed, put in or left out (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (above, left) in a.iter().enumerate() {
        let mut next = vec![above + 1];
        for (pair, right) in row.windows(2).zip(b) {
            if let ([corner, up], Some(before)) = (pair, next.last()) {
                next.push((corner + usize::from(left != right)).min(up + 1).min(before + 1));
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_found_and_another_word_is_not() {
        let known = ["bitlocker", "trusted-root", "windows-compliance"];
        for (written, meant) in
            [("bitlokcer", Some("bitlocker")), ("Trusted-Rot", Some("trusted-root")), ("wifi", None), ("", None), ("windows", None)]
        {
            assert_eq!(nearest(written, known.into_iter()), meant, "{written}");
        }
        assert_eq!(nearest(&"b".repeat(100_000), known.into_iter()), None);
        assert_eq!(distance(&['a', 'b'], &['b', 'a', 'b']), 1);
    }
}
