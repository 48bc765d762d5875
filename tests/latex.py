"""Would LaTeX take this table? A check of everything that our tables use, for machines without LaTeX.

It knows a small language: comments, a caption, one or more tabulars with booktabs' rules, cells, and notes. Whatever is
not in it, such as an unknown command, fails: the check has to be taught before a table may use it.
"""

from __future__ import annotations

import re

COMMANDS = {
    "textbf", "underline", "texttt", "textbackslash", "textasciitilde", "textasciicircum", "textbar", *"%&#_{}$",
}  # fmt: skip
GREEK = {"alpha", "gamma", "lambda", "rho", "tau"}
MATHS = {"pm", "Delta", "geq", "times", "dagger", "ddagger", "rightarrow", "leftarrow", *GREEK}
ESCAPED = re.compile(r"\\[%&#_{}$]")
WESTERN = {chr(code) for code in range(0xC0, 0x100)} - set("ÐÞðþ×÷")  # letters that LaTeX's first fonts have
PARAGRAPH = re.compile(r"\{\\noindent\\footnotesize (.*)\\par\}")
SMALL = r"{\footnotesize\setlength{\tabcolsep}{3pt}%"
SHRUNK = r"\noindent\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
BEGIN = re.compile(r"\\begin\{tabular\}\{([lrc]+)\}")
END = r"\end{tabular}}\par}"  # and of what was set up for it


def check(text: str, name: str) -> None:
    """Fail with the reason if LaTeX would not compile a table, or would print something else than is meant.

    Args:
        text: The file's content.
        name: What to call it in the reason.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if not line.startswith("%")]
    columns: int | None = None  # of the tabular that is open
    rules: list[str] = []
    before: list[str] = []  # what was set up for a table, which ends with it
    begun = False
    for number, line in lines:
        where = f"{name}, line {number}: "
        begin, paragraph = BEGIN.fullmatch(line), PARAGRAPH.fullmatch(line)
        if begin:
            assert columns is None, f"{where}a table in a table"
            assert before == [SMALL, SHRUNK], f"{where}may be wider than the page"
            columns, rules, begun = len(begin[1]), [], True
        elif columns is None and line in (SMALL, SHRUNK):
            before.append(line)
        elif line == END:
            assert columns is not None, f"{where}ends what is not open"
            expected = ["toprule", "row", "midrule", "bottomrule"]
            assert [rule for at, rule in enumerate(rules) if rule != "midrule" or "midrule" not in rules[:at]] == (
                expected
            ), f"{where}rules are {rules}"
            columns, before = None, []
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
            assert paragraph, f"{where}neither of a table, nor a paragraph that ends what it sets"
            assert not before, f"{where}stands where a table should begin"
            _check_text(paragraph[1], where)
    assert columns is None, f"{name}: a table is left open"
    assert begun, f"{name}: no table"
    assert not before, f"{name}: what is set for a table is left open"


def _split(row: str) -> list[str]:
    """Cells of a row: ampersands that are escaped stand for themselves."""
    return re.split(r"(?<!\\)&", row)


def _check_text(text: str, where: str) -> None:
    """Braces and dollars pair off, special characters are escaped, commands and letters are known."""
    for char in text:
        assert char.isascii() or char in WESTERN, f"{where}U+{ord(char):04X} {char!r} needs a command"
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
