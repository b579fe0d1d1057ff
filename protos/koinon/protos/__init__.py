"""The wire contract of a federation (``federation.proto``) and the code generated from it by ``make protos``."""
