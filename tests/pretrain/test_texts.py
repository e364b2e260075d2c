"""The rows of the decoder's pretraining, and the targets of the vision tower's."""

import dataclasses

import numpy as np
import pytest

from pefomed_jax import base
from pefomed_jax.data.sources.phantom import draw, scene
from pefomed_jax.pretrain import drawings, plain, texts, vision
from pefomed_jax.pretrain.drawings import Drawings


@pytest.fixture(scope="module")
def writer():
    features = np.random.default_rng(0).normal(size=(40, 64, 8)).astype(np.float32)
    return texts.writer(base.read_tokenizer(base.ASSETS), features, 4, seed=3)


def test_batches_are_a_pure_function_of_their_number(writer):
    first, second, other = writer.batch(4), writer.batch(4), writer.batch(5)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    np.testing.assert_array_equal(first.features, second.features)
    assert not np.array_equal(first.tokens, other.tokens)


def test_pictures_are_named_in_plain_words_and_lines_never(writer):
    decode = writer.encoder.tokenizer.decode
    with_picture = with_line = 0
    for k in range(8):
        batch = writer.batch(k)
        for row in range(writer.rows):
            said = decode(batch.targets[row][batch.weights[row] > 0])
            shows = (batch.image_slot[row] >= 0).any()
            with_picture += shows
            with_line += "line" in said
            if shows:
                assert (batch.image_slot[row] >= 0).sum() == 16
                assert plain.WORDS["line"] not in said
                assert not any(word in said for word in ("effusion", "heart", "nodule", "left"))
    share = with_picture / (8 * writer.rows)
    assert abs(share - texts.PICTURE) < 0.12
    assert with_line > 20  # but text speaks of lines


def test_plain_words_tell_scenes_apart():
    scenes = {dataclasses.replace(scene.sample(seed), seed=0) for seed in range(1500)}
    assert len({plain.words(content) for content in scenes}) == len(scenes)


def test_patches_and_labels_show_what_was_drawn():
    lesion = scene.Lesion("effusion", size="large")
    content = scene.Scene(5, False, None, lesion, True)
    image, patches, labels = drawings.one(content, 128)
    grid = patches.reshape(8, 8, len(draw.MASKS))
    fluid = grid[..., draw.MASKS.index("effusion")]
    assert fluid[:, 5:].sum() >= 4
    assert not fluid[:, :4].any()
    assert grid[..., draw.MASKS.index("line")].sum() >= 3
    names = {name for name, label in zip(drawings.LABELS, labels, strict=True) if label}
    assert names == {"left effusion", "large left effusion", "line"}
    made = vision.make_batch(Drawings(image[None], patches[None], labels[None]), np.array([0]))
    assert made.images.shape == (1, 1, 128, 128, 3)
    assert made.weights[made.targets == 1].min() == vision.POSITIVE
    assert made.targets.sum() == patches.sum() + 3


def test_f1_of_findings_by_hand():
    true, said = np.zeros((3, 14), bool), np.zeros((3, 14), bool)
    true[:2, 0] = said[0, 0] = True  # one of two found
    said[2, 1] = True  # one invented
    true[0, 13] = True  # a size does not count
    scores = vision.f1(said, true)
    assert scores["enlarged heart"] == pytest.approx(2 / 3)
    assert scores["right effusion"] == 0
    assert scores["micro"] == pytest.approx(2 / 4)


def test_plain_questions_are_answered_by_the_scene():
    content = scene.Scene(
        0, True, scene.Lesion("nodule", zone="upper"), scene.Lesion("effusion", size="small"), True
    )
    assert dict(plain.questions(content)) == {
        "dexter?": "spot high",
        "sinister?": "water little",
        "water?": "sinister",
        "air?": "nothing",
        "spot?": "dexter",
        "patch?": "nothing",
        "pump?": "big",
    }
    both = dataclasses.replace(content, right=content.left, left=None, enlarged_heart=False)
    assert dict(plain.questions(both))["sinister?"] == "nothing"
    assert dict(plain.questions(both))["pump?"] == "good"
