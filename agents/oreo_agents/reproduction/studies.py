"""The tables and figures of the paper: their rows, columns and published numbers, and the runs that each takes.

Knows: Wang et al. 2024 (arXiv:2412.16145), command lines of ``oreo``. Does not know: how runs are started, results.
Published numbers are percent. Those of figures 2 to 5 were read off the pictures, to about .1 points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Scale = Literal["tiny", "paper"]


@dataclass(frozen=True)
class Model:
    """A checkpoint of the paper.

    Attributes:
        path: on the Hugging Face hub.
        shape: architecture and sizes, for counting memory where the checkpoint is not at hand; None: unknown here.
    """

    path: str
    shape: Mapping[str, Any] | None = field(default=None, hash=False)


QWEN = Model(
    "Qwen/Qwen2.5-Math-1.5B",
    {"model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
     "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
)  # fmt: skip
DEEPSEEK = Model(
    "deepseek-ai/deepseek-math-7b-instruct",
    {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 30,
     "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 102400, "tie_word_embeddings": False},
)  # fmt: skip
MINICPM = Model("openbmb/MiniCPM-2B-dpo-bf16")


@dataclass(frozen=True)
class Stage:
    """One command of a repetition.

    Attributes:
        name: of its folder.
        command: ``run`` or ``eval``.
        arguments: its overrides; ``{k}`` is the number of the repetition, from 0, ``{of}`` the folder of ``of``.
        of: the stage that it goes on from.
        model: of the paper, that it trains; None: a small one from random weights.
    """

    name: str
    command: str
    arguments: tuple[str, ...]
    of: "Stage | None" = None
    model: Model | None = None


@dataclass(frozen=True)
class Column:
    """What accuracies are of.

    Attributes:
        title: the paper's.
        stages: by scale, whose results it is of; a scale that is not there has no such column.
        here: by scale, what stands for it here.
        split: of the results.
    """

    title: str
    stages: Mapping[Scale, Stage]
    here: Mapping[Scale, str]
    split: str = "test"


@dataclass(frozen=True)
class Row:
    """One line of a table, or point of a figure.

    Attributes:
        title: its name.
        algo: name in the results, see ``Entry.name``.
        search: name in the results.
        published: by title of the column; what the paper does not report is not there.
        lines: of the figure, that it is a point of.
        x: where on them.
    """

    title: str
    algo: str
    search: str = "greedy"
    published: Mapping[str, float] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    x: float = 0.0


@dataclass(frozen=True)
class Study:
    """A table or a figure.

    Attributes:
        name: on the command line.
        title: what it shows.
        columns: of accuracies.
        rows: in order.
        base: title of the row that the others are compared with.
        axis: what ``Row.x`` is; "": rows are no points of a line.
        deviations: by scale, in what ours differs from the paper's.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    base: str
    axis: str = ""
    deviations: Mapping[Scale, Sequence[str]] = field(default_factory=dict)


# Worlds of word problems stand for the two data sets; six of them are those of benchmarks/miniature.py.
_WORLD = ("experiment=miniature", "env.options.answer={answer}", "env.options.world=1{k}", "workers=1")
# Chosen on world 20, benchmarks/LOG.md: what each kind of answer asks for beside the experiment's settings.
_OWN = {
    "boxes": {"dpo": "beta=1.0"},
    "exact": {
        "rejection": "policy_lr=3e-4",
        "dpo": "policy_lr=3e-5",
        "oreo": "policy_lr=2e-4",
        "oreo-step": "policy_lr=3e-4",
    },
}
_BEAMS = (3, 5, 7)
_TAU = 0.05
_ALONE, _WEIGHED = "V alone", f"V + {_TAU} log pi"
_OURS = f"{_WEIGHED}, the suite's default, is ours; V alone is the paper's rule"
_BEFORE, _AFTER = "V before the answer, alone", f"V after it, + {_TAU} log pi"


def _words(name: str, answer: str, algos: Sequence[str], *more: str) -> Stage:
    """Return a run in the worlds with one kind of answer."""
    own = [f"algorithms.{algo}.{setting}" for algo, setting in _OWN[answer].items() if algo in algos]
    settings = [text.replace("{answer}", answer) for text in _WORLD]
    return Stage(f"{name}-{answer}-1{{k}}", "run", (*settings, f"algos=[{','.join(algos)}]", *own, *more))


def _math(name: str, env: str, size: str, model: Model, algos: Sequence[str], *more: str) -> Stage:
    """Return a run of a checkpoint of the paper on a data set."""
    settings = (f"experiment=paper-{size}", f"env={env}", "seed={k}")
    return Stage(f"{name}-{env}-{size}-{{k}}", "run", (*settings, f"algos=[{','.join(algos)}]", *more), model=model)


def _beams(of: Stage, tasks: int, *more: str) -> Stage:
    """Return the step beams of a run's OREO policy, as wide as the paper's, by V alone as there and by our rule."""
    names = {f"beam_{b}": (b, 0) for b in _BEAMS} | {f"policy_beam_{b}": (b, _TAU) for b in _BEAMS}
    asked = [f"+search@searches.{name}=step_beam" for name in names]
    for name, (b, tau) in names.items():
        numbers = {"keep": b, "expand": b, "temperature": 1.0, "tau": tau}
        asked += [f"searches.{name}.{key}={number}" for key, number in numbers.items()]
    arguments = ("{of}/oreo", *asked, f"search=[greedy,{','.join(names)}]", f"evaluate.tasks={tasks}", *more)
    return Stage(of.name + "-beams", "eval", arguments, of=of, model=of.model)


_ALGOS = ("rejection", "dpo", "kto", "oreo")
_ROUNDS = ("rejection", "dpo", "oreo")
_LEVELS = ("oreo", "oreo-step", "oreo-response")

_TABLE1 = {answer: _words("algorithms", answer, _ALGOS) for answer in ("boxes", "exact")}
_TABLE1_PAPER = {env: _math("algorithms", env, "1.5b", QWEN, _ALGOS) for env in ("gsm8k", "math")}
_HOUSES = Stage("games-{k}", "run", ("experiment=alfworld-tiny", "seed={k}", "workers=1"))
_HOUSES_PAPER = Stage("games-minicpm-{k}", "run", ("experiment=paper-alfworld", "seed={k}"), model=MINICPM)

_BOXES = "word problems that ask for full boxes (luck is frequent)"
_TOTAL = "word problems that ask for the total (a right answer is a sound one)"
_HERE = {"GSM8K": _BOXES, "MATH": _TOTAL}
_ANSWER = {"GSM8K": "boxes", "MATH": "exact"}
_TINY_MATH = (
    "a model of 0.2 million parameters from random weights, and worlds of word problems in place of the data sets: "
    "numbers beside the paper's say how the order of rows compares, not how good either is",
    "a repetition is another world, 10, 11, ...; settings were chosen on world 20",
)
_PAPER_MATH = ("each data set has a start of its own; the paper's start learns from both",)


def _columns(tiny: Mapping[str, Stage], paper: Mapping[str, Stage]) -> list[Column]:
    """Return the columns of the two data sets, the word problems in their places."""
    return [
        Column(title, {"tiny": tiny[_ANSWER[title]], "paper": paper[title.lower()]},
               {"tiny": _HERE[title], "paper": title})
        for title in ("GSM8K", "MATH")
    ]  # fmt: skip


def _both(gsm8k: float, math: float) -> dict[str, float]:
    return {"GSM8K": gsm8k, "MATH": math}


_MATH = ("GSM8K", "MATH", "GSM8K, 7B", "MATH, 7B")
_COLUMNS_7B = [
    Column(f"{name}, 7B", {"paper": _math("algorithms", name.lower(), "7b", DEEPSEEK, _ALGOS)}, {"paper": name})
    for name in ("GSM8K", "MATH")
]
_SEEN: Mapping[Scale, str] = {"tiny": "valid_seen of generated houses", "paper": "valid_seen"}
_UNSEEN: Mapping[Scale, str] = {"tiny": "valid_unseen of generated houses", "paper": "valid_unseen"}
_GAME_STAGES: Mapping[Scale, Stage] = {"tiny": _HOUSES, "paper": _HOUSES_PAPER}
_GAMES: Mapping[Scale, Sequence[str]] = {
    "tiny": ("a model of a million parameters from random weights, on generated houses that need no download",),
    "paper": (
        "demonstrations are our exploring expert's commands, as ReAct turns; the paper's are 3,119 annotated "
        "trajectories, which `data=` can give",
    ),
}

STUDIES = {
    study.name: study
    for study in (
        Study(
            "table1",
            "Table 1: algorithms on word problems, greedy decoding",
            [*_columns(_TABLE1, _TABLE1_PAPER), *_COLUMNS_7B],
            [
                Row(title, algo, published=dict(zip(_MATH, numbers, strict=True)))
                for title, algo, numbers in (
                    ("SFT", "sft", (73.5, 47.5, 82.9, 46.8)),
                    ("Rejection sampling", "rejection", (74.9, 50.3, 83.6, 47.2)),
                    ("DPO", "dpo", (74.4, 49.2, 82.4, 47.2)),
                    ("KTO", "kto", (73.4, 48.3, 82.5, 46.9)),
                    ("OREO", "oreo", (77.3, 52.5, 85.9, 49.2)),
                )
            ],
            "OREO",
            deviations={"tiny": _TINY_MATH, "paper": _PAPER_MATH},
        ),
        Study(
            "table2",
            "Table 2: algorithms on ALFWorld, greedy decoding",
            [
                Column("Unseen", _GAME_STAGES, _UNSEEN, "valid_unseen"),
                Column("Seen", _GAME_STAGES, _SEEN, "valid_seen"),
            ],
            [
                Row("SFT", "sft", published={"Unseen": 67.2, "Seen": 62.9}),
                Row("Rejection sampling", "rejection", published={"Unseen": 68.7, "Seen": 79.3}),
                Row("DPO", "dpo", published={"Unseen": 69.4, "Seen": 64.3}),
                Row("OREO", "oreo", published={"Unseen": 79.1, "Seen": 80.7}),
            ],
            "OREO",
            deviations=_GAMES,
        ),
        Study(
            "fig2",
            "Figure 2: rounds of collecting and training, greedy decoding",
            _columns(
                {answer: _words("rounds", answer, _ROUNDS, "rounds=3") for answer in ("boxes", "exact")},
                {env: _math("rounds", env, "1.5b", QWEN, _ROUNDS, "rounds=3") for env in ("gsm8k", "math")},
            ),
            [
                Row(
                    f"{title}, round {k}",
                    algo if k == 1 else f"{algo}-round{k}",
                    published=_both(*numbers),
                    lines=(title,),
                    x=k,
                )
                for title, algo, found in (
                    ("Rejection sampling", "rejection", ((74.9, 50.3), (76.4, 52.1), (75.7, 52.5))),
                    ("DPO", "dpo", ((74.4, 49.2), (65.2, 49.9), (75.7, 51.4))),
                    ("OREO", "oreo", ((77.3, 52.5), (79.9, 53.5), (81.1, 55.6))),
                )
                for k, numbers in enumerate(found, 1)
            ],
            "OREO, round 3",
            axis="round",
            deviations={"tiny": _TINY_MATH, "paper": _PAPER_MATH},
        ),
        Study(
            "fig3",
            "Figure 3: step beam search of the OREO policy by its value",
            _columns(
                {answer: _beams(stage, 250) for answer, stage in _TABLE1.items()},
                {"gsm8k": _beams(_TABLE1_PAPER["gsm8k"], 1319), "math": _beams(_TABLE1_PAPER["math"], 500)},
            ),
            [
                Row("Greedy", "oreo", published=_both(77.3, 49.2), lines=(_ALONE, _WEIGHED), x=1),
                *(
                    Row(f"B = {b}", "oreo", f"beam_{b}", _both(*numbers), (_ALONE,), b)
                    for b, numbers in zip(_BEAMS, ((83.0, 54.0), (84.4, 55.4), (86.1, 58.0)), strict=True)
                ),
                *(Row(f"B = {b}, {_WEIGHED}", "oreo", f"policy_beam_{b}", lines=(_WEIGHED,), x=b) for b in _BEAMS),
            ],
            "Greedy",
            axis="beams B, and continuations of each",
            deviations={
                "tiny": (*_TINY_MATH, "250 problems of each world", _OURS),
                "paper": (*_PAPER_MATH, _OURS, "MATH is its first 500 test problems, the paper's is MATH500"),
            },
        ),
        Study(
            "fig4",
            "Figure 4: the best of K actions by the value, ALFWorld",
            [Column("Unseen", _GAME_STAGES, _UNSEEN, "valid_unseen")],
            [
                Row("Greedy", "oreo", published={"Unseen": 79.1}, lines=(_BEFORE, _AFTER), x=1),
                *(
                    Row(f"K = {k}", "oreo", f"best_of_{k}", {"Unseen": n}, (_BEFORE,), k)
                    for k, n in ((2, 82.1), (3, 85.8), (4, 90.3), (5, 91.0))
                ),
                *(Row(f"K = {k}, {_AFTER}", "oreo", f"lookahead_of_{k}", lines=(_AFTER,), x=k) for k in (3, 5)),
            ],
            "Greedy",
            axis="actions K",
            deviations={
                scale: (*texts, f"{_AFTER} is ours: it asks a copy of the game what an action does")
                for scale, texts in _GAMES.items()
            },
        ),
        Study(
            "fig5",
            "Figure 5: levels of OREO's loss, greedy decoding",
            _columns(
                {answer: _words("levels", answer, _LEVELS) for answer in ("boxes", "exact")},
                {env: _math("levels", env, "1.5b", QWEN, _LEVELS) for env in ("gsm8k", "math")},
            ),
            [
                Row("SFT", "sft", published=_both(73.5, 47.5)),
                Row("Token", "oreo", published=_both(77.3, 52.5)),
                Row("Step", "oreo-step", published=_both(78.9, 52.8)),
                Row("Response", "oreo-response", published=_both(74.4, 52.5)),
            ],
            "Token",
            deviations={"tiny": _TINY_MATH, "paper": _PAPER_MATH},
        ),
    )
}
