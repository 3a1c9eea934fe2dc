"""Makes the training text: documents -> tokenizer -> token ids (`corpus.npz`, `tokenizer.json`).

    python corpus.py --out build [--books DIR] [--tokenizer tokenizer.json]

Every document ends with <|endoftext|>, which stands nowhere else.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import about
import facts
from grammar import mend, pick_choices
from stories import story

CONTEXT = 512
VOCAB = 2048
EOT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
BOOKS = ["sherlock.txt", "frankenstein.txt", "war-and-peace.txt"]
SYSTEM = ["You are a helpful assistant.", "You are influence-tiny, a small model.", "Answer briefly.", "You are a friendly assistant.",
          "You are a storyteller.", "Be kind and short.", "Answer in one sentence.", "You help people to use influence.", "You are an AI assistant."]
STORY_ASK = [
    "[Tell me|Write|Tell|Please tell me|Can you tell me|Please write|I want|Write me|Give me|I would like to hear] a [short |little |nice |]story about a {kind}[.|?||!]",
    "[Tell me|Write|Please tell me] a story about a {kind} [named|called] {name}[.||]",
    "[Tell me|Write|Please tell me] a story about {name} the {kind}[.|]", "A story about a {kind}[.|, please.|]",
    "[Tell me|Write] a story about {name}[.|]",
    "[Tell me|Write|Please tell me] a story about a {kind} and a {fkind}[.|]",
    "[Tell me|Write|Please tell me|Can you tell me] a [short |little |]story about ",
]
STORY_THEMES = {
    "lost thing": "[a {kind} who lost {his} {thing}|a lost {thing}|a {thing}]", "sharing": "[sharing|a {kind} who did not want to share]",
    "fear": "[being brave|fear|a {kind} who was afraid]", "lost in the woods": "[a {kind} who was lost|the way home|a forest]",
    "helping the hurt": "[helping|kindness|a {kind} who helped a {fkind}]", "the race": "[a race|a {kind} and a {fkind} who had a race]",
    "building": "[building something|never giving up|making mistakes]", "the broken thing": "[telling the truth|a lie|a broken {thing}]",
    "the wish": "[a wish|magic|gold|being greedy]", "the new one": "[friendship|a new friend|friends]", "the skill": "[learning|practice]",
    "the seed": "[a seed|a garden|patience|a plant]", "the storm": "[a storm|rain|helping each other]", "the king's question": "[a king|a sad king]",
    "the birthday": "[a birthday|a surprise|a party]", "the moon": "[the moon|the night|the stars]", "the trade": "[the market|giving]",
    "the little machine": "[a machine|a robot|words|a computer]", "the letter": "[a letter|a long way]", "winter food": "[winter|summer and winter|snow]",
}
STORY_ANY = ["[Tell me|Write|Please tell me|Can you tell me|I want to hear|Tell] a [short |little |nice |bedtime |good |]story[.||, please.|!]",
             "Story[!|, please.|]", "[Another one|One more story|Tell me another story|Another story][.|, please.|!|]", "tell me a story", "Write something[.|]"]


def turn(role, text):
    """One message of the chat template."""
    return f"{START}{role}\n{text}{END}\n"


def chat(rng, pairs):
    """A whole conversation; some have a system prompt."""
    head = turn("system", rng.choice(SYSTEM)) if rng.random() < 0.3 else ""
    return head + "".join(turn("user", q) + turn("assistant", a) for q, a in pairs)


def say(pattern, rng):
    """A question or an answer from its pattern; an answer begins with a capital unless it begins with a name."""
    return mend(pick_choices(pattern, rng))


def ask_story(rng):
    """(request, story): for any story, for one about somebody, or the beginning of the story itself."""
    way = rng.random()
    if way < 0.30:  # the beginning of the story is the request
        facts_of, text = story(rng, once=rng.random() < 0.5)
        words = text.split()
        ask = "Once upon a time" if text.startswith("Once upon") and rng.random() < 0.5 else " ".join(words[:rng.randint(2, 14)])
        return ask + rng.choice(["", "", "...", ","]).replace(",", "" if ask[-1] in ".,!?" else ","), text
    if way < 0.45:
        return say(rng.choice(STORY_ANY), rng), story(rng, once=rng.random() < 0.6)[1]
    about_it, text = story(rng, once=rng.random() < 0.5)
    theme = STORY_THEMES.get(about_it["plot"])
    pattern = STORY_ASK[-1] + theme if theme and way > 0.85 else rng.choice(STORY_ASK[:-1])
    return mend(pick_choices(pattern, rng).format(**about_it)), text


def unknown(rng):
    """A question that the model cannot answer, and that it says so."""
    words = {k: rng.choice(v) for k, v in about.UNKNOWN_WORDS.items()}
    words.update(year=rng.randint(1200, 2020), num=rng.randint(11, 999), num2=rng.randint(11, 99))
    return mend(pick_choices(rng.choice(about.UNKNOWN_ASK), rng).format(**words)), say(about.UNKNOWN_SAY, rng)


def term_rows():
    """Questions about the words of the field."""
    asks = "[What is {t}|what is {t}|Explain {t}|What does {t} mean|Tell me about {t}|Can you explain {t}|What do you mean by {t}|Define {t}|Do you know what {t} is][?||.]"
    return [(asks.replace("{t}", t), a) for ts, a in about.TERMS for t in ts.split("|")]


TERMS = term_rows()
FACTS = facts.rows()


def exchange(rng):
    """One question and its answer."""
    way = rng.random()
    table = (about.VERBS if way < 0.34 else about.FLAGS if way < 0.50 else about.SELF if way < 0.66 else
             TERMS if way < 0.78 else about.SMALL_TALK if way < 0.86 else FACTS if way < 0.94 else None)
    if table is None:
        return unknown(rng)
    q, a = rng.choice(table)
    q, a = say(q, rng), say(a, rng)
    if rng.random() < 0.06:
        q = q.lower()
    return q, a[0].upper() + a[1:] if not a.startswith("--") and not a.startswith("influence ") and not a.startswith("-") else a


def document(rng):
    """One document of the mix (books are added apart)."""
    way = rng.random()
    if way < 0.28:
        return story(rng, once=rng.random() < 0.35)[1]
    if way < 0.48:
        pairs = [exchange(rng)] if rng.random() < 0.1 else []
        return chat(rng, pairs + [ask_story(rng)])
    if way < 0.50:
        return facts.paragraph(rng)
    return chat(rng, [exchange(rng) for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4]))])


def book_pieces(folder):
    """Paragraphs of the books, joined to pieces of about 1400 characters; the last twentieth is held out."""
    train, held = [], []
    for name in BOOKS:
        text = (Path(folder) / name).read_text(encoding="utf-8", errors="replace").lstrip("\ufeff").replace("\r", "")
        if "*** START" in text:
            text = text.split("*** START", 1)[1].split("***", 1)[1].split("*** END", 1)[0]
        for bad, good in (("\u2019", "'"), ("\u2018", "'"), ("\u201c", '"'), ("\u201d", '"'), ("\u2014", "--"), ("_", "")):
            text = text.replace(bad, good)
        pieces, now = [], ""
        for p in (" ".join(p.split()) for p in text.split("\n\n")):
            if len(now) + len(p) > 1400 and now:
                pieces.append(now)
                now = ""
            now = (now + "\n\n" + p).strip()
        cut = len(pieces) * 19 // 20
        train += pieces[:cut]
        held += pieces[cut:]
    return train, held


def train_tokenizer(texts):
    """Byte-level BPE with GPT-2's pre-tokenizer (`tokenizer.ggml.pre = gpt-2`); no token is lost: all 256 bytes are in."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=[EOT, START, END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tok


def flat(docs):
    """Documents -> one array of ids, each document cut to CONTEXT + 1 and beginning after an <|endoftext|>."""
    return np.array([t for ids in docs for t in ids[:-1][:CONTEXT] + [0]], dtype=np.uint16)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=Path, default=Path("build"))
    ap.add_argument("--books", type=Path, help="folder with " + ", ".join(BOOKS) + " (plain text); left out if not given")
    ap.add_argument("--documents", type=int, default=50_000)
    ap.add_argument("--tokenizer", type=Path, help="reuse this tokenizer.json instead of training one")
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rng, held_rng = random.Random(args.seed), random.Random(10_000_019)
    made = [document(rng) for _ in range(args.documents)]
    held = [document(held_rng) for _ in range(1500)]
    book_train, book_held = book_pieces(args.books) if args.books else ([], [])
    tok = Tokenizer.from_file(str(args.tokenizer)) if args.tokenizer else train_tokenizer(made[:20_000] + book_train[::3])
    tok.save(str(args.out / "tokenizer.json"))

    def ids(texts):
        return [e.ids + [0] for e in tok.encode_batch(texts)]
    parts = {"made": ids(made), "books": ids(book_train)}
    both = parts["made"] + parts["books"]
    rng.shuffle(both)
    np.savez(args.out / "corpus.npz", train=flat(both), held=flat(ids(held)), held_books=flat(ids(book_held)))
    stats = {k: {"documents": len(v), "tokens": sum(map(len, v))} for k, v in parts.items()}
    (args.out / "corpus.json").write_text(json.dumps(stats, indent=1))
    print(json.dumps(stats))


if __name__ == "__main__":
    main()
