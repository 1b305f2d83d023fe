//! The difference of two texts, line by line.

/// How many lines that are alike are shown around a difference.
const AROUND: usize = 2;
/// Beyond so many pairs of lines, what is different is shown as a whole.
const MOST: usize = 4_000_000;

/// The lines that go (`-`), come (`+`) and stay around them (a space); `...` where more stay.
pub(super) fn diff(before: &str, after: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = |(one, other): &(&&str, &&str)| one == other;
    let head = old.iter().zip(&new).take_while(same).count();
    let most = old.len().min(new.len()) - head;
    let tail = old.iter().rev().zip(new.iter().rev()).take(most).take_while(same).count();
    let (gone, come) = (old.get(head..old.len() - tail).unwrap_or_default(), new.get(head..new.len() - tail).unwrap_or_default());
    let mut all: Vec<(char, &str)> = old.iter().take(head).map(|line| (' ', *line)).collect();
    all.extend(between(gone, come));
    all.extend(old.iter().skip(old.len() - tail).map(|line| (' ', *line)));
    shown(&all)
}

/// What is between the parts that are alike: by the longest common sequence.
fn between<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    if old.len().saturating_mul(new.len()) > MOST {
        return old.iter().map(|line| ('-', *line)).chain(new.iter().map(|line| ('+', *line))).collect();
    }
    let width = new.len() + 1;
    let mut table = vec![0u32; (old.len() + 1) * width];
    let at = |table: &[u32], i: usize, j: usize| table.get(i * width + j).copied().unwrap_or_default();
    for (i, one) in old.iter().enumerate().rev() {
        for (j, other) in new.iter().enumerate().rev() {
            let length = if one == other { at(&table, i + 1, j + 1) + 1 } else { at(&table, i + 1, j).max(at(&table, i, j + 1)) };
            if let Some(place) = table.get_mut(i * width + j) {
                *place = length;
            }
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    loop {
        match (old.get(i), new.get(j)) {
            (None, None) => return found,
            (Some(one), Some(other)) if one == other => {
                found.push((' ', *one));
                (i, j) = (i + 1, j + 1);
            }
            (Some(one), other) if other.is_none() || at(&table, i + 1, j) >= at(&table, i, j + 1) => {
                found.push(('-', *one));
                i += 1;
            }
            (_, Some(other)) => {
                found.push(('+', *other));
                j += 1;
            }
            (Some(one), None) => {
                found.push(('-', *one));
                i += 1;
            }
        }
    }
}

fn shown(all: &[(char, &str)]) -> Vec<String> {
    let near = |at: usize| {
        let from = at.saturating_sub(AROUND);
        all.get(from..(at + AROUND + 1).min(all.len())).unwrap_or_default().iter().any(|(mark, _)| *mark != ' ')
    };
    let (mut lines, mut left_out) = (Vec::new(), false);
    for (at, (mark, line)) in all.iter().enumerate() {
        if near(at) {
            if left_out {
                lines.push("...".to_owned());
            }
            left_out = false;
            lines.push(format!("{mark}{line}"));
        } else {
            left_out = true;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::diff;

    #[test]
    fn what_goes_and_comes_is_shown_with_what_is_around_it() {
        assert!(diff("a\nb\n", "a\nb\n").is_empty());
        assert_eq!(diff("", "a\nb\n"), ["+a", "+b"]);
        assert_eq!(diff("a\n", ""), ["-a"]);
        assert_eq!(diff("1\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\n4\nx\n6\n7\n"), ["...", " 3", " 4", "-5", "+x", " 6", " 7"]);
        assert_eq!(diff("a\nb\nc\n", "b\nc\nd\n"), ["-a", " b", " c", "+d"]);
        assert_eq!(diff("x\na\ny\n", "x\na\na\ny\n"), [" x", " a", "+a", " y"]);
        let long: String = (0..3000).map(|line| format!("{line}\n")).collect();
        let other: String = (0..3000).rev().map(|line| format!("{line}\n")).collect();
        assert_eq!(diff(&long, &other).len(), 6000, "too much to compare line by line");
    }
}
