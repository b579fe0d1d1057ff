"""Other libraries' EASE, ItemKNN, iALS and BPR-MF on the same events.

Run by bench/against_libraries.py in an environment that holds `implicit` and `lenskit` and knows nothing of Koinon: a
folder with ``given.npz`` (what was taken, where iALS begins, settings). Writes ``found.npz``: scores of every library's
recommender for every user, ``float32[users, items]``; the histories are what was taken.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from implicit.cpu.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender
from lenskit.data import ItemList, RecQuery, from_interactions_df
from lenskit.flexmf import FlexMFImplicitScorer
from lenskit.knn import EASEScorer
from lenskit.training import TrainingOptions
from scipy.sparse import csr_matrix

folder = Path(sys.argv[1])
given = np.load(folder / "given.npz")
settings = json.loads(str(given["settings"]))
users, items = (int(size) for size in given["shape"])
taken = csr_matrix(
    (np.ones(len(given["user"]), dtype=np.float32), (given["user"], given["item"])), shape=(users, items)
)
torch.set_num_threads(1)
data = from_interactions_df(pd.DataFrame({"user_id": given["user"], "item_id": given["item"]}))


def lenskit_scores(scorer) -> np.ndarray:
    """Ask a LensKit component for every item, user by user; what it does not know is 0."""
    catalogue = ItemList(item_ids=np.arange(items))
    rows = []
    for user in range(users):
        history = ItemList(item_ids=taken[user].indices)
        answer = scorer(RecQuery(user_id=user, user_items=history), catalogue).scores()
        rows.append(np.nan_to_num(np.asarray(answer, dtype=np.float32)))
    return np.stack(rows)


found = {}
ease = EASEScorer(regularization=settings["ease"])
ease.train(data)
columns = np.asarray(ease.items.ids(), dtype=np.int64)
found["ease_weights"] = np.zeros((items, items), dtype=np.float32)
found["ease_weights"][np.ix_(columns, columns)] = ease.weights

cosine = CosineRecommender(K=items, num_threads=1)
cosine.fit(taken, show_progress=False)
found["cosine"] = (taken @ cosine.similarity).toarray()

# an item's own place is one of the K; its nearest score it, whichever of them a history holds
nearest = CosineRecommender(K=settings["neighbours"] + 1, num_threads=1)
nearest.fit(taken, show_progress=False)
found["nearest"] = (taken @ nearest.similarity.T).toarray()

als = AlternatingLeastSquares(
    factors=given["begin"].shape[1],
    regularization=settings["ials"]["regularization"],
    alpha=settings["ials"]["confidence"],
    iterations=settings["ials"]["sweeps"],
    use_cg=False,
    num_threads=1,
)
als.user_factors = np.zeros((users, given["begin"].shape[1]), dtype=np.float32)
als.item_factors = given["begin"].copy()
als.fit(taken, show_progress=False)
again = als.recalculate_user(np.arange(users), taken)
found["ials"] = again @ als.item_factors.T

for seed in settings["bpr"]["seeds"]:
    bpr = FlexMFImplicitScorer(
        preset="bpr",
        item_bias=True,
        embedding_size=settings["bpr"]["factors"],
        epochs=settings["bpr"]["epochs"],
        batch_size=settings["bpr"]["batch"],
        learning_rate=settings["bpr"]["learning_rate"],
        regularization=settings["bpr"]["regularization"],
    )
    bpr.train(data, TrainingOptions(rng=seed, device="cpu"))
    found[f"bpr_{seed}"] = lenskit_scores(bpr)

np.savez(folder / "found.npz", **found)
