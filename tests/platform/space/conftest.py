import pytest

TITLES = [
    "Das fremde Gesicht. Mary Higgins Clark",
    "Remember Me. Mary Higgins Clark",
    "Cien años de soledad. Gabriel García Márquez",
    "L'Étranger. Albert Camus",
    "Harry Potter and the Sorcerer's Stone (Book 1). J. K. Rowling",
    "Der Herr der Ringe, 3 Bde., Bd.1, Die Gefährten",
    "ノルウェイの森 村上春樹",
    "战争与和平 列夫·托尔斯泰",
    "Преступление и наказание",
    "ألف ليلة وليلة",
    "สี่แผ่นดิน",
    "어린 왕자",
    "Toy Story (1995) Animation|Children's|Comedy",
    "  spaced   out\ttab\nline\u3000wide  ",
    "",
    " ",
    "\x01 \u200b",
    "½ price! ﬁne ① ¨ ´ ☃ 🎬",
    "a",
    "word " * 400,
    "無" * 300,
]


@pytest.fixture(scope="session")
def titles() -> list[str]:
    return list(TITLES)


@pytest.fixture(scope="session")
def many_titles() -> list[str]:
    """300 texts of one to twenty words, drawn from the titles' words."""
    import numpy as np

    words = [word for title in TITLES[:13] for word in title.split()]
    rng = np.random.default_rng(7)
    return [" ".join(rng.choice(words, size=rng.integers(1, 20))) for _ in range(300)]


@pytest.fixture(scope="session")
def encoder():
    """The packaged multilingual encoder, its weights loaded once."""
    from koinon.space import open_encoder

    return open_encoder("use-multilingual")
