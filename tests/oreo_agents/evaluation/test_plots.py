"""Pictures: what is in them, by the objects that were drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from oreo_agents.evaluation import curve_plots, plots, training_plots
from oreo_agents.evaluation.results import Entry, Evaluation
from oreo_agents.evaluation.run_settings import RowSettings
from oreo_agents.evaluation.statistics import RunKey
from oreo_agents.evaluation.styles import colour, legible, shades


@pytest.mark.parametrize(
    ("ticks", "shown"),
    [
        ([350, 40, 340, 360], [40, 340]),
        ([10, 100, 1000], [10, 100, 1000]),
        ([10, 12, 1000], [10, 1000]),
        ([40, 40], [40]),
        ([1], [1]),
    ],
)
def test_labels_of_ticks_do_not_cover_one_another(ticks: list[float], shown: list[float]):
    assert legible(ticks) == shown


def entry(algo: str, search: str = "greedy", **row: float) -> Entry:
    """An entry of one run, eight tasks."""
    solved = {f"t{k}": float(k < 8 * row.get("accuracy", 0.5)) for k in range(8)}
    numbers = {"n": 8, "accuracy": 0.5, "correct": 4, "tokens_per_task": 10.0, **row}
    path, run = Path("run") / "results.json", RunKey("{}", 3)
    evaluation = Evaluation(
        path, {"seed": 3}, RowSettings({}, 3, True), training={"cpu_seconds": row.get("cpu_seconds", 60.0)}
    )
    name = algo.partition(" ")[0]
    found = Entry(algo, search, "oreo/QA-v0", "test", [numbers], {run: solved}, [(evaluation, run)], name=name)
    return replace(found, budget=int(row["budget"]) if "budget" in row else None)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures in place of files."""
    figures: list[Figure] = []
    for module in (plots, training_plots, curve_plots):
        monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure))
    return figures


def hues(figure: Figure) -> set[str]:
    """Colours of the points and their intervals."""
    return {to_hex(bars[0].get_color()) for axes in figure.axes for bars in axes.containers}


ENTRIES = [
    entry("sft", accuracy=0.25, cpu_seconds=30.0),
    entry("oreo", accuracy=0.75),
    entry("oreo-round2", accuracy=1.0, cpu_seconds=120.0),
    entry("oreo", "majority", tokens_per_task=80.0),
    entry("oreo", "step_beam", tokens_per_task=300.0),
    entry("mine", accuracy=0.0),
]


def test_dots_stand_in_order_with_intervals_titles_counts_and_seeds(drawn: list[Figure]):
    plots.plot_accuracy(ENTRIES, Path("x.png"))
    [axes] = drawn[0].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["oreo-round2", "oreo", "sft", "mine"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the best is above"
    assert axes.get_title() == "Accuracy on oreo/QA-v0, split test\nn = 8 a row, seed 3; 95% intervals"
    widths = [bars[2][0].get_segments()[0] for bars in axes.containers]
    assert len(widths) == len(ENTRIES) and all(abs(b[0] - a[0]) > 5 for a, b in widths)


def test_an_algorithm_has_one_colour_in_every_picture(drawn: list[Figure]):
    budgets = [entry("oreo", "majority", budget=b, tokens_per_task=b) for b in (10, 20)]
    plots.plot_accuracy(ENTRIES, Path("x.png"))
    plots.plot_cost(ENTRIES, Path("x.png"))
    plots.plot_search(ENTRIES, Path("x.png"))
    assert all(colour("oreo") in hues(figure) for figure in drawn)
    assert hues(drawn[0]) == {colour(name) for name in ("sft", "oreo", "mine")} and colour("oreo-round2") == colour(
        "oreo"
    )
    plots.plot_budgets(budgets, Path("x.png"))
    rows = {"oreo": [[{"step": s, "train/loss": 1.0} for s in (1, 2, 3)]]}
    training_plots.plot_training(rows, Path("x.png"))
    lines = {to_hex(line.get_color()) for line in drawn[-1].axes[0].lines}
    assert lines == {colour("oreo")}


def test_a_name_has_the_same_colour_whatever_is_drawn_beside_it():
    assert len({colour(name) for name in ("sft", "rejection", "dpo", "kto", "oreo", "oreo-step", "dqo")}) == 7
    rows = shades(["oreo beta=1", "dpo", "oreo beta=2"])
    assert to_hex(rows["oreo beta=1"]) == colour("oreo") and rows["oreo beta=2"] != rows["oreo beta=1"]
    assert to_hex(rows["dpo"]) == colour("dpo")


def test_two_numbers_of_tokens_are_no_picture(drawn: list[Figure]):
    assert plots.plot_search(ENTRIES[:4], Path("x.png")) is None and not drawn
    plots.plot_search(ENTRIES[:5], Path("x.png"))
    [axes] = drawn[0].axes
    assert len(axes.containers) == 5 and "seed 3" in axes.get_title()


def test_rounds_are_joined_over_processor_minutes(drawn: list[Figure]):
    plots.plot_cost(ENTRIES, Path("x.png"))
    [axes] = drawn[0].axes
    joined = [line.get_xydata().tolist() for line in axes.lines if len(line.get_xdata()) == 2]
    assert [[1.0, 75.0], [2.0, 100.0]] in joined
    assert plots.plot_cost(ENTRIES[:1], Path("x.png")) is None
    assert "own training; sft is the start" in axes.get_xlabel()


def test_losses_have_panels_of_their_own_and_the_warm_up_is_shaded(drawn: list[Figure]):
    def rows(first: int) -> list[dict[str, float]]:
        late = [{"train/losses/policy": 1.0} if step >= first else {} for step in range(1, 60)]
        return [{"step": step, "train/loss": 1.0, **more} for step, more in enumerate(late, 1)]

    training_plots.plot_training({"oreo": [rows(21)], "dpo": [rows(1)]}, Path("x.png"), "seed 0")
    panels = {axes.get_title(): axes for axes in drawn[0].axes if axes.get_title()}
    assert list(panels) == ["loss of oreo", "loss of dpo"]
    [shaded] = panels["loss of oreo"].patches
    assert shaded.get_extents().width > 0 and shaded.get_x() == 0 and shaded.get_width() == 20.5
    assert not panels["loss of dpo"].patches and "seed 0" in drawn[0].get_suptitle()


def test_a_long_start_does_not_squeeze_what_shares_its_panel(drawn: list[Figure]):
    def rows(steps: int) -> list[dict[str, float]]:
        return [{"step": step, "train/loss": 1.0, "train/entropy": 1.0} for step in range(1, steps + 1)]

    training_plots.plot_training({"sft": [rows(1000)], "oreo": [rows(20)]}, Path("x.png"))
    panels = {axes.get_title(): axes for axes in drawn[0].axes if axes.get_title()}
    shared = panels["entropy of the policy (nats)"]
    ends = [max(line.get_xdata()) for line in shared.lines if len(line.get_xdata()) > 1]
    assert ends == [100, 100] and shared.get_xlabel() == "% of the steps"
    assert panels["loss of oreo"].get_xlabel() == "step" and max(panels["loss of oreo"].lines[0].get_xdata()) == 20


def test_learning_curves_are_drawn_against_steps_and_time_with_n_seed_and_the_best_point(drawn: list[Figure]):
    def rows(*accuracies: float) -> list[dict[str, float]]:
        place = "eval/GSM8K-v0/dev"
        return [
            {
                "step": 10 * k,
                f"{place}/accuracy": a,
                f"{place}/accuracy_low": a - 0.1,
                f"{place}/accuracy_high": a + 0.1,
                f"{place}/n": 50.0,
                "eval/cpu_seconds": 120.0 * k,
            }
            for k, a in enumerate(accuracies)
        ]

    metrics = {"sft": [rows(0.1, 0.2)], "oreo": [rows(0.2, 0.5, 0.4), rows(0.2, 0.3)], "dpo": [rows(0.3)]}
    curve_plots.plot_curves(metrics, Path("x.png"), "seeds 0, 1")
    [figure] = drawn
    assert [axes.get_title() for axes in figure.axes] == 2 * ["GSM8K-v0/dev, n = 50 a point"] + 2 * [
        "GSM8K-v0/dev, the start, n = 50 a point"
    ]
    assert "seeds 0, 1" in figure.get_suptitle()
    steps, minutes = ({tuple(map(tuple, line.get_xydata())) for line in axes.lines} for axes in figure.axes[:2])
    assert ((0, 20), (10, 50), (20, 40)) in steps and ((0, 20), (2, 50), (4, 40)) in minutes
    assert ((10, 50),) in steps and ((10, 30),) in steps  # rings
    assert len(figure.axes[0].collections) == 2  # bands
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["sft", "oreo, 2 runs"]


def test_rankings_of_pairs_have_curves_too(drawn: list[Figure]):
    place = "eval/Chat-v0/pairs-held-back"

    def point(step: int, **judged: float) -> dict[str, float]:
        ends = {"": 0.0, "_low": -0.1, "_high": 0.1}
        measured = {f"{place}/{judge}_accuracy{end}": a + d for judge, a in judged.items() for end, d in ends.items()}
        return {"step": step, f"{place}/pairs": 40.0, "eval/cpu_seconds": 60.0 * step, **measured}

    rows = [point(0, reward=0.5, value=0.5), point(5, reward=0.8, value=0.6), point(9, reward=float("nan"), value=0.7)]
    curve_plots.plot_curves({"dpo": [rows]}, Path("x.png"))
    by_reward, _, by_value, _ = drawn[0].axes
    assert by_reward.get_title() == "Chat-v0/pairs-held-back,\npairs ranked by the implicit reward, n = 40 a point"
    assert by_reward.get_ylabel() == "ranked right (%)" and "ranked by V" in by_value.get_title()
    curves = [[line.get_xydata().tolist() for line in axes.lines] for axes in (by_reward, by_value)]
    assert [[0, 50], [5, 80]] in curves[0] and [[0, 50], [5, 60], [9, 70]] in curves[1]


def test_a_last_batch_of_one_example_does_not_bend_a_curve():
    values, weights = np.ones(200), np.full(200, 1000.0)
    values[-1], weights[-1] = 50.0, 30.0
    assert training_plots.smooth(values, weights)[-1] < 1.5
    assert training_plots.smooth(values, np.ones(200))[-1] > 5


@pytest.mark.parametrize("length", [8, 40, 70])
def test_a_legend_below_is_as_wide_as_its_figure_at_most(length: int):
    figure = Figure(figsize=(6.3, 4.2), layout="constrained")
    axes = figure.subplots()
    for k in range(4):
        axes.plot([0, 1], [k, k], label=f"{k} ".ljust(length, "x"))
    plots.legend_below(figure, axes.get_legend_handles_labels()[0])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    assert len(legend.get_texts()) == 4
