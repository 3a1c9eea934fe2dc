//! The byte-level alphabet of GPT-2: each byte as one printable character, so that byte strings can be
//! handled as text. Printable Latin-1 stands for itself, the others for U+0100 and up in their order.

/// The character that stands for a byte.
pub(crate) fn char_of(byte: u8) -> char {
    let shift = match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => return char::from(byte),
        0x00..=0x20 => u32::from(byte),
        0x7F..=0xA0 => u32::from(byte) - 0x7F + 33,
        0xAD => 67,
    };
    char::from_u32(0x100 + shift).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that a character stands for.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// Bytes in the alphabet.
pub(crate) fn to_text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char_of(byte)).collect()
}

/// The bytes of a text in the alphabet, or `None` where a character is not of it.
pub(crate) fn from_text(text: &str) -> Option<Vec<u8>> {
    text.chars().map(byte_of).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_has_its_own_character_and_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        let text = super::to_text(&all);
        assert_eq!(super::from_text(&text), Some(all));
        assert_eq!(super::char_of(b' '), 'Ġ');
        assert_eq!(super::char_of(b'\n'), 'Ċ');
        assert_eq!(super::from_text("▁"), None);
    }
}
