#!/usr/bin/env bash
# What: LoRA begun by PiSSA or OLoRA takes the adapter's first value out of the base's weights. TRL's preference trainers take the
#   model without its adapter as the reference, which is then not the model that was given: DPO's loss begins below log 2. Where
#   the model is wrapped by peft before, TRL adds a copy of the adapter, "ref", and adding it takes out of the base once more: the
#   policy itself is another model when the trainer is made, and the loss begins at log 2 as if all were well. Nothing warns.
# Versions: trl 1.16.0, peft 0.21.2, transformers 5.23.0, torch 2.15.0.
# Expected by most: the reference, and the policy before the first step, are the model that was given, whatever the adapter begins with.
# Observed, greatest difference of logits from the model that was given, and the first loss (log 2 is 0.6931):
#   trl 1.16.0 peft 0.21.2 transformers 5.23.0 torch 2.15.0
#   peft_config, True: policy 0.0, no adapter 0.0, loss 0.6931
#   peft_config, pissa: policy 0.0, no adapter 4.6, loss 0.6316
#   peft_config, olora: policy 0.0, no adapter 4.3, loss 0.6790
#   wrapped, True: policy 0.0, no adapter 0.0, loss 0.6931
#   wrapped, pissa: policy 1.8, no adapter 3.3, loss 0.6931
#   wrapped, olora: policy 2.2, no adapter 0.0, loss 0.6931
# Why: `disable_adapter` leaves what is left of the base; `add_adapter("ref", config)` runs the initialisation of the config again.
# Instead: `init_lora_weights=True` for DPO, KTO and GRPO, or an explicit `ref_model` loaded anew; and check that the loss begins
#   at log 2 and that the trainer's model gives the logits of the one that was given.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq --disable-pip-version-check trl==1.16.0 peft==0.21.2 transformers==5.23.0 torch==2.15.0
cat > show.py <<'PY'
import tempfile

import peft
import torch
import transformers
import trl
from datasets import Dataset, disable_progress_bars
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

disable_progress_bars()
WORDS = "[PAD] [EOS] one two three four five".split()
tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[PAD]"))
tokens.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="[PAD]", eos_token="[EOS]")
PAIRS = Dataset.from_dict({"prompt": ["one two"] * 4, "chosen": [" three"] * 4, "rejected": [" four five"] * 4})
SIZES = {"vocab_size": 7, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@torch.no_grad()
def logits(model):
    return model.eval()(torch.tensor([[2, 3, 4, 5]])).logits.clone()


def trained(init, wrapped):
    """Whether policy and reference are the given model when the trainer is made, and the loss of the first step."""
    torch.manual_seed(0)
    given = LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.3))
    before = logits(given)
    lora = peft.LoraConfig(r=4, init_lora_weights=init, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    args = trl.DPOConfig(tempfile.mkdtemp(), report_to=[], use_cpu=True, bf16=False, max_steps=1, save_strategy="no")
    rest = {"model": peft.get_peft_model(given, lora)} if wrapped else {"model": given, "peft_config": lora}
    trainer = trl.DPOTrainer(args=args, train_dataset=PAIRS, processing_class=tokenizer, **rest)
    off = logits(trainer.model) - before
    with trainer.model.disable_adapter():
        bare = logits(trainer.model) - before
    return off.abs().max().item(), bare.abs().max().item(), trainer.train().training_loss


if __name__ == "__main__":
    print(f"trl {trl.__version__} peft {peft.__version__} transformers {transformers.__version__} torch {torch.__version__[:6]}")
    for wrapped in (False, True):
        for init in (True, "pissa", "olora"):
            policy, bare, loss = trained(init, wrapped)
            print(f"{'wrapped' if wrapped else 'peft_config'}, {init}: policy {policy:.1f}, no adapter {bare:.1f}, loss {loss:.4f}")
            assert (policy > 1) == (wrapped and init is not True), policy
            assert (abs(loss - 0.6931) < 1e-3) == (wrapped or init is True), loss
            assert wrapped or (bare > 1) == (init is not True), bare
PY
venv/bin/python -W ignore show.py 2>errors | grep -v "^{" || { cat errors; exit 1; }
