"""The command line: a name that there is not is answered with what was meant, or with nothing."""

from collections.abc import Callable

import pytest

Caught = Callable[..., str]

pytestmark = pytest.mark.usefixtures("nothing_is_trained")


@pytest.mark.parametrize(
    ("given", "meant"), [("trian", "train"), ("evla", "eval"), ("reprot", "report"), ("dat", "data")]
)
def test_an_unknown_command_suggests_the_closest(given: str, meant: str, refused: Caught):
    text = refused(given)
    assert f"unknown command {given!r}; did you mean {meant!r}?" in text
    assert text.count("\n") <= 1


@pytest.mark.parametrize(
    "arguments", [("xyz",), ("metrics", "zzz"), ("run", "trainer.zzz=1"), ("train", "env=zzz"), ("play", "zzz")]
)
def test_nothing_is_suggested_where_nothing_is_close(arguments, refused: Caught):
    assert "did you mean" not in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "name", "meant"),
    [
        (("collect", "collect.sampels=3"), "collect.sampels", "collect.samples"),
        (("train", "algo.betta=0.1"), "algo.betta", "algo.beta"),
        (("run", "sede=1"), "sede", "seed"),
        (("run", "algo=oreo"), "algo", "algos"),
        (
            ("run", "algorithms.oreo.value_warmup=3"),
            "algorithms.oreo.value_warmup",
            "algorithms.oreo.value_warmup_steps",
        ),
        (("train", "algo=oreoo"), "algo/oreoo", "algo/oreo"),
        (("train", "alog=oreo"), "alog", "algo"),
        (("sft", "env=gsm9k"), "env/gsm9k", "env/gsm8k"),
        (("run", "experiment=smok"), "experiment/smok", "experiment/smoke"),
        (("collect", "env.options.wrld=1"), "env.options.wrld", "env.options.world"),
        (("eval", "env.options.num_verb=8"), "env.options.num_verb", "env.options.num_verbs"),
        (("collect", "env=gsm8k", "env.options.max_char=8"), "env.options.max_char", "env.options.max_chars"),
        (("train", "-m", "algo.betta=0.1,0.2"), "algo.betta", "algo.beta"),
        (("train", "-m", "seed=0,1", "algo=dpoo,oreo"), "algo/dpoo", "algo/dpo"),
        (("train", "-m", "seed=0,1", "algo=oreo,dpo,reject"), "algo/reject", "algo/rejection"),
    ],
)
def test_a_misspelt_name_offers_the_closest_right_one(arguments, name: str, meant: str, refused: Caught):
    text = refused(*arguments)
    assert f"there is no setting {name!r}; did you mean {meant!r}?" in text


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("collect", "env.options.num_verbs=8"), "env.options.num_verbs"),
        (("train", "env.options.max_total=8"), "env.options.max_total"),
        (("collect", "env=alfworld", "env.options.expert=true"), "env.options.expert"),
        (("sft", "env=qa", "env.options.max_steps=8"), "env.options.max_steps"),
    ],
)
def test_an_option_that_no_file_names_is_added_with_a_plus(
    arguments, key: str, refused: Caught, run, composed, tmp_path
):
    text = refused(*arguments)
    assert f"no file names {key!r}, which oreo/" in text and f"add it with +{key}=..." in text
    *others, given = arguments
    run(*others, f"+{given}", f"hydra.run.dir={tmp_path / 'out'}")
    assert key.rpartition(".")[2] in composed[0][0].env.options


def test_an_option_of_another_environment_is_no_suggestion(refused: Caught):
    text = refused("collect", "env=gsm8k", "env.options.verbs_per_problem=[1,2]")
    assert "there is no setting 'env.options.verbs_per_problem'\n(oreo/GSM8K-v0 takes " in text
    assert "did you mean" not in text and "prompt" in text


@pytest.mark.parametrize(
    ("arguments", "name", "offered"),
    [
        (("collect", "temperature=3"), "temperature", "'collect.sampling.temperature'"),
        (("eval", "samples=3"), "samples", "'collect.samples', 'value_eval.samples'"),
        (("run", "alpha=1"), "alpha", "'algorithms.oreo.alpha'"),
        (("run", "algo.beta=1"), "algo.beta", "'algorithms.oreo.beta'"),
        (("run", "algo.bta=1"), "algo.bta", "'algorithms.oreo.beta'"),
    ],
)
def test_a_setting_without_its_place_is_offered_with_it(arguments, name: str, offered: str, refused: Caught):
    text = refused(*arguments)
    assert f"there is no setting {name!r}; did you mean one of " in text and offered in text


@pytest.mark.parametrize(
    ("arguments", "owner"),
    [
        (("train", "algo=dpo", "algo.alpha=1"), "alpha is a setting of algo=grpo, algo=oreo, algo=oreo-constant"),
        (("run", "algorithms.kto.value_lr=1"), "value_lr is a setting of algo=awr, algo=direct-advantage, algo=dqo"),
        (("collect", "env=gsm8k", "env.options.num_verbs=8"), "num_verbs is a setting of env=arithmetic"),
        (("eval", "searches.greedy.keep=2"), "keep is a setting of search=step_beam"),
    ],
)
def test_a_setting_of_another_choice_is_told_with_it(arguments, owner: str, refused: Caught):
    assert owner in refused(*arguments)
