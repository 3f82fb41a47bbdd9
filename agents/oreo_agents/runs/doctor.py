"""What looks wrong in the text of a buffer, and in the results of a run.

Knows: tokens as text, verdicts of graders, answers to held-out tasks. Does not know: training, where warnings go.
What can be said without text is in ``oreo_algos.training.doctor``. Every warning, what it means and what to do:
``docs/doctor.md``.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.ungraded import WHY
from oreo_agents.evaluation.budget import contender_label
from oreo_agents.evaluation.evaluate import Item, refusals
from oreo_agents.evaluation.statistics import RunKey, compare
from oreo_algos import Episode, EpisodeBuffer
from oreo_algos.episode import JSONScalar
from oreo_algos.training.doctor import Thresholds, examine_outcomes
from oreo_algos.training.warning_log import Finding
from oreo_envs.grading import Reason

# The algorithm that stands for the policy that everything starts from, in results.
_START = "sft"

_UNREAD = {Reason.NO_ANSWER, Reason.UNPARSABLE, Reason.TOO_LARGE}


def examine_episodes(
    buffer: EpisodeBuffer, prompt_format: PromptFormat, thresholds: Thresholds, *, compared: bool
) -> list[Finding]:
    """Check episodes that are about to be learned from.

    Args:
        buffer: encoded by ``prompt_format``.
        prompt_format: of the policy's tokenizer.
        thresholds: from where on to warn.
        compared: some algorithm tells good episodes from bad ones; demonstrations alone may all be good.
    """
    columns, reasons = buffer.columns, _reasons(buffer)
    tasks = (columns.task_ids[task] for task in columns.task.tolist())
    failures = list(_grader_failures("episodes", [(task, reasons.get(i)) for i, task in enumerate(tasks)]))
    graded = [i for i in range(len(buffer)) if reasons.get(i) != Reason.NOT_GRADED]
    if len(graded) < len(buffer):
        buffer = buffer[graded]
        if not buffer:
            return failures
    told = buffer[buffer.holding("invalid_actions")]
    findings = examine_outcomes(buffer) if compared else []
    found = (
        _truncated(buffer, prompt_format, thresholds),
        _unparsable(buffer, thresholds),
        _refused_actions(
            "episodes",
            int(told.columns.num_steps.sum()),
            [refusals(episode.info) for episode in told],
            thresholds,
        ),
        *failures,
        _observation_tokens(buffer, prompt_format, thresholds),
    )
    return findings + [finding for finding in found if finding is not None]


def _truncated(buffer: EpisodeBuffer, prompt_format: PromptFormat, thresholds: Thresholds) -> Finding | None:
    cut_off = sum(_is_cut_off(episode, prompt_format) for episode in buffer[buffer.columns.truncated])
    if cut_off <= thresholds.truncated * len(buffer):
        return None
    return Finding(
        "truncated",
        f"{cut_off} of {len(buffer)} episodes ({cut_off / len(buffer):.1%}) were cut off by a limit; their rewards say "
        "that they were long and not that they were wrong; raise sampling.max_new_tokens, env.options.max_steps or the "
        "policy's context, or choose on_truncation=drop or bootstrap",
    )


def _reasons(buffer: EpisodeBuffer) -> dict[int, str]:
    """Return what the grader said, by the index of the episode."""
    index, reasons = buffer.named("grade_reason")
    return dict(zip(index.tolist(), reasons, strict=True))


def _is_cut_off(episode: Episode, prompt_format: PromptFormat) -> bool:
    """Whether a truncated episode ended in the middle; a game lost at its limit of steps ends after a whole turn."""
    in_a_turn = episode.encoded and int(episode.tokens[episode.step_id >= 0][-1]) not in prompt_format.end_ids
    return in_a_turn or "grade_reason" in episode.info


def _unparsable(buffer: EpisodeBuffer, thresholds: Thresholds) -> Finding | None:
    truncated = buffer.columns.truncated
    reasons = [reason for i, reason in _reasons(buffer).items() if not truncated[i]]
    unread = sum(reason in _UNREAD for reason in reasons)
    if unread <= thresholds.unparsable * len(reasons):
        return None
    return Finding(
        "unparsable",
        f"{unread} of {len(reasons)} finished episodes ({unread / len(reasons):.1%}) have no answer that can be read; "
        "they fail whatever was reasoned, so what is learned is the format; show the format in the prompt or in "
        "demonstrations (sft), or check that the grader knows it",
    )


def _refused_actions(
    where: str, actions: int, told: Sequence[Mapping[str, int]], thresholds: Thresholds
) -> Finding | None:
    """Judge how many actions an environment refused, given why for each task."""
    reasons = Counter[str]()
    for own in told:
        reasons.update(own)
    refused = reasons.total()
    if refused <= thresholds.refused_actions * actions:
        return None
    parts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return Finding(
        "refused_actions",
        f"{where}: {refused} of {actions} actions ({refused / actions:.1%}) were refused ({parts}); steps are spent on "
        "what changes nothing; no_command, unknown_command and spelling mean that the form is not learned: show it in "
        "the prompt or in demonstrations, check env.options.action_format and spelling; the others that the policy "
        "does not know where things are: env.options.admissible_in_prompt=true lists what is admissible",
    )


def _grader_failures(where: str, verdicts: Sequence[tuple[str, JSONScalar]]) -> Iterator[Finding]:
    """Judge (task id, reason) of graded answers."""
    slow = [task_id for task_id, reason in verdicts if reason == Reason.TIMEOUT]
    if slow:
        yield Finding(
            "grader_failures",
            f"{where}: {len(slow)} of {len(verdicts)} answers got no verdict, for their comparison ran out of CPU time "
            f"(first: {slow[0]}); they count as wrong, and may be right; look at these answers",
        )
    lost = [task_id for task_id, reason in verdicts if reason == Reason.NOT_GRADED]
    if lost:
        yield Finding(
            "not_graded",
            f"{where}: {len(lost)} of {len(verdicts)} answers were not graded (first: {lost[0]}), and are left out of "
            f"every number: {WHY}",
        )


def _observation_tokens(buffer: EpisodeBuffer, prompt_format: PromptFormat, thresholds: Thresholds) -> Finding | None:
    located = [i for i, episode in enumerate(buffer) if episode.encoded and episode.action_spans is not None]
    places = np.linspace(0, len(located) - 1, min(thresholds.read_episodes, len(located))).round().astype(int)
    read = [buffer[located[place]] for place in places]
    surplus = [(episode.task_id, text) for episode in read if (text := _unsaid(episode, prompt_format)) is not None]
    if not surplus:
        return None
    task_id, text = surplus[0]
    return Finding(
        "observation_tokens_in_loss",
        f"in {len(surplus)} of {len(read)} episodes that were read, tokens marked as the policy's say what it did "
        f"not (first: {task_id}, {text[-60:]!r}); the losses learn to write observations, and V is read at the wrong "
        "states; give these tokens step_id -1, or encode the buffer again (`oreo data encode`)",
    )


def _unsaid(episode: Episode, prompt_format: PromptFormat) -> str | None:
    """Return the text of the action tokens of a turn that says more than the turn's actions; None without one.

    Turns and not actions are compared, because a token may cover the end of one action and the start of the next. That
    some log-probability at sampling is 0 proves nothing: a sure policy has them too.
    """
    assert episode.action_spans is not None
    turns: dict[int, list[int]] = {}
    for action, (message, _, _) in enumerate(episode.action_spans.tolist()):
        turns.setdefault(message, []).append(action)
    for message, actions in turns.items():
        spans = episode.action_spans[actions]
        said = episode.messages[message]["content"][spans[0, 1] : spans[-1, 2]]
        marked = prompt_format.decode(episode.tokens[np.isin(episode.step_id, actions)].tolist())
        if _plain(marked, prompt_format) not in _plain(said, prompt_format):
            return marked
    return None


def _plain(text: str, prompt_format: PromptFormat) -> str:
    """Return what a tokenizer keeps of a text, for some change letters or blanks, without blanks."""
    return "".join(prompt_format.decode(prompt_format.encode(text)).split())


def examine_rounds(before: EpisodeBuffer, after: EpisodeBuffer, thresholds: Thresholds) -> list[Finding]:
    """Compare the episodes of two successive rounds."""
    for outcome, success in (("right", True), ("wrong", False)):
        then, now = ([e.num_action_tokens for e in buffer if e.success is success] for buffer in (before, after))
        finding = _length_drift(then, now, f"{outcome} answers collected", "the round before", thresholds)
        if finding is not None:
            return [finding]
    return []


def examine_results(
    rows: Sequence[Mapping[str, Any]], folder: Path, thresholds: Thresholds
) -> Iterator[tuple[str, Finding]]:
    """Check the answers of each algorithm, and compare them with those of the start, by split and search.

    Args:
        rows: of ``results.json``.
        folder: of the run, where the items lie.
        thresholds: from where on to warn.

    Yields:
        Name of an algorithm, and what looks wrong with it; with the tasks, of the first algorithm that answered them.
    """
    for row in {row["split"]: row for row in reversed(rows)}.values():
        repeated, tasks = row.get("repeated", 0), row.get("n", 0) + row.get("not_graded", 0)
        if repeated > thresholds.repeated_tasks * tasks:
            yield row["algo"], _repeated_tasks(repeated, tasks, row["split"])
    for row in rows:
        search = contender_label(row["search"], row.get("budget"))
        algo, where = row["algo"], f"{search}, split {row['split']}"
        before, after = (_items(folder, name, row["split"], search) for name in (_START, algo))
        findings = [
            *_grader_failures(where, [(item.task_id, item.grade_reason) for item in after.values()]),
            _unread_answers(list(after.values()), list(before.values()), where, thresholds),
            _refused_actions(
                where,
                sum(item.actions or 0 for item in after.values()),
                [item.invalid_reasons or {} for item in after.values()],
                thresholds,
            ),
        ]
        shared = [(before[task_id], after[task_id]) for task_id in after if task_id in before]
        pairs = [pair for pair in shared if pair[0].graded and pair[1].graded]
        if algo != _START and pairs:
            findings += [_length_of_answers(pairs, where, thresholds), _accuracy_without_soundness(pairs, where)]
        for finding in findings:
            if finding is not None:
                yield algo, finding


def _repeated_tasks(repeated: int, tasks: int, split: str) -> Finding:
    return Finding(
        "repeated_tasks",
        f"split {split}: {repeated} of {tasks} tasks ask what another one asks; equal questions have equal greedy "
        "answers, so intervals are too narrow and p-values too small; let the environment ask more (larger numbers, "
        "longer words), or lower evaluate.tasks",
    )


def _unread_answers(items: Sequence[Item], start: Sequence[Item], where: str, thresholds: Thresholds) -> Finding | None:
    """Judge how answers end: that the environment grades them shows in those that have a verdict."""
    if all(item.grade_reason is None for item in (*items, *start)):
        return None
    (begun, cut_off, unread), (before, *bad) = _endings(items), _endings(start)
    if cut_off + unread <= thresholds.unread_answers * begun:
        return None
    what = " and ".join(["the end"] * (cut_off > 0) + ["the form"] * (unread > 0)) + " of an answer"
    # Lost: with the start it was seldomer by half.
    lost = None if not before else sum(bad) / before < (cut_off + unread) / begun / 2
    told = "" if not before or items == start else f", of the start's {bad[0]} and {bad[1]} of {before}"
    mends = ["read some (oreo show RUN/NAME --wrong)"]
    mends += ["lower policy_lr, raise alpha or beta"] if lost is not False else []
    mends += [f"show {what} in demonstrations (sft: more of them, more epochs)"] if not lost else []
    mends += ["raise evaluate.sampling.max_new_tokens"] if cut_off else []
    why = f"the policy {'never learned' if lost is False else 'lost'} {what}{', or never had it' * (lost is None)}"
    return Finding(
        "unread_answers",
        f"{where}: {cut_off} of {begun} answers were cut off, and {unread} hold nothing that can be read{told}; they "
        f"count as wrong whatever was reasoned: {why}; {'; '.join(mends)}",
    )


def _endings(items: Sequence[Item]) -> tuple[int, int, int]:
    """Count the answers that were begun, those of them without a verdict, those in which nothing can be read."""
    reasons = [item.grade_reason for item in items if item.tokens]
    return len(reasons), reasons.count(None), sum(reason in _UNREAD for reason in reasons)


def _length_of_answers(pairs: Sequence[tuple[Item, Item]], where: str, thresholds: Thresholds) -> Finding | None:
    # A game that is won ends early: only equal outcomes have comparable lengths.
    alike = [pair for pair in pairs if pair[0].correct == pair[1].correct]
    before, after = ([pair[side].tokens for pair in alike] for side in (0, 1))
    return _length_drift(before, after, f"{where}, tasks that both solve or both fail", "the start", thresholds)


def _length_drift(
    before: Sequence[int], after: Sequence[int], where: str, source: str, thresholds: Thresholds
) -> Finding | None:
    """Compare lengths of answers, tokens, with those of another source."""
    if min(len(before), len(after)) < thresholds.length_tasks:
        return None
    then, now = float(np.mean(before)), float(np.mean(after))
    if then / thresholds.length_factor <= now <= then * thresholds.length_factor:
        return None
    return Finding(
        "length_drift",
        f"{where}: {now:.1f} tokens, against {then:.1f} of {source} (mean of {len(after)}); the policy was rewarded "
        "for length, or lost its end; read some answers (oreo show RUN/NAME), lower policy_lr, raise alpha or beta",
    )


def _accuracy_without_soundness(pairs: Sequence[tuple[Item, Item]], where: str) -> Finding | None:
    judged = [(before, after) for before, after in pairs if before.sound is not None and after.sound is not None]
    if not judged:
        return None
    correct, sound = (
        compare(
            {RunKey(): {after.task_id: float(getattr(after, name)) for _, after in judged}},
            {RunKey(): {before.task_id: float(getattr(before, name)) for before, _ in judged}},
        )
        for name in ("correct", "sound")
    )
    assert correct is not None and sound is not None
    if correct.low <= 0 or sound.high >= 0:
        return None
    return Finding(
        "accuracy_without_soundness",
        f"{where}: against the start accuracy rose by {100 * correct.mean:.1f} points and the share of sound "
        f"answers fell by {-100 * sound.mean:.1f} (n = {correct.tasks}, both beyond 95% intervals); the policy found "
        "answers that are right for wrong reasons; ask for answers that luck does not reach "
        "(env.options.answer=exact), or learn from steps (algo=oreo)",
    )


def _items(folder: Path, algo: str, split: str, search: str) -> dict[str, Item]:
    """Read the items of an algorithm by task, {} where it was not evaluated so."""
    path = folder / algo / f"items-{split}-{search}.jsonl"
    if not path.exists():
        return {}
    items = [Item(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return {item.task_id: item for item in items}
