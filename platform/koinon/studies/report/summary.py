"""What came of it, in words and against the aims that were written down before the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from koinon.studies.report.results import Aim, Gain, Partner, Summary

__all__ = ["summarise"]

Partners = Mapping[str, Partner]


def summarise(partners: Partners, small_shops: tuple[str, ...]) -> Summary:
    """Say who gains, who is harmed, how much on average, and which aims were reached."""
    gaining = [name for name, p in partners.items() if _clear(p, "federated_vs_local_space", 1)]
    harmed = [name for name, p in partners.items() if p.harmed]
    keys = dict.fromkeys(key for p in partners.values() for key in p.gains)
    relative = {key: _mean([_gain(p, key).relative for p in partners.values()]) for key in keys}
    aims = [aim(partners, small_shops) for aim in _AIMS]
    return Summary(
        headline=_headline(partners, gaining, harmed, relative, aims),
        gaining=gaining,
        harmed=harmed,
        relative_gain=relative,
        aims=aims,
    )


def _headline(
    partners: Partners, gaining: list[str], harmed: list[str], relative: Mapping[str, float | None], aims: list[Aim]
) -> str:
    """Two or three plain sentences; the first stands alone as the page's title."""
    total = len(partners)
    if gaining:
        whom = "every partner" if len(gaining) == total else f"{_count(len(gaining))} of {_count(total)} partners"
        first = f"Federating clearly helps {whom}" + (
            " and harms none." if not harmed else f", and harms {_join(harmed)}."
        )
    elif harmed:
        first = f"Federating clearly helps no partner, and harms {_join(harmed)}."
    else:
        first = "Federating neither clearly helps nor clearly harms any partner."
    sentences = [first]
    local, space = relative.get("federated_vs_local"), relative.get("federated_vs_local_space")
    if local is not None and space is not None:
        sentences.append(
            f"Measured by NDCG@10 on people and events never trained on, the federated recommender stands on average "
            f"{_share(local)} what each partner reaches alone, and {_share(space)} what it reaches alone with the same "
            f"language encoder; the second figure is what a partner gains by joining."
        )
    missed = [aim for aim in aims if aim.reached is False]
    measured = [aim for aim in aims if aim.reached is not None]
    if measured:
        verdict = (
            "All aims set beforehand are reached."
            if not missed
            else f"Of {_count(len(measured))} aims set beforehand, {_count(len(missed))} "
            f"{'is' if len(missed) == 1 else 'are'} missed."
        )
        sentences.append(verdict)
    return " ".join(sentences)


def _aim_no_harm(partners: Partners, _small: tuple[str, ...]) -> Aim:
    known = [p for p in partners.values() if "federated_vs_local_space" in p.gains]
    harmed = [name for name, p in partners.items() if p.harmed]
    said = f"{_join(harmed)} clearly below" if harmed else f"none of {len(known)} clearly below"
    return Aim(
        name="no_partner_harmed",
        target="Federated is not clearly below local + space for any partner.",
        measured=said if known else "not measured",
        reached=not harmed if known else None,
    )


def _aim_small_over_local(partners: Partners, small: tuple[str, ...]) -> Aim:
    return _small_shops(partners, small, "federated_vs_local", 0.20, "local")


def _aim_small_over_space(partners: Partners, small: tuple[str, ...]) -> Aim:
    return _small_shops(partners, small, "federated_vs_local_space", 0.05, "local + space")


def _small_shops(partners: Partners, small: tuple[str, ...], key: str, target: float, baseline: str) -> Aim:
    there = [name for name in small if name in partners]
    value = _mean([_gain(partners[name], key).relative for name in there])
    return Aim(
        name=f"small_shops_{key}",
        target=f"At least +{target * 100:.0f} % over {baseline}, on average over the small English shops.",
        measured="not measured" if value is None else f"{value * 100:+.1f} % over {len(there)} shops",
        reached=None if value is None else value >= target,
    )


def _aim_near_pooled(partners: Partners, _small: tuple[str, ...]) -> Aim:
    shares = [
        federated / pooled
        for p in partners.values()
        if (federated := _mean_of(p, "federated")) is not None and (pooled := _mean_of(p, "pooled"))
    ]
    value = _mean(shares)
    return Aim(
        name="near_pooled",
        target="At least 97 % of what pooling the raw data would give, on average.",
        measured="not measured" if value is None else f"{value * 100:.1f} % over {len(shares)} partners",
        reached=None if value is None else value >= 0.97,
    )


def _aim_adapters(partners: Partners, _small: tuple[str, ...]) -> Aim:
    known = [p for p in partners.values() if _gain(p, "adapters_vs_local_space").relative is not None]
    if not known:
        return Aim(name="adapters", target=_ADAPTERS_TARGET, measured="not measured", reached=None)
    average = _mean([_gain(p, "adapters_vs_local_space").relative for p in known]) or 0.0
    clear = sum((_gain(p, "adapters_vs_local_space").lo or 0.0) > 0 for p in known)
    return Aim(
        name="adapters",
        target=_ADAPTERS_TARGET,
        measured=f"{average * 100:+.1f} % on average; interval above zero for {clear} of {len(known)}",
        reached=average >= 0 and clear >= 3,
    )


_ADAPTERS_TARGET = (
    "Federated adapters at or above local + space on average, with an interval clear of zero for at least three "
    "partners."
)


def _aim_cold(partners: Partners, _small: tuple[str, ...]) -> Aim:
    ratios_random, ratios_ids = [], []
    for p in partners.values():
        cold = _mean_of(p, "federated", "cold_among_cold")
        if cold is None:
            continue
        if p.random_among_cold:
            ratios_random.append(cold / p.random_among_cold)
        ids = _mean_of(p, "local", "cold_among_cold")
        if ids:
            ratios_ids.append(cold / ids)
    over_random, over_ids = _mean(ratios_random), _mean(ratios_ids)
    target = "Among cold candidates at least 3 × random and 3 × the best recommender on ids alone, on average."
    if over_random is None or over_ids is None:
        return Aim(name="cold_items", target=target, measured="not measured", reached=None)
    return Aim(
        name="cold_items",
        target=target,
        measured=f"{over_random:.1f} × random, {over_ids:.1f} × ids alone",
        reached=over_random >= 3 and over_ids >= 3,
    )


_AIMS: tuple[Callable[[Partners, tuple[str, ...]], Aim], ...] = (
    _aim_no_harm,
    _aim_small_over_local,
    _aim_small_over_space,
    _aim_near_pooled,
    _aim_adapters,
    _aim_cold,
)

_NOTHING = Gain(
    relative=None, relative_lo=None, relative_hi=None, mean=None, lo=None, hi=None, p=None, p_holm=None, n=0
)


def _gain(partner: Partner, key: str) -> Gain:
    return partner.gains.get(key, {}).get("all", _NOTHING)


def _clear(partner: Partner, key: str, sign: int) -> bool:
    gain = _gain(partner, key)
    return gain.p_holm is not None and gain.p_holm < 0.05 and (gain.mean or 0.0) * sign > 0


def _mean_of(partner: Partner, arm: str, slice_: str = "all") -> float | None:
    estimate = partner.arms.get(arm, {}).get(slice_, {}).get("ndcg@10")
    return None if estimate is None else estimate.mean


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _count(number: int) -> str:
    return _WORDS[number] if number < len(_WORDS) else str(number)


def _join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _share(value: float) -> str:
    if abs(value) < 0.0005:
        return "level with"
    return f"{abs(value) * 100:.1f} % {'above' if value > 0 else 'below'}"
