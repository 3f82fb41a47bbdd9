"""Chat templates of the kinds in use, in our own words, and small tokenizers of the kinds in use."""

import functools

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

MARKS = (
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
    "<|start|>",
    "<|message|>",
    "<|channel|>",
    "<|return|>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "<|turn_user|>",
    "<|turn_end|>",
    "<|bos|>",
)
# Added, and text all the same: `decode` shows them, and a question may hold them.
ADDED = ("<think>", "</think>")

_GENERATE = "{% if add_generation_prompt %}"


def _roles(user: str, assistant: str, system: str | None, generate: str, *, start: str = "", end: str = "") -> str:
    """A template that writes one message after the other; system None: it refuses one."""
    refuse = "{{ raise_exception('System role not supported') }}"
    return (
        f"{start}{{% for m in messages %}}{{% if m.role == 'user' %}}{user}"
        f"{{% elif m.role == 'assistant' %}}{assistant}{{% else %}}{refuse if system is None else system}{{% endif %}}"
        f"{{% endfor %}}{_GENERATE}{generate}{{% endif %}}{end}"
    )


_SAID = "{{ m.content }}"
_CHATML_HEAD = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_CHATML = _CHATML_HEAD + _GENERATE + "<|im_start|>assistant\n{% endif %}"
# Thoughts of answers before the last question go; an answer after it without thoughts is given an empty one.
_QWEN3 = (
    "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role != 'assistant' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% else %}{% set text = m.content %}{% set thought = '' %}{% if m.reasoning_content is string %}"
    "{% set thought = m.reasoning_content %}{% elif '</think>' in text %}"
    "{% set thought = text.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% endif %}<|im_start|>assistant\n"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}"
    "<think>\n{{ thought.strip('\\n') }}\n</think>\n\n{{ text.lstrip('\\n') }}{% else %}{{ text }}{% endif %}"
    "<|im_end|>\n{% endif %}{% endfor %}"
)
_HARMONY = (
    "<|start|>system<|message|>You are helpful.\nReasoning: {{ reasoning_effort | default('medium') }}<|end|>"
    "{% for m in messages %}{% if m.role == 'assistant' %}{% if '<|channel|>' in m.content %}"
    "{{ raise_exception('channels belong into the field thinking') }}{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
    "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}"
    "{% else %}<|start|>{{ 'developer' if m.role == 'system' else 'user' }}<|message|>{{ m.content }}<|end|>{% endif %}"
    "{% endfor %}" + _GENERATE + "<|start|>assistant{% endif %}"
)
_LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set first = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m.role == 'user' %}<s>[INST] {{ ((first if loop.first else '') + m.content) | trim }} "
    "[/INST]{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}"
)
# The message of the system goes with the last question.
_MISTRAL = (
    "<s>{% if messages[0].role == 'system' %}{% set said = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set said = '' %}{% set rest = messages %}{% endif %}{% for m in rest %}{% if m.role == 'user' %}"
    "[INST] {{ said if loop.last or loop.index0 == rest | length - 2 and rest[-1].role == 'assistant' else '' }}"
    "{{ m.content }}[/INST]{% else %} {{ m.content | trim }}</s>{% endif %}{% endfor %}"
)
_R1 = _roles(
    "<|turn_user|>{{ m.content }}",
    "<|assistant|>{{ m.content.split('</think>')[-1] }}</s>",
    _SAID,
    "<|assistant|><think>\n",
    start="<s>",
)
_V31 = _roles(
    "<|turn_user|>{{ m.content }}",
    "<|assistant|></think>{{ m.content.split('</think>')[-1] }}</s>",
    _SAID,
    "<|assistant|>{% if thinking is defined and thinking %}<think>{% else %}</think>{% endif %}",
    start="<s>",
)
_SMOLLM3 = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n{% endif %}{{ m.content.lstrip('\\n') }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    + _GENERATE
    + "<|im_start|>assistant\n{% if not enable_thinking %}<think>\n\n</think>\n{% endif %}{% endif %}"
)
_NEMOTRON = _roles(
    "<|turn_user|>User\n{{ m.content }}<|turn_end|>\n",
    "<|turn_user|>Assistant\n{{ m.content.split('</think>')[-1] }}<|turn_end|>\n",
    "<|turn_user|>System\n{{ m.content }}<|turn_end|>\n",
    "<|turn_user|>Assistant\n<think></think>",
)

TEMPLATES = {
    "chatml": _CHATML,
    "qwen2.5": "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    + _CHATML,
    "qwen3": _QWEN3
    + _GENERATE
    + "<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}",
    "qwen3.5": _QWEN3 + _GENERATE + "<|im_start|>assistant\n<think>\n{% endif %}",
    "deepseek-r1": _R1,
    "deepseek-v3.1": _V31,
    "deepseek-math": _roles(
        "User: {{ m.content }}\n\n",
        "Assistant: {{ m.content }}{{ eos_token }}",
        "{{ m.content }}\n\n",
        "Assistant:",
        start="{{ bos_token }}",
    ),
    "vicuna": _roles("USER: {{ m.content }} ", "ASSISTANT: {{ m.content }}</s>", "{{ m.content }} ", "ASSISTANT:"),
    "llama2": _LLAMA2,
    "llama3": "<|bos|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}" + _GENERATE + "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    "mistral": _MISTRAL,
    "mistral-tekken": _roles(
        "[INST]{{ m.content }}[/INST]",
        "{{ m.content }}</s>",
        "[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]",
        "",
        start="<s>",
    ),
    "gemma": _roles(
        "<start_of_turn>user\n{{ m.content | trim }}<end_of_turn>\n",
        "<start_of_turn>model\n{{ m.content | trim }}<end_of_turn>\n",
        None,
        "<start_of_turn>model\n",
        start="<|bos|>",
    ),
    "phi3": _roles(
        "<|user|>\n{{ m.content }}<|end|>\n",
        "<|assistant|>\n{{ m.content }}<|end|>\n",
        "<|system|>\n{{ m.content }}<|end|>\n",
        "<|assistant|>\n",
        end="{% if not add_generation_prompt %}{{ eos_token }}{% endif %}",
    ),
    "phi4": _roles(
        "<|im_start|>user<|message|>{{ m.content }}<|im_end|>",
        "<|im_start|>assistant<|message|>{{ m.content }}<|im_end|>",
        "<|im_start|>system<|message|>{{ m.content }}<|im_end|>",
        "<|im_start|>assistant<|message|>",
    ),
    "glm4": _roles(
        "<|user|>\n{{ m.content }}",
        "<|assistant|>\n{{ m.content }}",
        "<|system|>\n{{ m.content }}",
        "<|assistant|>",
        start="<|bos|>",
    ),
    "gpt-oss": _HARMONY,
    "command-r": _roles(
        "<|turn_user|>user:{{ m.content | trim }}<|turn_end|>",
        "<|turn_user|>chatbot:{{ m.content | trim }}<|turn_end|>",
        "<|turn_user|>system:{{ m.content | trim }}<|turn_end|>",
        "<|turn_user|>chatbot:",
        start="<|bos|>",
    ),
    "olmo": _roles(
        "<|user|>\n{{ m.content }}\n",
        "<|assistant|>\n{{ m.content }}{% if loop.last %}{{ eos_token }}{% else %}{{ eos_token }}\n{% endif %}",
        "<|system|>\n{{ m.content }}\n",
        "<|assistant|>\n",
        start="{{ bos_token }}",
    ),
    "granite": _CHATML.replace("<|im_start|>", "<|start|>").replace("<|im_end|>", "<|end|>"),
    "zephyr": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    + _GENERATE
    + "<|assistant|>\n{% endif %}",
    "smollm3": _SMOLLM3,
    "falcon": _roles(
        "User: {{ m.content }}\n\n", "Assistant: {{ m.content }}\n\n", "System: {{ m.content }}\n\n", "Assistant:"
    ),
    "nemotron": _NEMOTRON,
    "internlm": "<s>" + _CHATML,
    "stablelm": _roles(
        "<|user|>\n{{ m.content }}</s>\n",
        "<|assistant|>\n{{ m.content }}{% if not loop.last %}</s>\n{% endif %}",
        "<|system|>\n{{ m.content }}</s>\n",
        "<|assistant|>\n",
    ),
    # Answers are marked for training; the prompt begins a thought that an answer without one leaves out.
    "minimax": _roles(
        "<|turn_user|>user\n{{ m.content }}<|turn_end|>\n",
        "<|turn_user|>ai\n{% generation %}{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n"
        "{% endif %}{{ m.content }}{% endgeneration %}<|turn_end|>\n",
        "<|turn_user|>system\n{{ m.content }}<|turn_end|>\n",
        "<|turn_user|>ai\n<think>\n",
    ),
    "kimi": _roles(
        "<|im_start|>user<|message|>{{ m.content }}<|im_end|>",
        "<|im_start|>assistant<|message|><think>{{ m.reasoning_content }}</think>{{ m.content }}<|im_end|>",
        "<|im_start|>system<|message|>{{ m.content }}<|im_end|>",
        "<|im_start|>assistant<|message|>",
    ),
    "glm4.5": _roles(
        "<|user|>\n{{ m.content }}{% if enable_thinking is defined and not enable_thinking %}/nothink{% endif %}",
        "<|assistant|>\n<think></think>\n{{ m.content | trim }}",
        "<|system|>\n{{ m.content }}",
        "<|assistant|>{% if enable_thinking is defined and not enable_thinking %}\n<think></think>{% endif %}",
    ),
    "command-a": _roles(
        "<|turn_user|>user:{{ m.content | trim }}<|turn_end|>",
        "<|turn_user|>chatbot:<|start|>{{ m.content | trim }}<|end|><|turn_end|>",
        "<|turn_user|>system:{{ m.content | trim }}<|turn_end|>",
        "<|turn_user|>chatbot:",
    ),
    "no-prompt": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}",
    "alpaca": _roles(
        "### Instruction:\n{{ m.content }}\n\n",
        "### Response:\n{{ m.content }}\n\n",
        "{{ m.content }}\n\n",
        "### Response:\n",
    ),
    "trims-all": _CHATML.replace("{{ m.content }}", "{{ m.content | trim }}"),
    "numbered": _CHATML.replace("{{ m.role }}", "{{ m.role }} {{ messages | length }}"),
    "mute": _CHATML.replace("{{ m.content }}", "{{ m.content if m.role != 'assistant' }}"),
    "shouts": _CHATML.replace("{{ m.content }}", "{{ m.content | upper if m.role == 'assistant' else m.content }}"),
    "opens-only": _CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"),
}

_TEXTS = [
    "one two three. Tom has 21 marbles, and 3 + 4 = 7\n\n#### 7",
    "Assistant: The answer is \\boxed{4}. User: [INST] go to desk 1 [/INST]\nassistant\nGröße",
    "ASSISTANT: so\nLet me see.\n\nThe end",
] * 3


def _wrap(tokenizer: Tokenizer, *, end: str, lower: bool = False) -> PreTrainedTokenizerFast:
    marks = [AddedToken(mark, special=True, normalized=False) for mark in MARKS]
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token=end,
        clean_up_tokenization_spaces=False,
    )
    wrapped.add_special_tokens({"additional_special_tokens": marks})
    wrapped.add_tokens([AddedToken(text, normalized=False) for text in ADDED])
    return wrapped


def _bytes(pattern: str | None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    cut = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cut, whole])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return tokenizer


def _llama2() -> Tokenizer:
    """Spaces are letters, one is put before every text, and what is no word is bytes."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")  # no piece goes over a space
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained.train_from_iterator(
        [line for text in _TEXTS for line in text.split("\n")],
        trainers.BpeTrainer(vocab_size=480, special_tokens=pieces, show_progress=False),
    )
    trained.pre_tokenizer = None
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return trained


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    alphabet = sorted({*"".join(_TEXTS), *map(chr, range(32, 127)), "\n", "▁"} - {" "})
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>"], unk_token="<unk>", initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return tokenizer


def _wordpiece() -> Tokenizer:
    """Lower case, no blanks: nothing that was said comes back as it was."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        _TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    )
    return tokenizer


# Words take a mark before them along, and line breaks stand together, as in the tokenizers of Llama 3 and Qwen.
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_KINDS = {
    "bytes": functools.partial(_bytes, None),
    "words": functools.partial(_bytes, _WORDS),
    "llama2": _llama2,
    "unigram": _unigram,
    "wordpiece": _wordpiece,
}
KINDS = tuple(_KINDS)


@functools.cache
def _text(kind: str) -> str:
    return _KINDS[kind]().to_str()


def make(kind: str, template: str, *, end: str = "</s>") -> PreTrainedTokenizerFast:
    """A tokenizer of a kind, with the template of that name."""
    tokenizer = _wrap(Tokenizer.from_str(_text(kind)), end=end)
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer
