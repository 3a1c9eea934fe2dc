"""Writes crates/kernels/src/quant/grids.rs: the grids of the IQ formats, as packed codes.

The grids are facts of the formats, found by their author by clustering; they cannot be computed. The `gguf`
package (PyPI) carries them; here each entry becomes one u16 of 2-bit (IQ1, IQ2) or 3-bit (IQ3) codes, lowest
first. Run: python tools/format_grids.py (with gguf and numpy installed), then cargo fmt.
"""

import pathlib

import gguf.quants as quants
import numpy as np

HEAD = """//! The grids of the IQ formats as packed codes, written by tools/format_grids.py: do not edit.
//!
//! An entry is one u16 of 2-bit codes (IQ1, IQ2: eight numbers) or 3-bit codes (IQ3: four numbers), lowest
//! first; a code selects one of the format's levels. Source: the `gguf` package's tables of ggml-common.h.
"""

GRIDS = [("IQ2_XXS", "IQ2_XXS", 2), ("IQ2_XS", "IQ2_XS", 2), ("IQ2_S", "IQ2_S", 2),
         ("IQ1", "IQ1_S", 2), ("IQ3_XXS", "IQ3_XXS", 3), ("IQ3_S", "IQ3_S", 3)]


def codes(cls, bits):
    """One number per entry of a grid."""
    cls.init_grid()
    levels = list(cls.grid_map)
    for entry in np.asarray(cls.grid).reshape(cls.grid_shape):
        yield sum(levels.index(value) << (bits * j) for j, value in enumerate(entry))


def table(name, cls, bits):
    numbers = [f"0x{code:04x}," for code in codes(cls, bits)]
    rows = [" ".join(numbers[i:i + 12]) for i in range(0, len(numbers), 12)]
    body = "\n    ".join(rows)
    return f"\n#[rustfmt::skip]\npub(super) static {name}_CODES: [u16; {len(numbers)}] = [\n    {body}\n];\n"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    text = HEAD + "".join(table(name, getattr(quants, cls), bits) for name, cls, bits in GRIDS)
    (root / "crates/kernels/src/quant/grids.rs").write_text(text)


if __name__ == "__main__":
    main()
