//! Globs as Redis matches them: `*`, `?`, `[a-z]`, `[^a]` and `\` before a plain character.
//!
//! After a mismatch only the last `*` is tried again, one byte further, so the time is at most pattern times text.

/// Returns whether all of `text` matches `pattern`, byte by byte.
pub fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut left) = (pattern, text);
    let mut last_star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', after @ ..] = rest {
            rest = after;
            last_star = Some((after, left));
            continue;
        }
        match (left.split_first(), rest.is_empty()) {
            (None, is_matched) => return is_matched,
            (Some((&byte, after)), false) => {
                let (is_matched, pattern_after) = match_one(rest, byte);
                if is_matched {
                    (rest, left) = (pattern_after, after);
                    continue;
                }
            }
            (Some(_), true) => {}
        }
        let Some((after_star, tried)) = last_star else {
            return false;
        };
        (rest, left) = (after_star, &tried[1..]);
        last_star = Some((rest, left));
    }
}

/// Returns the bytes that every match of `pattern` begins with, as far as they stand in it without an escape.
pub(super) fn literal_prefix(pattern: &[u8]) -> &[u8] {
    let is_special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
    &pattern[..pattern.iter().position(is_special).unwrap_or(pattern.len())]
}

/// Matches one byte with the first element of a pattern (not `*`, not empty); returns what follows the element.
fn match_one(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    match pattern {
        [b'?', after @ ..] => (true, after),
        [b'[', b'^', class @ ..] => {
            let (is_in, after) = match_class(class, byte);
            (!is_in, after)
        }
        [b'[', class @ ..] => match_class(class, byte),
        [b'\\', plain, after @ ..] | [plain, after @ ..] => (*plain == byte, after),
        [] => (false, pattern),
    }
}

/// Matches one byte with what follows `[` or `[^`; a class without `]` ends with the pattern.
fn match_class(mut class: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut is_in = false;
    loop {
        class = match class {
            [] => return (is_in, class),
            [b'\\', plain, after @ ..] => {
                is_in |= *plain == byte;
                after
            }
            [b']', after @ ..] => return (is_in, after),
            [from, b'-', to, after @ ..] => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                after
            }
            [plain, after @ ..] => {
                is_in |= *plain == byte;
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{glob_matches, literal_prefix};

    #[test]
    fn matches_as_redis_does() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("", &[""], &["a"]),
            ("*", &["", "a", "abc"], &[]),
            ("a*b*c", &["abc", "aXbYc", "abbcc"], &["ab", "acb", "abcd"]),
            ("h?llo", &["hello", "hallo"], &["hllo", "heello"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo"]),
            ("h[^e]llo", &["hallo"], &["hello"]),
            ("h[c-a]llo", &["hbllo"], &["hdllo"]),
            ("\\*", &["*"], &["a"]),
            ("a\\", &["a\\"], &["a"]),
            ("[\\]]", &["]"], &["\\"]),
            ("[a", &["a"], &["b", ""]),
            ("[a-", &["a"], &["b"]),
            ("[a\\", &["a", "\\"], &["b"]),
            ("[^]", &["]", "a"], &["", "ab"]),
            ("[]", &[], &["", "a"]),
            ("a**", &["a", "ab"], &["b"]),
        ];
        for (pattern, good, bad) in cases {
            for text in *good {
                assert!(glob_matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
            for text in *bad {
                assert!(!glob_matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn a_prefix_is_what_stands_before_the_first_special_byte() {
        for (pattern, prefix) in
            [("user:*", "user:"), ("*", ""), ("a?", "a"), ("ab[c]", "ab"), ("a\\*", "a"), ("abc", "abc")]
        {
            assert_eq!(literal_prefix(pattern.as_bytes()), prefix.as_bytes(), "{pattern}");
        }
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let pattern = [b"a*".repeat(1000), b"b".to_vec()].concat();
        assert!(!glob_matches(&pattern, &[b'a'; 20_000]));
    }
}
