"""Recommenders some of whose parameters are shared: their plans at the server, their halves at the partners.

A federation names them through :mod:`koinon.recommenders.federated.registry`.
"""
