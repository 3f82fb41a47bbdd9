"""Text of others is shown as it is: it steers no terminal and is no Markdown."""

import pytest

from oreo_envs.visible import inline_markdown, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\rb\x07", r"a\rb\x07"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\x9b2J", r"\x9b2J"),
        ("line\n\tnext", "line\n\tnext"),
        ("naïve 数学 👩\u200d🔬", "naïve 数学 👩\u200d🔬"),
    ],
)
def test_what_steers_a_terminal_is_an_escape(text: str, shown: str):
    assert visible(text) == shown == visible(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>x</script>", "&lt;script&gt;x&lt;/script&gt;"),
        ("a|b", r"a\|b"),
        ("![x](http://y)", r"![x\](http://y)"),
        ("[x]: http://y", r"[x\]: http://y"),
        ("`code` **bold** _it_ ~~no~~", r"\`code\` \*\*bold\*\* \_it\_ \~~no\~~"),
        ("a\n\n# b", "a  # b"),
        ("majority_of_k_actions [1.5, 2.0] ~/x", "majority_of_k_actions [1.5, 2.0] ~/x"),
        ("\x1b]8;;http://y\x07", r"\\x1b]8;;http://y\\x07"),
    ],
)
def test_no_mark_of_markdown_is_read(text: str, shown: str):
    assert inline_markdown(text) == shown
