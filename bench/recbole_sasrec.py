"""RecBole's SASRec at its defaults, asked for its validation NDCG@10 after every epoch.

Run by bench/recbole_time.py in an environment that holds recbole and knows nothing of Koinon: a folder with
``bench.inter`` (every person's events in order, the last two held out by RecBole's own leave-one-out), threads, most
epochs, patience. Writes ``curve.json`` into the folder, one row per epoch: seconds of training so far by wall and
processor, and NDCG@10 over the whole catalogue less what the person already has, by the same formula as Koinon's.
The same call goes on after the last finished epoch.
"""

import json
import math
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

folder, threads, epochs, patience = sys.argv[1], *map(int, sys.argv[2:5])
torch.set_num_threads(threads)
config = Config(
    model="SASRec",
    dataset="bench",
    config_dict={
        "data_path": folder,
        "epochs": epochs,
        "show_progress": False,
        "use_gpu": False,
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "TIME_FIELD": "timestamp",
        "train_neg_sample_args": None,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    },
)
init_seed(config["seed"], config["reproducibility"])
data = create_dataset(config)
train, valid, _ = data_preparation(config, data)
asked = valid.dataset.inter_feat
events = data.inter_feat
order = events["timestamp"].argsort()
had = defaultdict(list)
for user, item in zip(events["user_id"][order].tolist(), events["item_id"][order].tolist(), strict=True):
    had[user].append(item)
model = SASRec(config, train.dataset).to("cpu")
trainer = Trainer(config, model)


def ndcg() -> float:
    """Each person's one held-out item among all items but those of the history."""
    model.eval()
    gained = []
    with torch.no_grad():
        for start in range(0, len(asked), 512):
            rows = asked[torch.arange(start, min(start + 512, len(asked)))]
            scores = model.full_sort_predict(rows)
            wanted = scores.gather(1, rows["item_id"][:, None])
            scores[:, 0] = -math.inf
            for row, user in enumerate(rows["user_id"].tolist()):
                scores[row, had[user][:-2]] = -math.inf
            place = (scores > wanted).sum(1)
            gained.append(torch.where(place < 10, 1 / torch.log2(place + 2.0), 0.0))
    return float(torch.cat(gained).mean())


state = Path(folder, "training.pt")
curve = []
if state.exists():
    kept = torch.load(state, weights_only=True)
    curve = kept["curve"]
    model.load_state_dict(kept["model"])
    trainer.optimizer.load_state_dict(kept["optimizer"])
    torch.set_rng_state(kept["rng"])
while len(curve) < epochs:
    best = max(range(len(curve)), key=lambda row: curve[row]["ndcg"], default=0)
    if len(curve) - best > patience:
        break
    model.train()
    wall, processor = (curve[-1]["wall"], curve[-1]["processor"]) if curve else (0.0, 0.0)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    trainer._train_epoch(train, len(curve), show_progress=False)
    wall += time.perf_counter() - begun
    processor += time.process_time() - begun_cpu
    curve.append(
        {
            "epoch": len(curve) + 1,
            "wall": wall,
            "processor": processor,
            "ndcg": ndcg(),
            "prefixes": len(train.dataset),
        }
    )
    kept = {
        "curve": curve,
        "model": model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    torch.save(kept, state.with_suffix(".new"))
    os.replace(state.with_suffix(".new"), state)
    print(json.dumps(curve[-1]), flush=True)
Path(folder, "curve.json").write_text(json.dumps(curve))
