"""An audit of a whole federation: partners add up their own people by cell, and what is judged is the sum.

The way: the plan fixes the cells (:mod:`.layout`); as a federation's only "learner" it becomes a round
(:mod:`.rounds`), so that it travels, is masked, noised and charged as training is; each partner measures the people of
its own deployed model (:mod:`.partner`); what comes back (:mod:`.totals`) is judged as any audit is (:mod:`.judging`),
with the noise in every interval (:mod:`.noisy`).
"""

from koinon.fairness.federated.partner import AuditedPartner
from koinon.fairness.federated.rounds import AuditQuestion, AuditRounds

__all__ = ["AuditQuestion", "AuditRounds", "AuditedPartner"]
