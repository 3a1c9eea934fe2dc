"""Casts a hero, friends, a place and things, then tells one plot: distinct short stories in simple English."""

from grammar import expand, mend
from plots import PLOTS
import words as w

OPENERS = [
    ("Once upon a time, [there was|there lived] {a_hero} named {H}. ", 12),
    ("Once upon a time, {a_hero} named {H} lived {home}. ", 5),
    ("Once upon a time, in a land far away, there was {a_hero} named {H}. ", 3),
    ("One day, {a_hero} named {H} went out to play. {He} lived {home}. ", 3),
    ("There once was {a_hero} whose name was {H}. ", 3),
    ("Long ago, {a_hero} lived {home}. {His} name was {H}. ", 3),
    ("A long time ago, there was {a_hero} called {H}. ", 2),
    ("In a [small|quiet|little] village near {place2}, there lived {a_hero} named {H}. ", 3),
    ("{H} was {a_hero}. {He} lived {home}. ", 4),
    ("The {adj} {kind} was called {H}. ", 1),
    ("This is the story of {a_hero} named {H}. ", 2),
    ("It was a [beautiful|bright|quiet|cold] [morning|day]. {A_hero} named {H} looked out of the window. ", 1),
    ("Far away, near {place2}, {a_hero} named {H} had a small home. ", 1),
]
SECOND = [
    "{H} lived {home}.", "{He} liked to play {hplay}.", "{He} loved to eat {hfood}.",
    "{H} lived {home} and liked to play {hplay}.", "{He} was {adj2} and {adj3}.",
    "Every day, {he} played {hplay}.", "{His} best friend was {a_fkind} named {F}.",
    "{He} had {a_color} {thing2}.", "Everyone in {place2} knew {him}.", "", "",
]
CLOSERS = ["The end.", "And they lived happily ever after.", "It was a good day.", "And everyone was happy.",
           "And that is the end of the story.", "{H} went to sleep with a smile.", "", "", "", "", ""]


def pronouns(prefix, female):
    """Slots he/him/his/himself with a prefix: `fhe`, `Fhe` is not needed, `FHe` is the capital."""
    he, him, his = ("she", "her", "her") if female else ("he", "him", "his")
    big = prefix.upper()
    return {prefix + "he": he, prefix + "him": him, prefix + "his": his, prefix + "himself": him + "self",
            big + "He": he.capitalize(), big + "His": his.capitalize()}


def invented_name(rng):
    """A name of two or three syllables, so that the model learns to copy names that it never saw."""
    return "".join(rng.sample(w.SYLLABLES, rng.choice([2, 2, 3]))).capitalize()


def home_of(kind, rng):
    """(home, food, playground) of a kind; kinds without a row of their own get general ones."""
    if kind in w.KINDS:
        return w.KINDS[kind][:3]
    return rng.choice(w.EXTRA_HOMES), "fresh " + rng.choice(w.FOODS), "near " + rng.choice(w.PLACES)


def cast(rng, kind=None, name=None, taken=()):
    """(kind, name, female) of one character whose name nobody else has."""
    kind = kind or (rng.choice(list(w.KINDS)) if rng.random() < 0.8 else rng.choice(w.EXTRA_PEOPLE + w.EXTRA_THINGS))
    female = kind in w.HUMAN_FEMALE or kind in w.FEMALE_ANIMALS or (kind not in w.HUMAN_MALE and rng.random() < 0.5)
    female = (female or name in w.GIRLS) and name not in w.BOYS
    while True:
        people = kind in w.EXTRA_PEOPLE or (kind in w.KINDS and w.KINDS[kind][3] == "p")
        pool = (w.GIRLS if female else w.BOYS) if people or rng.random() < 0.35 else w.PET_NAMES
        chosen = name or (rng.choice(pool) if rng.random() < 0.92 else invented_name(rng))
        if chosen not in taken:
            return kind, chosen, female
        name = None


def thing_slots(rng):
    """Things, places and skills of one story, each kind chosen once so that it stays the same throughout."""
    thing, thing2 = rng.sample(w.SMALL_THINGS, 2)
    food, food2 = rng.sample(w.FOODS, 2)
    place, place2 = rng.sample(w.PLACES, 2)
    adj, adj2, adj3 = rng.sample(w.ADJ, 3)
    skill = rng.choice(w.SKILLS).split(":")[0]
    fear, comfort = rng.choice(w.FEARS).split(":")
    build, mat, where, verb = rng.choice(w.BUILDS).split(":")
    plant, fruit = rng.choice(w.PLANTS).split(":")
    sight = rng.choice(w.BIRD_SIGHTS)
    color = rng.choice(w.COLORS)
    return dict(thing=thing, thing2=thing2, food=food, food2=food2, place=place, place2=place2, adj=adj, adj2=adj2,
                adj3=adj3, skill=skill, fear=fear, fear_comfort=comfort, build=build, build_mat=mat,
                build_where=where, build_verb=verb, plant=plant, fruit=fruit, sight=sight,
                sight_c=sight.capitalize(), color=color, a_color="a " + color, hiding=rng.choice(w.HIDING))


def slots_for(rng, kind=None, name=None):
    """Every slot that the plots use."""
    hero = cast(rng, kind, name)
    friend = cast(rng, taken={hero[1]})
    third = cast(rng, taken={hero[1], friend[1]})
    s = thing_slots(rng)
    for prefix, (k, n, female) in (("", hero), ("f", friend), ("g", third)):
        s.update(pronouns(prefix, female))
        s[prefix + "kind"] = k
        s["a_" + prefix + "kind"] = "a " + k
        s["H" if not prefix else prefix.upper()] = n
    s["home"], s["hfood"], s["hplay"] = home_of(hero[0], rng)
    s["a_hero"] = mend("a " + (s["adj"] + " " if rng.random() < 0.85 else "") + hero[0])
    s["A_hero"] = s["a_hero"].capitalize()
    return s


def moral_of(key, s, rng):
    """No moral, or one or two closing sentences."""
    if key is None or rng.random() < 0.3:
        return ""
    first, second = w.MORALS[key]
    return expand(first + (" " + second if rng.random() < 0.6 else ""), s, rng)


def story(rng, kind=None, name=None, once=False):
    """One story as (what it is about, text). `once` asks for a "Once upon a time" beginning."""
    plot, moral, steps = rng.choice(PLOTS)
    s = slots_for(rng, kind, name)
    openers = OPENERS[:3] if once else OPENERS
    opener = rng.choices([o for o, _ in openers], [n for _, n in openers])[0]
    intro = expand(opener + rng.choice(SECOND), s, rng)
    lines = [expand(step, s, rng) for step in steps]
    end = " ".join(x for x in (moral_of(moral, s, rng), expand(rng.choice(CLOSERS), s, rng)) if x)
    cut = rng.randint(2, 4), rng.randint(5, 6)
    parts = [" ".join([intro] + lines[:cut[0]]), " ".join(lines[cut[0]:cut[1]]), " ".join(lines[cut[1]:] + [end]).strip()]
    text = ("\n\n" if rng.random() < 0.7 else " ").join(parts)
    keys = ("kind", "fkind", "thing", "his")
    return dict(plot=plot, name=s["H"], friend=s["F"], **{k: s[k] for k in keys}), mend(text)


if __name__ == "__main__":
    import random
    import sys
    seed = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for _ in range(4):
        print(story(seed)[1], "\n-----")
