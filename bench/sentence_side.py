"""What sentence-transformers does with the stream of :mod:`bench.notellm_speed`; run by an environment that has them.

    python bench/sentence_side.py STREAM.json

Reads folder, texts, pairs, batch size, LoRA settings and dtype; prints JSON: texts encoded and pairs trained per
second of processor time, and the peak of memory in MiB.
"""

import json
import resource
import sys
import time

import torch
from peft import LoraConfig
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        stream = json.load(file)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    texts, pairs, size = stream["texts"], stream["pairs"], stream["batch"]
    model = SentenceTransformer(
        stream["folder"], device="cpu", local_files_only=True, model_kwargs={"dtype": getattr(torch, stream["dtype"])}
    )
    model.max_seq_length = stream["max_length"]
    model.encode(texts[:8], show_progress_bar=False)
    begun = time.process_time()
    model.encode(texts, batch_size=32, show_progress_bar=False)
    encoded = len(texts) / (time.process_time() - begun)
    model.add_adapter(LoraConfig(r=stream["rank"], lora_alpha=stream["alpha"], target_modules=stream["targets"]))
    begun = time.process_time()
    model.encode(texts, batch_size=32, show_progress_bar=False)
    adapted = len(texts) / (time.process_time() - begun)
    loss = MultipleNegativesRankingLoss(model, scale=20.0)
    optimiser = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-3)
    model.train()
    begun, losses = 0.0, []
    for number, start in enumerate(range(0, len(pairs), size)):
        if number == 1:  # the first batch warms up
            begun = time.process_time()
        batch = pairs[start : start + size]
        sides = [model.preprocess([texts[pair[side]] for pair in batch]) for side in (0, 1)]
        optimiser.zero_grad()
        found = loss(sides, torch.zeros(len(batch)))
        found.backward()
        optimiser.step()
        losses.append(float(found.detach()))
    trained = (len(pairs) - size) / (time.process_time() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"texts": encoded, "adapted": adapted, "pairs": trained, "peak": peak, "losses": losses}))


if __name__ == "__main__":
    main()
