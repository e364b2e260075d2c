"""A model for notebooks: the run's answers, plain likelihoods, one-line errors."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
from PIL import Image

import pefomed_jax
from pefomed_jax import api
from pefomed_jax.batch import Batch
from pefomed_jax.errors import UserError
from pefomed_jax.models import mllm
from pefomed_jax.parallel import mesh as mesh_lib
from pefomed_jax.peft import lora
from pefomed_jax.training import restore
from pefomed_jax.weights import bundle

REPORT = ("mrg", "", "[report] Write the radiology report of this image.")
VQA = "Based on the image, respond to this question with a short answer: "


@pytest.fixture(scope="module")
def model(trained_run):
    return pefomed_jax.load(trained_run)


@pytest.fixture(scope="module")
def single(trained_run):
    """The same on one device, where a batch is as large as it is asked to be."""
    config = bundle.config(trained_run)
    config.mesh.data = 1
    one = mesh_lib.make({"data": 1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])
    return api.Model(restore.restore(config, one))


@pytest.fixture(scope="module")
def cases(pictures, trained_run):
    return runs.questions(pictures, trained_run)


def column(cases, name):
    return [case[name] for case in cases]


def pixels(path):
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.mark.parametrize("kind", ["str", "path", "array", "pillow"])
def test_answers_are_those_of_the_run(model, cases, kind):
    turn = {"str": str, "path": lambda path: path, "array": pixels, "pillow": Image.open}[kind]
    images = [turn(path) for path in column(cases, "image")]
    assert model.generate(images, column(cases, "question")) == column(cases, "prediction")
    for image in images if kind == "pillow" else []:
        image.close()


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_batch_size_changes_no_answer(single, cases, size):
    images, questions = column(cases, "image"), column(cases, "question")
    assert single.generate(images, questions, batch_size=size) == column(cases, "prediction")


def test_rows_that_fill_a_batch_are_left_out(model, cases):
    """Eight devices take eight rows at once."""
    images, questions = column(cases, "image")[:3] * 3, column(cases, "question")[:3] * 3
    assert model.generate(images, questions, batch_size=9) == column(cases, "prediction")[:3] * 3


def test_one_prompt_for_all_and_a_shorter_answer(single, cases):
    images, question = column(cases, "image"), cases[1]["question"]
    each = single.generate(images, [question] * len(images))
    assert single.generate(images, question) == each
    assert len(set(each)) < len({*each, *column(cases, "prediction")})  # another question was heard
    longer = single.generate(images, question, max_new_tokens=1)
    assert all(a.startswith(b) for a, b in zip(each, longer, strict=True) if "\ufffd" not in b)
    assert single.generate([], []) == []
    assert single.log_likelihood([], [], []).shape == (0,)


def test_beams_are_no_less_likely_and_draws_come_from_a_seed(single, cases):
    images, questions = column(cases, "image"), column(cases, "question")
    beams = single.generate(images, questions, decoding={"beams": 3, "length_penalty": 0.0})
    scores = [
        single.log_likelihood(images, questions, a) for a in (beams, column(cases, "prediction"))
    ]
    assert scores[0].sum() >= scores[1].sum() - 1e-3
    hot = {"sample": True, "temperature": 3.0}
    first, again, other = (
        single.generate(images, questions, decoding=hot, seed=k) for k in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first == single.generate(images, questions, batch_size=3, decoding=hot, seed=0)


def test_a_stream_is_the_answer_in_pieces(single, cases):
    for case in cases[:4]:
        image, question = case["image"], case["question"]
        pieces = list(single.stream(image, question))
        assert "".join(pieces) == case["prediction"]
        assert all(pieces)
    drawn = {"sample": True, "temperature": 2.0, "min_new_tokens": 8}
    hot = {"decoding": drawn, "seed": 3, "max_new_tokens": 12}
    (whole,) = single.generate([image], question, **hot)
    left = single.stream(image, question, **hot)
    assert whole.startswith(next(left))
    left.close()  # before its end: the next one is not disturbed
    pieces = list(single.stream(image, question, **hot))
    assert "".join(pieces) == whole
    assert len(pieces) > 1


def plain(model, image, after, answer):
    """(logits [A V], targets [A]) of one text, tokenised piece by piece and without padding.

    `image`: a path, or several, or none, as a tuple.
    """
    config, tokenizer = model.config, model.tokenizer

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    n_visual = mllm.visual_tokens(config.model)
    shown = image if isinstance(image, tuple) else (image,)
    head = [tokenizer.bos_token_id, *ids("[INST] <Img>" if shown else "[INST]")]
    prompt = ids(f"</Img> {after} [/INST]" if shown else f"{after} [/INST]")
    for number in range(len(shown)):
        head += [*(ids("</Img><Img>") if number else []), *[-1] * n_visual]
    targets = [*ids(answer), tokenizer.eos_token_id]
    tokens = np.asarray([[*head, *prompt, *targets]], np.int32)
    slot = np.full(tokens.shape, -1, np.int32)
    slot[tokens == -1] = range(len(shown) * n_visual)
    tokens[tokens == -1] = 0
    branch = (np.arange(tokens.size) >= len(head)).astype(np.int32)[None]
    first = tokens.size - len(targets) - 1
    data = Batch(
        tokens=tokens,
        positions=np.arange(tokens.size, dtype=np.int32)[None],
        branch=branch,
        image_slot=slot,
        target_pos=np.arange(first, first + len(targets), dtype=np.int32)[None],
        targets=np.asarray([targets], np.int32),
        weights=np.ones((1, len(targets)), np.float32),
        images=np.asarray([pixels(path) for path in shown], np.uint8).reshape(1, -1, 32, 32, 3),
    ).validate()
    own = mllm.build(config.model, adapter=lora.LoRA(config.lora.alpha, 0.0))
    params = jax.device_get(model.params)
    run = jax.jit(functools.partial(own.apply, method=mllm.MLLM.target_logits))
    return run({"params": params}, data)[0], np.asarray(targets)


def plain_log_likelihood(model, image, after, answer):
    logits, targets = plain(model, image, after, answer)
    return float(jax.nn.log_softmax(logits)[jnp.arange(len(targets)), targets].sum())


def test_log_likelihood_is_the_sum_over_the_answer_and_its_end(single, cases):
    some = [cases[i] for i in (0, 5)]
    answers = ["right", "yes or no"]
    got = single.log_likelihood(column(some, "image"), column(some, "question"), answers)
    want = [
        plain_log_likelihood(single, case["image"], f"[vqa] {VQA}{case['question']}", answer)
        for case, answer in zip(some, answers, strict=True)
    ]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=2e-5)
    assert len(set(got.round(3))) == 2


def test_several_images_and_none(single, cases):
    a, b = (cases[i]["image"] for i in (0, 2))
    question, answer = cases[0]["question"], "right"
    shown = [(a, b), [b, a], a, [a], ()]
    got = single.log_likelihood(shown, question, [answer] * 5)
    asked, bare = f"[vqa] {VQA}{question}", f"[vqa] Answer this question: {question}"
    two, alone = ((a, b), asked), ((), bare)
    want = [plain_log_likelihood(single, *each, answer) for each in (two, alone)]
    np.testing.assert_allclose(got[[0, 4]], want, rtol=2e-5)
    one = single.log_likelihood([a], question, [answer])
    np.testing.assert_allclose(got[2:4], [*one, *one], rtol=2e-5)
    assert len(set(got.round(3))) == 4  # their order counts
    answers = single.generate(shown, question)
    assert answers[2] == answers[3] == cases[0]["prediction"]
    assert answers[4] == single.generate([()], question)[0]
    assert "".join(single.stream((a, b), question)) == answers[0]


def test_a_question_of_text_alone_on_many_devices(model, single, cases):
    questions = column(cases, "question")[:2]
    texts = [(), []]
    assert model.generate(texts, questions) == single.generate(texts, questions)


def test_log_likelihood_depends_neither_on_batches_nor_on_devices(model, single, cases):
    images, questions = column(cases, "image"), column(cases, "question")
    answers = column(cases, "reference")
    whole = single.log_likelihood(images, questions, answers)
    again = single.log_likelihood(images, questions, answers, batch_size=3)
    np.testing.assert_allclose(again, whole, rtol=1e-5)
    on_eight = model.log_likelihood(images, questions, answers, batch_size=3)
    np.testing.assert_allclose(on_eight, whole, rtol=1e-5)


@pytest.mark.parametrize(
    ("task", "prompt", "after"),
    [
        pytest.param(*REPORT, marks=pytest.mark.slow),
        ("caption", " Name the organ. ", "[caption] Name the organ."),
    ],
)
def test_a_report_needs_no_prompt(trained_run, cases, task, prompt, after):
    model = pefomed_jax.load(trained_run, task=task, data__branches=1)
    image, answer = cases[0]["image"], "no"
    got = model.log_likelihood([image], prompt, [answer])
    want = plain_log_likelihood(model, image, after, answer)
    np.testing.assert_allclose(got, [want], rtol=2e-5)
    with pytest.raises(UserError, match=r"prompt 1 is empty and without an image: say what"):
        model.generate([image, ()], "")
    (said,) = model.generate([image], prompt, max_new_tokens=2)
    best = np.asarray(plain(model, image, after, said)[0]).argmax(axis=-1)[:2]
    ids = [i for i in best.tolist() if i != model.tokenizer.eos_token_id]
    assert model.tokenizer.decode(ids, skip_special_tokens=True).strip() == said


@pytest.mark.slow
def test_instructions_of_the_users_are_what_is_asked(trained_run, cases, tmp_path):
    (tmp_path / "own.txt").write_text("Say what you see.\nAnother.\n")
    fields = {"task": "mrg", "data__branches": 1, "data__instructions": str(tmp_path / "own.txt")}
    model = pefomed_jax.load(trained_run, **fields)
    image = cases[0]["image"]
    got = model.log_likelihood([image], "", ["no"])
    want = plain_log_likelihood(model, image, "[report] Say what you see.", "no")
    np.testing.assert_allclose(got, [want], rtol=2e-5)


def test_params_and_config_are_those_of_the_run(model, trained_run):
    assert model.config.task == "vqa"
    assert model.config.lora.rank == 8
    assert model.config.weights.checkpoint == str(trained_run)
    assert set(model.params) == {"vision", "ln_vision", "connector", "llm"}
    module = model.params["llm"]["layers"]["1"]["attn"]["v_proj"]
    assert set(module) == {"kernel", "lora_a", "lora_b"}
    assert np.abs(module["lora_b"]).max() > 0


def test_other_params_are_those_that_answer(trained_run, cases):
    model = pefomed_jax.load(trained_run)
    images, questions = column(cases, "image"), column(cases, "question")
    first = model.generate(images, questions)
    likely = model.log_likelihood(images, questions, first)
    model.params = jax.tree.map(jnp.zeros_like, model.params)
    assert model.generate(images, questions) != first
    assert (model.log_likelihood(images, questions, first) != likely).all()


def test_fields_are_set_over_the_config(trained_run, single, cases):
    half = pefomed_jax.load(trained_run, model__dtype="bfloat16", eval__max_new_tokens=2)
    assert half.config.model.dtype == "bfloat16"
    assert half.config.eval.max_new_tokens == 2
    arguments = [column(cases, name) for name in ("image", "question", "reference")]
    near, exact = half.log_likelihood(*arguments), single.log_likelihood(*arguments)
    assert (near != exact).any()
    np.testing.assert_allclose(near, exact, rtol=0.05)


def test_batch_sizes_of_the_training_do_not_matter(trained_run):
    """A run of one row a step, opened where there are eight devices."""
    model = pefomed_jax.load(trained_run, train__batch_size=1, eval__batch_size=3)
    assert model.mesh.shape["data"] == 8


def test_a_run_of_other_devices_opens_here(trained_run, single, tmp_path, capsys):
    """Trained on three devices, opened where there are eight."""
    folder = shutil.copytree(trained_run, tmp_path / "run")
    content = json.loads((folder / "config.json").read_text())
    content["mesh"] = {"data": 1, "fsdp": 3, "tensor": 1}
    (folder / "config.json").write_text(json.dumps(content))
    model = pefomed_jax.load(folder)
    assert dict(model.mesh.shape) == {"data": 1, "fsdp": 8, "tensor": 1}
    assert "does not fit here" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, model.params, single.params)


def test_a_config_says_where_all_comes_from(trained_run, single, cases):
    config = bundle.config(trained_run)
    model = pefomed_jax.load(config, seed=config.seed)
    jax.tree.map(np.testing.assert_array_equal, model.params, single.params)


@pytest.mark.slow
def test_the_embedded_base():
    model = pefomed_jax.load("tiny")
    assert model.config.task == "mrg"
    film = np.random.default_rng(0).integers(0, 256, (90, 70), np.uint8)
    (answer,) = model.generate([film], max_new_tokens=3)
    assert isinstance(answer, str)
    assert model.log_likelihood([film], "", ["No finding."])[0] < 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model__dtyp": "bfloat16"}, "no field 'model.dtyp' (did you mean model.dtype?)"),
        ({"modle__dtype": "bfloat16"}, "no field 'modle.dtype' (did you mean model.dtype?)"),
        ({"model": 3}, "no field 'model'"),
        ({"model__dtype__x": 3}, "no field 'model.dtype.x'"),
        ({"lora__rank": "four"}, "lora.rank='four' is no int"),
        ({"lora__rank": 3}, "has LoRA rank 8, config.lora.rank is 3; set --config.lora.rank=8"),
        ({"model__llm__width": 64}, "set config.model as in that run"),
        ({"model__dtype": "float12"}, "model.dtype='float12' is not one of float32"),
        ({"weights__base": "/no/such"}, "weights.base='/no/such' is not one of"),
        ({"seed": 7}, "was trained on another base"),
        ({"mesh__fsdp": 3}, "does not fit 8 devices"),
        ({"task": "mrg"}, "data.branches=4 packs questions"),
    ],
)
def test_a_field_that_does_not_fit_is_one_line(trained_run, fields, words):
    with pytest.raises(UserError) as caught:
        pefomed_jax.load(trained_run, **fields)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


WRONG = {
    "2 prompts": lambda m, image: m.generate([image], ["a", "b"]),
    "1 images, 2 answers": lambda m, image: m.log_likelihood([image], "a", ["b", "c"]),
    "answers is a text": lambda m, image: m.log_likelihood([image, image], "a", "bc"),
    "ask one": lambda m, image: m.generate([image, image], ["Which side?", " "]),
    "there is no image /no/such.png": lambda m, image: m.generate(["/no/such.png"], "a"),
    "no image /no/such2.png": lambda m, image: m.generate([(image, "/no/such2.png")], "a"),
    "prompt 1 is empty": lambda m, image: m.generate([image, ()], ["a", ""]),
    "2 images, 1 answers": lambda m, image: m.log_likelihood([(image, image), ()], "a", ["b"]),
    "uint8[5] is no image": lambda m, image: m.generate([(image, np.zeros(5, np.uint8))], "a"),
    "cannot be opened as an image": lambda m, image: m.generate([__file__], "a"),
    "float64[4, 4, 3] is no image": lambda m, image: m.generate([np.zeros((4, 4, 3))], "a"),
    "uint8[4] is no image": lambda m, image: m.generate([np.zeros(4, np.uint8)], "a"),
    "images is one image; give": lambda m, image: m.generate(str(image), "a"),
    "images is one image": lambda m, image: m.generate(pixels(image), "a"),
    "batch_size=0 is too small": lambda m, image: m.generate([image], "a", batch_size=0),
    "no answer to stream": lambda m, image: m.stream(image, "a", decoding={"beams": 2}),
    "there is no image /no/such": lambda m, image: m.stream("/no/such.png", "a"),
    "no setting 'beam' (did you mean beams?)": lambda m, image: m.generate(
        [image], "a", decoding={"beam": 3}
    ),
    "beams='3' is no int": lambda m, image: m.generate([image], "a", decoding={"beams": "3"}),
    "max_new_tokens=-1": lambda m, image: m.generate([image], "a", max_new_tokens=-1),
}


def test_a_stream_comes_from_one_device(model, cases):
    with pytest.raises(UserError, match="a stream comes from one device, this model is on 8"):
        model.stream(cases[0]["image"], "a")


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_call_is_one_line(single, cases, words):
    with pytest.raises(UserError) as caught:
        WRONG[words](single, cases[0]["image"])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
