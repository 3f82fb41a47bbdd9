"""The direct engine on a kitchen written by hand; texts were written after the rules, not copied from runs."""

import random

import pytest
from alfworld_samples import GOALS, sample_game, sample_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from oreo_envs.alfworld import rules
from oreo_envs.alfworld.problem import Problem, player_names, read_problem
from oreo_envs.alfworld.rules import domain_text, grammar_text, task_of
from oreo_envs.alfworld.simulator import DirectPlay, Game
from oreo_envs.alfworld.texts import HELP

SIMPLE = GOALS["pick_and_place_simple"][2]


def game(task_type: str = "pick_and_place_simple", **changes: str) -> Game:
    return Game(read_problem(sample_problem(GOALS[task_type][2], **changes), GOALS[task_type][1]))


def play(*commands: str, of: Game | None = None) -> list[str | None]:
    player = DirectPlay(of or game())
    return [player.step(command) for command in commands]


def test_the_opening_lists_the_room_and_the_task():
    assert game().intro == (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
        "a countertop 1, a desk 1, a fridge 1, a microwave 1, and a sinkbasin 1.\n\n"
        "Your task is to: put a knife in desk."
    )


def test_numbers_run_against_the_order_of_ids():
    names = player_names(["mug_bar_3", "mug_bar_1", "sink_bar_1_bar_sinkbasin", "sink_bar_1", "agent1"])
    assert names == {
        "mug_bar_1": "mug 2",
        "mug_bar_3": "mug 1",
        "sink_bar_1": "sink 1",
        "sink_bar_1_bar_sinkbasin": "sinkbasin 1",
        "agent1": "agent1 ",
    }


def test_admissible_commands_at_the_start_are_those_that_need_nothing():
    places = ("countertop 1", "desk 1", "fridge 1", "microwave 1", "sinkbasin 1")
    assert game().commands(game().start) == [*(f"go to {place}" for place in places), "help", "inventory", "look"]


def test_a_second_visit_to_a_place_and_to_its_neighbour_changes_nothing():
    assert play(
        "go to countertop 1", "go to countertop 1", "go to sinkbasin 1", "go to desk 1", "go to sinkbasin 1"
    ) == [
        "You arrive at countertop 1. On the countertop 1, you see a apple 1, a bowl 1, a knife 1, and a mug 1.",
        None,
        None,
        "You arrive at desk 1. On the desk 1, you see a desklamp 1, and a mug 2.",
        "You arrive at sinkbasin 1. On the sinkbasin 1, you see a mug 1.",
    ]


def test_doors_open_and_close():
    assert play(
        "open fridge 1",
        "go to fridge 1",
        "take apple 2 from fridge 1",
        "close fridge 1",
        "open fridge 1",
        "open fridge 1",
        "take apple 2 from fridge 1",
        "close fridge 1",
        "examine fridge 1",
        "move apple 2 to fridge 1",
    ) == [
        None,
        "You arrive at fridge 1. The fridge 1 is closed.",
        None,
        None,
        "You open the fridge 1. The fridge 1 is open. In it, you see a apple 2.",
        None,
        "You pick up the apple 2 from the fridge 1.",
        "You close the fridge 1.",
        "The fridge 1 is closed.",
        None,
    ]


def test_what_is_in_two_receptacles_leaves_only_the_one_it_is_taken_from():
    assert play("go to sinkbasin 1", "take mug 1 from countertop 1", "examine countertop 1", "examine sinkbasin 1")[
        1:
    ] == [
        "You pick up the mug 1 from the countertop 1.",
        "On the countertop 1, you see a apple 1, a bowl 1, and a knife 1.",
        "On the sinkbasin 1, you see a mug 1.",
    ]


def test_look_lists_what_was_taken_from_one_receptacle_and_put_into_its_neighbour():
    assert play("look", "go to sinkbasin 1", "look", "take apple 1 from countertop 1", "look") == [
        "You are in the middle of a room. Looking quickly around you, you see nothing.",
        "You arrive at sinkbasin 1. On the sinkbasin 1, you see a mug 1.",
        "You are facing the countertop 1, and sinkbasin 1. Next to it, you see nothing.",
        "You pick up the apple 1 from the countertop 1.",
        "You are facing the countertop 1, and sinkbasin 1. Next to it, you see nothing.",
    ]
    texts = play("go to sinkbasin 1", "take apple 1 from countertop 1", "move apple 1 to sinkbasin 1", "look")
    assert texts[-1] == "You are facing the countertop 1, and sinkbasin 1. Next to it, you see a apple 1."
    texts = play("go to sinkbasin 1", "take apple 1 from countertop 1", "move apple 1 to countertop 1", "look")
    assert texts[-1] == "You are facing the countertop 1, and sinkbasin 1. Next to it, you see nothing."


def test_only_the_object_in_hand_can_be_examined():
    assert play("go to desk 1", "examine mug 2", "take mug 2 from desk 1", "examine mug 2", "examine desk 1") == [
        "You arrive at desk 1. On the desk 1, you see a desklamp 1, and a mug 2.",
        None,
        "You pick up the mug 2 from the desk 1.",
        "There's nothing special about mug 2.",
        "On the desk 1, you see a desklamp 1.",
    ]
    assert play("go to countertop 1", "take bowl 1 from countertop 1", "examine bowl 1")[-1] == (
        "This is a normal bowl 1. In it, you see a spoon 1."
    )


@pytest.mark.parametrize(
    ("deeds", "text"),
    [
        ("clean", "This is a clean apple 1."),
        ("heat", "This is a hot apple 1."),
        ("cool", "This is a cold apple 1."),
        ("clean heat", "This is a hot and clean apple 1."),
        ("clean cool", "This is a cool and clean apple 1."),
        ("cool heat", "This is a hot apple 1."),
        ("heat cool", "This is a cold apple 1."),
        ("slice", "This is a sliced apple 1."),
        ("slice clean", "This is a clean sliced apple 1."),
        ("slice heat", "This is a hot sliced apple 1."),
        ("slice cool", "This is a cool sliced apple 1."),
        ("slice heat clean", "This is a hot and clean sliced apple 1."),
        ("slice cool clean", "This is a cool and clean sliced apple 1."),
    ],
)
def test_examine_tells_what_was_done_to_an_object(deeds, text):
    where = {"clean": "sinkbasin 1", "heat": "microwave 1", "cool": "fridge 1"}
    player = DirectPlay(game())
    player.step("go to countertop 1")
    for deed in deeds.split():
        if deed == "slice":
            assert player.step("take knife 1 from countertop 1")
            assert player.step("slice apple 1 with knife 1") == "You sliced the apple 1 with the knife 1."
            assert player.step("move knife 1 to countertop 1")
            continue
        player.step("take apple 1 from countertop 1")
        player.step(f"go to {where[deed]}")
        assert player.step(f"{deed} apple 1 with {where[deed]}") == f"You {deed} the apple 1 using the {where[deed]}."
    player.step("take apple 1 from countertop 1")
    assert player.step("examine apple 1") == text


def test_use_inventory_and_help():
    assert play(
        "use desklamp 1", "inventory", "go to desk 1", "use desklamp 1", "use desklamp 1", "use mug 2", "help"
    ) == [
        None,
        "You are not carrying anything.",
        "You arrive at desk 1. On the desk 1, you see a desklamp 1, and a mug 2.",
        "You turn on the desklamp 1.",
        "You turn on the desklamp 1.",
        None,
        HELP,
    ]
    assert play("go to desk 1", "take mug 2 from desk 1", "inventory")[-1] == "You are carrying: a mug 2."


def test_a_receptacle_takes_only_what_it_can_contain():
    start = ("go to countertop 1", "take knife 1 from countertop 1", "go to fridge 1", "open fridge 1")
    assert play(*start, "move knife 1 to fridge 1")[-1] is None


@pytest.mark.parametrize("task_type", GOALS)
def test_walkthroughs_win_with_their_last_command(task_type):
    player = DirectPlay(game(task_type))
    for command in GOALS[task_type][3]:
        assert not player.won and command in player.commands()
        assert player.step(command) is not None
    assert player.won


def test_two_objects_must_be_in_the_same_receptacle_and_a_won_game_can_be_lost_again():
    player = DirectPlay(game("pick_two_obj_and_place", facts="(receptacleType Desk_bar_1 CounterTopType)"))
    for command in ("go to fridge 1", "open fridge 1", "take apple 2 from fridge 1", "go to desk 1"):
        player.step(command)
    player.step("move apple 2 to desk 1")
    assert not player.won
    player.step("go to countertop 1")
    player.step("take apple 1 from countertop 1")
    player.step("go to desk 1")
    player.step("move apple 1 to desk 1")
    assert player.won
    player.step("take apple 1 from desk 1")
    assert not player.won


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_admissible_commands_are_exactly_those_that_are_obeyed(seed):
    rng = random.Random(seed)
    player = DirectPlay(game(rng.choice(list(GOALS))))
    objects = ["apple 1", "apple 2", "bowl 1", "desklamp 1", "knife 1", "mug 1", "mug 2", "spoon 1", "agent1 ", ""]
    places = ["countertop 1", "desk 1", "fridge 1", "microwave 1", "sinkbasin 1", "fridge 2", "mug 1", ""]
    everything = {"look", "help", "inventory", "", "look at", "go", "slice"}
    everything |= {
        f"{verb} {name}" for verb in ("go to", "open", "close", "examine", "use") for name in places + objects
    }
    everything |= {f"take {thing} from {place}" for thing in objects for place in places}
    everything |= {f"move {thing} to {place}" for thing in objects for place in places}
    verbs = ("heat", "cool", "clean", "slice")
    everything |= {f"{verb} {thing} with {place}" for verb in verbs for thing in objects for place in places + objects}
    for _ in range(12):
        before = player.state
        admissible = player.commands()
        assert admissible == sorted(set(admissible))
        obeyed = set()
        for command in everything:
            text = player.step(command)
            if text is None:
                assert player.state is before
            else:
                obeyed.add(command.strip())
            player.state = before
        assert obeyed == set(admissible)
        player.step(rng.choice(admissible))


def test_a_problem_survives_its_json_form():
    problem = read_problem(sample_problem(GOALS["pick_two_obj_and_place"][2]), "put two apple in countertop.")
    assert Problem.from_json(problem.to_json()) == problem
    assert "\n" not in problem.to_json()


def test_white_space_case_and_comments_in_pddl_mean_nothing():
    text = sample_problem(SIMPLE)
    expected = read_problem(text, "x.")
    assert read_problem(text.upper(), "x.") == expected
    assert read_problem(text.replace(" ", "\r\n\t "), "x.") == expected
    assert read_problem(text.replace("(", " ( ").replace(")", ") ; (a comment\n"), "x.") == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(:domain alfred)", "(:domain blocks)", r"another domain: \(:domain blocks\)"),
        ("(define", "(defne", "does not begin with"),
        ("(:goal", "(:gaol", r"without \(:goal"),
        (
            "(toggleable DeskLamp_bar_1)",
            "(togleable DeskLamp_bar_1)",
            "unknown predicate togleable.*did you mean 'toggleable'",
        ),
        ("(toggleable DeskLamp_bar_1)", "(toggleable Desk_bar_1)", "does not fit"),
        ("(toggleable DeskLamp_bar_1)", "(toggleable Lamp_bar_9)", "does not declare"),
        ("(toggleable DeskLamp_bar_1)", "(not (toggleable Desk_bar_1))", "unknown predicate not"),
        ("(toggleable DeskLamp_bar_1)", "(toggleable (DeskLamp_bar_1))", "does not fit"),
        ("(toggleable DeskLamp_bar_1)", "(holds agent1 Mug_bar_1)", "begins with empty hands"),
        (
            "(toggleable DeskLamp_bar_1)",
            "(atLocation agent1 loc_bar_a)",
            "one .atLocation agent location. expected, got 2",
        ),
        ("(toggleable DeskLamp_bar_1)", "(receptacleAtLocation Desk_bar_1 loc_bar_a)", "at two locations"),
        ("agent1 - agent", "agent1 - robot", "unknown type robot"),
        ("Mug_bar_2 - object", "Mug_bar_1 - object", "declared twice"),
        ("(exists (?o - object)", "(forall (?o - object)", "expected exists, and, not = or a fact"),
        ("(inReceptacle ?o ?r)", "(or (inReceptacle ?o ?r))", "expected exists, and, not = or a fact"),
        ("(inReceptacle ?o ?r)", "(not (inReceptacle ?o ?r))", "expected exists, and, not = or a fact"),
        ("(inReceptacle ?o ?r)", "(inReceptacle ?r ?o)", "is no object"),
        ("(inReceptacle ?o ?r)", "(isOn ?o)", "does not keep track of 'ison'"),
        ("(:init", "(:init)) (", r"one '\)' too many|not one expression"),
        ("(:objects", "((:objects", r"1 '\)' missing"),
    ],
)
def test_what_the_engine_could_misplay_is_refused(old, new, message):
    text = sample_problem(SIMPLE)
    assert old in text
    with pytest.raises(ValueError, match=message):
        Game(read_problem(text.replace(old, new), "x."))


def test_variables_that_no_fact_binds_range_over_everything():
    """There are a type and a location; the mug was put somewhere: as easy as it sounds."""
    goal = (
        "(exists (?t - otype ?x - rtype ?l - location ?r - receptacle ?o - object ?a - agent) "
        "(and (objectType ?o MugType) (isClean ?o) (inReceptacle ?o ?r)))"
    )
    player = DirectPlay(Game(read_problem(sample_problem(goal), "x.")))
    for command in ("go to sinkbasin 1", "take mug 1 from sinkbasin 1", "clean mug 1 with sinkbasin 1"):
        assert not player.won
        player.step(command)
    # The mug is still in its other receptacle.
    assert player.won


def test_the_task_is_read_from_a_grammar_that_is_otherwise_ours():
    assert task_of(domain_text(), grammar_text("put a mug in desk.")) == "put a mug in desk."
    assert task_of("; a comment\n" + domain_text().upper(), grammar_text("a.").replace("\n", "\r\n")) == "a."
    with pytest.raises(ValueError, match="'grammar' is not the grammar"):
        task_of(domain_text(), grammar_text("a.").replace("You open the", "You opened the"))
    with pytest.raises(ValueError, match="'pddl_domain' is not the domain"):
        task_of(domain_text().replace("(heatable ?thing))\n", "(sliceable ?thing))\n"), grammar_text("a."))
    with pytest.raises(ValueError, match="a task is one line"):
        grammar_text('say "hello".')


def test_a_domain_and_a_grammar_must_belong_together(monkeypatch):
    """The two sets of rules name their variables differently, so the stock engine could not mix them."""
    other = domain_text().replace("?thing", "?object")
    monkeypatch.setattr(rules, "_RELEASED_DOMAIN", rules._domain_sum(other))
    with pytest.raises(ValueError, match="'grammar' is not the grammar that goes with the game's domain"):
        task_of(other, grammar_text("a."))
    monkeypatch.setattr(rules, "_RELEASED_GRAMMAR", rules._grammar_sum(grammar_text("a.")))
    assert task_of(other, grammar_text("b.")) == "b."


def test_game_files_of_the_samples_are_whole():
    assert sample_game()["grammar"].count("put a knife in desk.") == 1
