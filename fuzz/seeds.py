#!/usr/bin/env python3
"""Fills fuzz/corpus from the repository's fixtures and, where it is there, ../shared/material: seeds.py [TARGET ...]

Nothing of it is kept in the repository. Words that readers look for become dictionaries beside the folders.
"""
import base64, json, pathlib, re, struct, sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
MATERIAL = ROOT.parent / "shared/material"
FIXTURES = ROOT / "crates/models/tests/fixtures"
BAD = MATERIAL / "bad-inputs"


def put(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    data = data if isinstance(data, bytes) else data.encode()
    if len(data) <= 1 << 20:
        (folder / re.sub(r"[^A-Za-z0-9._-]", "_", name)[:120]).write_bytes(data)


def words(target, *found):
    """A dictionary of the words in double quotes of source files, or of lists of words."""
    all_words = set()
    for f in found:
        all_words |= set(re.findall(r'"([^"\\\n]{2,60})"', f.read_text())) if isinstance(f, pathlib.Path) else set(f)
    quoted = lambda w: "".join(c if " " <= c <= "~" and c not in '"\\' else "".join(f"\\x{b:02x}" for b in c.encode()) for c in w)
    (HERE / "corpus").mkdir(exist_ok=True)
    (HERE / f"corpus/{target}.dict").write_text("".join(f'"{quoted(w)}"\n' for w in sorted(all_words)))


def bad(*kinds):
    """Hostile files of these kinds."""
    if not BAD.is_dir():
        return
    for case in json.loads((BAD / "cases.json").read_text()):
        if case["kind"] in kinds and case["file"]:
            yield case["id"], (BAD / case["file"]).read_bytes()


def gguf_head(data):
    """What precedes the tensors' bytes."""
    at = 24
    tensors, keys = struct.unpack_from("<QQ", data, 8)
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def string(at):
        return at + 8 + struct.unpack_from("<Q", data, at)[0]

    def value(kind, at):
        if kind == 8:
            return string(at)
        if kind == 9:
            kind, n = struct.unpack_from("<IQ", data, at)
            at += 12
            if kind in sizes:
                return at + n * sizes[kind]
            for _ in range(n):
                at = value(kind, at)
            return at
        return at + sizes[kind]

    for _ in range(keys):
        at = string(at)
        at = value(struct.unpack_from("<I", data, at)[0], at + 4)
    for _ in range(tensors):
        at = string(at)
        at += 4 + 8 * struct.unpack_from("<I", data, at)[0] + 12
    return data[:at]


def gguf():
    for path in sorted(FIXTURES.glob("*/model*.gguf")):
        put("gguf", path.parent.name, gguf_head(path.read_bytes()))
    for name, data in bad("gguf"):
        put("gguf", name, data)
    words("gguf", ROOT / "crates/models/src/hparam_keys.rs", ROOT / "crates/text/src/tokenizer/split.rs")


def gguf_split():
    for name, data in bad("gguf"):
        put("gguf_split", name, struct.pack("<I", len(data) // 2) + data)
    text = lambda s: struct.pack("<Q", len(s)) + s
    parts = b""
    for no in range(2):
        keys = [text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")]
        keys += [text(k) + struct.pack("<IH", 2, v) for k, v in ((b"split.no", no), (b"split.count", 2))]
        head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys)) + b"".join(keys)
        head += text(b"x%d" % no) + struct.pack("<IQIQ", 1, 8, 0, 0)
        head += bytes(-len(head) % 32) + bytes(32)
        parts += head
    put("gguf_split", "two", struct.pack("<I", len(parts) // 2) + parts)
    words("gguf_split", ["split.no", "split.count", "split.tensors.count", "general.alignment"])


def safetensors():
    for path in sorted(FIXTURES.glob("*/reference.safetensors"))[:12]:
        put("safetensors", path.parent.name, path.read_bytes())
    for name, data in bad("safetensors", "st"):
        put("safetensors", name, data)
    words("safetensors", ROOT / "crates/weights/src/safetensors/header.rs", ["data_offsets", "shape", "dtype"])


def index():
    put("index", "good", '{"metadata":{"total_size":8},"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}')
    for name, data in bad("index"):
        put("index", name, data)
    words("index", ["a.safetensors", "b.safetensors", "weight_map", "../", "/dev/zero", "\\u0000", "model.safetensors"])


def configs():
    for path in sorted(FIXTURES.glob("*/config.json")):
        yield path.parent.name, path.read_bytes()
    for path in sorted((MATERIAL / "configs").glob("*.json")) if MATERIAL.is_dir() else []:
        yield path.name, path.read_bytes()
    yield from bad("config")


def config_words(target):
    numbers = ["0", "1", "2", "3", "-1", "0.0", "1e300", "1e-300", "4294967295", "18446744073709551615", "1073741824", "null", "[]", "{}", "true"]
    words(target, ROOT / "crates/models/src/hparam_keys.rs", ROOT / "crates/models/src/rope_hparams.rs", ROOT / "crates/models/src/arch/hybrid.rs", numbers)


def config():
    for name, data in configs():
        put("config", name, data)
    config_words("config")


def folder():
    models = sorted(p.parent for p in FIXTURES.glob("*/model.safetensors"))
    for i, model in enumerate(models):
        put("folder", model.name, bytes([i]) + (model / "config.json").read_bytes())
    config_words("folder")


def tokenizers(kind, pattern, most):
    for path in sorted(MATERIAL.glob(pattern)) if MATERIAL.is_dir() else []:
        if path.stat().st_size <= most:
            yield path.parent.name, path.read_bytes()
    yield from bad(kind)


def tokenizer_json():
    for name, data in tokenizers("tokenizer", "**/tokenizer.json", 100_000):
        put("tokenizer_json", name, data)
    # Of large ones, all but most of the vocabulary.
    for path in sorted(MATERIAL.glob("tokenizers/hf/*/tokenizer.json")) if MATERIAL.is_dir() else []:
        whole = json.loads(path.read_text())
        vocab = whole["model"]["vocab"]
        whole["model"]["vocab"] = dict(list(vocab.items())[:300]) if isinstance(vocab, dict) else vocab[:300]
        kept = whole["model"]["vocab"]
        merges = [m if isinstance(m, list) else m.split(" ") for m in whole["model"].get("merges", [])]
        if merges:
            whole["model"]["merges"] = [m for m in merges if all(p in kept for p in m + ["".join(m)])][:100]
        whole["added_tokens"] = whole.get("added_tokens", [])[:8]
        put("tokenizer_json", path.parent.name + "-small", json.dumps(whole))
    words("tokenizer_json", ["type", "BPE", "WordPiece", "Unigram", "WordLevel", "ByteLevel", "Metaspace", "Sequence", "Replace",
        "Split", "pattern", "Regex", "behavior", "Isolated", "merges", "vocab", "unk_id", "unk_token", "byte_fallback",
        "fuse_unk", "continuing_subword_prefix", "Precompiled", "precompiled_charsmap", "TemplateProcessing", "added_tokens",
        "normalizer", "Prepend", "Strip", "NFKC", "Digits", "Punctuation", "Whitespace", "BertNormalizer", "ignore_merges"])


def piece(text, score, kind):
    text = text.encode()
    body = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
    return b"\x0a" + bytes([len(body)]) + body


def sentencepiece():
    for model in (1, 2):
        pieces = [("<unk>", 0, 2), ("<s>", 0, 3), ("</s>", 0, 3)] + [(f"<0x{b:02X}>", 0, 6) for b in range(256)]
        pieces += [(t, -i, 1) for i, t in enumerate(["▁", "▁h", "el", "lo", "▁hel", "a", "1", "12", "é"])] + [("▁▁", 0, 4), ("b", -3, 5)]
        put("sentencepiece", f"small-{model}", b"".join(piece(*p) for p in pieces) + b"\x12\x02\x18" + bytes([model]) + b"\x1a\x06\x18\x01\x20\x00\x28\x01")
    for name, data in tokenizers("spm", "**/tokenizer.model", 1_000_000):
        put("sentencepiece", name, data[:4000])
    words("sentencepiece", ["<unk>", "<s>", "</s>", "<0x41>", "▁"])


def tiktoken():
    lines = [base64.b64encode(bytes([b])).decode() + f" {b}" for b in range(256)] + [base64.b64encode(b"th").decode() + " 256"]
    put("tiktoken", "bytes", "\n".join(lines))
    for name, data in bad("tiktoken"):
        put("tiktoken", name, data)
    words("tiktoken", ["IQ== 0", "\n"])


def gguf_vocab():
    spm = ["2<unk>", "3<s>", "3</s>"] + [f"6<0x{b:02X}>" for b in range(256)] + ["1▁", "1▁h", "1el", "1lo", "4▁▁", "5b"]
    put("gguf_vocab", "llama", b"\x00\x05\x01" + "\n".join(spm).encode())
    alphabet = [f"1{chr(b)}" for b in [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]]
    put("gguf_vocab", "gpt2", b"\x01\x00\x00" + "\n".join(alphabet + ["1he", "1ll", "3<s>"]).encode() + b"\n\nh e\nl l")
    put("gguf_vocab", "bert", b"\x02\x40\x10" + "\n".join(["3[CLS]", "2[UNK]", "3[SEP]", "1▁hello", "1world", "1▁a"]).encode())
    put("gguf_vocab", "t5", b"\x03\x50\x20" + "\n".join(["3<pad>", "3</s>", "2<unk>", "1▁", "1▁a", "1lo"]).encode())
    put("gguf_vocab", "rwkv", b"\x04\x00\x00" + "\n".join(["1a", "1b", "1\\x00", "1ab", "1\\n"]).encode())
    words("gguf_vocab", ["<0x41>", "▁", "[UNK]", "\\x0a", "\n\n"])


def template():
    path = MATERIAL / "templates/templates.jsonl"
    for line in path.read_text().splitlines() if path.is_file() else []:
        row = json.loads(line)
        put("template", row["id"], row["template"])
    for name, data in bad("template"):
        if len(data) < 10_000:
            put("template", name, data)
    put("template", "chatml", "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}a{% endif %}")
    names = sorted((ROOT / "crates/text/src/template").glob("*.rs"))
    words("template", *names, ["{%", "%}", "{{", "}}", "{%-", "-%}", "namespace", "recursive", "loop", "macro", "endfor", "raise_exception"])


def grammar():
    put("grammar", "schema", b'\x00{"type":"object","properties":{"a":{"type":"integer","minimum":3},"b":{"enum":["x",1]}},"required":["a"]}')
    put("grammar", "regex", rb"\x01[a-c]{2,5}(x|yz)*\d+".replace(rb"\x01", b"\x01"))
    put("grammar", "gbnf", b'\x02root ::= "a" [0-9]+ (x | "c")? \nx ::= "b"{1,3}')
    put("grammar", "lark", b'\x02start: "a" X+ ("b" | y)?\ny: /c[0-9]{2}/\nX: "x" | "y"')
    for name, data in bad("schema"):
        put("grammar", name, b"\x00" + data)
    for name, data in bad("grammar"):
        put("grammar", name, b"\x02" + data)
    if MATERIAL.is_dir():
        for path in sorted((MATERIAL / "structured/maskbench").glob("*.json"))[::4]:
            put("grammar", path.name, b"\x00" + json.dumps(json.loads(path.read_text())["schema"]).encode())
    words("grammar", ROOT / "crates/text/src/grammar/schema.rs", ["oneOf", "anyOf", "allOf", "$ref", "#/", "pattern", "minLength",
        "maxItems", "additionalProperties", "patternProperties", "const", "enum", "format", "date-time", "multipleOf", "::=", "root", "start:", "%ignore", "%json"])


def tags():
    table = re.findall(r'"([^"]+)"', (ROOT / "crates/text/src/tags/table.rs").read_text())
    for i in range(16):
        put("tags", f"call-{i}", bytes([i | 64, 7]) + b'<think>a</think><tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call> b')
        put("tags", f"bare-{i}", bytes([i | 64, 3]) + b' [f(x=1, y="a"), g()]')
    for name, text in (("harmony", '<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"x":1}<|call|>'),):
        put("tags", name, bytes([2, 9]) + text.encode())
    words("tags", [t for t in table if len(t) > 1], ROOT / "crates/text/src/tags/bodies.rs", ROOT / "crates/text/src/tags/pythonic.rs")


def detokenizer():
    put("detokenizer", "bytes", bytes([0x40]) + bytes(range(64)) + b"ab")
    put("detokenizer", "spaces", bytes([0x21]) + bytes([1, 4, 1, 5, 0, 200, 1, 9]) + b"b")
    words("detokenizer", ["the", " a"])


def quant():
    for i in range(35):
        put("quant", str(i), bytes([i, i * 3 % 70, i % 5, i % 12]) + bytes((j * 37 + i) % 256 for j in range(97)))
    words("quant", ["<<"])


for target in sys.argv[1:] or [p.stem for p in (HERE / "fuzz_targets").glob("*.rs")]:
    globals()[target]()
