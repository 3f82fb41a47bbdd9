"""``oreo data``: text that others collected becomes an episode buffer.

Knows: file formats of solutions, environments' prompts and steps. Does not know: training.
"""

import argparse
import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.progress import track
from rich.table import Table

import oreo_envs
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.recorded import recorded_episodes
from oreo_agents.episodes.tasks import find_env
from oreo_agents.episodes.texts import encode_episode, text_episode
from oreo_agents.episodes.ungraded import WHY
from oreo_agents.runs.conversations import import_conversations
from oreo_agents.runs.data_arguments import FORMATS, parser
from oreo_agents.runs.rows import json_rows, judge_label, text_field
from oreo_agents.runs.solutions import Solution, Task, Verdict
from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.bars import bar_console
from oreo_envs.alfworld.games import SPLITS
from oreo_envs.alfworld.house_files import write_games
from oreo_envs.answers import split_steps
from oreo_envs.datasets import WrongSplit
from oreo_envs.plain import creator_of
from oreo_envs.recording import is_record
from oreo_envs.splits import SPLITS as SPLIT_NAMES

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportCounts:
    """What an import met.

    Attributes:
        episodes: rows imported.
        known: rows whose question is a task of the environment's data.
        held_out: rows whose question is a task of a held-out split.
        graded: rows without a label, graded by the environment.
        disagreements: labelled rows of known tasks where the environment's grader says otherwise.
        not_graded: rows without a label whose verdict was lost; they are left out, and not among ``episodes``.
        unchecked: labelled rows of known tasks whose verdict was lost: nothing is known of a disagreement.
        cut_off: rows without a label whose answer a limit cut in the middle: truncated, not graded.
    """

    episodes: int
    known: int
    held_out: int
    graded: int
    disagreements: int
    not_graded: int = 0
    unchecked: int = 0
    cut_off: int = 0


def main(arguments: Sequence[str]) -> None:
    """Run ``oreo data import | encode | stats | generate-houses``."""
    options = parser().parse_args(arguments)
    if options.command == "import":
        _import(options)
    elif options.command == "encode":
        _encode(options)
    elif options.command == "generate-houses":
        for split in dict.fromkeys(options.split or SPLITS):
            print(
                f"{options.out}: {write_games(options.out, split, options.count, seed=options.seed)} games of {split}"
            )
    else:
        _print_stats(options.buffers)


def _prompt_format(options: argparse.Namespace) -> PromptFormat:
    return PromptFormat.from_pretrained(
        options.tokenizer,
        chat_template=options.chat_template,
        chat_template_kwargs=options.chat_template_kwargs,
        system_prompt=options.system_prompt,
        trust_remote_code=options.trust_remote_code,
    )


def import_solutions(
    file: Path,
    file_format: str,
    env: str,
    *,
    path: str | None = None,
    prompt: str | None = None,
    success_threshold: float | None = None,
) -> tuple[EpisodeBuffer, ImportCounts]:
    """Read solutions from JSON lines; each becomes one episode, its steps cut as the environment cuts them.

    Args:
        file: one JSON object a line.
        file_format: a key of ``FORMATS``; "messages": whole conversations, see ``conversations``, of any environment.
        env: a registered id or its short name.
        path: where the environment's own data lies, to find the task of a question; without data, tasks are named
            after the question's hash.
        prompt: prompt template; None: the environment's default.
        success_threshold: numbers from this one on are successes; None: labels are true or false, 1 or 0, or 1
            or -1, and no number has to be judged.

    Raises:
        ValueError: a row cannot be used; the message names file, line and field. Or not one answer could be graded; or
            the environment asks no questions, and a solution is no episode of it.
    """
    if success_threshold is not None and not math.isfinite(success_threshold):
        raise ValueError(f"--success-threshold must be a finite number, got {success_threshold}")
    env_id = find_env(env)
    delimiters = _delimiters(env_id)
    if file_format == "messages":
        buffer = import_conversations(file, env_id, delimiters or (), success_threshold)
        return buffer, ImportCounts(len(buffer), 0, 0, 0, 0)
    if delimiters == ():
        raise ValueError(
            f"--format {file_format} reads answers to questions, and {env_id} is played turn by turn: give whole "
            "conversations with --format messages, or record them (oreo_envs.evaluate with record=FOLDER, or "
            "oreo_envs.Recorder) for oreo data encode"
        )
    tasks = _Tasks(env_id, path, prompt)
    question_field, response_field, label_fields = FORMATS[file_format]
    rows: list[Solution] = []
    known = held_out = graded = disagreements = not_graded = unchecked = cut_off = 0
    for line, row in json_rows(file):
        where = f"{file}, line {line}"
        question, response = text_field(row, question_field, where), text_field(row, response_field, where)
        label = next((row[name] for name in label_fields if row.get(name) is not None), None)
        task = tasks.find(question)
        known += task is not None
        held_out += task is not None and task.held_out
        if label is None and task is None:
            raise ValueError(
                f"{where}: there is no {' or '.join(label_fields)}, and the question is no task of {env_id} "
                "that could be graded; add a label"
            )
        if label is not None:
            judge_label(label, success_threshold, where)  # before anything is graded
        rows.append(Solution(where, row, question, response, label, task))
    if not rows:
        raise ValueError(f"{file}: no solutions in this file")
    lost = [solution for solution in rows if solution.verdict() is Verdict.LOST]
    for solution in lost:  # once more, when the rest is done
        solution.verdict(again=True)
    episodes: list[Episode] = []
    for solution in rows:
        verdict, label = solution.verdict(), solution.label
        if label is None:
            cut_off += verdict is Verdict.CUT_OFF
            not_graded += verdict is Verdict.LOST
            graded += verdict in (Verdict.RIGHT, Verdict.WRONG)
            if verdict is Verdict.LOST:
                continue
        reward, success = judge_label(
            verdict is Verdict.RIGHT if label is None else label, success_threshold, solution.where
        )
        if label is not None:
            unchecked += verdict is Verdict.LOST
            disagreements += verdict in (Verdict.RIGHT, Verdict.WRONG) and (verdict is Verdict.RIGHT) != success
        episodes.append(tasks.episode(solution, reward, success, cut_off=label is None and verdict is Verdict.CUT_OFF))
    if not episodes:
        raise ValueError(f"{file}: not one of {not_graded} answers could be graded: {WHY}")
    buffer = EpisodeBuffer(episodes, provenance={"source": "import", "file": file.name, "format": file_format})
    counts = ImportCounts(
        len(episodes),
        known,
        held_out,
        graded,
        disagreements,
        not_graded=not_graded,
        unchecked=unchecked,
        cut_off=cut_off,
    )
    return buffer, counts


def _delimiters(env_id: str) -> tuple[str, ...] | None:
    """What ends a step of an answer; none where an action is a turn, None where an environment does not say."""
    return getattr(creator_of(gym.spec(env_id)), "step_delimiters", None)


def encode_buffer(buffer: EpisodeBuffer, prompt_format: PromptFormat) -> EpisodeBuffer:
    """Encode every episode for a tokenizer.

    Raises:
        ValueError: an episode has no ``action_spans``.
    """
    return EpisodeBuffer(
        (
            encode_episode(episode, prompt_format)
            for episode in track(buffer, "encode", transient=True, console=bar_console())
        ),
        tokenizer_fingerprint=prompt_format.fingerprint,
        provenance=buffer.provenance,
    )


def opening_of(env_class: Any, env_id: str, prompt: str | None) -> Callable[[str], Sequence[Mapping[str, str]]]:
    """Return how an environment opens a question: by its prompt template, or as the user's message.

    Raises:
        ValueError: a prompt is named, and it has none.
    """
    if hasattr(env_class, "template"):
        return env_class.template(prompt).messages
    if prompt is not None:
        raise ValueError(f"--prompt {prompt}: {env_id} has no prompt templates; leave it out")
    return lambda question: [{"role": "user", "content": question}]


class _Tasks:
    """Questions of an environment, and how it opens and cuts a solution."""

    def __init__(self, env_id: str, path: str | None, prompt: str | None) -> None:
        self.env_id = env_id
        self.env_class: Any = creator_of(gym.spec(env_id))
        self.opening = opening_of(self.env_class, env_id, prompt)
        self.by_question: dict[str, Task] = {}
        keywords: dict[str, Any] = {} if path is None else {"path": path}
        for split in getattr(self.env_class, "splits", SPLIT_NAMES):
            try:
                env: Any = oreo_envs.make(env_id, split=split, **keywords).unwrapped
            except (FileNotFoundError, ConnectionError, OSError, WrongSplit) as error:
                _log.warning("%s %s: questions are not matched to tasks (%s)", env_id, split, error)
                continue
            for index, problem in enumerate(getattr(env, "problems", ())):
                self.by_question.setdefault(problem.question.strip(), Task(env, index))

    def find(self, question: str) -> Task | None:
        return self.by_question.get(question.strip())

    def episode(self, solution: Solution, reward: float, success: bool, *, cut_off: bool) -> Episode:
        question, task = solution.question, solution.task
        steps = split_steps(solution.response, tuple(getattr(self.env_class, "step_delimiters", ())))
        name = self.env_id.removeprefix("oreo/").rpartition("-v")[0].lower()
        digest = hashlib.sha256(question.encode()).hexdigest()[:12]
        episode = text_episode(
            self.opening(question),
            steps,
            [0.0] * (len(steps) - 1) + [reward],
            task_id=f"{name}/imported/{digest}" if task is None else task.task_id,
            env_id=self.env_id,
            info={"success": success, "source": str(solution.row.get("source", ""))},
        )
        return replace(episode, terminated=not cut_off, truncated=cut_off)


def _import(options: argparse.Namespace) -> None:
    buffer, counts = import_solutions(
        options.file,
        options.format,
        options.env,
        path=options.path,
        prompt=options.prompt,
        success_threshold=options.success_threshold,
    )
    if options.tokenizer:
        buffer = encode_buffer(buffer, _prompt_format(options))
    out = options.out or Path(options.file.name.partition(".")[0])
    buffer.save(out)
    print(
        f"{out}: {counts.episodes} episodes, {counts.known} of them of tasks that the environment knows "
        f"({counts.held_out} held out), {counts.graded} graded here, "
        f"{counts.disagreements} labels that the grader disagrees with"
    )
    if counts.cut_off:
        print(f"{counts.cut_off} answers were cut off by a limit (finish_reason) and are truncated, not graded")
    if counts.not_graded or counts.unchecked:
        print(
            f"{counts.not_graded} answers were not graded and are left out, {counts.unchecked} labels could not be "
            f"checked: {WHY}"
        )
    if counts.held_out:
        print(f"{counts.held_out} episodes are of held-out tasks: an evaluation on these is not a test")


def _encode(options: argparse.Namespace) -> None:
    out, left = options.out or options.buffer, ""
    if is_record(options.buffer):
        if options.out is None or options.out.resolve() == options.buffer.resolve():
            raise ValueError(
                f"{options.buffer} is a record, which stays as it is: say where to write with --out FOLDER"
            )
        buffer, counts = recorded_episodes(options.buffer, held_out=options.allow_held_out)
        left = f"; left out: {counts}" if str(counts) else ""
    else:
        buffer = EpisodeBuffer.load(options.buffer)
    encode_buffer(buffer, _prompt_format(options)).save(out)
    print(f"{out}: {len(buffer)} episodes encoded for {options.tokenizer}{left}")


def _print_stats(folders: Sequence[Path]) -> None:
    table = Table(title="Episode buffers")
    table.add_column("")
    buffers = [
        recorded_episodes(folder, held_out=True)[0] if is_record(folder) else EpisodeBuffer.load(folder)
        for folder in folders
    ]
    for folder in folders:
        table.add_column(str(folder), justify="right")
    stats = [buffer.stats() for buffer in buffers]
    for name in stats[0]:
        table.add_row(name, *(f"{s[name]:.3f}" if isinstance(s[name], float) else str(s[name]) for s in stats))
    table.add_row("environments", *(", ".join(buffer.env_ids) for buffer in buffers))
    table.add_row("tokenizer", *(buffer.tokenizer_fingerprint or "not encoded" for buffer in buffers))
    table.add_row("content", *(buffer.content_hash[:12] for buffer in buffers))
    for key in dict.fromkeys(key for buffer in buffers for key in buffer.provenance):
        table.add_row(key, *(str(buffer.provenance.get(key, "")) for buffer in buffers))
    Console().print(table)
