"""Both halves of a secure sum carried by hand. Partners live as state bytes only: every step takes them up anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from koinon.privacy.secure_sum import Partner, Rules, Server, Session
from koinon.privacy.secure_sum.masks import Words
from koinon.privacy.secure_sum.roll import Signer, Verifier

STEPS = ("keys", "shares", "masked", "unmask", "stays")


class Carried:
    """One secure sum of ``n`` partners; ``leaves`` names the first step that a partner does not answer."""

    def __init__(
        self,
        n: int,
        leaves: Mapping[str, str] | None = None,
        *,
        session: Session | None = None,
        rules: Rules | None = None,
        sign: Callable[[str], Signer] | None = None,
        verify: Verifier | None = None,
    ) -> None:
        self.session = session or Session("run", 1, "ab" * 32, "popularity")
        self.rules = rules or Rules()
        self.names = [f"partner{number:02}" for number in range(n)]
        self.leaves = leaves or {}
        self.sign, self.verify = sign, verify
        self.server = Server(self.session, self.rules, verify)
        self.states: dict[str, bytes] = {}
        self.told: dict[str, bytes] = {}
        self.masked: dict[str, bytes] = {}

    def there(self, step: str) -> list[str]:
        return [n for n in self.names if STEPS.index(self.leaves.get(n, "stays")) > STEPS.index(step)]

    def partner(self, name: str) -> Partner:
        return Partner.restore(self.states[name])

    def keys(self) -> None:
        for name in self.there("keys"):
            partner, said = Partner.begin(self.session, self.rules, name, self.sign and self.sign(name))
            self.states[name] = partner.state()
            self.server.take_keys(name, said)
        self.told = self.server.cohorts()

    def shares(self, count: int, bits: int = 32) -> None:
        for name in self.there("shares"):
            partner = self.partner(name)
            said = partner.share(self.told[name], self.verify)
            self.states[name] = partner.state()
            self.server.take_shares(name, said)
        self.told = self.server.deliveries(count, bits)

    def mask(self, words: Mapping[str, Words]) -> None:
        for name in self.there("masked"):
            partner = self.partner(name)
            said = partner.mask(self.told[name], words[name])
            self.states[name] = partner.state()
            self.masked[name] = bytes(said)
            self.server.take_masked(name, said)
        for name, roll in self.server.rolls().items():
            partner = self.partner(name)
            said = partner.agree(roll, self.sign(name))
            self.states[name] = partner.state()
            self.server.take_assent(name, said)
        self.told = self.server.claims()

    def unmask(self) -> Words:
        for name in self.there("unmask"):
            partner = self.partner(name)
            said = partner.unmask(self.told[name], self.verify)
            self.states[name] = partner.state()
            self.server.take_unmask(name, said)
        return self.server.total()

    def until(self, step: str, words: Mapping[str, Words]) -> Carried:
        """Carry the sum until this step's messages have been handed out, but not answered."""
        (some,) = {len(own) for own in words.values()}
        for name, carry in (
            ("shares", self.keys),
            ("masked", lambda: self.shares(some)),
            ("unmask", lambda: self.mask(words)),
        ):
            carry()
            if name == step:
                return self
        raise ValueError(step)

    def total(self, words: Mapping[str, Words]) -> Words:
        self.until("unmask", words)
        return self.unmask()


@pytest.fixture(scope="session")
def carried() -> type[Carried]:
    return Carried


@pytest.fixture(scope="session")
def words_of() -> Callable[..., dict[str, Words]]:
    """Give random words, ``uint32[count]``, to each of ``n`` partners."""

    def draw(n: int, count: int = 9, seed: int = 0) -> dict[str, Words]:
        rng = np.random.default_rng(seed)
        return {f"partner{number:02}": rng.integers(1 << 32, size=count, dtype=np.uint32) for number in range(n)}

    return draw
