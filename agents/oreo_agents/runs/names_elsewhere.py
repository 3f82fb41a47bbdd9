"""What settings are called elsewhere, and here.

Knows: the names of TRL's and transformers' training arguments, and ours. Does not know: what a setting does.
Source: TRL 1.0 ``SFTConfig``, ``DPOConfig``, ``KTOConfig``; transformers 5 ``TrainingArguments``.
"""

from collections.abc import Iterable

from oreo_envs.checks import closest

_ELSEWHERE = {
    "learning_rate": "algo.policy_lr=... (a value network has algo.value_lr, the start sft.algorithm.policy_lr)",
    "per_device_train_batch_size": "algo.batch_size=..., examples an optimiser step, whatever fits into memory at once "
    "(trainer.micro_batch_tokens=...)",
    "per_device_eval_batch_size": "evaluate.sampling.batch_size=...",
    "gradient_accumulation_steps": "nothing: algo.batch_size=... is what an optimiser step sees, and "
    "trainer.micro_batch_tokens=... what a forward pass sees",
    "num_train_epochs": "algo.epochs=...",
    "max_steps": "algo.epochs=...: training ends after whole passes",
    "bf16": "trainer.bf16=true",
    "fp16": "trainer.bf16=true",
    "torch_dtype": "policy.dtype=...",
    "output_dir": "hydra.run.dir=FOLDER",
    "report_to": "tracker=NAME",
    "run_name": "hydra.run.dir=FOLDER",
    "logging_steps": "nothing: every step is logged",
    "save_steps": "trainer.checkpoint_every=...",
    "save_total_limit": "trainer.keep_checkpoints=...",
    "eval_steps": "trainer.evaluate_every=...",
    "eval_strategy": "trainer.evaluate_every=STEPS",
    "lr_scheduler_type": "nothing: it is a cosine to 0",
    "warmup_steps": "algo.warmup_ratio=..., a share of the steps",
    "optim": "algo.optimizer=adamw|muon",
    "max_length": "policy.tiny.context=... of a small model; a checkpoint has a context of its own",
    "max_completion_length": "collect.sampling.max_new_tokens=...",
    "num_generations": "collect.samples=...",
    "model_name_or_path": "policy.path=FOLDER_OR_HUB_NAME",
    "ref_model": "nothing: the reference is the policy as training finds it",
    "dataset_name": "data=FOLDER_OR_FILE",
    "train_dataset": "data=FOLDER_OR_FILE",
    "resume_from_checkpoint": "the same command in the same hydra.run.dir=FOLDER",
    "load_in_4bit": "nothing: weights are not quantised; policy.lora.rank=... trains fewer",
    "use_peft": "policy.lora.rank=...",
    "lora_r": "policy.lora.rank=...",
    "lora_alpha": "policy.lora.alpha=...",
    "lora_dropout": "policy.lora.dropout=...",
    "lora_target_modules": "policy.lora.target_modules=[...]",
}

_OF_TRAINER = {
    "learning_rate": "policy_lr",
    "per_device_train_batch_size": "batch_size",
    "num_train_epochs": "epochs",
    "max_steps": "epochs",
    "warmup_steps": "warmup_ratio",
    "optim": "optimizer",
    "output_dir": "folder",
    "bf16": "trainer=TrainerConfig(bf16=True)",
    "report_to": "trainer=TrainerConfig(tracker=NAME)",
    "save_steps": "trainer=TrainerConfig(checkpoint_every=...)",
    "gradient_accumulation_steps": "batch_size, what an optimiser step sees",
}


def here(name: str) -> str | None:
    """Return what a setting of TRL is here, as the command line writes it; None: no such name is known.

    Args:
        name: of a setting that we do not have, with what stands before it.
    """
    return _ELSEWHERE.get(name.rpartition(".")[2])


def meant(name: str, known: Iterable[str]) -> str:
    """Return the end of a message on an unknown setting: what it is here, or the closest known name, or ""."""
    elsewhere = here(name)
    return closest(name, known) if elsewhere is None else f"; here it is {elsewhere}"


def here_in_python(name: str) -> str | None:
    """Return what an argument of TRL is called in ``oreo_agents.train``; None: no such name is known."""
    return _OF_TRAINER.get(name)
