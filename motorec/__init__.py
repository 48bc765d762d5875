"""motorec: a reference implementation of MoToRec (arXiv 2602.11062).

Read `README.md` first. The way of the data is data -> features -> tokenizer -> models -> evaluation -> reporting,
and each of these words is a folder or a file in this package.
"""

from motorec.processor import pin

# Before anything here imports NumPy or torch.
pin()

__version__ = "0.1.0"
