"""SLIM: sparse linear methods for top-N recommender systems (Ning and Karypis, ICDM 2011)."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from motorec import config
from motorec.models.base import Inputs
from motorec.models.dense import LinearRecommender
from motorec.models.itemknn import nearest_only
from motorec.progress import progress


class SLIM(LinearRecommender):
    r"""Each item is explained by a few other items: non-negative elastic-net regression, one item at a time.

    .. math:: \min_{w_j \ge 0} \tfrac{1}{2} \lVert x_j - X w_j \rVert_2^2 + \tfrac{\beta}{2} \lVert w_j \rVert_2^2
              + \lambda \lVert w_j \rVert_1 \quad \text{with} \quad w_{jj} = 0

    with :math:`X` the binary interactions of training, by scikit-learn's coordinate descent. The paper keeps all
    weights; here each item keeps its largest ones, which bounds the memory.
    """

    class Settings(config.Settings):
        """The penalties, in the paper's terms."""

        l1: config.Positive = 0.5  # lambda
        l2: config.Positive = 20.0  # beta
        neighbours: config.Count = 200  # weights kept for each item
        sweeps: config.Count = 200  # of coordinate descent, at the most

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        from sklearn.linear_model import ElasticNet

        train = inputs.train.tocsc().astype(np.float64)
        n_users, n_items = train.shape
        # scikit-learn divides the squared error, and only that, by the number of rows.
        regression = ElasticNet(
            alpha=(settings.l1 + settings.l2) / n_users,
            l1_ratio=settings.l1 / (settings.l1 + settings.l2),
            positive=True,
            fit_intercept=False,
            copy_X=False,
            max_iter=settings.sweeps,
        )
        rows = []
        for item in progress(range(n_items), f"{inputs.dataset}/SLIM"):
            column = slice(train.indptr[item], train.indptr[item + 1])
            target = np.zeros(n_users)
            target[train.indices[column]] = train.data[column]
            train.data[column] = 0.0  # an item must not explain itself
            regression.fit(train, target, check_input=False)
            train.data[column] = target[train.indices[column]]
            rows.append(nearest_only(regression.sparse_coef_, settings.neighbours))
        weights = sparse.vstack(rows, format="csr")
        super().__init__(inputs.train, weights.astype(np.float32).T.tocsr())
