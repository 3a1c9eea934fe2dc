"""Writes crates/kernels/tests/fixtures/formats: what every weight format must unpack and quantize to.

NAME.bin          a few blocks (chosen extremes, then random) and the f32 numbers that `gguf` makes of them
hashes.txt        NAME, number of random blocks, hash of all numbers that `gguf` makes of them
values.bin        numbers like weights, of several distributions
NAME.quantized    the bytes that `gguf` quantizes values.bin to, where it can
quality.txt       NAME, a range of values.bin, root mean square error of ggml's own quantizer there (for formats
                  whose search may differ); needs --ggml: a shared library of ggml's `quantize_row_*_ref`

Everything is seeded: a second run writes the same files. Needs numpy and gguf (PyPI).
Run: python tools/format_vectors.py [--ggml libggml-base.so]
"""

import argparse
import ctypes
import os
import pathlib
import warnings

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type

OUT = pathlib.Path(__file__).resolve().parent.parent / "crates/kernels/tests/fixtures/formats"
# Where the half-precision scales of a block stand.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64],
          "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "IQ1_M": [],
          "MXFP4": [], "NVFP4": []}
PLAIN = ["F16", "BF16"]
QUANTIZED = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"]
SEARCHED = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"]
HASHED_BLOCKS = 1000
# Where each distribution of values.bin ends.
PARTS = [0, 2048, 3072, 3584, 3840, 4096, 4352, 4608, 4864]


def random_bytes(seed, n):
    """splitmix64 of seed, seed + 1, ...: eight bytes each."""
    with np.errstate(over="ignore"):
        z = (np.arange(-(-n // 8), dtype=np.uint64) + np.uint64(seed + 1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))).view(np.uint8)[:n].copy()


def dequantize(blocks, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.ascontiguousarray(quants.dequantize(blocks, kind), dtype=np.float32).reshape(-1)


def chosen_blocks(name, size, count):
    """Moderate, largest, smallest and negative scales; the rest of each block is random or all ones."""
    blocks = random_bytes(1, size * count).reshape(count, size)
    blocks[1] = 0xFF
    scales = [0.01, 65504.0, 6e-8, -0.37]
    for i, block in enumerate(blocks):
        for at in SCALES.get(name, []):
            block[at:at + 2] = np.frombuffer(np.float16(scales[i % 4]).tobytes(), dtype=np.uint8)
    return blocks


def fnv(numbers):
    """FNV-1a over the words of the numbers; all NaN are one NaN."""
    bits = np.where(np.isnan(numbers), np.uint32(0x7FC00000), numbers.view(np.uint32))
    h = 0xCBF29CE484222325
    for word in bits.tolist():
        h = ((h ^ word) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def weights_like():
    rng = np.random.default_rng(7)
    parts = [rng.normal(0, 0.02, 2048), rng.standard_t(3, 1024) * 0.02, rng.laplace(0, 0.05, 512),
             rng.uniform(-1, 1, 256), rng.uniform(0.5, 0.75, 256), np.zeros(256), np.full(256, -0.125),
             rng.normal(0, 1e-6, 256)]
    x = np.concatenate(parts).astype(np.float32)
    x[17] = 1.5
    return x


def searched_errors(library, x):
    ggml = ctypes.CDLL(str(library), mode=os.RTLD_LAZY)
    for name in SEARCHED:
        kind = Type[name]
        length, size = GGML_QUANT_SIZES[kind]
        out = np.zeros(x.size // length * size, dtype=np.uint8)
        function = getattr(ggml, f"quantize_row_{name.lower().replace('_k', '_K')}_ref")
        function(x.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(x.size))
        errors = (dequantize(out.reshape(-1, size), kind).astype(np.float64) - x) ** 2
        for start, end in zip(PARTS, PARTS[1:]):
            yield f"{name} {start} {end} {np.sqrt(np.mean(errors[start:end])):.9e}\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ggml", type=pathlib.Path)
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    hashes = []
    for name in PLAIN + list(SCALES):
        kind = Type[name]
        length, size = GGML_QUANT_SIZES[kind]
        if length > 1:
            blocks = chosen_blocks(name, size, 4 if length == 256 else 8)
            (OUT / f"{name}.bin").write_bytes(blocks.tobytes() + dequantize(blocks, kind).tobytes())
        many = random_bytes(2, size * HASHED_BLOCKS).reshape(-1, size)
        hashes.append(f"{name} {HASHED_BLOCKS} {fnv(dequantize(many, kind)):016x}\n")
    (OUT / "hashes.txt").write_text("".join(hashes))
    x = weights_like()
    (OUT / "values.bin").write_bytes(x.tobytes())
    for name in QUANTIZED:
        (OUT / f"{name}.quantized").write_bytes(quants.quantize(x, Type[name]).tobytes())
    if args.ggml:
        (OUT / "quality.txt").write_text("".join(searched_errors(args.ggml, x)))


if __name__ == "__main__":
    main()
