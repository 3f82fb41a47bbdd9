"""What there is in generated houses: things, what can be done with them, where they lie.

Knows: types of things and of furniture, in the words of ALFWorld's games. Does not know: rooms, tasks.
Source: the words are those of AI2-THOR (https://ai2thor.allenai.org); how often what is where follows the
train games of ALFWorld roughly.
"""

from __future__ import annotations

FOOD = "Apple Bread Egg Lettuce Potato Tomato"
DISHES = "Bowl Cup Mug Plate"
COOKWARE = "Kettle Pan Pot"
CUTLERY = "ButterKnife Fork Knife Spatula Spoon"
SHAKERS = "PepperShaker SaltShaker"
BOTTLES = "Glassbottle SoapBottle WineBottle"
WASHING = "Cloth DishSponge SoapBar"
BATHROOM = "Candle HandTowel SoapBottle SprayBottle TissueBox ToiletPaper"
POCKET = "CellPhone CreditCard KeyChain"
PENS = "Pen Pencil"
LEISURE = "Book Box Laptop Newspaper RemoteControl"
ORNAMENTS = "Statue Vase"
SPORT = "BasketBall TennisRacket"


def _kinds(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


PROPERTIES = {
    "cleanable": _kinds(FOOD, DISHES, COOKWARE, CUTLERY, WASHING, "Ladle") - {"Bread"},
    "heatable": _kinds(FOOD, "Cup Mug Plate") - {"Lettuce"},
    "coolable": _kinds(FOOD, DISHES, "Pan Pot WineBottle"),
    "sliceable": _kinds(FOOD),
    "isReceptacleObject": _kinds(DISHES, "Box Pan Pot"),
    "toggleable": _kinds("DeskLamp FloorLamp"),
}
"""Predicate to the types of things of which it is true."""

HOLDS = {
    "ArmChair": _kinds(POCKET, LEISURE, "Pillow"),
    "BathtubBasin": _kinds(WASHING, "HandTowel"),
    "Bed": _kinds(SPORT, "BaseballBat Book CellPhone Laptop Pillow"),
    "Cabinet": _kinds(DISHES, COOKWARE, SHAKERS, BOTTLES, WASHING, BATHROOM, "Book Box Ladle Vase"),
    "Cart": _kinds(BATHROOM, WASHING),
    "CoffeeMachine": _kinds("Mug"),
    "CoffeeTable": _kinds(POCKET, PENS, LEISURE, ORNAMENTS, "Bowl Candle Plate TissueBox Watch"),
    "CounterTop": _kinds(FOOD, DISHES, COOKWARE, CUTLERY, SHAKERS, BOTTLES, WASHING, BATHROOM, "Book Ladle", ORNAMENTS),
    "Desk": _kinds(POCKET, PENS, SPORT, ORNAMENTS, "AlarmClock Book Bowl Box CD Laptop Mug TissueBox"),
    "DiningTable": _kinds(
        FOOD, DISHES, COOKWARE, CUTLERY, SHAKERS, BOTTLES, POCKET, PENS, LEISURE, ORNAMENTS, "Candle Ladle Watch"
    ),
    "Drawer": _kinds(CUTLERY, SHAKERS, WASHING, BATHROOM, POCKET, PENS, "Book CD Ladle Newspaper RemoteControl Watch"),
    "Dresser": _kinds(POCKET, PENS, LEISURE, ORNAMENTS, SPORT, "AlarmClock Bowl CD Mug TissueBox Watch"),
    "Fridge": _kinds(FOOD, DISHES, "Glassbottle Pan Pot WineBottle"),
    "GarbageCan": _kinds(FOOD, PENS, WASHING, "CD Newspaper SoapBottle SprayBottle TissueBox ToiletPaper WineBottle"),
    "HandTowelHolder": _kinds("HandTowel"),
    "LaundryHamper": _kinds("Cloth"),
    "Microwave": _kinds(FOOD, DISHES) - {"Lettuce"},
    "Ottoman": _kinds(POCKET, LEISURE, "Pillow"),
    "Safe": _kinds(POCKET, ORNAMENTS, "CD"),
    "Shelf": _kinds(
        DISHES, SHAKERS, BOTTLES, BATHROOM, PENS, ORNAMENTS, "AlarmClock Book Box CD Kettle KeyChain Watch"
    ),
    "SideTable": _kinds(
        SHAKERS, DISHES, BATHROOM, POCKET, PENS, LEISURE, ORNAMENTS, SPORT, "AlarmClock CD SoapBar Watch"
    ),
    "SinkBasin": _kinds(FOOD, DISHES, COOKWARE, CUTLERY, WASHING, "Ladle") - {"Bread"},
    "Sofa": _kinds(POCKET, LEISURE, "Pillow"),
    "StoveBurner": _kinds(COOKWARE),
    "Toaster": frozenset[str](),
    "Toilet": _kinds(BATHROOM, WASHING),
    "ToiletPaperHanger": _kinds("ToiletPaper"),
    "TowelHolder": _kinds("Towel"),
    "TVStand": _kinds("TissueBox"),
}
"""Furniture to the types of things that can be put there."""

PORTABLE = frozenset().union(*HOLDS.values())
"""Types of things that can be taken."""

STANDS_ON = {
    "DeskLamp": _kinds("Desk Dresser Shelf SideTable CoffeeTable"),
    "HousePlant": _kinds("CoffeeTable CounterTop Desk DiningTable Dresser SideTable TVStand"),
    "Television": _kinds("Dresser TVStand"),
}
"""What nobody can take, to the furniture that it may stand on."""

OPENABLE = {"Cabinet": 0.85, "Drawer": 0.85, "Fridge": 1.0, "Microwave": 1.0, "Safe": 0.85}
"""How often such furniture has a door that works; the rest of it is open for ever."""

ROOM_FOR = {
    **dict.fromkeys(("CoffeeMachine", "HandTowelHolder", "StoveBurner", "ToiletPaperHanger", "TowelHolder"), 1),
    **dict.fromkeys(("Drawer", "GarbageCan", "Microwave", "Safe"), 3),
}
"""How many things lie there at most when a game begins, where that is few."""

ATTRACTION = {
    **dict.fromkeys(("Bed", "CounterTop", "CoffeeTable", "Desk", "DiningTable", "Dresser", "Fridge", "Sofa"), 6.0),
    **dict.fromkeys(("HandTowelHolder", "TowelHolder", "CoffeeMachine", "StoveBurner", "Toilet"), 4.0),
    **dict.fromkeys(("ArmChair", "BathtubBasin", "SideTable", "SinkBasin"), 3.0),
}
"""How likely a piece of furniture is to get a thing that it can hold, against 1 for the rest."""

STOCK = {
    "kitchen": (
        f"{FOOD} {DISHES} {CUTLERY} {SHAKERS} DishSponge Pan Pot SoapBottle",
        "Book Glassbottle HousePlant Kettle Ladle Statue Vase WineBottle",
        "Chair LightSwitch Sink StoveKnob StoveKnob StoveKnob StoveKnob Window",
    ),
    "living room": (
        "Box CreditCard HousePlant KeyChain Laptop Newspaper Pillow RemoteControl Statue Television Vase Watch",
        "Book Bowl Candle CellPhone DeskLamp Pen Pencil Plate TissueBox",
        "Chair Chair Curtains FloorLamp LightSwitch Painting Window",
    ),
    "bedroom": (
        f"{POCKET} {PENS} AlarmClock Book Bowl Box CD DeskLamp Laptop Mug Pillow",
        "BaseballBat BasketBall HousePlant Statue TennisRacket TissueBox Vase",
        "Blinds Chair LightSwitch Mirror Painting Window",
    ),
    "bathroom": (
        "Candle Cloth DishSponge HandTowel SoapBar SoapBottle SprayBottle TissueBox ToiletPaper Towel",
        "HousePlant",
        "LightSwitch Mirror Plunger ScrubBrush ShowerDoor Sink Window",
    ),
}
"""Kind of room to things that are always there, things that may be, and fixtures that lie on no furniture."""
