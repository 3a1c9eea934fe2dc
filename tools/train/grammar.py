"""A very small text grammar: `[a|b|c]` picks one, `{slot}` fills in, articles and capitals are mended."""

import re

CHOICE = re.compile(r"\[([^\[\]]*)\]")
ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])(?!uni|use|one\b|eu)")


def pick_choices(template, rng):
    """Resolves the innermost `[a|b]` first, so choices may nest."""
    while True:
        text, hits = CHOICE.subn(lambda m: rng.choice(m.group(1).split("|")), template)
        if not hits:
            return text
        template = text


def mend(text):
    """`a apple` -> `an apple`; no double spaces."""
    text = re.sub(r"  +", " ", text).replace(" .", ".").replace(" ,", ",").strip()
    return ARTICLE.sub(lambda m: m.group(1) + "n ", text)


def capitalise(text):
    """Capitals at the start of a text and after a full stop that does not end a quotation."""
    text = re.sub(r"(^|[.!?] |\n)(\"?)([a-z])", lambda m: m.group(1) + m.group(2) + m.group(3).upper(), text)
    return text


def expand(template, slots, rng):
    """One sentence or more from a template."""
    return capitalise(mend(pick_choices(template, rng).format_map(slots)))
