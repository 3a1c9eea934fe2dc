//! What the IQ2 and IQ3 formats share: grids of magnitudes, signs beside them.

/// Packed codes of a grid -> its entries: code `j` of `bits` bits, lowest first, selects from `levels`.
pub(super) const fn spread<const N: usize, const W: usize>(
    codes: &[u16; N],
    bits: usize,
    levels: &[i8],
) -> [[i8; W]; N] {
    let mut grid = [[0; W]; N];
    let mut i = 0;
    while i < N {
        let mut j = 0;
        while j < W {
            grid[i][j] = levels[(codes[i] as usize >> (bits * j)) & ((1 << bits) - 1)];
            j += 1;
        }
        i += 1;
    }
    grid
}

/// Eight signs from seven bits: the eighth makes the number of minus signs even.
pub(super) fn even_signs(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | ((seven.count_ones() & 1) as u8) << 7
}

/// Writes scaled magnitudes with their signs: bit `j` of `signs` makes number `j` negative.
pub(super) fn signed(out: &mut [f32], scale: f32, magnitudes: &[i8], signs: u8) {
    for (j, (x, &m)) in out.iter_mut().zip(magnitudes).enumerate() {
        let sign = if (signs >> j) & 1 == 0 { 1.0 } else { -1.0 };
        *x = scale * f32::from(m) * sign;
    }
}

/// Nibble `i` of some bytes, low halves first.
pub(super) fn nibble(bytes: &[u8], i: usize) -> f32 {
    f32::from((bytes[i / 2] >> (4 * (i % 2))) & 15)
}
