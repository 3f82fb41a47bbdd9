"""The arguments of ``oreo data``, apart so that its help loads nothing.

Knows: names and what they mean. Does not know: what is done with them.
"""

import argparse
from pathlib import Path

from oreo_agents.runs.option_types import finite, json_object, whole
from oreo_envs.alfworld.games import SPLITS

EXPORTS = ("trl-sft", "trl-kto", "trl-dpo", "messages", "sharegpt", "labelled", "minari")


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(prog="oreo data", description="Episode buffers from and about text; houses.")
    commands = made.add_subparsers(dest="command", required=True)
    importer = commands.add_parser("import", help="anybody's episodes to a buffer")
    importer.add_argument("places", nargs="+", metavar="FILE|FOLDER|hub:NAME", help="joined in their order")
    importer.add_argument("--format", default="auto", help="a layout of `oreo data formats`; default: by its columns")
    importer.add_argument(
        "--env", help="an environment id, its short name (gsm8k, math), or MODULE:ID; default: of no environment"
    )
    importer.add_argument(
        "--split",
        default="train",
        help="of a folder or a data set of the hub, such as train, test, train_prefs; default: train",
    )
    importer.add_argument(
        "--steps",
        choices=("auto", "line", "turn", "response"),
        default="auto",
        help="where steps end; auto: as labels, or the environment, say; response: the last turn is all",
    )
    importer.add_argument("--step-rewards", action="store_true", help="labels of steps are the rewards of steps")
    importer.add_argument("--skip-bad", action="store_true", help="leave out and count rows that cannot be used")
    importer.add_argument("--tokenizer", help="checkpoint folder or hub name; without it, encode later")
    importer.add_argument("--path", help="where the environment's own data lies")
    importer.add_argument(
        "--success-threshold", type=finite, help="labels from this number on are right; for labels that are not 0 and 1"
    )
    importer.add_argument("--label", metavar="COLUMN", help="the column that says how an episode ended; may be dotted")
    importer.add_argument("--prompt", help="prompt template; default: the environment's")
    importer.add_argument(
        "--out",
        type=Path,
        help="folder to write; default: the file's name without its ending",
    )
    _add_format_options(importer)
    commands.add_parser("formats", help="list the layouts that import knows")
    exporter = commands.add_parser("export", help="episodes of a buffer as rows that others read")
    exporter.add_argument("buffer", type=Path)
    exporter.add_argument("--format", choices=EXPORTS, required=True)
    exporter.add_argument(
        "--out",
        type=Path,
        help="NAME.jsonl, NAME.parquet, or NAME, a folder with a card; of minari NAME-v0; default: BUFFER-FORMAT.jsonl",
    )
    exporter.add_argument("--max-pairs", type=whole(1), default=6, help="pairs a task that trl-dpo draws; default: 6")
    exporter.add_argument("--seed", type=whole(), default=0, help="draws them")
    encoder = commands.add_parser("encode", help="encode a buffer, or what an agent recorded, for a tokenizer")
    encoder.add_argument("buffer", type=Path, help="a buffer, or the record=FOLDER of oreo_envs.evaluate")
    encoder.add_argument("--tokenizer", required=True, help="checkpoint folder or hub name")
    encoder.add_argument("--out", type=Path, help="folder to write; default: in place, for a buffer")
    encoder.add_argument(
        "--allow-held-out", action="store_true", help="encode also a record of a split that nothing may learn from"
    )
    _add_format_options(encoder)
    stats = commands.add_parser("stats", help="describe buffers")
    stats.add_argument("buffers", type=Path, nargs="+")
    stats.add_argument("--tasks", type=whole(), default=10, help="the hardest tasks that are listed; default: 10")
    checker = commands.add_parser("validate", help="read buffers whole, and say what keeps one from learning of them")
    checker.add_argument("buffers", type=Path, nargs="+")
    joiner = commands.add_parser("merge", help="join buffers of one tokenizer, or the shards of a collection")
    joiner.add_argument("buffers", type=Path, nargs="+")
    joiner.add_argument("--out", type=Path, required=True)
    divider = commands.add_parser("split", help="divide a buffer by tasks")
    divider.add_argument("buffer", type=Path)
    divider.add_argument("--share", type=finite, default=0.1, help="of the tasks go to OUT-held; default: 0.1")
    divider.add_argument("--out", type=Path, help="OUT-train and OUT-held are written; default: the buffer's name")
    divider.add_argument("--seed", type=whole(), default=0)
    balancer = commands.add_parser("balance", help="at most so many episodes of each outcome of each task")
    balancer.add_argument("buffer", type=Path)
    balancer.add_argument("--per-outcome", type=whole(1), help="default: 4, where no protocol is named")
    balancer.add_argument(
        "--protocol",
        choices=("paper-1.5b", "paper-7b"),
        help="what the paper kept of each task. paper-1.5b: 10 samples; paper-7b: of 16 samples 4 successes and 4 "
        "failures, nor more successes than failures, but one if there is any",
    )
    balancer.add_argument("--out", type=Path, required=True)
    balancer.add_argument("--seed", type=whole(), default=0)
    copies = commands.add_parser("dedup", help="keep one of episodes that say the same in the same task")
    copies.add_argument("buffer", type=Path)
    copies.add_argument("--out", type=Path, required=True)
    houses = commands.add_parser("generate-houses", help="games in generated houses as ALFWorld's files")
    houses.add_argument("--out", type=Path, required=True, help="folder to write; env.path reads it")
    houses.add_argument("--split", choices=SPLITS, action="append", help="may be given again; default: all")
    houses.add_argument("--count", type=whole(1), help="games of each split; default: as path=generated has them")
    houses.add_argument(
        "--seed", type=whole(0, 10**9 - 1), default=0, help="another seed draws other games, as path=generated:SEED"
    )
    return made


def _add_format_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``policy`` settings of the same names are in a run."""
    parser.add_argument("--chat-template", help="Jinja file to use in place of the tokenizer's chat template")
    parser.add_argument(
        "--chat-template-kwargs", type=json_object, help="its arguments, as JSON: '{\"enable_thinking\": false}'"
    )
    parser.add_argument("--system-prompt", help="in place of the environment's; an empty text: none")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the tokenizer")
