//! Decides whether a channel matches a pattern, by Redis's rules: `*`, `?`, `[a-z]`, `[^a-z]` and `\`.
//!
//! Takes time in proportion to the product of both lengths at most, whatever the pattern is.

/// Whether the pattern covers the whole text.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut at = (0, 0);
    // Where the newest `*` stands in the pattern, and up to where in the text it was tried.
    let mut star: Option<(usize, usize)> = None;
    while at.1 < text.len() || at.0 < pattern.len() {
        if pattern.get(at.0) == Some(&b'*') {
            star = Some(at);
            at.0 += 1;
            continue;
        }
        let taken = text.get(at.1).and_then(|&byte| one(&pattern[at.0..], byte));
        match (taken, star) {
            (Some(length), _) => at = (at.0 + length, at.1 + 1),
            (None, Some((place, tried))) if tried < text.len() => {
                // Only the newest star is tried again: an earlier one can take nothing that this one cannot.
                star = Some((place, tried + 1));
                at = (place + 1, tried + 1);
            }
            (None, _) => return false,
        }
    }
    true
}

/// How much of the pattern matches this one byte; `None` when it does not.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ref class @ ..] => in_class(class, byte).map(|length| length + 1),
        [b'\\', escaped, ..] => (escaped == byte).then_some(2),
        [plain, ..] => (plain == byte).then_some(1),
    }
}

/// A class without its end reaches to the end of the pattern, as in Redis.
fn in_class(class: &[u8], byte: u8) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match class[at.min(class.len())..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                found |= (from.min(to)..=from.max(to)).contains(&byte);
                at += 3;
            }
            [plain, ..] => {
                found |= plain == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("*", "+switch-master", true),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("+switch-master", "+switch-master", true),
            ("switch-master", "+switch-master", false),
            ("[-+]sdown", "+sdown", true),
            ("[-+]sdown", "-sdown", true),
            ("[-+]sdown", "sdown", false),
            ("[^-]sdown", "+sdown", true),
            ("[^-]sdown", "-sdown", false),
            ("[a-c]x", "bx", true),
            ("[c-a]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[a\\]b]x", "]x", true),
            ("[abc", "b", true),
            ("[", "a", false),
            ("[^", "a", true),
            ("?sdown", "+sdown", true),
            ("?", "", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("\\", "\\", true),
            ("*down", "+odown-down", true),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c*", "xxaxxcxxbxx", false),
            ("+*-slave*", "+convert-to-slave", true),
            ("**", "x", true),
            ("a**", "a", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                wanted,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = "*a".repeat(500) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(1000).as_bytes()));
    }
}
