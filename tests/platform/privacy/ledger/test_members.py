from koinon.privacy.ledger import member_keys

ONE, OTHER = "1" * 64, "2" * 64


class Told:
    """An entry's kind, subject and body; the rest is of no interest here."""

    def __init__(self, kind, subject, key=None):
        self.kind, self.subject = kind, subject
        self.body = {"member_key_sha256": key} if key else {}


def test_who_has_applied_and_was_approved_is_a_member():
    told = [Told("applied", "alpha", ONE), Told("applied", "beta", OTHER), Told("approved", "alpha")]
    assert member_keys(told) == {"alpha": ONE}


def test_who_is_removed_or_has_left_is_none_any_more():
    for end in ("removed", "left", "rejected"):
        assert member_keys([Told("applied", "alpha", ONE), Told("approved", "alpha"), Told(end, "alpha")]) == {}


def test_who_comes_back_does_so_under_its_new_key():
    told = [Told("applied", "alpha", ONE), Told("approved", "alpha"), Told("left", "alpha")]
    told += [Told("applied", "alpha", OTHER), Told("approved", "alpha")]
    assert member_keys(told) == {"alpha": OTHER}


def test_an_application_alone_changes_no_key():
    told = [Told("applied", "alpha", ONE), Told("approved", "alpha"), Told("applied", "alpha", OTHER)]
    assert member_keys(told) == {"alpha": ONE}
