"""Other libraries' fairness figures on the same people.

Run by bench/audit_oracles.py in an environment that holds aif360, fairlearn and statsmodels and knows nothing
of Koinon: a folder with ``given.json``. Writes ``found.json``.
"""

import json
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from aif360.sklearn import metrics as aif  # noqa: E402
from fairlearn.metrics import (  # noqa: E402
    MetricFrame,
    demographic_parity_difference,
    equal_opportunity_difference,
    equalized_odds_difference,
)
from scipy.spatial.distance import jensenshannon  # noqa: E402
from scipy.stats import entropy  # noqa: E402
from statsmodels.stats.multitest import multipletests  # noqa: E402

folder = Path(sys.argv[1])
given = json.loads((folder / "given.json").read_text())
group = np.array(given["group"])
values = np.array(given["values"])
liked, listed = np.array(given["liked"]), np.array(given["listed"])
two = np.array(given["two"])
benefit = 1.0 + listed - liked


def mean(_, predicted):
    return float(np.mean(predicted))


frame = MetricFrame(metrics=mean, y_true=np.zeros(len(values)), y_pred=values, sensitive_features=group)
index = pd.Index(two, name="two")
truth, said = pd.Series(liked, index=index), pd.Series(listed, index=index)
found = {
    "fairlearn: means by group": frame.by_group.tolist(),
    "fairlearn: largest difference": frame.difference(),
    "fairlearn: smallest over largest": frame.ratio(),
    "fairlearn: demographic parity": demographic_parity_difference(liked, listed, sensitive_features=group),
    "fairlearn: equal opportunity": equal_opportunity_difference(liked, listed, sensitive_features=group),
    "fairlearn: equalised odds": equalized_odds_difference(liked, listed, sensitive_features=group),
    "aif360: generalised entropy of values": aif.generalized_entropy_index(values, alpha=2),
    "aif360: generalised entropy of benefits": aif.generalized_entropy_error(truth, said, alpha=2, pos_label=1),
    "aif360: entropy of benefits between groups": aif.between_group_generalized_entropy_error(
        truth, said, prot_attr="two", alpha=2, pos_label=1
    ),
    "aif360: demographic parity, two groups": abs(
        aif.statistical_parity_difference(truth, said, prot_attr="two", priv_group=1)
    ),
    "aif360: equal opportunity, two groups": abs(
        aif.equal_opportunity_difference(truth, said, prot_attr="two", priv_group=1)
    ),
    "statsmodels: Holm": multipletests(given["p"], method="holm")[1].tolist(),
    "statsmodels: Benjamini and Hochberg": multipletests(given["p"], method="fdr_bh")[1].tolist(),
    "scipy: KL of smoothed shares": [
        float(entropy(p, 0.99 * np.array(q) + 0.01 * np.array(p))) for p, q in zip(*given["shares"], strict=True)
    ],
    "scipy: JS of shares": [float(jensenshannon(p, q, base=2) ** 2) for p, q in zip(*given["shares"], strict=True)],
}
(folder / "found.json").write_text(json.dumps(found))
