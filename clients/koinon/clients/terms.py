"""A federation's policy in words: what its partner's operator reads before accepting it."""

from __future__ import annotations

import json
import math

from koinon.clients.wire import read_policy
from koinon.protos import federation_pb2 as wire
from koinon.recommenders.federated.outline import Outlined, outline

__all__ = ["difference", "in_words"]

_AGGREGATION = {
    "": "plain: the server sees what each partner sends",
    "secure": "secure: the server sees only totals over at least three partners",
    "trimmed_mean": "trimmed mean: the server sees what each partner sends, and leaves out the extremes",
    "median": "median: the server sees what each partner sends, and takes the middle",
    "krum": "krum: the server sees what each partner sends, and takes what lies closest to the others",
}


def in_words(policy: wire.Policy) -> list[str]:
    """Return a policy as lines: learners, what may leave and how it is added up, budget, encoder, split.

    Raises
    ------
    RecommenderError
        K440, K441 it names a learner or a setting that this Koinon does not know.
    """
    agreement = read_policy(policy)
    lines = [f"federation: {policy.federation}"]
    for name, settings in agreement.learners.items():
        stated = ", ".join(f"{key} = {value}" for key, value in sorted(settings.items()))
        lines.append(f"learner {name} ({stated or 'default settings'})")
        lines += [f"  may leave, {_tensor(tensor)}" for tensor in outline(name, settings)]
    keys = "keyed hashes of title and creator" if policy.keyed_catalogues else "titles and texts, where declared public"
    return [
        *lines,
        f"of the catalogue: {keys}",
        f"figures that may leave: {', '.join(sorted(policy.metrics)) or 'none'}",
        f"a round needs at least {policy.minimum_participants} partners",
        f"aggregation: {_AGGREGATION.get(policy.aggregation, policy.aggregation)}",
        f"privacy budget: {_budget(policy)}",
        f"encoder: {policy.encoder}" + (f" {policy.encoder_sha256[:12]}" if policy.encoder_sha256 else " (not pinned)"),
        f"split: {_settings(policy.split_json)}",
        "releases and ledger say " + ("how many took part" if policy.anonymous else "who took part"),
        f"seed: {policy.seed}",
    ]


def difference(before: wire.Policy, after: wire.Policy) -> list[str]:
    """Return the lines that went (``- …``) and those that came (``+ …``)."""
    old, new = in_words(before), in_words(after)
    return [f"- {line}" for line in old if line not in new] + [f"+ {line}" for line in new if line not in old]


def _tensor(tensor: Outlined) -> str:
    bound = "" if math.isinf(tensor.person) else f", one person adds at most {tensor.person:g} (L2 norm)"
    when = f"round{'s' if ' ' in tensor.rounds else ''} {tensor.rounds}"
    return f"{when}: {tensor.name}, {tensor.dtype}[{' × '.join(tensor.shape)}], {tensor.aggregation}{bound}"


def _budget(policy: wire.Policy) -> str:
    if not (policy.epsilon or policy.delta or policy.privacy_json):
        return "none: what is sent is clipped, not noised"
    return f"ε = {policy.epsilon:g}, δ = {policy.delta:g} for each person; {_settings(policy.privacy_json)}"


def _settings(said: str) -> str:
    """Settings that stand in a policy as JSON, each by its name."""
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in sorted(json.loads(said or "{}").items()))
