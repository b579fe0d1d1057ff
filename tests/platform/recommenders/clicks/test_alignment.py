"""CTRL: what is aligned with what, and that nothing of it is left when serving."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from koinon.errors import RecommenderError
from koinon.recommenders.clicks import AlignmentConfig, DCNv2, DCNv2Config, DeepFM, DeepFMConfig
from koinon.recommenders.clicks.alignment import Alignment, fine_grained, words_of

SMALL = {"width": 8, "hidden": (16,), "batch_rows": 128, "epochs": 1}
ALIGNED = AlignmentConfig(batch_rows=128, epochs=3, learning_rate=0.01, width=32)


def test_each_distinct_half_is_encoded_once(clicks, word_space):
    asked = []

    class Counting(type(word_space)):
        def encode(self, texts):
            asked.extend(texts)
            return super().encode(texts)

    words = words_of(clicks, Counting())
    assert len(asked) == len(set(clicks.people.sentences)) + len(set(clicks.items.sentences))
    assert len(asked) < len(clicks.train) / 10
    assert words.people.shape == (len(clicks.people.ids), 32)
    alike = [row for row, said in enumerate(clicks.people.sentences) if said == clicks.people.sentences[0]]
    assert (words.people[alike] == words.people[0]).all()


def test_likes_in_words_are_the_mean_of_the_items_liked_in_training_rows(clicks, word_space):
    words = words_of(clicks, word_space)
    assert words.liked is not None
    person = int(clicks.train.person[0])
    own = clicks.train.person == person
    liked = clicks.train.item[own & (clicks.train.label == 1)]
    np.testing.assert_allclose(words.liked[person, :32], words.items[liked].mean(0), atol=1e-5)
    new = np.setdiff1d(clicks.test.person, clicks.train.person)
    assert (words.liked[new] == 0).all()
    assert words_of(clicks, word_space, liked=False).liked is None


def test_who_liked_an_item_in_words_is_the_mean_of_the_people_who_did(clicks, word_space):
    words = words_of(clicks, word_space, liked=False)
    assert words.liked_by is not None
    train, halves = clicks.train, words.people
    plain = np.zeros((len(clicks.items.ids), 2 * halves.shape[1]), dtype=np.float32)
    for place, label in enumerate((1, 0)):
        for item in range(len(plain)):
            own = halves[train.person[(train.item == item) & (train.label == label)]]
            plain[item, place * halves.shape[1] :][: halves.shape[1]] = own.mean(0) if len(own) else 0.0
    spread = plain.std(axis=0)
    even = (plain - plain.mean(axis=0)) / np.where(spread > 1e-6, spread, 1.0)
    np.testing.assert_allclose(words.liked_by, even, atol=1e-4)
    with_likes = words_of(clicks, word_space)
    assert with_likes.liked_by is not None
    assert with_likes.liked_by.shape[1] == 3 * words.liked_by.shape[1]
    assert words_of(clicks, word_space, liked_by=False).liked_by is None


def test_ratings_outside_the_training_rows_change_no_words(clicks, word_space):
    words = words_of(clicks, word_space)
    other = replace(clicks, validation=flipped(clicks.validation), test=flipped(clicks.test))
    for name, value in vars(words_of(other, word_space)).items():
        np.testing.assert_array_equal(value, getattr(words, name))


def flipped(rows):
    return replace(rows, label=1 - rows.label)


def test_of_a_hidden_person_and_a_hidden_item_no_likes_are_told(clicks, word_space):
    network = DCNv2.network_type(DCNv2Config(**SMALL), clicks.people, clicks.items)
    both = Alignment(ALIGNED, network, words_of(clicks, word_space))
    person, item = (torch.from_numpy(array[:64]).long() for array in (clicks.train.person, clicks.train.item))
    nothing, all_ = (torch.full((64,), value) for value in (False, True))

    def losses():
        return [both.loss(person, item, (a, b)).item() for a, b in ((nothing, all_), (all_, nothing), (all_, all_))]

    before, told = losses(), both.loss(person, item, (nothing, nothing)).item()
    both.liked_by += 1.0
    after = losses()
    assert after[0] == before[0]
    assert after[2] == before[2]
    assert after[1] != before[1]
    both.liked += torch.randn(both.liked.shape)
    assert losses()[1:] == after[1:]
    assert both.loss(person, item, (nothing, nothing)).item() != told


def test_fine_grained_likeness_takes_the_best_part_for_each_part():
    rows, words = torch.randn(3, 12), torch.randn(5, 12)
    left = torch.nn.functional.normalize(rows.view(3, 4, 3), dim=2)
    right = torch.nn.functional.normalize(words.view(5, 4, 3), dim=2)
    wanted = torch.einsum("aid,bjd->abij", left, right).amax(3).sum(2)
    torch.testing.assert_close(fine_grained(rows, words, 4), wanted)


def test_aligned_rows_find_their_own_words(clicks, word_space):
    network = DCNv2.network_type(DCNv2Config(**SMALL), clicks.people, clicks.items)
    torch.manual_seed(0)
    both = Alignment(ALIGNED, network, words_of(clicks, word_space))
    steps = torch.optim.Adam(both.parameters(), lr=0.01)
    person, item = (torch.from_numpy(array[:256]).long() for array in (clicks.train.person, clicks.train.item))
    hidden = (torch.zeros(256, dtype=torch.bool),) * 2
    losses = []
    for _ in range(40):
        loss = both.loss(person, item, hidden)
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(256), rel=0.1)
    assert losses[-1] < losses[0] - 1


def test_an_aligned_network_serves_as_the_plain_one_does(clicks, word_space):
    plain = DCNv2(DCNv2Config(**SMALL)).fit(clicks)
    aligned = DCNv2(DCNv2Config(**SMALL, alignment=ALIGNED)).fit(clicks, space=word_space)
    assert set(aligned.stages) == {"alignment", "clicks"}
    shapes = [{n: v.shape for n, v in model.network.state_dict().items()} for model in (plain, aligned)]
    assert shapes[0] == shapes[1]
    assert not np.array_equal(plain.predict(clicks.test), aligned.predict(clicks.test))


def test_another_second_stage_takes_the_first_stage_that_is_kept(clicks, word_space, tmp_path):
    seen = []
    config = DeepFMConfig(**SMALL, alignment=ALIGNED)
    DeepFM(config).fit(clicks, space=word_space, folder=tmp_path)
    (tmp_path / "checkpoint-clicks").unlink()
    other = config.model_copy(update={"learning_rate": 0.1})
    DeepFM(other).fit(clicks, space=word_space, folder=tmp_path, on_progress=lambda s: seen.append(s.phase))
    assert set(seen) == {"clicks"}


def test_an_alignment_without_a_space_is_refused(clicks):
    with pytest.raises(RecommenderError) as raised:
        DCNv2(DCNv2Config(**SMALL, alignment=ALIGNED)).fit(clicks)
    assert raised.value.code == "K404"


def test_parts_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="parts must divide width"):
        AlignmentConfig(width=10, parts=4)
