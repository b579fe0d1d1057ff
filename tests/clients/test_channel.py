"""Between a ClientApp and its partner's worker."""

from __future__ import annotations

import socket
import struct

import numpy as np
import pytest

from koinon.clients.channel import receive, send
from koinon.errors import FederationError


@pytest.fixture
def pair(tmp_path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    near = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    near.connect(str(tmp_path / "s"))
    far, _ = listener.accept()
    with listener, near, far:
        yield near, far


def test_a_frame_arrives_as_it_was_sent(pair):
    near, far = pair
    send(near, ({"phase": "contribute"}, b"said", {"a": np.arange(3, dtype=np.float32)}))
    fields, said, arrays = receive(far)
    assert (fields, said, arrays["a"].tolist()) == ({"phase": "contribute"}, b"said", [0.0, 1.0, 2.0])


def test_a_worker_that_is_killed_before_it_has_read_everything_is_named(pair):
    near, far = pair
    near.sendall(b"what the worker never reads")
    far.close()
    with pytest.raises(FederationError, match="K724"):
        receive(near)


def test_a_worker_that_is_gone_before_it_is_told_is_named(pair):
    near, far = pair
    far.close()
    with pytest.raises(FederationError, match="K724"):
        send(near, ({}, b"", {}))


def test_a_worker_that_is_killed_in_the_middle_of_its_answer_is_named(pair):
    near, far = pair
    far.sendall(struct.pack("!B", 0))
    far.close()
    with pytest.raises(FederationError, match="K724"):
        receive(near)
