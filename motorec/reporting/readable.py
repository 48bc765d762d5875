"""Tokens that can be read: what every code says of the items' attributes, and codes of other kinds beside it.

    results = readable("garments")
    results.table("attributes")        # all numbers, a data frame
    results.markdown("attributes")     # what a reader compares
    results.figure("information")      # a matplotlib figure
    results.finding()                  # what the numbers say, in sentences
    results.write()                    # results/readable/garments/*.csv, .md, .tex, .png, .pdf

It reads what stages 01 to 03 left, and what MoToRec's runs have made of their tokenizers. The measures are in
`motorec.readability`, the kinds of codes in `motorec.tokenkinds`. Which tokens are shown is a rule (`Readable.shown`),
nobody's choice. Pictures are shown of the planted catalogue only, and titles, in the notebook, of data that the
repository makes or fetches by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure

from motorec import config, paths
from motorec.data.dataset import Dataset
from motorec.errors import LeftOut, ParamsError, nearest
from motorec.features import load_all, require_content
from motorec.readability import Attribute, chance_purity, dci, information, mutual_information_gap, per_code, readings
from motorec.reporting import tables
from motorec.reporting.codebooks import MODALITIES
from motorec.reporting.embeddings import trained
from motorec.reporting.readable_tables import COMPARED, TABLES, WHOLE, finished
from motorec.reporting.runs import expected_runs, with_results
from motorec.seeding import numpy_generator
from motorec.tokenizer import TokenizerSettings
from motorec.tokenizer.codes import Codes, moved
from motorec.tokenkinds import JOINT, OURS, all_kinds

Piece = TypeVar("Piece")
TOGETHER = "both"  # what all modalities together are called
TOKENS = 4  # most readable tokens of each modality that are shown, and as many of the least readable
SHOWN_ITEMS = 7  # items shown of a token
LEVEL = ["seed", "kind", "modality", "level"]
FIGURES = ("information", "reading", "tokens")


@dataclass(frozen=True)
class Readable:
    """Everything that can be shown of one data set's codes.

    Attributes:
        dataset: With its items.
        title: The data set's title.
        attributes: What is to be read in the codes.
        codes: By seed, kind and modality.
        settings: `params/report.yaml`: when a code reads as a value.
    """

    dataset: Dataset
    title: str
    attributes: tuple[Attribute, ...]
    codes: Mapping[int, Mapping[str, Mapping[str, Codes]]]
    settings: config.ReportSettings

    @property
    def seeds(self) -> list[int]:
        """All seeds; the first one's tokens are shown."""
        return list(self.codes)

    @property
    def kinds(self) -> list[str]:
        """All kinds of codes."""
        return list(self.codes[self.seeds[0]])

    @property
    def modalities(self) -> list[str]:
        """The modalities that have codes, pictures last."""
        return [name for name in MODALITIES if name in self.codes[self.seeds[0]][OURS]]

    @cached_property
    def chance(self) -> dict[tuple[str, str], Float[np.ndarray, " sizes"]]:
        """Chance purity of every number of items that a code has, by modality and attribute."""
        found = {}
        largest = max(int(np.unique(codes[codes >= 0], return_counts=True)[1].max()) for *_, codes in self._levels())
        for modality in self.modalities:
            here = self.codes[self.seeds[0]][OURS][modality][:, 0] >= 0
            for attribute in self.attributes:
                generator = numpy_generator(self.settings.seed, "chance purity", modality, attribute.name)
                found[modality, attribute.name] = chance_purity(here, attribute, largest, generator)
        return found

    @cached_property
    def every_code(self) -> pd.DataFrame:
        """`readability.per_code` of all: a row per seed, kind, modality, level, code and attribute; `reads` or not."""
        settings, frames = self.settings, []
        for seed, kind, modality, level, codes in self._levels():
            parts = [
                per_code(codes, one, self.chance[modality, one.name]).assign(attribute=one.name)
                for one in self.attributes
            ]
            found = pd.concat(parts, ignore_index=True)
            found["reads"] = readings(found, settings.readable_share, settings.readable_items, settings.alpha)
            frames.append(found.assign(seed=seed, kind=kind, modality=modality, level=level))
        table = pd.concat(frames, ignore_index=True)
        front = [*LEVEL, "code", "attribute"]
        return table[[*front, *(name for name in table.columns if name not in front)]]

    @cached_property
    def by_seed(self) -> pd.DataFrame:
        """A row per seed, kind, modality, level and attribute: `purity`, `chance`, `adjusted` purity, `nmi`, `ami`."""
        keys = [*LEVEL, "attribute"]
        table = self.every_code[[*keys, "items", "purity", "chance"]].copy()
        table[["purity", "chance"]] = table[["purity", "chance"]].mul(table["items"], axis=0)
        sums = table.groupby(keys, sort=False).sum()
        found = sums[["purity", "chance"]].div(sums["items"], axis=0)
        room = 1 - found["chance"]
        found["adjusted"] = ((found["purity"] - found["chance"]) / room).where(room > 1e-9)
        told = {
            (*place, one.name): information(codes, one) for *place, codes in self._levels() for one in self.attributes
        }
        found["nmi"] = [told[place].normalised for place in found.index]
        found["ami"] = [told[place].adjusted for place in found.index]
        return found.reset_index()

    @cached_property
    def reading_by_seed(self) -> pd.DataFrame:
        """A row per seed, kind, modality and level: `codes` in use, `reading` of them, `items_reading` of the items.

        `moved` is the share of the items whose code training with MoToRec has changed; missing for the other kinds.
        """
        codes = self.every_code.groupby([*LEVEL, "code"], sort=False).agg(
            items=("items", "max"), reads=("reads", "any")
        )
        codes["held"] = codes["items"] * codes["reads"]
        grouped = codes.groupby(LEVEL, sort=False)
        found = pd.DataFrame({"codes": grouped.size(), "reading": grouped["reads"].mean()})
        found["items_reading"] = grouped["held"].sum() / grouped["items"].sum()
        found["moved"] = np.nan
        for seed, kinds in self.codes.items():
            for modality, now in kinds.get(JOINT, {}).items():
                for level, share in enumerate(moved(kinds[OURS][modality], now), start=1):
                    found.loc[(seed, JOINT, modality, level), "moved"] = share
        return found.reset_index()

    @cached_property
    def whole_by_seed(self) -> pd.DataFrame:
        """A row per seed, kind and modality, and one for all modalities together: MIG and DCI."""
        told = self.by_seed.set_index([*LEVEL, "attribute"])["nmi"].unstack()  # noqa: PD010 - NaN is to stay
        rows = []
        for seed, kinds in self.codes.items():
            for kind, by_modality in kinds.items():
                groups = {name: [name] for name in self.modalities}
                if len(groups) > 1:
                    groups[TOGETHER] = self.modalities
                for name, modalities in groups.items():
                    found = dci(np.concatenate([by_modality[one] for one in modalities], axis=1), self.attributes)
                    shares = told.loc[(seed, kind, modalities), :].to_numpy()
                    gaps = pd.Series(mutual_information_gap(shares))
                    row = {"seed": seed, "kind": kind, "modality": name, "mig": gaps.mean()}
                    rows.append(row | {measure: getattr(found, measure) for measure in WHOLE if measure != "mig"})
        return pd.DataFrame(rows)

    @cached_property
    def shown(self) -> pd.DataFrame:
        """The most and the least readable tokens of each modality, by a rule.

        Of the first seed's RQ-VAE codes with at least `readable_items` items, each at the attribute of which it is
        purest beyond chance (`adjusted`): the `TOKENS` purest, no value twice, and of the rest the `TOKENS` least pure.
        Among equals the code of more items comes first, then the lower level and number.

        Returns:
            Rows of `every_code` with a column `readable`: "most" or "least".
        """
        table = self.every_code
        table = table[(table["seed"] == self.seeds[0]) & (table["kind"] == OURS) & table["adjusted"].notna()]
        table = table[table["items"] >= self.settings.readable_items].assign(rank=table["adjusted"].round(9))
        keys, frames = ["rank", "items", "level", "code"], []
        for modality in self.modalities:
            here = table[table["modality"] == modality].sort_values(keys, ascending=[False, False, True, True])
            codes = here.drop_duplicates(["level", "code"])  # each at its purest attribute
            most = codes.drop_duplicates(["attribute", "value"]).head(TOKENS)
            rest = codes.drop(index=most.index).sort_values(keys, ascending=[True, False, True, True])
            frames += [most.assign(readable="most"), rest.head(TOKENS).assign(readable="least")]
        return pd.concat(frames, ignore_index=True).drop(columns="rank")

    def items_of(self, token: pd.Series) -> Int[np.ndarray, " items"]:
        """The places of a token's items, in the catalogue's order.

        Args:
            token: A row of `shown` or `every_code`.
        """
        codes = self.codes[token["seed"]][token["kind"]][token["modality"]][:, token["level"] - 1]
        return np.flatnonzero((codes == token["code"]) & self._attribute(token).known)

    def has_value(self, token: pd.Series) -> Bool[np.ndarray, " items"]:
        """Which items of the catalogue have a token's value."""
        attribute = self._attribute(token)
        return attribute.members[:, attribute.values.index(token["value"])]

    def _attribute(self, token: pd.Series) -> Attribute:
        return next(one for one in self.attributes if one.name == token["attribute"])

    def examples(self) -> pd.DataFrame:
        """The tokens shown, each with the texts of some of its items: for the notebook, no file.

        Returns:
            No row where the data are not the repository's to show.
        """
        if self.dataset.name not in config.load_run_for(self.dataset.name).sources:
            return pd.DataFrame()
        texts = self.dataset.items["text"].str.slice(0, 40)
        rows = self.shown[["readable", "modality", "level", "code", "attribute", "value"]].copy()
        rows["for instance"] = [" | ".join(texts.iloc[self.items_of(token)[:4]]) for _, token in self.shown.iterrows()]
        return rows

    def comparison(self, other: str) -> pd.DataFrame:
        """The RQ-VAE's codes against another kind: what they have more of each measure, paired by seed.

        Returns:
            A row per modality and measure of `COMPARED`: `kind`, `seeds`, `ours`, `theirs`, `difference` (means over
            seeds), `low` and `high`: the interval of a paired t-test over seeds, missing with one. AMI is a mean over
            attributes (then levels), the share that reads one of all codes.
        """
        from scipy.stats import t

        rows = []
        for modality, values in self._compared().items():
            ours, theirs = (values[values["kind"] == kind].set_index("seed") for kind in (OURS, other))
            for measure in values.columns.drop(["seed", "kind"]):
                gaps = (ours[measure] - theirs[measure]).dropna()
                n, mean = len(gaps), float(gaps.mean())
                half = float(t.ppf(1 - self.settings.alpha / 2, n - 1) * gaps.std(ddof=1) / n**0.5) if n > 1 else np.nan
                row = {"modality": modality, "measure": measure, "kind": other, "seeds": n}
                row |= {"ours": ours[measure].mean(), "theirs": theirs[measure].mean(), "difference": mean}
                rows.append(row | {"low": mean - half, "high": mean + half})
        return pd.DataFrame(rows)

    def _compared(self) -> dict[str, pd.DataFrame]:
        """By modality a row per seed and kind: `seed`, `kind` and the measures of `COMPARED` that it has."""
        keys = ["seed", "kind"]
        found = {}
        for modality, whole in self.whole_by_seed.groupby("modality", sort=False):
            values = whole.set_index(keys)
            if modality != TOGETHER:
                told, read = (table[table["modality"] == modality] for table in (self.by_seed, self.reading_by_seed))
                ami = told.groupby([*keys, "level"])["ami"].mean()
                values["ami/1"], values["ami"] = ami.xs(1, level="level"), ami.groupby(keys).mean()
                counts = read.assign(read=read["reading"] * read["codes"]).groupby(keys)[["read", "codes"]].sum()
                values["reading/1"] = read[read["level"] == 1].set_index(keys)["reading"]
                values["reading"] = counts["read"] / counts["codes"]
            found[str(modality)] = values[[name for name in COMPARED if name in values]].reset_index()
        return found

    def _levels(self) -> Iterator[tuple[int, str, str, int, Int[np.ndarray, " items"]]]:
        """Seed, kind, modality, level, and that level's codes."""
        for seed, kinds in self.codes.items():
            for kind, by_modality in kinds.items():
                for modality in self.modalities:
                    for level, codes in enumerate(by_modality[modality].T, start=1):
                        yield seed, kind, modality, level, codes

    def table(self, name: str) -> pd.DataFrame:
        """All numbers of a table.

        Raises:
            ParamsError: No table has this name.
        """
        return _known(name, TABLES, "table").numbers(self)

    def markdown(self, name: str, only: str | None = None) -> str:
        """A table as a reader sees it, with its caption: for a notebook's `Markdown(...)`.

        Args:
            name: The table's name.
            only: The one modality to show; it is then told above the table, and no column.
        """
        table, piece = self.table(name), TABLES[name]
        if only is None:
            return tables.to_markdown(finished(piece.cells(self, table), tables.MARKDOWN), piece.caption(self))
        cells = piece.cells(self, table[table["modality"] == only])
        del cells["Modality"]
        above = f"**{MODALITIES[only].capitalize()}.** {piece.caption(self)}"
        return tables.to_markdown(finished(cells, tables.MARKDOWN), above)

    def figure(self, name: str) -> Figure:
        """A figure, drawn.

        Raises:
            ParamsError: No figure has this name.
        """
        from motorec.reporting import readable_figures

        if name == "information":
            return readable_figures.information(self.table("attributes"), self.title)
        if name == "reading":
            return readable_figures.reading(self.reading_by_seed, self.title)
        _known(name, dict.fromkeys(FIGURES), "figure")
        folder, images = paths.raw(self.dataset.name), self.dataset.items["image"]
        pictures = []
        for _, token in self.shown.iterrows():
            has, places = self.has_value(token), self.items_of(token)[:SHOWN_ITEMS]
            pictures.append([(folder / images.iloc[place], bool(has[place])) for place in places if images.iloc[place]])
        return readable_figures.tokens(self.shown, pictures, self.title)

    @property
    def in_text(self) -> tuple[str, ...]:
        """The columns that make the items' texts: an attribute among them was given to the tokenizer."""
        return config.load_dataset(self.dataset.name).text

    @property
    def has_pictures(self) -> bool:
        """Whether the items' pictures may be shown: those that the repository draws itself may."""
        return isinstance(config.load_dataset(self.dataset.name), config.GarmentsSettings)

    def write(self) -> Path:
        """Write every table and figure, all or nothing, and give the folder."""
        from motorec.reporting.figures import save_both

        with paths.whole_folder(paths.readable(self.dataset.name)) as folder:
            for name, piece in TABLES.items():
                table = piece.numbers(self)
                cells = partial(finished, piece.cells(self, table))
                tables.write(table, cells, piece.caption(self), folder / name)
            for name in FIGURES:
                if name != "tokens" or self.has_pictures:
                    save_both(self.figure(name), folder / f"{name}.png")
        return paths.readable(self.dataset.name)

    def finding(self) -> str:
        """What the numbers say, in Markdown; every sentence is made of them."""
        from motorec.reporting.readable_finding import finding

        return finding(self)


def readable(dataset: str) -> Readable:
    """Make all that can be shown of one data set's codes; trains the tokenizers without a sparsity term.

    Raises:
        LeftOut: The data set has no attributes in params, or its tokenizers have no codes. A file says why.
        DataError: Something of the stages before is missing, a run of MoToRec among them.
        ParamsError: A file in params/ is wrong.
    """
    about, run = config.load_dataset(dataset), config.load_run_for(dataset)
    settings = config.parse(TokenizerSettings, config.load_tokenizer(dataset), "params/tokenize.yaml")
    reason = None
    if not about.attributes:
        reason = f"params/data/{dataset}.yaml names no `attributes`: there is nothing to read in the tokens."
    if not settings.quantize:
        reason = f"params/tokenize.yaml: the tokenizers of {dataset} have no codes (quantize: false)."
    if reason:
        with paths.whole_folder(paths.readable(dataset)) as folder:
            (folder / "left-out.md").write_text(f"{reason}\n", encoding="utf-8")
        raise LeftOut(reason)
    data = Dataset.load(paths.catalogue(dataset))
    features = require_content(load_all(dataset), dataset)
    tau = config.load_evaluation(dataset).cold_below
    joint = trained_on(run, dataset)
    codes = {seed: all_kinds(data, features, settings, tau, seed, joint.get(seed)) for seed in run.seeds}
    return Readable(data, about.title, attributes_of(data, about.attributes), codes, config.load_report())


def trained_on(run: config.RunSettings, dataset: str) -> dict[int, dict[str, Codes]]:
    """The codes that MoToRec ended with, by seed and modality.

    Args:
        run: What is run; the first MoToRec of it counts. Where there is none, or one that does not train the tokenizers
            of notebook 03 on but none or its own, there are no such codes.
        dataset: The data set's name.

    Raises:
        DataError: A run is missing, or its weights do not go with its metrics.
    """
    models = [config.load_model(name, dataset) for name in run.token_models]
    shared = config.load_tokenizer(dataset)
    names = [
        model.name
        for model in models
        if model.kind == "motorec" and config.merge(shared, model.settings.get("tokenizer", {})) == shared
    ]
    found: dict[int, dict[str, Codes]] = {}
    for one in with_results([one for one in expected_runs(run, dataset) if one.model in names[:1]]):
        experiment, model = trained(one)
        codes = experiment.codes(model)
        if codes:
            found[one.seed] = codes
    return found


def attributes_of(dataset: Dataset, names: Sequence[str]) -> tuple[Attribute, ...]:
    """The attributes of a data set's items. One has several values where the source's `items.jsonl` holds a list."""
    file = paths.raw(dataset.name) / "items.jsonl"
    lists: set[str] = set()
    for line in file.read_text(encoding="utf-8").split("\n") if file.is_file() else ():
        if line.strip():
            lists |= {key for key, value in json.loads(line).items() if isinstance(value, list)}
    columns = {name: dataset.items[name].tolist() for name in names}
    return tuple(Attribute.of(name, column, ", " if name in lists else None) for name, column in columns.items())


def _known(name: str, pieces: Mapping[str, Piece], what: str) -> Piece:
    if name not in pieces:
        raise ParamsError(f"No {what} is called {name!r}. {nearest(name, pieces)}")
    return pieces[name]
