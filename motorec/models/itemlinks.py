r"""Frozen graphs that link items to similar ones, made of what MoToRec knows of them.

With :math:`N(i)` the k nearest of item i, an item's row is the mean over them: :math:`S_{ij} = w_{ij} / \sum_l w_{il}`
for :math:`j \in N(i)`, else 0, where :math:`w_{ij}` is 1 for neighbours by cosine (added up over modalities), and the
number of shared codes for neighbours by codes.

These are an addition to the paper, whose only graph is that of users and items. FREEDOM (arXiv 2211.06924) introduced
the one from raw features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from scipy import sparse

from motorec.features import Features
from motorec.graph import row_normalise
from motorec.itemgraph import content_graph
from motorec.models.itemknn import nearest_in_blocks
from motorec.tokengraph import incidence
from motorec.tokenizer import RQVAE
from motorec.tokenizer.codes import item_codes


def item_links(
    made_of: Literal["features", "latent", "codes"],
    features: Mapping[str, Features],
    tokenizers: Mapping[str, RQVAE],
    neighbours: int,
) -> sparse.csr_matrix:
    """Each item's neighbours; all modalities weigh the same.

    Args:
        made_of: `features`: nearest by the raw features' cosine, in each modality. `latent`: the same of the
            tokenizers' :math:`z_q`. `codes`: those with the most codes in common, over all modalities and levels.
        features: By modality.
        tokenizers: By modality, pretrained; not needed for `features`.
        neighbours: How many an item has: in each modality (`features`, `latent`), or in all (`codes`).

    Returns:
        (items, items); each row adds up to 1, or to 0 for an item without any neighbour.
    """
    if made_of == "codes":
        return row_normalise(
            shared_codes([item_codes(tokenizers[name], features[name]) for name in features], neighbours)
        )
    if made_of == "latent":
        features = {name: _latent(tokenizers[name], feature) for name, feature in features.items()}
    return content_graph(features, neighbours, {})


def shared_codes(codes: Sequence[Int[np.ndarray, "items _"]], neighbours: int) -> sparse.csr_matrix:
    r"""Items linked by the codes that they have in common.

    The weight of a link is the number of shared codes. Whole numbers tie often, so among equals the nearer one is the
    one that shares the rarer codes (the larger sum of 1 / usage); where this ties, too, that of the smaller index.

    Args:
        codes: A matrix a modality, a column a level; -1 where an item lacks the modality.
        neighbours: How many links an item keeps at most.

    Returns:
        (items, items), nothing on the diagonal, not symmetric.
    """
    together = np.concatenate(codes, axis=1)
    borne = incidence(together).astype(np.float64)
    usage = np.asarray(borne.sum(0)).ravel()
    # A shared code is used twice at least, so that all the bonuses together stay below half a shared code.
    bonus = 1 + 1 / (together.shape[1] * np.maximum(usage, 1))
    weighed, bearers = sparse.csr_matrix(borne @ sparse.diags(bonus)), borne.T.tocsr()
    nearest = nearest_in_blocks(lambda block: sparse.csr_matrix(weighed[block] @ bearers), len(together), neighbours)
    nearest.data = np.floor(nearest.data).astype(np.float32)
    return nearest


@torch.no_grad()
def _latent(tokenizer: RQVAE, features: Features) -> Features:
    """The same modality with :math:`z_q` for features."""
    latent = tokenizer(tokenizer.prepare(features.matrix[features.present])).latent.numpy()
    matrix = np.zeros((len(features.present), latent.shape[1]), dtype=np.float32)
    matrix[features.present] = latent
    return replace(features, matrix=matrix)
