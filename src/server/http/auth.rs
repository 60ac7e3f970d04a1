//! `Authorization: Bearer PASSWORD`, or Basic with any user.

use crate::runtime::Password;

/// Returns whether the header's value has the password.
pub(super) fn is_granted(password: &Password, authorization: Option<&[u8]>) -> bool {
    let Some((scheme, rest)) = authorization.and_then(|value| split_once(value, b' ')) else {
        return false;
    };
    let given = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"Bearer") {
        return password.is(given);
    }
    let decoded = if scheme.eq_ignore_ascii_case(b"Basic") { decode_base64(given) } else { None };
    decoded.is_some_and(|pair| split_once(&pair, b':').is_some_and(|(_, given)| password.is(given)))
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Decodes base64 (RFC 4648 §4) with or without padding.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.iter().position(|&byte| byte == b'=').map_or(text, |end| &text[..end]);
    if text[digits.len()..].iter().any(|&byte| byte != b'=') || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits: u32 = 0;
        for &digit in group {
            bits = bits << 6 | base64_value(digit)?;
        }
        let padding = 4 - group.len();
        let [_, first, second, third] = (bits << (6 * padding)).to_be_bytes();
        let decoded = [first, second, third];
        bytes.extend_from_slice(decoded.get(..3 - padding).filter(|decoded| !decoded.is_empty())?);
    }
    Some(bytes)
}

fn base64_value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYmE=", "fooba"), ("Pz8/", "???")]
        {
            assert_eq!(decode_base64(text.as_bytes()).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for text in ["Z", "Zg=a", "Z!==", "Zm9v====", "\u{e9}"] {
            assert_eq!(decode_base64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_password_opens_and_nothing_else() {
        let password = Password(b"se:cret".to_vec());
        let granted = |value: &str| is_granted(&password, Some(value.as_bytes()));
        assert!(granted("Bearer se:cret") && granted("bearer  se:cret"));
        assert!(granted("Basic YW55Ym9keTpzZTpjcmV0"), "anybody:se:cret");
        for value in ["", "Bearer", "Bearer secret", "Basic se:cret", "Basic eDp5", "Digest se:cret", "se:cret"] {
            assert!(!granted(value), "{value}");
        }
        assert!(!is_granted(&password, None));
    }
}
