"""The partner's side of a federation: its folder, what it computes, its models, and the one door things leave by."""
