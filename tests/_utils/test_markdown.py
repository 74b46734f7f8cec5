"""Text from outside says in Markdown what it says, and does nothing."""

import html
import re

import mistune
import pytest
from mistune.plugins.math import math
from mistune.plugins.table import table

from rbcnb._utils.markdown import code, in_markdown

RENDER = mistune.create_markdown(escape=False, plugins=[table, math, "strikethrough", "url"])
ODD = [
    "<img src=x onerror=alert(1)>|$x$", "`a`", "``", "[a](javascript:alert(1))", "![a](b)", "*a*", "_a_", "__a__",
    "a|b", "a\\|b", "\\", "# a", "http://evil.example", "www.evil.example", "<http://evil.example>", "a@evil.example",
    "$$x$$", "&lt;b&gt;", "~~a~~", "a\n\n# b", "$a", "a$b$c", "<script>alert(1)</script>&\"'.png",
]  # fmt: skip
PLAIN = [
    "",
    "normal",
    "burr cell",
    "cross_entropy",
    "a_1.png",
    "median 3.0 px = 0.20 radii; 95 % within 0.20",
    "Ünal, Ö.",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_words_stay(text):
    assert in_markdown(text) == text
    assert in_markdown(text.replace(" ", "\n")) == text


@pytest.mark.parametrize("write", [in_markdown, code])
@pytest.mark.parametrize("text", ODD)
def test_odd_text_is_shown_as_it_is(text, write):
    written = write(text)
    assert "$" not in written
    page = RENDER(f"# {written}\n\n| a | b |\n| :-- | --: |\n| {written} | 7 |\n\nso: {written}.\n")
    shown = [html.unescape(part) for part in re.findall("<code>(.*?)</code>", page)]
    assert shown == [" ".join(text.split())] * 3
    tags = set(re.findall(r"<(\w+)", page))
    assert tags <= {"h1", "table", "thead", "tbody", "tr", "th", "td", "p", "code"}
    assert page.count("<td") == 2
