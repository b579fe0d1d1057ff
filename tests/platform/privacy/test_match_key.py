"""The secret that the partners share and the server does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from koinon.errors import PrivacyError
from koinon.privacy import MATCH_KEY_FILE, read_match_key, write_match_key


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    made = [tmp_path / name for name in ("alpha", "beta")]
    for folder in made:
        folder.mkdir()
    return made


def test_all_partners_get_one_key_that_only_its_owner_can_read(folders: list[Path]) -> None:
    write_match_key(folders)
    alpha, beta = (read_match_key(folder) for folder in folders)
    assert alpha == beta
    assert len(alpha) == 32
    assert all((folder / MATCH_KEY_FILE).stat().st_mode & 0o077 == 0 for folder in folders)


def test_a_key_in_use_is_never_replaced(folders: list[Path]) -> None:
    write_match_key(folders[:1])
    before = read_match_key(folders[0])
    with pytest.raises(PrivacyError, match="K621"):
        write_match_key(folders)
    assert read_match_key(folders[0]) == before
    assert not (folders[1] / MATCH_KEY_FILE).exists()


@pytest.mark.parametrize("text", ["", "zz" * 32, "ab" * 8])
def test_a_weak_or_unreadable_key_is_refused(folders: list[Path], text: str) -> None:
    (folders[0] / MATCH_KEY_FILE).write_text(text)
    (folders[0] / MATCH_KEY_FILE).chmod(0o600)
    with pytest.raises(PrivacyError, match="K620"):
        read_match_key(folders[0])


def test_a_key_that_others_can_read_is_refused(folders: list[Path]) -> None:
    write_match_key(folders)
    (folders[0] / MATCH_KEY_FILE).chmod(0o644)
    with pytest.raises(PrivacyError, match="K620"):
        read_match_key(folders[0])
