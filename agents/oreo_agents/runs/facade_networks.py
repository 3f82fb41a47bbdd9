"""Networks of the facade: load, make, save, and how they write conversations.

Knows: what lies in a folder, which tokenizer belongs to a network. Does not know: training, searches, run folders.
"""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from oreo_agents.episodes.collect import demonstrations as demonstrate
from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.tasks import choose_indices
from oreo_agents.networks.adapters import Lora
from oreo_agents.networks.checkpoints import load_tokenizer, tokenizer_fingerprint
from oreo_agents.networks.policy import CausalPolicy, PolicySettings
from oreo_agents.networks.tiny import TinyConfig, byte_tokenizer, create_checkpoint, word_tokenizer
from oreo_agents.networks.value import TokenValue, ValueSettings
from oreo_agents.progress import quiet
from oreo_agents.runs.facade_parts import Env, counted, env_of, replaced
from oreo_agents.runs.loading import Loader


def load_policy(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "float32",
    lora: Lora | None = None,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    system_prompt: str | None = None,
    thoughts: Sequence[Sequence[str]] | None = None,
    gradient_checkpointing: bool = False,
    trust_remote_code: bool = False,
) -> CausalPolicy:
    """Load a policy with its tokenizer.

    Args:
        path: folder or hub name of a causal language model; of a folder that ``save`` wrote, the policy in it.
        device: ``auto``: the GPU when there is one.
        dtype: of the weights, ``float32`` or ``bfloat16``.
        lora: adapters to train in place of all weights.
        chat_template, chat_template_kwargs, system_prompt, thoughts: how it writes conversations, see
            ``PolicySettings``.
        gradient_checkpointing: less memory, a third more time.
        trust_remote_code: run code that comes with the checkpoint.

    Raises:
        ValueError: nothing readable at ``path``.
    """
    quiet()
    settings = PolicySettings(
        path=_part(path, "policy"),
        device=device,
        dtype=dtype,
        lora=lora or Lora(),
        chat_template=chat_template,
        chat_template_kwargs=chat_template_kwargs or {},
        system_prompt=system_prompt,
        thoughts=thoughts,
        gradient_checkpointing=gradient_checkpointing,
        trust_remote_code=trust_remote_code,
    )
    return Loader(settings, ValueSettings()).policy(str(settings.path))


def new_policy(env: Env | str, *, seed: int = 0, **shape: Any) -> CausalPolicy:
    """Make a small policy from random weights, with a tokenizer of the words of an environment.

    Args:
        env: whose words: its vocabulary, or those of a few hundred demonstrations.
        seed: of the weights.
        shape: see ``TinyConfig``: ``hidden_size``, ``layers``, ``context``, ...

    Raises:
        ValueError: an environment without words of its own, or a shape that cannot be.
    """
    quiet()
    counted(seed=seed)
    config = replaced(TinyConfig(), shape)
    made = env_of(env)
    unwrapped: Any = made.unwrapped
    if hasattr(unwrapped, "vocabulary"):
        tokenizer = word_tokenizer(unwrapped.vocabulary())
    else:
        shown = demonstrate(made, choose_indices(made, 200, seed), [seed])
        tokenizer = byte_tokenizer((m["content"] for one in shown for m in one.messages), config.tokenizer_size)
    with TemporaryDirectory() as folder:
        create_checkpoint(config, tokenizer, Path(folder), seed)
        policy = load_policy(folder)
    policy.path = None
    _settle(policy, PromptFormat(tokenizer, "new_policy"))
    return policy


def load_value(path: str | os.PathLike[str], policy: CausalPolicy) -> TokenValue:
    """Load a trained value network beside its policy.

    Args:
        path: folder or hub name of a one-label token classifier; of a folder that ``save`` wrote, the value in it.
        policy: whose transcripts it reads; it goes where the policy is.

    Raises:
        ValueError: it is none, or reads other tokens than the policy.
    """
    quiet()
    written, folder = format_of(policy), _part(path, "value")
    value = TokenValue.from_pretrained(folder, device=next(policy.parameters()).device)
    tokenizer = load_tokenizer(folder)
    # How conversations are written is the policy's, whatever template lies beside the value.
    tokenizer.chat_template = written.tokenizer.chat_template
    if tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(written.tokenizer):
        raise ValueError(f"{folder} has another tokenizer than the policy, so it reads other tokens")
    _settle(value, written)
    return value


def new_value(policy: CausalPolicy, *, bias: float | None = None, lora: Lora | None = None) -> TokenValue:
    """Start a value network from the present weights of a policy, with a head that says 0 everywhere.

    Args:
        policy: as it is now, trained or not.
        bias: None: the paper's head; a number: a trained bias that starts there, such as the mean reward.
        lora: adapters to train in place of all weights.
    """
    quiet()
    format_of(policy)
    if bias is not None and not (isinstance(bias, int | float) and math.isfinite(bias)):
        raise ValueError(f"bias is a finite number, got {bias!r:.80}")
    with TemporaryDirectory() as folder:
        save_whole(policy, Path(folder))
        value = TokenValue.from_policy(folder, bias=bias, lora=lora, device=next(policy.parameters()).device)
    value.path = None
    _settle(value, format_of(policy))
    return value


def save(folder: str | os.PathLike[str], policy: CausalPolicy, value: TokenValue | None = None) -> None:
    """Write a policy, and its value, into ``folder/policy`` and ``folder/value``.

    ``load_policy(folder)``, ``load_value(folder, policy)`` and ``oreo serve policy.path=folder/policy`` read them.
    """
    format_of(policy)
    require_same_tokens(policy, value, "value", TokenValue)
    folder = Path(folder).expanduser()
    if folder.is_file():
        raise ValueError(f"{folder}: this is a file; name a folder")
    policy.save(folder / "policy")
    if value is not None:
        value.save(folder / "value", format_of(policy).tokenizer)


def format_of(policy: CausalPolicy) -> PromptFormat:
    """Return how a policy writes conversations.

    Raises:
        ValueError: it is no policy, or nobody has said which tokenizer it reads.
    """
    if not isinstance(policy, CausalPolicy):
        raise ValueError(f"policy is one of load_policy(FOLDER) or new_policy(env), got {policy!r:.80}")
    if policy.prompt_format is None:
        if policy.path is None:
            raise ValueError(
                "this policy has no tokenizer: set policy.prompt_format = PromptFormat(tokenizer), or load it with "
                "load_policy(FOLDER)"
            )
        _settle(policy, PromptFormat.from_pretrained(policy.path))
    found: PromptFormat = policy.prompt_format
    return found


def require_same_tokens(policy: CausalPolicy, other: Any, name: str, kind: type) -> None:
    """Refuse a network that reads other tokens than a policy, or none.

    Args:
        policy: whose tokens they are.
        other: ``kind``; None is let pass.
        name: of the argument.
        kind: what it has to be.

    Raises:
        ValueError: it is something else.
    """
    if other is None:
        return
    if not isinstance(other, kind):
        raise ValueError(f"{name} is a {kind.__name__}, got {other!r:.80}")
    theirs = getattr(other, "tokenizer_fingerprint", None)
    if theirs and theirs != format_of(policy).fingerprint:
        raise ValueError(f"{name} has another tokenizer than the policy, so it reads other tokens")


def save_whole(policy: CausalPolicy, folder: Path) -> None:
    """Write a policy with its adapters merged, whatever is asked of its own folder."""
    own, policy.lora = policy.lora, dataclasses.replace(policy.lora, save="merged")
    try:
        policy.save(folder, format_of(policy).tokenizer)
    finally:
        policy.lora = own


def _settle(network: CausalPolicy | TokenValue, written: PromptFormat) -> None:
    """Tell a network how it writes conversations."""
    network.prompt_format, network.tokenizer_fingerprint = written, written.fingerprint


def _part(path: str | os.PathLike[str], part: str) -> str:
    path = os.path.expanduser(path)
    folder = Path(path)
    return str(folder / part) if (folder / part).is_dir() and not (folder / "config.json").exists() else str(path)
