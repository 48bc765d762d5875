"""`python -m motorec.data garments` makes the raw data of the data sets that the repository provides."""

from __future__ import annotations

import sys

from motorec.data.prepare import make_source
from motorec.errors import MotorecError

try:
    for name in sys.argv[1:]:
        make_source(name)
except MotorecError as error:
    sys.exit(f"ERROR: {error}")
