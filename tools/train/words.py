"""Word tables for the story grammar: who may appear, where, with what. Data only."""

GIRLS = """Lily Mia Anna Rosa Ella Nora Ida Clara Ruby Tess Maya Zoe Emma Lucy Molly Daisy Hana Elsa Kate Sara
Amy Bella Dora Eva Fern Greta Hazel Iris June Kira Lena Maria Nina Olive Penny Sophie Vera Wendy Alma Ada
Jane Leila Aisha Mei Yuki Priya Ines Freya""".split()
BOYS = """Tom Ben Max Sam Leo Finn Jack Oscar Hugo Noah Tim Adam Bob Carl Dan Eli Fred George Henry Ivan Jonas
Karl Luke Milo Nick Otto Paul Peter Ralph Simon Theo Victor Will Amir Omar Kofi Ravi Hiro Lars Pedro Anton
Felix Emil Jakob Alan Linus""".split()
PET_NAMES = """Pip Momo Bobo Fluffy Spot Pepper Ginger Button Biscuit Teddy Nibble Patch Pebble Maple Clover Honey
Rusty Sunny Shadow Snow Star Bean Berry Bramble Cocoa Dot Echo Fig Flick Hop Inky Jolly Kiki Lumi Misty Nutmeg
Olly Plum Poppy Quill Rolo Skip Tiki Toto Twig Willow Ziggy Coco""".split()

# kind: (home, favourite food, where it plays, "p" for people or "a" for animals)
KINDS = {
    "girl": ("in a small house near the river", "apple pie", "in the garden", "p"),
    "boy": ("in a little house on the hill", "warm bread", "in the yard", "p"),
    "princess": ("in a tall castle", "sweet cake", "in the castle garden", "p"),
    "prince": ("in an old stone castle", "roast chicken", "in the great hall", "p"),
    "farmer": ("on a quiet farm", "hot soup", "in the fields", "p"),
    "baker": ("above a little bakery", "fresh bread", "in the village square", "p"),
    "fisherman": ("in a hut by the sea", "fried fish", "on the beach", "p"),
    "painter": ("in a bright room under the roof", "cheese and grapes", "in the park", "p"),
    "shepherd": ("on a green hill", "bread and cheese", "in the meadow", "p"),
    "sailor": ("in a house by the harbor", "fish soup", "on the old pier", "p"),
    "clockmaker": ("in a narrow house full of clocks", "pancakes", "in the town square", "p"),
    "fox": ("in a den under an old oak tree", "red berries", "in the forest", "a"),
    "rabbit": ("in a burrow under the hill", "orange carrots", "in the meadow", "a"),
    "bear": ("in a cave in the mountains", "golden honey", "in the woods", "a"),
    "mouse": ("in a tiny hole in the wall", "yellow cheese", "in the kitchen", "a"),
    "owl": ("in a hollow tree", "warm soup", "in the dark forest", "a"),
    "cat": ("in a cozy house at the end of the street", "warm milk", "in the garden", "a"),
    "dog": ("on a farm by the road", "big bones", "in the yard", "a"),
    "frog": ("by a green pond", "sweet water plants", "on the lily pads", "a"),
    "duck": ("near a blue lake", "soft bread", "in the water", "a"),
    "hedgehog": ("under a pile of leaves", "ripe pears", "in the garden", "a"),
    "squirrel": ("high up in a pine tree", "brown nuts", "in the treetops", "a"),
    "turtle": ("beside a slow river", "green leaves", "on the sandy bank", "a"),
    "bird": ("in a nest in the apple tree", "small seeds", "in the sky", "a"),
    "pony": ("in a red barn", "sweet apples", "in the field", "a"),
    "lamb": ("in a green valley", "fresh grass", "in the meadow", "a"),
    "pig": ("on a muddy farm", "corn", "in the mud", "a"),
    "goat": ("high on a rocky hill", "mountain flowers", "on the rocks", "a"),
    "bee": ("in a busy hive", "flower juice", "among the flowers", "a"),
    "ant": ("in a hill of sand", "bread crumbs", "in the tall grass", "a"),
    "elephant": ("near a wide river", "sweet bananas", "in the tall grass", "a"),
    "lion": ("on a wide yellow plain", "fresh meat", "under the big trees", "a"),
    "monkey": ("in the jungle", "ripe bananas", "in the trees", "a"),
    "penguin": ("on the cold white ice", "silver fish", "in the snow", "a"),
    "whale": ("in the deep blue sea", "tiny shrimp", "in the waves", "a"),
    "dragon": ("in a cave behind a waterfall", "hot pepper soup", "on the mountain", "a"),
    "robot": ("in a workshop full of tools", "warm oil", "in the workshop", "a"),
    "snail": ("under a big green leaf", "salad leaves", "in the wet grass", "a"),
    "deer": ("at the edge of the forest", "young leaves", "in the clearing", "a"),
    "otter": ("beside a fast river", "fresh fish", "in the water", "a"),
    "badger": ("in a warm hole under the roots", "sweet roots", "in the woods", "a"),
    "beaver": ("in a house made of sticks", "soft bark", "by the dam", "a"),
    "wolf": ("in the snowy mountains", "hot stew", "in the snow", "a"),
    "donkey": ("in an old wooden stable", "dry hay", "on the dusty road", "a"),
    "hen": ("in a small wooden coop", "golden corn", "in the farmyard", "a"),
    "crab": ("under a rock by the sea", "seaweed", "on the sand", "a"),
    "bat": ("in a dark cave", "ripe figs", "in the night sky", "a"),
    "kitten": ("in a basket by the fire", "cream", "on the soft rug", "a"),
    "puppy": ("in a house with a blue door", "crunchy biscuits", "in the grass", "a"),
    "unicorn": ("in a silver forest", "sweet clover", "by the waterfall", "a"),
}
HUMAN_FEMALE = {"girl", "princess", "queen", "witch", "grandmother", "woman"}
HUMAN_MALE = {"rooster", "boy", "prince", "fisherman", "king", "wizard", "grandfather", "man"}
FEMALE_ANIMALS = {"hen", "cow"}

ADJ = """little small young kind brave clever happy shy curious quiet cheerful gentle lazy proud busy tiny
friendly hungry lonely silly wise careful playful""".split()
COLORS = "red blue green yellow silver golden white purple brown orange pink".split()
SMALL_THINGS = """ball kite hat scarf bell book key ring lamp drum flute cup box coin button boat doll basket map
spoon stone shell feather blanket lantern whistle ribbon clock umbrella mirror necklace""".split()
PLACES = """the forest;the meadow;the river;the lake;the village;the market;the beach;the mountain;the old mill;
the garden;the valley;the hill;the park;the pond;the old bridge;the harbor;the field;the orchard""".replace("\n", "").split(";")
HIDING = """under a bush;behind a big rock;inside a hollow log;under the old bridge;in the tall grass;
next to the well;at the top of a tree;behind the barn;under a pile of leaves;between two stones""".replace("\n", "").split(";")
FOODS = """cakes;bread;sandwiches;honey;apples;berries;nuts;cheese;pancakes;cookies;plums;carrots;corn;pears;pies;peaches""".split(";")
BIRD_SIGHTS = """the sun was warm and the birds were singing;the sky was blue and clear;a soft wind was blowing;
white clouds moved slowly across the sky;the leaves were red and gold;the grass was wet with dew;
the snow was deep and white;rain was falling on the roof;the flowers were open and bright;
the stars were still shining""".replace("\n", "").split(";")
SKILLS = """sing:sang:singing:song;swim:swam:swimming:stroke;dance:danced:dancing:dance;paint:painted:painting:picture;
read:read:reading:book;write:wrote:writing:letter;bake:baked:baking:cake;climb:climbed:climbing:climb;
juggle:juggled:juggling:trick;whistle:whistled:whistling:tune;skate:skated:skating:turn;
play the flute:played the flute:playing the flute:tune;ride a bicycle:rode a bicycle:riding a bicycle:ride""".replace("\n", "").split(";")
FEARS = """the dark:the light of the moon;thunder:the sound of the rain;deep water:the gentle waves;
high places:the wide view;strangers:a friendly smile;the big forest:the tall green trees;
loud noises:the music of the drums;the long night:the bright stars""".replace("\n", "").split(";")
BUILDS = """boat:wood and rope:the river:float;kite:paper and sticks:the windy hill:fly;
tree house:planks and nails:the old oak:stand;bridge:stones and logs:the stream:hold;
cart:wheels and boards:the road:roll;sled:two long boards:the snowy hill:slide;
snowman:snow and buttons:the yard:stand;raft:logs and strings:the lake:float;
sandcastle:sand and shells:the beach:stand;birdhouse:wood and nails:the garden:hang""".replace("\n", "").split(";")
PLANTS = """sunflower:yellow petals;apple tree:sweet red apples;rose:soft red petals;pumpkin:a great orange pumpkin;
bean plant:long green beans;cherry tree:dark red cherries;tulip:bright petals;strawberry plant:sweet red berries;
pear tree:juicy pears;melon:a round green melon""".replace("\n", "").split(";")
MORALS = {
    "share": ["{He} learned that [sharing makes everyone happy|it is good to share|a meal tastes better with a friend].",
              "From that day on, {he} always shared."],
    "brave": ["{He} learned that [being brave does not mean having no fear|even small ones can be brave|fear grows small when we face it].",
              "From then on, {he} was a little braver every day."],
    "honest": ["{He} learned that [it is always better to tell the truth|the truth is lighter to carry than a lie|an honest word is worth more than gold].",
               "From that day on, {H} always told the truth."],
    "patient": ["{He} learned that [good things take time|patience brings sweet fruit|we must wait for good things].",
                "{H} never forgot how good it felt to wait and work."],
    "kind": ["{He} learned that [kindness always comes back|a small kind act can change a day|nobody is too small to help].",
             "From that day on, {H} was kind to everyone."],
    "try": ["{He} learned that [you must never give up|we learn from our mistakes|trying again is the secret].",
            "{H} was proud, because {he} did not give up."],
    "greed": ["{He} learned that [enough is as good as a feast|wanting too much can leave you with nothing|the best things are not made of gold].",
              "From then on, {he} was happy with what {he} had."],
    "friend": ["{He} learned that [a good friend is the best treasure|friends are worth more than gold|everything is easier with a friend].",
               "And {H} and {F} stayed friends forever."],
}
# Kinds without a home of their own: they keep the model open to nouns that a reader may ask for.
EXTRA_PEOPLE = """king queen knight wizard witch giant teacher doctor cook gardener miller tailor hunter pirate
musician child grandmother grandfather woman man soldier explorer pilot""".split()
EXTRA_THINGS = """cow horse sheep tiger spider fish giraffe camel eagle crow swan goose butterfly ladybug worm seal
dolphin shark octopus kangaroo panda zebra parrot rooster ghost cloud star snowman train car ship tree river dinosaur
computer lizard snake moth raven hamster beetle moose""".split()
EXTRA_HOMES = """near the forest;by the sea;at the edge of the town;on a small island;in a quiet valley;by the road;
near the old mill;on the other side of the hill;in the middle of the village;beside a lake""".replace("\n", "").split(";")
SYLLABLES = "ba be bo da de do fa fi ga go ka ki ko la le li lo ma me mi mo na ne ni no pa pe po ra re ri ro sa se su ta te ti to va ve vi wa za ze zo".split()
