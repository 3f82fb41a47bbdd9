"""What every number that a training run logs means: the table that ``docs/metrics.md`` is made from.

Knows: names, units, words. Does not know: how numbers are computed, or where they are logged.
A test trains every algorithm and holds what it logs against this table, in both directions.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

PAGE = "docs/metrics.md"


@dataclass(frozen=True)
class Metric:
    """A number, or a text, that is logged.

    Attributes:
        name: as in ``metrics.jsonl`` and TensorBoard; what stands in <> differs from run to run.
        unit: of the number; "": it has none.
        meaning: what it is.
        watch: what to look for; "": nothing in particular.
        source: the module that computes it.
    """

    name: str
    unit: str
    meaning: str
    watch: str
    source: str

    def matches(self, name: str) -> bool:
        """Whether a name that was logged is this one."""
        pattern = re.sub(r"<[^>]+>", "[^/]+", re.escape(self.name).replace(r"\<", "<").replace(r"\>", ">"))
        return re.fullmatch(pattern, name) is not None


_TRAINER = "oreo_algos/training/trainer.py"
_BASE = "oreo_algos/algos/base.py"
_OREO = "oreo_algos/algos/oreo.py"
_SFT = "oreo_algos/algos/sft.py"
_AWR = "oreo_algos/algos/awr.py"
_TOPR = "oreo_algos/algos/topr.py"
_DPO = "oreo_algos/algos/dpo.py"
_KTO = "oreo_algos/algos/kto.py"
_ADVANTAGE = "oreo_algos/algos/direct_advantage.py"
_PRM = "oreo_algos/algos/implicit_prm.py"
_GRPO = "oreo_algos/algos/grpo.py"
_VALUES = "oreo_algos/algos/value_metrics.py"
_CURVE = "agents/oreo_agents/evaluation/curve.py"
_PAIRS = "agents/oreo_agents/evaluation/preferences.py"
_HPARAMS = "agents/oreo_agents/runs/hparams.py"

TABLE: dict[str, tuple[Metric, ...]] = {
    "Every training": (
        Metric(
            "train/loss", "of the algorithm", "Sum of all terms that are minimised, those of the value included.",
            "Losses of two algorithms are of different things. It may rise where the policy begins to learn after a "
            "warm-up of the value.", _TRAINER,
        ),
        Metric(
            "train/grad_norm", "", "Norm of the policy's gradient before it is clipped to `max_grad_norm`.",
            "Always above `max_grad_norm`: the clip sets the step; peaks: single episodes.", _TRAINER,
        ),
        Metric("train/learning_rate", "", "Of the policy in this step.", "", _TRAINER),
        Metric("train/epoch", "epochs", "Passes over the examples after this step; a warm-up of the value is none.",
               "", _TRAINER),
        Metric("train/num_tokens", "tokens", "Tokens of all examples so far, prompts included.", "", _TRAINER),
        Metric(
            "train/entropy", "nats a token", "Entropy of the policy over the tokens it learns from, mean; of DPO, over "
            "the chosen.", "A fall to near 0: the policy repeats itself, and samples of it no longer differ.", _BASE,
        ),
    ),
    "Supervised fine-tuning and rejection, with `observation_weight`": (
        Metric("train/nll/actions", "nats a token", "Mean of -log pi over the tokens to imitate.",
               "Should fall; a rise on new demonstrations is overfitting.", _SFT),
        Metric("train/nll/observations", "nats a token", "The same over prompts and observations.", "", _SFT),
    ),
    "Algorithms with a reference": (
        Metric(
            "train/kl", "nats a token", "KL of the policy to the reference. OREO and `oreo-constant`: that of their "
            "regulariser, as `kl=` says, mean over tokens, then over episodes. KTO: its estimate of the step, mean "
            "log-ratio of mismatched pairs, at least 0. GRPO with `alpha`: the k3 estimate at the tokens taken.",
            "Healthy runs stay below 0.08; the doctor warns above 1. Lower `policy_lr`, raise `alpha`, or set "
            "`kl_target`.", _OREO,
        ),
        Metric("train/log_ratio/pos_median", "nats", "log pi - log ref of whole transcripts that succeeded, median.",
               "Should rise above that of failures.", _VALUES),
        Metric("train/log_ratio/neg_median", "nats", "The same of those that failed.",
               "Should fall; if both fall alike the policy unlearns right answers too.", _VALUES),
        Metric("train/alpha", "reward units squared a nat", "Weight of the KL regulariser, which `kl_target` adapts.",
               "Grows until the KL nears its target.", _OREO),
    ),
    "OREO, `oreo-constant`, DQO, direct advantage, GRPO, `optimal-advantage`, AWR and IQL": (
        Metric("train/losses/policy", "reward units squared", "What the policy minimises, without regularisers. OREO: "
               "squared residual of the soft Bellman equation from each step to the end; `oreo-constant`: the same "
               "with a constant for V; DQO: its residual over one step; direct advantage (nats squared): the squared "
               "distance of log-ratio and advantage over beta; `optimal-advantage`: squared difference of beta times "
               "the log-ratio of a response and its advantage; GRPO (no unit): less the clipped surrogate. An "
               "algorithm of your own: what it logs there.",
               "Of two algorithms they are different things.", _OREO),
        Metric("train/losses/value", "reward units squared", "Squared residual that the value learns from: OREO's to "
               "the end of the episode, DQO's of its lambda-return, AWR's and IQL's weighted by the expectile, direct "
               "advantage's of the reward-to-go, in the warm-up alone.",
               "Should fall in the warm-up; the variance of the returns is what a constant V reaches.", _OREO),
        Metric("train/losses/value_boundaries", "reward units squared", "The part of it at states that a search reads "
               "and no step begins with (step and response level).", "", _OREO),
        Metric("train/advantages/abs", "reward units", "Direct advantage: |A| over the steps of the loss, mean.",
               "Divided by beta it is how far log-ratios are to go; near 0 V tells no step from another.", _ADVANTAGE),
        Metric("train/ratio/mean", "", "GRPO: pi over the policy that sampled, mean over tokens.",
               "1 in the first step of a round; far from it the samples are another policy's, or of another "
               "temperature.", _GRPO),
        Metric("train/ratio/clipped", "share", "GRPO: tokens whose ratio is so far from 1 that they have no gradient.",
               "Above a fifth: fewer steps a round, or a lower `policy_lr`.", _GRPO),
        Metric("train/temperature/effective", "reward units a nat", "OREO and `oreo-constant`: KL temperature of the "
               "optimum of residual and regulariser together, beta + alpha / (2 beta n), n tokens in a step (1 at "
               "token level); with `consistency=full_gradient` the second term is divided by (steps + 1) / 2.",
               "Above 3 beta alpha holds the policy and not beta, and a smaller beta alone makes it warmer (the doctor "
               "says so).", _VALUES),
        Metric("train/nll/successes", "nats a token", "OREO with `nll_weight`: -log pi over the tokens of successes "
               "that may be imitated, mean.", "Falls: that is what its weight is for.", _OREO),
        Metric("train/losses/hinge", "nats", "How much less likely successes became than under the reference, before "
               "its weight `positive_hinge`.", "0: no success became less likely.", _OREO),
    ),
    "Networks with a value: OREO, DQO, direct advantage, AWR and IQL": (
        Metric("train/value_grad_norm", "", "Norm of the value's gradient before it is clipped.",
               "0 in steps that hold V (direct advantage after the warm-up).", _TRAINER),
        Metric("train/value_learning_rate", "", "Of the value network in this step.", "", _TRAINER),
        Metric("train/values/mean", "reward units", "V over all states of the batch, mean.",
               "Should near the mean return.", _VALUES),
        Metric("train/values/std", "reward units", "Standard deviation of V over these states.",
               "Near 0 after 100 updates: V tells no state from another (the doctor says so).", _VALUES),
        Metric("train/values/min", "reward units", "Smallest V.", "Far outside of the rewards: V diverges.", _VALUES),
        Metric("train/values/max", "reward units", "Largest V.", "The same.", _VALUES),
        Metric("train/values/start", "reward units", "V before the first action, mean.", "", _VALUES),
        Metric("train/values/terminal_pos", "reward units", "V just before the end token of successes, mean.",
               "Should be well above that of failures: this is what a search by V reads.", _VALUES),
        Metric("train/values/terminal_neg", "reward units", "The same of failures.", "", _VALUES),
        Metric("train/bellman/residual_abs", "reward units", "|V - target|, mean; the target is the reward-to-go less "
               "the KL-to-go.", "", _VALUES),
        Metric("train/bellman/explained_variance", "share", "1 - Var(target - V) / Var(target); absent where all "
               "targets are equal.", "Above 0 and rising; below 0 V is worse than a constant.", _VALUES),
    ),
    "AsymRE, TOPR, `optimal-advantage`, AWR and IQL": (
        Metric("train/advantages/mean", "reward units", "What steps returned less what they are compared with, mean: "
               "of AsymRE over actions, of TOPR and `optimal-advantage` over responses.",
               "AsymRE: near -`delta_v`. A large number: the baseline is not that of these data.", _VALUES),
        Metric("train/advantages/std", "reward units", "Standard deviation of the same.",
               "Near 0: nothing is told apart; more samples a task, or tasks that are sometimes solved.", _VALUES),
        Metric("train/advantages/positive", "share", "Those above 0: what the policy is to say more often.",
               "Far from a half, one sign sets the pace.", _VALUES),
        Metric("train/weights/negative", "", "TOPR: weight of responses below the baseline, min(pi / mu, 1), mean.",
               "Falls from near 1 towards 0 as they are unlearned; at 0 this is rejection sampling.", _TOPR),
        Metric("train/weights/mean", "", "AWR and IQL: exp(advantage / beta), at most `max_weight`, mean over steps.",
               "Far above 1 with a large share clipped: raise `beta`.", _AWR),
        Metric("train/weights/clipped", "share", "AWR and IQL: steps whose weight is `max_weight`.",
               "Above some percent the weights tell little apart.", _AWR),
    ),
    "DPO, KTO and implicit PRM; `logps` also AsymRE, TOPR, AWR and IQL": (
        Metric("train/rewards/chosen", "reward units", "beta times the log-ratio of responses that succeeded, mean.",
               "Should rise, or fall less than that of the others.", _DPO),
        Metric("train/rewards/rejected", "reward units", "The same of responses that failed.", "", _DPO),
        Metric("train/logps/chosen", "nats", "log pi of responses that succeeded, mean.",
               "A deep fall: right answers are unlearned together with wrong ones (the doctor says so).", _DPO),
        Metric("train/logps/rejected", "nats", "The same of responses that failed.", "", _DPO),
        Metric("train/rewards/margins", "reward units", "DPO: `rewards/chosen` less `rewards/rejected`, mean.",
               "Should rise; a steep rise with a loss near 0 is overfitting.", _DPO),
        Metric("train/rewards/accuracies", "share", "DPO: pairs whose margin is above 0.",
               "The first one counts the signs of rounding noise.", _DPO),
        Metric("train/nll/chosen", "nats a token", "DPO with `nll_weight`: -log pi over the compared tokens of the "
               "chosen that may be imitated, mean.", "Should fall, or not rise: that is what its weight is for.", _DPO),
        Metric("train/pairs/shared_steps", "steps", "DPO of pairs that part at a step: how many they share, mean.",
               "Near 0: the pairs part at once, and tell as much as whole responses.", _DPO),
        Metric("train/outcomes/accuracy", "share", "Implicit PRM: episodes whose reward has the sign of their outcome.",
               "Should rise above the larger share of the two outcomes.", _PRM),
        Metric("train/rewards/reference_point", "reward units", "KTO: beta times its estimate of the KL of a response.",
               "Successes should lie above it and failures below it.", _KTO),
    ),
    "Evaluations on the way (`trainer.evaluate_every`)": (
        Metric("eval/<env>/<split>/accuracy", "share", "Dev tasks that greedy answers solve.",
               "The learning curve: the best point is what `load_best_model_at_end` keeps.", _CURVE),
        Metric("eval/<env>/<split>/accuracy_low", "share", "Lower end of its 95% Wilson interval.", "", _CURVE),
        Metric("eval/<env>/<split>/accuracy_high", "share", "Upper end.",
               "Two points within each other's intervals are no difference.", _CURVE),
        Metric("eval/<env>/<split>/n", "tasks", "How many were asked and graded.", "", _CURVE),
        Metric("eval/<env>/<split>/tokens_per_task", "tokens", "Generated for a task, mean.",
               "A jump to the limit: answers no longer end.", _CURVE),
        Metric("eval/<env>/<split>/sound", "share", "Answers of which every step is right, where the environment can "
               "tell.", "Far below the accuracy: right answers for wrong reasons.", _CURVE),
        Metric("eval/<env>/<split>/invalid_per_task", "actions", "Refused actions a task, where there are such.",
               "", _CURVE),
        Metric("eval/<env>/<split>/not_graded", "tasks", "Answers whose verdict was lost; in no other number.",
               "Above 0: see the log.", _CURVE),
        Metric("eval/<env>/<pairs>/<judge>_accuracy", "share", "Held-out pairs whose chosen answer is ranked first; "
               "ties count half. The judge is `reward`, beta times the log-ratio to what the training began with, or "
               "`value`, V before the last token.", "That of `reward` is what `load_best_model_at_end` keeps where "
               "there is no environment to play. 0.5: a coin.", _PAIRS),
        Metric("eval/<env>/<pairs>/<judge>_accuracy_low", "share", "Lower end of its 95% interval.", "", _PAIRS),
        Metric("eval/<env>/<pairs>/<judge>_accuracy_high", "share", "Upper end.", "", _PAIRS),
        Metric("eval/<env>/<pairs>/<judge>_margin", "reward units", "Score of the chosen answer less that of the "
               "other, mean.", "It may grow while the accuracy falls: few pairs are told apart ever more.", _PAIRS),
        Metric("eval/<env>/<pairs>/<judge>_chosen", "reward units", "Score of the chosen answers, mean.",
               "Implicit rewards of both falling: the policy leaves the data.", _PAIRS),
        Metric("eval/<env>/<pairs>/<judge>_rejected", "reward units", "Score of the other answers, mean.", "", _PAIRS),
        Metric("eval/<env>/<pairs>/pairs", "pairs", "How many were ranked.", "", _PAIRS),
        Metric("eval/cpu_seconds", "s", "Processor time of the training until here, evaluations not counted.",
               "", _TRAINER),
        Metric("eval/examples", "text", "The first judged answers, shortened; TensorBoard only.",
               "Read some.", _CURVE),
    ),
    "The end of a run (TensorBoard only, tab HPARAMS)": (
        Metric("final/<split>/<search>/accuracy", "share", "As in the table of results.", "", _HPARAMS),
        Metric("final/steps", "steps", "Optimiser steps.", "", _HPARAMS),
        Metric("final/cpu_seconds", "s", "Processor time of the training.", "", _HPARAMS),
        Metric("final/dev_best", "share", "Best accuracy, of tasks or pairs, of the evaluations on the way.",
               "A maximum of noisy numbers: higher than the policy's accuracy.", _HPARAMS),
        Metric("final/dev_best_step", "steps", "After which step it was found.", "", _HPARAMS),
    ),
    "Warnings": (
        Metric("doctor/<warning>", "text", "A warning of the doctor, see `doctor.md`; TensorBoard only.",
               "All of them.", "oreo_algos/training/warning_log.py"),
    ),
}  # fmt: skip


def metrics() -> list[Metric]:
    """Return all entries of the table."""
    return [metric for group in TABLE.values() for metric in group]


def markdown() -> str:
    """Return the table as a page."""
    lines = [
        "# Metrics",
        "",
        "What a training logs in `metrics.jsonl`, one line a step, and in TensorBoard. Made from",
        "`oreo_algos/training/glossary.py` by `make metrics`; change it there. `oreo metrics NAME` shows an entry.",
        "",
        "A number of a step is that of all its examples, however they were cut into micro-batches. What is undefined",
        "in a step, such as a mean over successes without one, is left out; what is not finite is `null` in the file.",
        "A step of a warm-up, and one between those of the policy (`value_updates`), log the value's numbers alone.",
        "Equations: [algorithms](algorithms.md).",
    ]
    for title, group in TABLE.items():
        lines += ["", f"## {title}", "", "| name | unit | what it is | what to watch for |", "|---|---|---|---|"]
        lines += [f"| `{one.name}` | {one.unit} | {_cell(one.meaning)} | {_cell(one.watch)} |" for one in group]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def described(names: Sequence[str]) -> str:
    """Return the entries that names stand for, or are part of, as text; all without names."""
    chosen = [one for one in metrics() if not names or any(n in one.name or one.matches(n) for n in names)]
    parts = []
    for one in chosen:
        watch = f"\n  watch: {one.watch}" if one.watch else ""
        parts.append(
            f"{one.name}{f' ({one.unit})' if one.unit else ''}\n  {one.meaning}{watch}\n  from: {one.source}\n"
        )
    return "\n".join(parts)
