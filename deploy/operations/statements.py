"""SQL as text: its statements, and the parts of one, without what stands in quotes and comments."""

import re
from collections.abc import Iterator

TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]*(?:\n|$) | /\*.*?\*/ )
    | (?P<quoted> [eE]?'(?:[^']|'')*' | "(?:[^"]|"")*" | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<open> [([] ) | (?P<close> [)\]] )
    | (?P<semicolon> ; ) | (?P<comma> , )
    | (?P<space> \s+ )
    | (?P<word> [^\s'"$;,()\[\]/-]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens(sql: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each part; comments are left out, white space is one space."""
    for found in TOKEN.finditer(sql):
        kind = found.lastgroup or "word"
        if kind == "tag" or found["quoted"]:
            kind = "quoted"
        if kind == "space":
            yield kind, " "
        elif kind != "comment":
            yield kind, found[0]


def split(sql: str, separator: str) -> list[str]:
    """The parts between separators (`semicolon`, `comma`) that stand in no bracket."""
    parts, depth = [""], 0
    for kind, text in tokens(sql):
        depth += (kind == "open") - (kind == "close")
        if kind == separator and (depth == 0 or separator == "semicolon"):
            parts.append("")
        else:
            parts[-1] += text
    return [part.strip() for part in parts if part.strip()]


def statements(sql: str) -> list[str]:
    return split(sql, "semicolon")
