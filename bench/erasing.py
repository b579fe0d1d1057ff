"""What taking gender out of the semantic space does: to what can be read from it, to accuracy, to the gap.

    python bench/erasing.py --dataset ml-100k --seed 7
    python bench/erasing.py --dataset ml-100k --seed 7 --against --dials 0 0.3 1 3 10

Semantic EASE (ridge 300, prior 0.3; stated, not tuned) on the packaged encoder's vectors, gender erased by degrees.
"Read": how well logistic regression tells women from men by the mean vector of what they took, as area under the curve
over five folds (0.5: not at all), of the half of people on whom the eraser was not fitted; beside it, how well a
network of one hidden layer does. With ``--against`` the dial is the strength of an adversary against whom a map of the
space is trained, instead of the part of the linear projection. Accuracy is the test's.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from koinon.data import SplitConfig, make_split
from koinon.data.public import get
from koinon.evaluation import evaluate
from koinon.evaluation.significance import paired_gain
from koinon.fairness.mitigation.adversarial import AdversarialConfig, adversarial_map
from koinon.fairness.mitigation.erasing import ErasedSpace, eraser_of, mean_vectors
from koinon.recommenders.conventional import SemanticEASE, SemanticEaseConfig
from koinon.recommenders.training import known_before_test
from koinon.space import open_space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--dials", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--against", action="store_true", help="Train against an adversary; dials are its strength.")
    given = parser.parse_args()
    tables = get(given.dataset)
    split = make_split(given.dataset, tables, SplitConfig(protocol="holdout", seed=given.seed, cold_items=0.0))
    known = known_before_test(split)
    gender = dict(zip(tables.users["user_id"], tables.users["gender"], strict=True))
    women = np.array([gender[user] == "female" for user in known.user_ids]).astype(int)
    space = open_space()
    fitted_on = np.random.default_rng(given.seed).random(len(women)) < 0.5
    vectors, seen = space.encode(known.texts), np.where(fitted_on, women, -1)
    eraser = eraser_of(mean_vectors(known, vectors), seen)
    plain = None
    for dial in given.dials:
        if given.against:
            erased = ErasedSpace(space, adversarial_map(known, vectors, seen, AdversarialConfig(strength=dial)))
        else:
            erased = ErasedSpace(space, eraser, dial)
        people = mean_vectors(known, erased.encode(known.texts))
        reader = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=5000))
        network = make_pipeline(StandardScaler(), MLPClassifier((32,), alpha=10.0, max_iter=300, random_state=0))
        read, bent = (
            cross_val_score(one, people[~fitted_on], women[~fitted_on], cv=5, scoring="roc_auc").mean()
            for one in (reader, network)
        )
        model = SemanticEASE(SemanticEaseConfig(lambda_=300.0, beta=0.3))
        model.fit(known, erased, rng=np.random.default_rng(0))
        found = evaluate(model, known, split.test, slices=("all",))
        values, sex = found.values(), women[found.per_user["user"].to_numpy()]
        plain = values if plain is None else plain
        gain = paired_gain(values, plain)
        print(
            f"dial {dial:g}: gender read with {read:.3f} (network {bent:.3f}); NDCG@10 {values.mean():.4f} "
            f"({gain.relative:+.2%}, {gain.relative_lo:+.2%} to {gain.relative_hi:+.2%}); "
            f"women {values[sex == 1].mean():.4f}, men {values[sex == 0].mean():.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
