"""What keeps a partner's data its own: the secret under which catalogues are compared without being read."""

from koinon.privacy.match_key import MATCH_KEY_FILE, read_match_key, write_match_key

__all__ = ["MATCH_KEY_FILE", "read_match_key", "write_match_key"]
