"""The networks of a run, from checkpoints and settings.

Knows: settings, checkpoints, devices. Does not know: stages, folders of a run.
"""

import gc
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from oreo_agents.episodes.prompts import PromptFormat
from oreo_agents.episodes.sampler import LocalSampler, Sampler
from oreo_agents.networks.policy import CausalPolicy, PolicySettings
from oreo_agents.networks.value import StateValue, TokenValue, ValueSettings
from oreo_agents.runs.engines import Engines
from oreo_algos import EpisodeBuffer, Models, ranks
from oreo_algos.algos import Algorithm
from oreo_envs.grading import Thoughts


@dataclass(frozen=True)
class Loader:
    """Loads networks in the way that a run's settings ask for.

    Attributes:
        policy_settings: adapters, dtype and device of policies.
        value_settings: start and adapters of value networks.
        engines: servers that generate and read V; None: the networks do.
    """

    policy_settings: PolicySettings
    value_settings: ValueSettings
    engines: Engines | None = None

    @property
    def device(self) -> torch.device:
        """Where networks go; ``auto`` is the GPU when there is one."""
        name = self.policy_settings.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda":
            ranks.require_own_gpu()
        return torch.device(name)

    def on_host(self) -> "Loader":
        """Return one that loads networks in the same way into the memory of the host."""
        return replace(self, policy_settings=replace(self.policy_settings, device="cpu"))

    def prompt_format(self, path: str) -> PromptFormat:
        """Load the tokenizer of a checkpoint, with the chat template and the system prompt of the settings.

        Raises:
            ValueError: see ``PromptFormat.from_pretrained``.
        """
        settings = self.policy_settings
        return PromptFormat.from_pretrained(
            path,
            chat_template=settings.chat_template,
            chat_template_kwargs=settings.chat_template_kwargs,
            system_prompt=settings.system_prompt,
            thoughts=None if settings.thoughts is None else Thoughts.of(settings.thoughts),
            trust_remote_code=settings.trust_remote_code,
        )

    def policy(self, path: str) -> CausalPolicy:
        """Load a policy.

        Raises:
            ValueError: it cannot be loaded, or its tokenizer writes tokens that it cannot read.
        """
        if self.device.type == "cuda":
            gc.collect()  # some classes of transformers refer to themselves (Mamba): their weights would stay there
        policy = CausalPolicy.from_pretrained(path, **self.how(self.policy_settings))
        prompt_format = self.prompt_format(path)
        policy.prompt_format, policy.tokenizer_fingerprint = prompt_format, prompt_format.fingerprint
        written = len(prompt_format.tokenizer)
        if written > policy.vocabulary:
            raise ValueError(
                f"policy.path={path}: its tokenizer writes {written} tokens and the model reads {policy.vocabulary}; "
                "give the tokenizer that it was trained with, or enlarge its embedding and save both"
            )
        return policy

    def value(self, path: str, policy_path: str) -> TokenValue:
        """Load a trained value network.

        Raises:
            ValueError: it reads other tokens than the policy.
        """
        self.require_same_tokens("value.path", path, policy_path)
        value = TokenValue.from_pretrained(path, **self.how(self.value_settings))
        value.prompt_format = self.prompt_format(path)
        value.tokenizer_fingerprint = value.prompt_format.fingerprint
        return value

    def sampler(self, policy: CausalPolicy, path: str) -> Sampler:
        """Return what draws from a policy that was loaded from ``path``.

        Raises:
            ValueError: a server is to, and does not draw what the policy would.
        """
        if self.engines is None:
            return LocalSampler(policy)
        return self.engines.sampler(policy, path, self.prompt_format(path))

    def judge(self, path: str, policy_path: str) -> StateValue:
        """Return what reads V for searches, see ``value``.

        Raises:
            ValueError: see ``value``; or a server is to read, and does not say what the network does.
        """
        return self.reader(self.value(path, policy_path), path)

    def reader(self, value: TokenValue, path: str) -> StateValue:
        """Return what reads V of a value network that was loaded from ``path``, see ``judge``."""
        return value if self.engines is None else self.engines.judge(value, path, self.prompt_format(path))

    def require_same_tokens(self, setting: str, path: str, policy_path: str) -> None:
        """Refuse a checkpoint that reads other tokens than the policy.

        Args:
            setting: the name of the setting that holds ``path``, for the error.
            path: of the checkpoint.
            policy_path: of the policy.

        Raises:
            ValueError: their tokenizers differ.
        """
        if self.prompt_format(path).fingerprint != self.prompt_format(policy_path).fingerprint:
            raise ValueError(
                f"{setting}={path} has another tokenizer than the policy {policy_path}, so it reads other tokens"
            )

    def models(
        self,
        algorithm: Algorithm[Any],
        path: str,
        buffer: EpisodeBuffer,
        *,
        reference_path: str | None = None,
        value_path: str | None = None,
    ) -> Models:
        """Load what an algorithm starts from.

        Args:
            algorithm: says which networks it needs.
            path: of the policy.
            buffer: what it learns from, for the bias of a new value network.
            reference_path: of the reference; None: the policy itself.
            value_path: of a trained value network; None: as the settings say.

        Raises:
            ValueError: bfloat16 weights without adapters, or a value network that reads other tokens.
        """
        if self.policy_settings.dtype == "bfloat16" and self.policy_settings.lora.rank == 0:
            raise ValueError(
                "policy.dtype=bfloat16 would lose most updates: a step at these learning rates is smaller than the "
                "precision of the weights; train float32 weights (a GPU still computes in bfloat16), or adapters "
                "with policy.lora.rank"
            )
        models = Models(self.policy(path))
        if "reference" in algorithm.needs:
            models.policy_is_reference = reference_path in (None, path)
            other = path if reference_path is None else reference_path
            models.reference = (
                models.policy.frozen_copy()  # type: ignore[attr-defined]
                if models.policy_is_reference
                else self.policy(other).requires_grad_(False)
            )
        if "value" in algorithm.needs:
            trained = value_path or self.value_settings.path
            models.value = (
                self._new_value(path, algorithm.learnable(buffer)) if trained is None else self.value(trained, path)
            )
        return models

    def _new_value(self, path: str, buffer: EpisodeBuffer) -> TokenValue:
        bias = None
        if self.value_settings.bias_at_mean_reward:
            bias = float(np.mean(buffer.columns.total_reward))
        value = TokenValue.from_policy(path, bias=bias, **self.how(self.value_settings))
        value.tokenizer_fingerprint = self.prompt_format(path).fingerprint
        return value

    def how(self, settings: PolicySettings | ValueSettings) -> dict[str, Any]:
        """Return the keyword arguments with which a network is loaded; a value network goes where the policy goes."""
        # What is trained is float32: below adapters the weights may be coarser.
        coarse = settings is self.policy_settings or settings.lora.rank > 0
        return {
            "device": self.device,
            "dtype": getattr(torch, self.policy_settings.dtype) if coarse else torch.float32,
            "lora": settings.lora,
            "trust_remote_code": self.policy_settings.trust_remote_code,
            "gradient_checkpointing": settings.gradient_checkpointing,
        }
