"""Batches come out the same for every resume point, number of processes and of workers."""

import dataclasses
import pathlib

import numpy as np
import pytest
from absl import flags
from ml_collections import ConfigDict

from pefomed_jax.batch import Batch
from pefomed_jax.data import asked, images, pipeline, sources

NAMES = [field.name for field in dataclasses.fields(Batch) if field.name != "features"]


def equal(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in NAMES)


@pytest.fixture
def source(config: ConfigDict, vqa_rows: list[dict]):
    assert vqa_rows
    return sources.load(config)


def train(source, tokenizer, config: ConfigDict, **given) -> list[tuple[int, Batch, int]]:
    return list(pipeline.train_batches(source, source.cases("train"), tokenizer, config, **given))


def test_batches_follow_the_order(source, tokenizer, config: ConfigDict) -> None:
    config.data.branches = 3
    cases = source.cases("train")
    order = pipeline.make_order(cases, tokenizer, config)
    found = train(source, tokenizer, config)
    assert [k for k, _, _ in found] == list(range(12))
    texts = []
    for k, batch, n_cases in found:
        plan = order.batch(k)
        assert batch.validate().tokens.shape == (4, plan.bucket[0])
        assert batch.images.shape == (4, 1, 16, 16, 3)
        assert n_cases == sum(map(len, plan.rows))
        for b, row in enumerate(plan.rows):
            picture = images.resize(images.to_rgb(source.image(cases[row[0]])), 16)
            assert (batch.images[b, 0] == picture).all()
            answers = batch.targets[b][batch.weights[b] > 0].tolist()
            texts.append([t.strip() for t in tokenizer.decode(answers).split("</s>")[:-1]])
            assert texts[-1] == [cases[i].answer for i in row]
    assert any(len(t) == 3 for t in texts)


@pytest.mark.parametrize("start", [1, 5, 11, 12])
def test_resume_at_any_batch(source, tokenizer, config: ConfigDict, start: int) -> None:
    whole, rest = (train(source, tokenizer, config, start=s) for s in (0, start))
    assert [k for k, _, _ in rest] == list(range(start, 12))
    assert all(equal(a[1], b[1]) for a, b in zip(whole[start:], rest, strict=True))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_global_batch(
    source, tokenizer, config: ConfigDict, count: int
) -> None:
    config.data.branches = 2
    whole = train(source, tokenizer, config)
    parts = [
        train(source, tokenizer, config, mine=range(p * 4 // count, (p + 1) * 4 // count))
        for p in range(count)
    ]
    for k, batch, n_cases in whole:
        for name in NAMES:
            joined = np.concatenate([getattr(part[k][1], name) for part in parts])
            assert np.array_equal(joined, getattr(batch, name)), name
        assert {part[k][2] for part in parts} == {n_cases}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(source, tokenizer, config: ConfigDict, workers: int) -> None:
    flags.FLAGS.mark_as_parsed()  # as absl's app.run does; grain's workers ask for it
    config.quirks.random_crop_flip = True
    alone = train(source, tokenizer, config, start=3)
    config.data.workers = workers
    helped = train(source, tokenizer, config, start=3)
    assert [k for k, _, _ in helped] == [k for k, _, _ in alone]
    assert all(equal(a[1], b[1]) for a, b in zip(alone, helped, strict=True))


def test_crops_depend_on_seed_epoch_and_case(source, tokenizer, config: ConfigDict) -> None:
    config.quirks.random_crop_flip = True
    loader = pipeline.Loader.of(source, tokenizer, config)
    case = source.cases("train")[0]
    first = loader.image(case, 0)
    assert (loader.image(case, 0) == first).all()
    assert (loader.image(case, 1) != first).any()
    assert (loader.image(case) != first).any()
    assert (dataclasses.replace(loader, seed=9).image(case, 0) != first).any()


def test_prompts_to_answer(source, tokenizer, config: ConfigDict) -> None:
    cases = source.cases("test")[:6]
    found = list(asked.eval_batches(source, cases, tokenizer, config))
    assert [case for _, part in found for case in part] == cases
    assert [len(part) for _, part in found] == [4, 2]
    assert len({batch.tokens.shape for batch, _ in found}) == 1
    loader = pipeline.Loader.of(source, tokenizer, config)
    for batch, part in found:
        assert batch.weights.sum() == 0
        for b, case in enumerate(part):
            seen = batch.branch[b] >= 0
            text = loader.encoding.prompts.evaluate(case).after
            assert tokenizer.decode(batch.tokens[b][seen]).endswith(text)
            assert (batch.images[b, 0] == loader.image(case)).all()
    last = found[-1][0]
    for b in (2, 3):  # rows past the cases repeat the last one
        assert (last.tokens[b] == last.tokens[1]).all()
        assert (last.images[b] == last.images[1]).all()


def test_prompts_of_a_given_length(source, tokenizer, config: ConfigDict) -> None:
    cases = source.cases("test")[:2]
    ((batch, part),) = asked.eval_batches(source, cases, tokenizer, config, shape=(512, 2))
    assert batch.tokens.shape == (4, 512)
    assert batch.images.shape == (4, 2, 16, 16, 3)
    assert part == cases


def test_prompts_are_shared_by_processes(source, tokenizer, config: ConfigDict) -> None:
    cases = source.cases("test")[:5]
    found = [
        list(asked.eval_batches(source, cases, tokenizer, config, mine=mine))
        for mine in ((0, 1), (2, 3))
    ]
    (whole, _), (tail, _) = asked.eval_batches(source, cases, tokenizer, config)
    for mine in found:  # every process knows whose answers all rows are
        assert [c for _, part in mine for c in part] == cases
    for k, batch in enumerate((whole, tail)):
        joined = np.concatenate([mine[k][0].tokens for mine in found])
        assert np.array_equal(joined, batch.tokens)


def test_validation_loss_sees_each_case_once(source, tokenizer, config: ConfigDict) -> None:
    cases = source.cases("val")[:6]
    found = list(pipeline.loss_batches(source, cases, tokenizer, config))
    assert [n for _, n in found] == [4, 2]
    texts = [
        tokenizer.decode(b.targets[i][b.weights[i] > 0], skip_special_tokens=True)
        for b, n in found
        for i in range(n)
    ]
    assert texts == [case.answer for case in cases]
    last = found[-1][0]
    assert (last.branch[2:] == -1).all()
    assert last.weights[2:].sum() == 0


def test_no_cases_no_batches(source, tokenizer, config: ConfigDict) -> None:
    assert not list(asked.eval_batches(source, [], tokenizer, config))
    assert not list(pipeline.loss_batches(source, [], tokenizer, config))


def test_the_control_gives_every_case_another_image(source) -> None:
    cases = source.cases("test")
    control = pipeline.control_images(cases)
    assert [dataclasses.replace(c, images=()) for c in control] == [
        dataclasses.replace(c, images=()) for c in cases
    ]
    pairs = {(a.image, b.image) for a, b in zip(cases, control, strict=True)}
    assert all(a != b for a, b in pairs)
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert pipeline.control_images(cases) == control
    assert pipeline.control_images([c for c in cases if c.image == cases[0].image]) == []


def test_an_abandoned_iterator_closes(source, tokenizer, config: ConfigDict) -> None:
    batches = pipeline.train_batches(source, source.cases("train"), tokenizer, config)
    next(batches)
    batches.close()
    assert pathlib.Path(config.data.dir).is_dir()


def test_augmentation_is_of_training_alone(source, tokenizer, config: ConfigDict) -> None:
    config.data.augment.update(rotate=10.0, brightness=0.1)
    loader, case = pipeline.Loader.of(source, tokenizer, config), source.cases("train")[0]
    plain = loader.square(case)
    assert (loader.image(case) == plain).all()
    first, other = loader.image(case, 0), loader.image(case, 1)
    assert (first != plain).any()
    assert (other != first).any()
    assert (loader.image(case, 0) == first).all()
    config.data.augment.update(rotate=0.0, brightness=0.0)
    assert (pipeline.Loader.of(source, tokenizer, config).image(case, 0) == plain).all()


def test_fit_keeps_the_aspect_where_it_is_asked_to(source, tokenizer, config: ConfigDict) -> None:
    case = source.cases("train")[0]
    config.data.fit = "pad"  # 24 x 20 pixels: black above and below
    padded = pipeline.Loader.of(source, tokenizer, config).image(case)
    assert not padded[[0, -2, -1]].any()
    assert padded[1:14].any(axis=(1, 2)).all()


def test_a_row_may_have_several_images_or_none(tokenizer, config: ConfigDict, source) -> None:
    """Two views and a text alone in one set: the rows say where, the batch holds what is there."""
    names = list(dict.fromkeys(case.image for case in source.cases("train")))
    shown = [(names[0], names[1]), (names[2],), (), (names[1], names[0])]
    cases = [
        dataclasses.replace(source.cases("train")[0], id=f"c{i}", images=images)
        for i, images in enumerate(shown)
    ]
    loader = pipeline.Loader.of(source, tokenizer, config)
    rows = loader.encoding.eval_rows(cases)
    n = loader.encoding.encoder.n_visual
    for row, given in zip(rows, shown, strict=True):
        slots = row.image_slot[row.image_slot >= 0]
        assert slots.tolist() == list(range(n * len(given)))
        said = tokenizer.decode(row.tokens[(row.image_slot < 0) & (row.branch == 0)])
        assert said.count("<Img>") == len(given)
    prefixes = loader.encoding.prefixes(cases).tolist()
    assert prefixes == [int((row.branch == 0).sum()) for row in rows]
    order = pipeline.make_order(cases, tokenizer, config)
    assert order.buckets[-1][2] == 2
    for _, batch, _ in pipeline.train_batches(source, cases, tokenizer, config):
        for b, slots in enumerate(batch.image_slot):
            count = (slots.max() + 1) // n
            assert (batch.images[b, count:] == 0).all()
            assert (batch.images[b, :count].max(axis=(1, 2, 3)) > 0).all()


def test_cases_of_text_alone_have_batches_without_images(tokenizer, config, source) -> None:
    cases = [dataclasses.replace(case, images=()) for case in source.cases("train")]
    for _, batch, _ in pipeline.train_batches(source, cases, tokenizer, config):
        assert batch.images.shape == (4, 0, 16, 16, 3)
        assert (batch.image_slot < 0).all()
    assert pipeline.control_images(cases) == []
