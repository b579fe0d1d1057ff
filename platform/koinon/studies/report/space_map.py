"""A map of the semantic space: a seeded sample of every partner's catalogue, laid out so that neighbours stay near."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from koinon.data import Domain
from koinon.errors import ResourceError
from koinon.space import Space
from koinon.studies.report.contents import SpaceMap

__all__ = ["lay_out", "map_space"]


def map_space(domains: Mapping[str, Domain], space: Space, *, points: int = 2000, seed: int = 0) -> SpaceMap:
    """Lay out about ``points`` items, as many of each partner's as of any other's (fewer where it has fewer).

    Raises
    ------
    ResourceError
        K806 the package scikit-learn is not installed.
    """
    rng = np.random.default_rng(seed)
    share = max(1, points // max(len(domains), 1))
    texts: list[str] = []
    partner: list[str] = []
    language: list[str] = []
    title: list[str] = []
    for name, domain in domains.items():
        chosen = np.sort(rng.permutation(domain.n_items)[:share])
        items = domain.items[chosen.tolist()]
        texts += items["text"].to_list()
        language += items["language"].to_list()
        title += items["title"].to_list()
        partner += [name] * len(chosen)
    xy = lay_out(space.encode(texts), seed=seed)
    method = (
        f"A seeded sample of {len(texts):,} items, {share:,} of each partner at most; vectors reduced "
        f"by PCA and laid out by t-SNE."
    )
    return SpaceMap(xy, tuple(partner), tuple(language), tuple(title), method)


def lay_out(vectors: NDArray[np.float32], *, seed: int = 0, dimensions: int = 30) -> NDArray[np.float32]:
    """Two coordinates per row of ``float32[points, d]``: PCA to ``dimensions``, then t-SNE (van der Maaten 2014).

    Fewer than eight points get their first two principal components.
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError as error:
        raise ResourceError(
            "K806", "The Python package `scikit-learn` is not installed.", "Install `koinon[report]`."
        ) from error
    count = len(vectors)
    if count < 3:
        return np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    reduced = PCA(min(dimensions, count, vectors.shape[1]), random_state=seed).fit_transform(vectors)
    if count < 8:
        return np.asarray(reduced[:, :2], dtype=np.float32)
    embed = TSNE(2, perplexity=min(30.0, count / 4), init="pca", learning_rate="auto", max_iter=500, random_state=seed)
    # one thread: several would wait for each other at every step, for minutes where the machine has other work
    with threadpool_limits(1):
        layout = embed.fit_transform(reduced)
    return np.asarray(layout, dtype=np.float32)
