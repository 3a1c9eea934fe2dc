"""Trains small SentencePiece models and writes them, with what SentencePiece makes of some texts, to
crates/text/tests/fixtures/sentencepiece.json.

    python tools/tokenizers/make.py        (needs sentencepiece)
"""

import base64
import io
import json
import pathlib
import random

import sentencepiece as spm

OUT = pathlib.Path(__file__).parents[2] / "crates/text/tests/fixtures/sentencepiece.json"

WORDS = (
    "the a one small large red old young quiet king queen bird river house garden letter winter morning walk walked "
    "walking sing sang singing carry carried find found open opened under over near with without and but because then "
    "again never always story stories letters rivers houses gardens unkind kindness careful carefully 12 1984 3.14"
).split()

TEXTS = [
    "",
    " ",
    "the red bird",
    " the red bird",
    "the red bird ",
    "the  red   bird",
    "The KING walked carefully, and carried 1984 letters.",
    "kindness\nunkind\ttabs",
    "\n\nnew lines\n",
    "3.14 + 12 = 15.14",
    "naïve café — “quoted” …",
    "日本語とEnglish混ざる",
    "emoji 🙂👩‍👩‍👧 and 𝔘nicode",
    "e\u0301 is not é",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "▁under▁score",
    "zero\u200bwidth\u00a0space",
    "<s> </s> <unk> <0x41>",
    "xyzzyqqq",
    "storystorystories",
    "a" * 300,
]


def sentences():
    rng = random.Random(7)
    for _ in range(3000):
        line = " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 12)))
        yield line.capitalize() + "." if rng.random() < 0.5 else line


def train(kind, **options):
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=sentences(), model_writer=model, model_type=kind, minloglevel=2, **options
    )
    return model.getvalue()


def case(name, model):
    processor = spm.SentencePieceProcessor(model_proto=model)
    size = processor.get_piece_size()
    rows = [{"text": text, "ids": processor.encode(text), "decoded": processor.decode(processor.encode(text))} for text in TEXTS]
    kinds = [
        2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1
        for i in range(size)
    ]
    return {
        "name": name,
        "model": base64.b64encode(model).decode(),
        "pieces": [processor.id_to_piece(i) for i in range(size)],
        "scores": [processor.get_score(i) for i in range(size)],
        "kinds": kinds,
        "cases": rows,
    }


def main():
    plain = {"normalization_rule_name": "identity"}
    made = [
        # As Llama 2 has it.
        case("bpe", train("bpe", vocab_size=420, byte_fallback=True, remove_extra_whitespaces=False, split_digits=True, **plain)),
        # As T5 has it, but for its table of characters, which is a quarter of a megabyte.
        case("unigram", train("unigram", vocab_size=120, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, **plain)),
        # Unigram with bytes, as Gemma's kin have it.
        case("unigram-bytes", train("unigram", vocab_size=380, byte_fallback=True, remove_extra_whitespaces=False, **plain)),
    ]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(made, ensure_ascii=False, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
