"""Secure sums: the server learns the total of the partners' vectors, and of no partner its own.

The protocol is that of Bonawitz et al. (CCS 2017) on the sparse neighbour graph of Bell et al. (CCS 2020). A
:class:`Partner` and a :class:`Server` exchange bytes; whoever carries them does not matter. One pair of objects serves
one sum, and sums may overlap in time: the keys of the next may travel with the masked words of this one.

==========  ==================  ====================  ==================================================
phase       partner             server                what travels
==========  ==================  ====================  ==================================================
keys        `Partner.begin`     `take_keys`           fresh public keys
shares      `Partner.share`     `cohorts`             neighbours' keys; sealed Shamir shares
masked      `Partner.mask`      `deliveries`          the neighbours' sealed shares; masked words
agreed      `Partner.agree`     `rolls`               on a sparse graph: one list, signed by all who are on it
unmask      `Partner.unmask`    `claims`, `total`     who answered; shares of seeds
==========  ==================  ====================  ==================================================

:class:`WordLayout` turns tensors into words and back. Threat model, error and costs: ``docs/secure-sum.md``.
"""

from koinon.privacy.secure_sum.agreed import BITS, layout, rules
from koinon.privacy.secure_sum.keeping import destroy_state, load_state, save_state
from koinon.privacy.secure_sum.partner import Partner
from koinon.privacy.secure_sum.rules import Rules, Session
from koinon.privacy.secure_sum.server import Server
from koinon.privacy.secure_sum.signed import signed_by_member, verified_by
from koinon.privacy.secure_sum.words import Part, Quantiser, WordLayout

__all__ = [
    "BITS",
    "Part",
    "Partner",
    "Quantiser",
    "Rules",
    "Server",
    "Session",
    "WordLayout",
    "destroy_state",
    "layout",
    "load_state",
    "rules",
    "save_state",
    "signed_by_member",
    "verified_by",
]
