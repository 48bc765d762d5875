"""Tables: numbers as data frames first, then three ways to write them down.

CSV holds everything at a fixed precision. Markdown and LaTeX hold what a reader compares: mean ± standard deviation
over seeds, the best model of each data set bold and the second underlined. The oracle, which knows the truth, takes no
part in that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from motorec import paths
from motorec.reporting.runs import ORACLE

KEYS = ["dataset", "model", "title", "seeds"]
TALL = 45  # rows that a page of LaTeX holds, with a caption
BETTER_WHEN_LARGER = ("recall", "ndcg", "mrr", "hit_rate", "precision")
LABELS = {
    "dataset": "Data set",
    "title": "Model",
    "parameter": "Parameter",
    "value": "Value",
    "seeds": "Seeds",
    "group": "Targets",
    "metric": "Metric",
    "recall": "Recall",
    "ndcg": "NDCG",
    "mrr": "MRR",
    "hit_rate": "Hit rate",
    "precision": "Precision",
    "coverage": "Coverage",
    "popularity": "Popularity",
    "difference": "Difference",
    "interval": "Interval",
    "p_holm": "p (Holm)",
    "p_seeds": "p over seeds",
    "d": "Cohen's d",
    "significant": "Significant",
}


def group_table(metrics: pd.DataFrame, group: str, headline: Sequence[str] = ()) -> pd.DataFrame:
    """Test metrics of one target group: a row per data set and model, ablations left out.

    Args:
        metrics: What `runs.load_metrics` gives, of any number of data sets.
        group: "all", "cold" or "warm".
        headline: Metrics that also get a column `<metric>_of_oracle`, the share of the oracle's value, if there is one.

    Returns:
        `dataset`, `model`, `title`, `seeds` (how many), `users` (with a target in the group), and for each metric its
        mean over seeds and `<metric>_sd`, the standard deviation (n - 1; missing with one seed).
    """
    chosen = metrics[(metrics["split"] == "test") & (metrics["group"] == group) & (metrics["role"] != "ablation")]
    table = _over_seeds(chosen)
    oracle = table[table["model"] == ORACLE].set_index("dataset")
    if not oracle.empty:
        for metric in table.columns.intersection(list(headline)):
            table[f"{metric}_of_oracle"] = table[metric] / table["dataset"].map(oracle[metric])
    return table


def without_targets(table: pd.DataFrame, group: str, cold_below: int, titles: Mapping[str, str]) -> list[str]:
    """What stands below a table of one target group about data sets that have no target in it.

    Args:
        table: From `group_table`.
        group: "cold" or "warm".
        cold_below: An item with fewer training interactions is cold.
        titles: The data sets' titles by name.
    """
    has = f"fewer than {cold_below}" if group == "cold" else f"{cold_below} or more"
    empty = table.groupby("dataset", sort=False)["users"].max() == 0
    return [
        f"{titles[name]}: no {group} targets, since no item of the test split has {has} training interactions."
        for name in empty.index[empty]
    ]


def ablation_table(
    metrics: pd.DataFrame, reference: str, headline: Sequence[str], groups: Sequence[str] = ("all", "cold")
) -> pd.DataFrame:
    """The full model and what is left of it: a row per data set and variant.

    Args:
        metrics: What `runs.load_metrics` gives. Data sets without ablations are left out.
        reference: The full model; its runs with other seeds than the ablations' are left out.
        headline: The metrics shown.
        groups: The target groups shown.

    Returns:
        `dataset`, `model`, `title`, `seeds`, and for each group and metric the columns `<group>/<metric>` (mean over
        seeds), `<group>/<metric>_sd`, `<group>/<metric>_diff` (mean minus that of the full model) and, where the
        metrics hold an oracle, `<group>/<metric>_of_oracle` (share of its value).
    """
    ablations = metrics[metrics["role"] == "ablation"]
    ablated = ablations["dataset"].unique()
    # Like is compared with like: of the full model, only the seeds that the ablations have.
    paired = metrics["seed"].isin(ablations["seed"].unique())
    variant = (metrics["role"] != "model") | ((metrics["model"] == reference) & paired)
    chosen = metrics[
        (metrics["split"] == "test")
        & metrics["dataset"].isin(ablated)
        & variant
        & metrics["group"].isin(groups)
        & metrics["metric"].isin(headline)
    ]
    table = _over_seeds(chosen.assign(metric=chosen["group"] + "/" + chosen["metric"]))
    full = table[table["model"] == reference].set_index("dataset")
    oracle = table[table["model"] == ORACLE].set_index("dataset")
    table = table[table["model"] != ORACLE].reset_index(drop=True)
    ordered = {}
    for column in (f"{group}/{metric}" for group in groups for metric in headline):
        if column in table:
            ordered[column] = table[column]
            ordered[f"{column}_sd"] = table[f"{column}_sd"]
            ordered[f"{column}_diff"] = table[column] - table["dataset"].map(full[column])
            if not oracle.empty:
                ordered[f"{column}_of_oracle"] = table[column] / table["dataset"].map(oracle[column])
    return pd.concat([table[KEYS], pd.DataFrame(ordered, index=table.index)], axis=1)


def _over_seeds(chosen: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds, a column per metric; rows and columns in the order they come in."""
    keys = ["dataset", "model", "title"]
    by_metric = chosen.groupby([*keys, "metric"], sort=False)["value"]
    mean = by_metric.mean().unstack(sort=False)  # noqa: PD010 - pivot_table would drop a metric that has one seed
    sd = by_metric.std(ddof=1).unstack(sort=False)  # noqa: PD010
    table = chosen.groupby(keys, sort=False)["seed"].nunique().rename("seeds").to_frame()
    if "users" in mean:
        table["users"] = mean.pop("users").astype(int)
    for metric in mean.columns:
        table[metric] = mean[metric]
        table[f"{metric}_sd"] = sd[metric]
    return table.reset_index()


@dataclass(frozen=True)
class Style:
    """How one language writes marks and special characters."""

    best: str
    second: str
    escape: Callable[[str], str]


def escape_markdown(text: str) -> str:
    """Keep a text from ending its cell."""
    return text.replace("|", r"\|")


def escape_latex(text: str) -> str:
    """Write a text so that LaTeX prints it as it is."""
    special = {char: f"\\{char}" for char in "&%$#_{}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {
        "±": r"$\pm$",
        "−": "$-$",
        "Δ": r"$\Delta$",
        "<": "$<$",
        ">": "$>$",
        "≥": r"$\geq$",
        "×": r"$\times$",
        "–": "--",
        "†": r"$^{\dagger}$",
        "‡": r"$^{\ddagger}$",
        "|": r"\textbar{}",
        "→": r"$\rightarrow$",
        "←": r"$\leftarrow$",
    }
    return "".join(special.get(char, char) for char in text)


MARKDOWN = Style("**{}**", "<u>{}</u>", escape_markdown)
LATEX = Style(r"\textbf{{{}}}", r"\underline{{{}}}", escape_latex)


def label(column: str) -> str:
    """A column's heading: `all/hit_rate@20` becomes `Hit rate@20 (all)`."""
    if column.endswith("_diff"):
        return f"Δ {label(column.removesuffix('_diff'))}"
    if column.endswith("_of_oracle"):
        return f"{label(column.removesuffix('_of_oracle'))} of oracle"
    group, _, metric = column.rpartition("/")
    name, at, cutoff = metric.partition("@")
    return LABELS.get(name, name) + at + cutoff + (f" ({group})" if group else "")


def readable(
    table: pd.DataFrame,
    columns: Sequence[str],
    titles: dict[str, str],
    style: Style,
    marks: Mapping[tuple[str, str, str], str] | None = None,
) -> pd.DataFrame:
    """The cells of a table as a reader sees them, headings included; of one data set alone, it is not named in each.

    Args:
        table: From `group_table` or `ablation_table`.
        columns: Which metric columns, in order.
        titles: The data sets' titles by name.
        style: MARKDOWN or LATEX.
        marks: What stands behind a value, such as † for significance, by data set, model and column.
    """
    marks = marks or {}
    first = ~table["dataset"].duplicated()  # a data set's rows stand together and are named once
    cells = {
        "dataset": [
            style.escape(titles.get(name, name)) if shown else ""
            for name, shown in zip(table["dataset"], first, strict=True)
        ],
        "title": [style.escape(title) for title in table["title"]],
        "seeds": [str(count) for count in table["seeds"]],
    }
    for column in columns:
        plain = [style.escape(text) for text in _texts(table, column)]
        places = _places(table, column)
        cells[column] = [
            style.best.format(text) if place == 1 else style.second.format(text) if place == 2 else text
            for text, place in zip(plain, places, strict=True)
        ]
        behind = [marks.get((*key, column), "") for key in zip(table["dataset"], table["model"], strict=True)]
        cells[column] = [
            f"{text} {style.escape(mark)}" if mark else text for text, mark in zip(cells[column], behind, strict=True)
        ]
    if len(set(table["dataset"])) == 1:
        del cells["dataset"]
    return pd.DataFrame(cells).rename(columns=lambda column: style.escape(label(column)))


def _texts(table: pd.DataFrame, column: str) -> list[str]:
    values = table[column]
    if column.endswith("_diff"):
        # The row of the full model itself has no difference to show.
        return ["–" if np.isnan(value) or value == 0 else f"{value:+.4f}".replace("-", "−") for value in values]
    if column.endswith("_of_oracle"):
        return ["–" if np.isnan(value) else f"{100 * value:.1f}%" for value in values]
    digits = 1 if "popularity" in column else 4
    texts = ["–" if np.isnan(value) else f"{value:.{digits}f}" for value in values]
    spreads = table.get(f"{column}_sd")
    if spreads is None:
        return texts
    return [
        text if np.isnan(spread) else f"{text} ± {spread:.{digits}f}"
        for text, spread in zip(texts, spreads, strict=True)
    ]


def _places(table: pd.DataFrame, column: str) -> list[int]:
    """1 for the best printed value of each data set, 2 for the second, 0 for the rest."""
    metric = column.rpartition("/")[2].partition("@")[0]
    if metric not in BETTER_WHEN_LARGER or column.endswith(("_diff", "_of_oracle")):
        return [0] * len(table)
    values = table[column].round(4).where(table["model"] != ORACLE)  # what prints alike is marked alike
    places = values.groupby(table["dataset"]).rank(method="dense", ascending=False)
    return places.where(places <= 2, 0).fillna(0).astype(int).tolist()


def significance_marks(tests: Mapping[str, pd.DataFrame], group: str | None = None) -> dict[tuple[str, str, str], str]:
    """Which values differ significantly, for `readable`.

    Args:
        tests: By mark (†, ‡), comparisons of one data set (`evaluation.compare`) with their `dataset` beside.
        group: The target group that a table is of; None for a table whose columns are `<group>/<metric>`.

    Returns:
        The marks of each data set, model and column, those that are not significant left out.
    """
    marks: dict[tuple[str, str, str], str] = {}
    for mark, table in tests.items():
        chosen = table[table["significant"] & ((table["group"] == group) | (group is None))]
        for dataset, model, where, metric in chosen[["dataset", "model", "group", "metric"]].itertuples(index=False):
            key = (dataset, model, metric if group is not None else f"{where}/{metric}")
            marks[key] = marks.get(key, "") + mark
    return marks


def columns_shown(table: pd.DataFrame, headline: Sequence[str]) -> list[str]:
    """What fits on a page: the first headline metric's cut-off, differences, and the oracle's share.

    The headline metrics of a table of one target group come first, in their order; the rest stays in the table's.
    """
    suffix = "@" + headline[0].partition("@")[2]
    endings = (suffix, f"{suffix}_diff", f"{suffix}_of_oracle")
    columns = [
        c
        for c in table.columns.astype(str)
        if c.endswith(endings) and not c.startswith("popularity") and table[c].notna().any()
    ]
    places = {f"{metric}{ending}": place for place, metric in enumerate(headline) for ending in ("", "_of_oracle")}
    return sorted(columns, key=lambda column: places.get(column, len(headline)))


def to_markdown(cells: pd.DataFrame, caption: str, notes: Sequence[str] = ()) -> str:
    """A Markdown table of finished cells, with a caption above and notes below."""
    rows = [list(cells.columns), ["---"] * len(cells.columns), *cells.to_numpy().tolist()]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return "\n".join([caption, "", table, *(f"{note}\n" for note in notes)])


def of_numbers(cells: Iterable[str]) -> bool:
    """Whether a column of finished cells holds numbers, so that it stands better to the right.

    Args:
        cells: In plain text, Markdown or LaTeX; marks and signs before a number do not count, nor do empty cells.
    """
    bare = (re.sub(r"\\textbf|\\underline|</?u>|[{}$*]", "", cell).strip() for cell in cells)
    return all(re.match(r"[<+−–-]*(\.?\d|$)|NaN$|None$", cell) for cell in bare)


def latex_text(text: str) -> str:
    """A caption or a note as LaTeX prints it: names between backticks in typewriter letters."""
    return re.sub(r"`([^`]*)`", r"\\texttt{\1}", escape_latex(text))


def to_latex(cells: pd.DataFrame, caption: str, notes: Sequence[str] = ()) -> str:
    """A LaTeX table of finished cells, a rule between one data set or parameter and the next, notes below.

    It is not wider than a line: small, and shrunk where that does not do. One of more rows than a page holds comes in
    parts, each with the heading. All that it sets ends with it.
    """
    aligned = "".join("r" if place and of_numbers(cells.iloc[:, place]) else "l" for place in range(cells.shape[1]))
    lines = ["% Needs \\usepackage{booktabs,graphicx}.", _latex_paragraph(caption)]
    parts = max(1, math.ceil(len(cells) / TALL))
    rows = math.ceil(len(cells) / parts)  # of one length, so that all are shrunk alike
    for part in range(parts):
        lines += _latex_part(cells.iloc[part * rows : (part + 1) * rows], aligned)
    return "\n".join([*lines, *(_latex_paragraph(note) for note in notes), ""])


def _latex_part(cells: pd.DataFrame, aligned: str) -> list[str]:
    """Rows that stand on one page."""
    lines = [
        "{\\footnotesize\\setlength{\\tabcolsep}{3pt}%",
        "\\noindent\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{{aligned}}}",
        "\\toprule",
        " & ".join(cells.columns) + r" \\",
        "\\midrule",
    ]
    in_blocks = cells.columns[0] in (label("dataset"), label("parameter"))
    for place, row in enumerate(cells.to_numpy().tolist()):
        if place and in_blocks and row[0]:
            lines.append("\\midrule")
        # After a rule or the end of a row, LaTeX would read a bracket or a star as an argument of it.
        start = "{}" if row[0].startswith(("[", "*")) else ""
        lines.append(start + " & ".join(row) + r" \\")
    return [*lines, "\\bottomrule", "\\end{tabular}}\\par}"]


def _latex_paragraph(text: str) -> str:
    return f"{{\\noindent\\footnotesize {latex_text(text)}\\par}}"


def significance_cells(table: pd.DataFrame, titles: dict[str, str], style: Style) -> pd.DataFrame:
    """The cells of a table of comparisons (`evaluation.compare`) as a reader sees them.

    Args:
        table: The comparisons.
        titles: The models' titles by name.
        style: MARKDOWN or LATEX.
    """

    def signed(value: float) -> str:
        return f"{value:+.4f}".replace("-", "−")

    def chance(p: float) -> str:
        return "–" if np.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"

    cells = pd.DataFrame(
        {
            "title": [titles.get(name, name) for name in table["model"]],
            "group": list(table["group"]),
            "metric": [label(metric) for metric in table["metric"]],
            "difference": [signed(value) for value in table["difference"]],
            "interval": [
                f"{signed(low)} to {signed(high)}" for low, high in zip(table["low"], table["high"], strict=True)
            ],
            "p_holm": [chance(p) for p in table["p_holm"]],
            "p_seeds": [chance(p) for p in table["p_seeds"]],
            "d": ["–" if np.isnan(d) else f"{d:+.2f}".replace("-", "−") for d in table["d"]],
            "significant": ["yes" if yes else "no" for yes in table["significant"]],
        }
    )
    return cells.map(style.escape).rename(columns=lambda column: style.escape(LABELS[column]))


def to_csv(table: pd.DataFrame) -> str:
    """All columns of a table, floats with six decimals (p values in scientific notation)."""
    tests = [column for column in ("p", "p_holm", "p_seeds") if column in table]
    scientific = {column: table[column].map("{:.3e}".format, na_action="ignore") for column in tests}
    return table.assign(**scientific).to_csv(index=False, float_format="%.6f", lineterminator="\n")


def write(
    table: pd.DataFrame,
    cells: Callable[[Style], pd.DataFrame],
    caption: str,
    target: Path,
    notes: Sequence[str] = (),
) -> Path:
    """Write a table three times: `target` with .csv, .md and .tex.

    Args:
        table: All numbers.
        cells: Makes what a reader sees, in the language asked for.
        caption: One sentence above the table.
        target: The file without its ending.
        notes: Sentences below the table, for readers: the CSV file goes without.

    Returns:
        The Markdown file.
    """
    markdown = target.with_name(f"{target.name}.md")
    paths.write_whole(target.with_name(f"{target.name}.csv"), to_csv(table))
    paths.write_whole(target.with_name(f"{target.name}.tex"), to_latex(cells(LATEX), caption, notes))
    paths.write_whole(markdown, to_markdown(cells(MARKDOWN), caption, notes))
    return markdown
