"""A one-label token classifier as a value network.

Knows: transformers' token classifiers, and its generic head for trunks that have none. Does not know: tokenizers,
losses.
Source: Wang et al. 2024 (arXiv:2412.16145): a separate transformer that starts from the policy's weights, with a
bias-free linear head that is zero at the start. Saved, it is a plain Hugging Face folder.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from os.path import expanduser
from typing import Any, Protocol, Self, Unpack

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_layers import GenericForTokenClassification
from transformers.modeling_outputs import TokenClassifierOutput

from oreo_agents.networks.adapters import Lora, adapted_path
from oreo_agents.networks.addresses import require_url
from oreo_agents.networks.checkpoints import (
    Checkpointing,
    cast_once,
    compute_in_float32,
    load_config,
    require_checkpointing,
)
from oreo_agents.networks.kv_cache import BatchCache, Prefix, pad_left
from oreo_agents.networks.network import LoadOptions, Network
from oreo_agents.networks.readers import last_outputs
from oreo_agents.networks.weights import load_model
from oreo_algos.batch import Batch
from oreo_algos.segments import shift_values
from oreo_algos.typed import require_types


@dataclass(frozen=True, kw_only=True)
class ValueSettings:
    """How the value network starts.

    Attributes:
        path: folder of a trained value network; None: the policy's weights with a head that says 0.
        url: of a server of vLLM that has this network, such as http://127.0.0.1:8001, for searches; None: they read it
            in this process.
        bias_at_mean_reward: give the head a trained bias that starts at the buffer's mean reward.
        lora: adapters in place of full fine-tuning.
        gradient_checkpointing: compute layers again in the backward: less memory, about a third more time; ``auto``:
            where the layers of the model can be.
    """

    path: str | None = None
    url: str | None = None
    bias_at_mean_reward: bool = False
    lora: Lora = Lora()
    gradient_checkpointing: Checkpointing = False

    def __post_init__(self) -> None:
        """Check the settings."""
        require_types(self)
        if self.url is not None:
            require_url("value.url", self.url)
        require_checkpointing("value.gradient_checkpointing", self.gradient_checkpointing)


class StateValue(Protocol):
    """What says V of states: a network in this process, or on a server.

    Attributes:
        resumes: it goes on from what it has read of a transcript.
    """

    @property
    def resumes(self) -> bool:
        """See above."""
        ...

    def values_after(
        self, transcripts: Sequence[Sequence[int]], prefixes: Sequence[Prefix]
    ) -> tuple[Tensor, list[Prefix]]:
        """Return V of the state after each transcript, see ``TokenValue.values_after``."""
        ...


def readings(value: StateValue) -> AbstractContextManager[None]:
    """Hold what several readings have in common: a network in this process casts each weight once."""
    return cast_once(value) if isinstance(value, nn.Module) else nullcontext()


class TokenValue(Network):
    """V of every state of a transcript, from the output at the token before it."""

    def __init__(
        self, model: PreTrainedModel, lora: Lora | None = None, *, gradient_checkpointing: Checkpointing = False
    ) -> None:
        """Wrap a loaded classifier, with adapters when ``lora`` asks for them."""
        name = _head_name(model)
        compute_in_float32(getattr(model, name))
        bias = getattr(model, name).bias
        frozen_bias = bias is not None and not bias.requires_grad
        super().__init__(model, lora, gradient_checkpointing=gradient_checkpointing, head=name)
        if frozen_bias:
            # With adapters the head that is trained is a copy.
            getattr(model, name).bias.requires_grad_(False)

    @torch.no_grad()
    def _prove(self) -> None:
        head = getattr(self.model, _head_name(self.model))
        before = head.weight.clone()
        # A head that says 0 everywhere tells no document from another.
        head.weight.copy_(torch.linspace(-1, 1, before.numel()).view_as(before))
        try:
            self.documents.prove(self.model)
        finally:
            head.weight.copy_(before)

    @classmethod
    def from_policy(cls, path: str, *, bias: float | None = None, **how: Unpack[LoadOptions]) -> Self:
        """Start from the weights of a policy's checkpoint with a head that says 0 everywhere.

        Args:
            path: folder or hub name of the policy.
            bias: None: the paper's head, without bias; a number: a trained bias that starts there, e.g. at the
                mean reward (kept in the config as ``token_classification_bias=True``).
            how: see ``LoadOptions``.

        Raises:
            ValueError: nothing readable at ``path``, or its architecture cannot be a value network.
        """
        path, trust = expanduser(path), how.get("trust_remote_code", False)
        classifier, config = _classifier(load_config(path, trust_remote_code=trust))
        config.num_labels = 1
        config.token_classification_bias = bias is not None
        config.classifier_dropout = 0.0
        dtype = how.get("dtype", torch.float32)
        model = load_model(classifier, path, dtype=dtype, config=config, new_head=True, trust_remote_code=trust)
        head = getattr(model, _head_name(model))
        nn.init.zeros_(head.weight)
        if head.bias is not None:
            # Some classes (GPT-2) keep a bias regardless: it stays 0 unless one was asked for.
            nn.init.constant_(head.bias, bias or 0.0)
            head.bias.requires_grad_(bias is not None)
        return cls._wrap(model, how, path)

    @classmethod
    def from_pretrained(cls, path: str, **how: Unpack[LoadOptions]) -> Self:
        """Load a trained value network, one label, from a folder or the hub.

        Raises:
            ValueError: nothing readable at ``path``, or not a one-label token classifier.
        """
        path, trust = expanduser(path), how.get("trust_remote_code", False)
        config = load_config(path, trust_remote_code=trust)
        if config.num_labels != 1 or not any("TokenClassification" in name for name in config.architectures or []):
            raise ValueError(
                f"{path}: a value network is a token classifier with one label, this is {config.architectures} with "
                f"{config.num_labels}; give the folder `value` of an OREO run"
            )
        # Of adapters the head is part, and not of what they adapt.
        adapters = adapted_path(path) is not None
        classifier, config = _classifier(config)
        dtype = how.get("dtype", torch.float32)
        model = load_model(classifier, path, dtype=dtype, config=config, new_head=adapters, trust_remote_code=trust)
        head = getattr(model, _head_name(model))
        if head.bias is not None and not getattr(config, "token_classification_bias", False):
            head.bias.requires_grad_(False)
        return cls._wrap(model, how, path)

    def token_values(self, batch: Batch) -> Tensor:
        """Return V of the state just before each token, 0 on padding, float [B, T + 1]; see ``oreo_algos.segments``."""
        values: Tensor = self(batch)
        return values

    def forward(self, batch: Batch) -> Tensor:
        """Do what ``token_values`` says; hooks of a wrapper, such as FSDP's, fire on a call of the module only."""
        outputs = self.documents.outputs_at(self.model, batch, batch.attention).float()
        values = torch.zeros(batch.tokens.shape, device=outputs.device).masked_scatter(batch.attention, outputs)
        return shift_values(values)

    @torch.no_grad()
    def values_after(
        self, transcripts: Sequence[Sequence[int]], prefixes: Sequence[Prefix]
    ) -> tuple[Tensor, list[Prefix]]:
        """Return V of the state after each transcript, read together in one batch.

        Args:
            transcripts: token ids, none empty.
            prefixes: what it has read of each transcript; only the other tokens are read.

        Returns:
            V, float [B]; and what it has read now: nothing where it does not resume.
        """
        device = next(self.parameters()).device
        if not self.resumes:
            values = last_outputs(self.model, transcripts, device).squeeze(1).float()
            return values, [Prefix() for _ in transcripts]
        prefixes = [prefix.before(len(row)) for row, prefix in zip(transcripts, prefixes, strict=True)]
        unread = [row[len(prefix) :] for row, prefix in zip(transcripts, prefixes, strict=True)]
        cache = BatchCache(self.plain, prefixes, device)
        tokens, present = pad_left(unread, device)
        values = self.model(input_ids=tokens, **cache.reads(present)).logits[:, -1, 0].float()
        read = cache.newest(range(len(unread)), tokens.shape[1])
        return values, [p.then(r[-len(new) :].clone()) for p, r, new in zip(prefixes, read, unread, strict=True)]


def _classifier(config: PretrainedConfig) -> tuple[Any, PretrainedConfig]:
    """Return the class of one-label token classifiers for a policy's architecture, and the configuration it takes.

    Where transformers has none, its generic head is put on the architecture's own trunk. A folder of such a class is
    plain but for its name: `TokenValue.from_pretrained` reads it.

    Raises:
        ValueError: this is no causal language model.
    """
    if type(config) in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING:
        return AutoModelForTokenClassification, config
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(
            f"transformers has no causal language model for {config.model_type!r}, so it cannot be a value network"
        )
    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if causal.config_class is not type(config):  # weights of images lie in the same folder, and are left there
        config = config.get_text_config()
    family: Any = [cls for cls in causal.__mro__ if issubclass(cls, PreTrainedModel) and cls is not PreTrainedModel][-1]
    name = f"{causal.__name__.split('For')[0]}ForTokenClassification"
    # As one of transformers' own classes it reads the names that weights have in the folders of its makers.
    own = {"base_model_prefix": family.base_model_prefix or "model", "__module__": causal.__module__}
    return type(name, (_HeadOnTrunk, family), own), config


class _HeadOnTrunk(GenericForTokenClassification):
    """transformers' generic token classifier, for trunks whose output has other fields than a decoder's."""

    def forward(self, *inputs: Tensor, **how: Any) -> TokenClassifierOutput:
        trunk: Any = getattr(self, self.base_model_prefix)
        return TokenClassifierOutput(logits=self.score(trunk(*inputs, **how)[0]))


def _head_name(model: nn.Module) -> str:
    """Return the attribute that holds the linear head of a token classifier."""
    plain = model.get_base_model() if isinstance(model, PeftModel) else model
    for name in ("score", "classifier"):
        if isinstance(getattr(plain, name, None), nn.Linear):
            return name
    raise ValueError(f"{type(plain).__name__}: neither `score` nor `classifier` is its linear head")
