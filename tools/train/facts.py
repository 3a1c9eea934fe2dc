"""A few plain facts about the world for variety, and the sentences made from them. Data and one function."""

from grammar import expand

ANIMALS = """fox:in the forest:mice and berries:red fur and a bushy tail;rabbit:in a burrow:grass and carrots:long ears;
bear:in the woods:berries, fish and honey:thick fur and big paws;mouse:in small holes:seeds and grain:a long thin tail;
owl:in hollow trees:mice:big round eyes;cat:with people:meat and fish:soft fur and sharp claws;
dog:with people:meat and bones:a good nose;frog:in ponds:flies:long legs and smooth skin;
duck:near lakes and rivers:water plants:flat feet and soft feathers;hedgehog:in gardens:worms and insects:sharp spines;
squirrel:in trees:nuts and seeds:a bushy tail;turtle:near water:leaves and small fish:a hard shell;
horse:on farms:grass and hay:strong legs and a long mane;sheep:in meadows:grass:thick wool;
pig:on farms:almost anything:a round nose;goat:on rocky hills:grass and leaves:two horns;
bee:in hives:nectar from flowers:four wings and a sting;ant:in nests under the ground:seeds and crumbs:six legs;
elephant:in Africa and Asia:leaves and grass:a long trunk and big ears;lion:in Africa:meat:a golden coat and a loud voice;
monkey:in warm forests:fruit and leaves:long arms and clever hands;penguin:in the cold south:fish:black and white feathers;
whale:in the sea:tiny shrimp and fish:a huge body;snail:in gardens:leaves:a small round shell;
deer:in the forest:grass and leaves:thin legs and brown fur;otter:by rivers:fish:thick brown fur;
beaver:in rivers:bark and leaves:strong teeth and a flat tail;wolf:in forests and mountains:meat:gray fur and sharp teeth;
hen:on farms:corn and seeds:feathers and a small red comb;cow:on farms:grass:two horns and a soft nose;
spider:in webs:flies:eight legs;bat:in caves:insects and fruit:wide wings of skin;
fish:in water:plants and small animals:scales and fins;crab:by the sea:plants and small animals:a hard shell and two claws;
tiger:in the forests of Asia:meat:orange fur with black stripes;giraffe:in Africa:leaves:a very long neck;
camel:in the desert:dry grass:a hump on its back;eagle:in the mountains:fish and small animals:sharp eyes and wide wings""".replace("\n", "").split(";")
CAPITALS = """France:Paris;Germany:Berlin;Italy:Rome;Spain:Madrid;England:London;Japan:Tokyo;Austria:Vienna;Greece:Athens;
Russia:Moscow;Portugal:Lisbon;Ireland:Dublin;Egypt:Cairo""".replace("\n", "").split(";")
PLAIN = [
    ("[What color is the sky|Why is the sky blue]?", "The sky is blue on a clear day, because the air scatters blue light the most."),
    ("What color is grass?", "Grass is green."), ("What color is snow?", "Snow is white."),
    ("[What color is the sun|What is the sun]?", "The sun is a star. It gives us light and warmth."),
    ("What is the moon?", "The moon is a ball of rock that goes around the earth. It shines in the light of the sun."),
    ("What is the earth?", "The earth is the planet on which we live. It goes around the sun."),
    ("What is water?", "Water is clear and wet. All living things need it."),
    ("What is [snow|ice]?", "It is frozen water. It is cold, and it melts in the sun."),
    ("What is rain?", "Rain is water that falls from the clouds."), ("What is wind?", "Wind is air that moves."),
    ("What is a tree?", "A tree is a tall plant with a trunk, branches and leaves."),
    ("What is a river?", "A river is a long stream of water that flows to the sea."),
    ("What is a friend?", "A friend is someone who likes you and helps you."),
    ("What is a book?", "A book is a set of pages with words or pictures in it."),
    ("What is a story?", "A story tells what happened to someone, in truth or in a dream."),
    ("What is love?", "Love is a warm feeling for someone whom you hold dear."),
    ("What is a computer?", "A computer is a machine that follows instructions and works with numbers and text."),
    ("What is a program?", "A program is a list of instructions that a computer follows."),
    ("How many days are in a week?", "There are seven days in a week."),
    ("How many months are in a year?", "There are twelve months in a year."),
    ("How many legs does a [dog|cat|horse|fox|bear] have?", "It has four legs."),
    ("How many legs does [a spider|spiders] have?", "A spider has eight legs."),
    ("[Name the days of the week|What are the days of the week].", "The days are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday."),
    ("[Name|What are] the seasons[.|?]", "The seasons are spring, summer, autumn and winter."),
    ("[Count to five|Count to 5].", "One, two, three, four, five."), ("Count to ten.", "One, two, three, four, five, six, seven, eight, nine, ten."),
    ("What is [two plus two|2 + 2|2 plus 2|2+2]?", "Two plus two is four."), ("What is [one plus one|1 + 1|1+1]?", "One plus one is two."),
    ("What is [two plus three|2 + 3]?", "Two plus three is five."), ("What is [three plus three|3 + 3]?", "Three plus three is six."),
    ("What is [five plus five|5 + 5]?", "Five plus five is ten."), ("What comes after winter?", "Spring comes after winter."),
]


def animal_rows():
    """(question, answer) patterns about each animal."""
    rows = []
    for line in ANIMALS:
        name, home, food, look = line.split(":")
        rows += [
            (f"[What is a {name}|Tell me about the {name}|What do you know about a {name}|Describe a {name}][?|]",
             f"[A {name} is an animal that lives {home}. It has {look}.|The {name} is an animal. It lives {home} and eats {food}.|A {name} is an animal with {look}. It eats {food}.]"),
            (f"Where does a {name} live?", f"A {name} lives {home}."),
            (f"What does a {name} eat?", f"A {name} eats {food}."),
            (f"What does a {name} look like?", f"A {name} has {look}."),
        ]
    return rows


def rows():
    """All plain facts as (question, answer) patterns."""
    out = list(PLAIN) + animal_rows()
    for line in CAPITALS:
        land, city = line.split(":")
        out.append((f"[What is|what is|Tell me|Do you know] the capital of {land}[?|]", f"The capital of {land} is {city}."))
    return out


def paragraph(rng):
    """A short plain text about one or two animals."""
    parts = []
    for line in rng.sample(ANIMALS, rng.randint(1, 3)):
        name, home, food, look = line.split(":")
        parts.append(expand(
            f"[The {name} is an animal|A {name} is an animal] [that lives {home}|with {look}]. "
            f"[It eats {food}.|It likes to eat {food}.] [It has {look}.|You can find it {home}.|]", {}, rng))
    return " ".join(parts)
