"""Text from outside, such as the name of a class or a file, within Markdown."""

import re

# What says nothing to Markdown, nor to the HTML, the formulas and the links that it may hold.
_PLAIN = re.compile(r"(?!www\.)(?:[^\W_]|[ .,:;()%=+'…–−-]|(?<=[^\W_])_(?=[^\W_]))*")


def in_markdown(text: object) -> str:
    """*text* as words of a Markdown document, also within a table: what is more than plain words stands as code."""
    words = " ".join(str(text).split())
    return words if _PLAIN.fullmatch(words) else code(words)


def code(text: object) -> str:
    """*text* as code; in HTML where signs of *text* might end that, or be drawn as a formula or the end of a column."""
    words = " ".join(str(text).split())
    if words and not set(words) & set("`$|\\<>&*"):
        return f"`{words}`"
    return "<code>" + "".join(c if c.isalnum() or c == " " else f"&#{ord(c)};" for c in words) + "</code>"
