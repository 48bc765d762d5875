"""Would LaTeX take this table? A check of everything that our tables use, for machines without LaTeX.

It knows a small language: comments, one or more tabulars with booktabs' rules, cells, and paragraphs of notes. Whatever
is not in it, such as an unknown command, fails: the check has to be taught before a table may use it.
"""

from __future__ import annotations

import re

COMMANDS = {
    "begin", "end", "toprule", "midrule", "bottomrule", "textbf", "underline", "par", "footnotesize",
    "textbackslash", "textasciitilde", "textasciicircum", "textbar", *"%&#_{}$",
}  # fmt: skip
GREEK = {"alpha", "gamma", "lambda", "rho", "tau"}
MATHS = {"pm", "Delta", "geq", "times", "dagger", "ddagger", "rightarrow", "leftarrow", *GREEK}
ESCAPED = re.compile(r"\\[%&#_{}$]")


def check(text: str, name: str) -> None:
    """Fail with the reason if LaTeX would not compile a table, or would print something else than is meant.

    Args:
        text: The file's content.
        name: What to call it in the reason.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if not line.startswith("%")]
    columns: int | None = None  # of the tabular that is open
    rules: list[str] = []
    begun = False
    for number, line in lines:
        where = f"{name}, line {number}: "
        begin = re.fullmatch(r"\\begin\{tabular\}\{([lrc]+)\}", line)
        if begin:
            assert columns is None, f"{where}a table in a table"
            columns, rules, begun = len(begin[1]), [], True
        elif line == r"\end{tabular}":
            assert columns is not None, f"{where}ends what is not open"
            expected = ["toprule", "row", "midrule", "bottomrule"]
            assert [rule for at, rule in enumerate(rules) if rule != "midrule" or "midrule" not in rules[:at]] == (
                expected
            ), f"{where}rules are {rules}"
            columns = None
        elif columns is not None and re.fullmatch(r"\\(top|mid|bottom)rule", line):
            rules.append(line[1:])
        elif columns is not None:
            assert line.endswith(r"\\"), f"{where}a row does not end in \\\\, or a comment swallows its end"
            if "midrule" not in rules:
                rules.append("row")
            cells = _split(line.removesuffix(r"\\"))
            assert len(cells) == columns, f"{where}{len(cells)} cells in {columns} columns"
            for cell in cells:
                _check_text(cell, where)
            assert not line.lstrip().startswith(("[", "*")), f"{where}read as an argument of the line before"
        else:
            assert begun, f"{where}stands before the table"
            _check_text(line, where)
    assert columns is None, f"{name}: a table is left open"
    assert begun, f"{name}: no table"


def _split(row: str) -> list[str]:
    """Cells of a row: ampersands that are escaped stand for themselves."""
    return re.split(r"(?<!\\)&", row)


def _check_text(text: str, where: str) -> None:
    """Braces and dollars pair off, special characters are escaped, commands and letters are known."""
    for char in text:
        assert char.isascii() or char.isalpha(), f"{where}U+{ord(char):04X} {char!r} needs a command"
    depth = 0
    pieces = ESCAPED.sub("", text).split("$")
    assert len(pieces) % 2 == 1, f"{where}a dollar stands alone"
    for place, piece in enumerate(pieces):
        maths = place % 2 == 1
        for command in re.findall(r"\\([a-zA-Z]+|.|$)", piece):
            assert command in (MATHS if maths else COMMANDS), f"{where}unknown command \\{command}"
        for char in piece:
            depth += (char == "{") - (char == "}")
            assert depth >= 0, f"{where}a brace too many"
            assert char not in ("#&%~" if maths else "#&%~_^<>|"), f"{where}{char!r} is not escaped"
    assert depth == 0, f"{where}a brace is left open"
