"""Results that fill every section of the report: an audit of the shop, with findings of all kinds put beside it."""

from __future__ import annotations

import pytest

from koinon.fairness.conduct import conduct
from koinon.fairness.drafting import draft, write_plan
from koinon.fairness.mitigation.findings import Mitigation
from koinon.fairness.plan import AuditPlan
from koinon.fairness.probes.findings import Probes
from koinon.fairness.record import LocalRecord
from koinon.fairness.results import Answered, Federated, Federation, PartnerGain, Spent

MEAN = {"mean": 0.5, "lo": 0.4, "hi": 0.6}


def probes():
    stated = dict.fromkeys(("jaccard", "serp", "prag", "ndcg", "ndcg_over_neutral"), MEAN)

    def spread(measure, p):
        return {
            "measure": measure, "range": 0.1, "lo": 0.0, "hi": 0.2, "deviation": 0.05, "by_chance": 0.04, "p": p,
            "p_adjusted": p, "least": "w", "most": "m",
        }  # fmt: skip

    def probe(language, changed, p_list, p_ndcg):
        return {
            "source": "shop", "attribute": "gender", "language": language, "neutral_sentence": "Ich bin eine Person.",
            "neutral_ndcg": MEAN, "people": 1200, "k": 10, "changed": changed,
            "stated": [{"label": label, "sentence": f"Soy {label}.", **stated} for label in ("w", "m")],
            "spreads": [spread("jaccard", p_list), spread("serp", p_list), spread("prag", 0.7), spread("ndcg", p_ndcg)],
            "own": MEAN, "own_people": 900,
        }  # fmt: skip

    tests = (("career and family", "men", "women", "career", "family"),
             ("action and romance", "men", "women", "action", "romance"),
             ("names and pleasantness", "names of the majority", "names of a minority", "pleasant",
              "unpleasant"))  # fmt: skip
    return Probes.model_validate(
        {
            "counterfactual": [probe("en", 0.0, 1.0, 1.0), probe("de", 0.5, 0.9, 0.9), probe("fr", 0.5, 0.01, 0.9),
                               probe("es", 0.5, 0.9, 0.0001)],
            "association": [
                {"test": test, "language": "de", "form": form, "first": first, "second": second, "one": one,
                 "other": other, "effect": -0.4, "p": 0.2, "p_adjusted": 0.3, "terms": 8}
                for (test, first, second, one, other), form in zip(tests, ("words", "sentences", "words"), strict=True)
            ],
            "encoder": "use-multilingual",
            "encoder_fingerprint": "ab" * 32,
        }
    )  # fmt: skip


REMEDIES = ("calibrated", "calibrated_popularity", "balanced", "exposure", "exposure_shared", "alike", "weighted",
            "decorrelated", "by_group")  # fmt: skip


def mitigation():
    span = {"value": 0.02, "lo": 0.01, "hi": 0.03}

    def option(remedy, mended, label):
        effect = {"label": label, "n": 5000, "before": 0.1, "after": 0.2, "ndcg_before": 0.1, "ndcg_after": 0.2}
        return {"remedy": remedy, "of": "taste", "dial": 0.5, "after": span, "left": span, "lifted": 0.5, "cost": span,
                "mended": mended, "effects": [effect]}  # fmt: skip

    def point(dial, share):
        return {"dial": dial, "ndcg": 0.2 * (1 - dial / 9), "gaps": [share, share, share], "figures": {"novelty": 3.5}}

    fewer = [option("weighted", False, "fewer than 7")] * 8
    attention = [option("exposure", False, "long tail")]
    return Mitigation.model_validate(
        {
            "largest_cost": 0.02,
            "questions": [
                {"metric": "ndcg", "over": "taste*age", "source": None, "before": span,
                 "options": [option("calibrated", True, "young"), *fewer]},
                {"metric": "attention", "over": "popularity", "source": "shop", "before": span, "options": attention},
                {"metric": "recall", "over": "age", "source": None, "before": span, "options": []},
            ],
            "frontiers": [
                {"remedy": one, "of": "taste", "asks_group": one in ("alike", "by_group"),
                 "points": [point(0, 0.1), point(1, 0.1 if one == "weighted" else 0.05)]}
                for one in REMEDIES
            ],
        }
    )  # fmt: skip


GAINS = Federation(
    metric="ndcg@10",
    partners=[
        PartnerGain(partner=name, language=language, users=1234, local=0.1, federated=0.2, gain=gain, lo=gain - 0.1,
                    hi=gain + 0.1, harmed=gain < 0, users_worse=0.25)
        for name, language, gain in (("alpha", "de", 0.12), ("beta", "fr", -0.3))
    ],
    minimum=-0.3, median=-0.09, share_harmed=0.5, worst_language="fr", worst_language_gain=-0.3,
)  # fmt: skip


@pytest.fixture(scope="session")
def audited(shop, tmp_path_factory):
    """The folder of an audit that asks everything that one source can be asked, and its results."""
    folder = tmp_path_factory.mktemp("reports") / "shop"
    made = draft("shop", [str(shop)], folder, settings={"lambda_": 20.0}, attributes=["taste", "age"],
                 basis="Einwilligung", like_from=4.0, tolerance=0.1)  # fmt: skip
    raw = made.model_dump(mode="json")
    raw["providers"] = [one | {"tolerance": 0.05} for one in raw["providers"]]
    raw["groups"] = [group | {"small": "withhold"} for group in raw["groups"]]
    raw["groups"][1]["values"] = ["100+"]
    raw["primary"] += [{"metric": "novelty", "group": "taste", "tolerance": 0.1}]
    write_plan(folder, AuditPlan.from_dict({**raw, "draws": 200, "minimum_cell": 60}))
    return folder, conduct(folder, LocalRecord(folder))


@pytest.fixture(scope="session")
def full(audited):
    """One partner's audit with every section."""
    several = {"at_several_sources": 12, "federation": GAINS, "probes": probes(), "mitigation": mitigation()}
    return audited[1].model_copy(update=several)


@pytest.fixture(scope="session")
def federated(audited):
    """An audit of a federation with noise, a partner that is missing, and gains."""
    answers = Federated(
        federation="shops", policy_sha256="ab" * 32, secure=True,
        partners=[Answered(partner="alpha", code=None), Answered(partner=None, code="K701")],
        privacy=Spent(epsilon=2.0, delta=1e-6, budget=8.0, mechanism="distributed", safe=False, noise={"people": 3.2}),
        totals_sha256="cd" * 32,
    )  # fmt: skip
    nothing = {"sources": [], "catalogues": [], "labels": [], "providers": [], "at_several_sources": None}
    return audited[1].model_copy(update={**nothing, "federated": answers, "federation": GAINS, "excluded": {}})
