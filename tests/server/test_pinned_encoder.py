"""The server works with the encoder that its policy pins, or not at all."""

from __future__ import annotations

import pytest

from koinon.errors import SpaceError
from koinon.server.app import _space
from koinon.space import DEFAULT_ENCODER


def test_a_federation_that_reads_no_texts_opens_none():
    assert _space("none", "") is None


def test_another_encoder_than_the_pinned_one_is_refused():
    with pytest.raises(SpaceError) as caught:
        _space(DEFAULT_ENCODER, "0" * 64)
    assert caught.value.code == "K311"
    space = _space(DEFAULT_ENCODER, "")
    assert space is not None
    assert _space(DEFAULT_ENCODER, space.fingerprint) is not None
