import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pefomed_jax.models import attention

B, T, S, N, K, H = 2, 5, 7, 4, 2, 8


def tensors(seed=0, t=T, s=S):
    rng = np.random.default_rng(seed)
    shapes = ((B, t, N, H), (B, s, K, H), (B, s, K, H))
    return tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)


def places(t=T, s=S):
    """Two rows of keys: a prefix of two, two branches of two or one of three, padding."""
    positions = jnp.asarray([[0, 1, 2, 3, 2, 3, 0], [0, 1, 2, 3, 4, 0, 0]], jnp.int32)
    branch = jnp.asarray([[0, 0, 1, 1, 2, 2, -1], [0, 0, 1, 1, 1, -1, -1]], jnp.int32)
    return positions[:, s - t :], positions[:, :s], branch[:, s - t :], branch[:, :s]


def brute(q, k, v, seen):
    """Softmax attention written as loops, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros(q.shape)
    for b, t, n in np.ndindex(q.shape[:3]):
        head = n // (q.shape[2] // k.shape[2])
        scores = [
            np.exp(q[b, t, n] @ k[b, s, head] / np.sqrt(H)) if seen[b, t, s] else 0.0
            for s in range(k.shape[1])
        ]
        out[b, t, n] = sum(w * v[b, s, head] for s, w in enumerate(scores)) / sum(scores)
    return out


def test_visible_by_hand():
    q_positions = k_positions = jnp.asarray([[0, 1, 2, 2, 0]], jnp.int32)
    branch = jnp.asarray([[0, 0, 1, 2, -1]], jnp.int32)
    seen = attention.visible(q_positions, k_positions, branch, branch)[0]
    expected = [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],  # branch 1 sees the prefix and itself
        [1, 1, 0, 1, 0],  # branch 2 does not see branch 1 at the same position
        [0, 0, 0, 0, 1],  # padding sees padding
    ]
    assert np.array_equal(seen, np.asarray(expected, bool))


@pytest.mark.parametrize("implementation", ["plain", "xla"])
def test_attend_equals_loops(implementation):
    q, k, v = tensors()
    where = places()
    seen = np.asarray(attention.visible(*where))
    assert seen.any(axis=-1).all()
    ours = attention.attend(q, k, v, *where, implementation)
    assert np.abs(np.asarray(ours) - brute(q, k, v, seen)).max() < 1e-6


@pytest.mark.parametrize("implementation", ["plain", "xla"])
def test_attend_all_equals_loops(implementation):
    q, _, _ = tensors()
    _, k, v = (x[:, :T] for x in tensors(1, s=T))
    k, v = (jnp.repeat(x, N // K, axis=2) for x in (k, v))
    ours = attention.attend_all(q, k, v, implementation)
    assert np.abs(np.asarray(ours) - brute(q, k, v, np.ones((B, T, T), bool))).max() < 1e-6


def test_causal_flag_equals_mask_on_valid_tokens():
    q, k, v = tensors(t=S)
    positions = jnp.broadcast_to(jnp.arange(S, dtype=jnp.int32), (B, S))
    branch = jnp.asarray([[0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, -1, -1]], jnp.int32)
    where = (positions, positions, branch, branch)
    masked = np.asarray(attention.attend(q, k, v, *where, "plain"))
    causal = np.asarray(attention.attend(q, k, v, *where, "xla", causal=True))
    valid = np.asarray(branch) >= 0
    assert np.abs(masked - causal)[valid].max() < 1e-6


def test_bfloat16_keeps_its_dtype_and_softmax_in_float32():
    q, k, v = (x.astype(jnp.bfloat16) for x in tensors())
    ours = attention.attend(q, k, v, *places())
    assert ours.dtype == jnp.bfloat16
    seen = np.asarray(attention.visible(*places()))
    # two roundings to 8 bits (weights, result), none of the scores
    assert np.abs(np.asarray(ours, np.float32) - brute(q, k, v, seen)).max() < 0.02


def test_choose(monkeypatch):
    assert attention.choose("cpu") == "plain"
    assert attention.choose("tpu") == "xla"
    assert attention.choose("cpu", "xla") == "xla"
    monkeypatch.setattr(attention, "_cudnn_fails", lambda dtype: "")
    assert attention.choose("gpu") == "cudnn"
    with pytest.raises(ValueError, match=r"flash.*not one of auto, plain, xla, cudnn"):
        attention.choose("cpu", "flash")
    with pytest.raises(ValueError, match="needs a GPU, this is cpu"):
        attention.choose("cpu", "cudnn")


def test_choose_falls_back_where_cudnn_does_not_run(caplog):
    # there is none behind this CPU: the trial itself fails and says why
    assert attention._cudnn_fails("bfloat16")
    with caplog.at_level("WARNING", logger="absl"):
        assert attention.choose("gpu") == "xla"
    assert "cuDNN is not usable" in caplog.text


def test_gradient_of_masked_scores_is_finite():
    q, k, v = tensors(t=S)
    where = places(t=S)
    grads = jax.grad(lambda *x: attention.attend(*x, *where).sum(), argnums=(0, 1, 2))(q, k, v)
    assert all(jnp.isfinite(g).all() for g in grads)


def direct(q, k, v, mask):
    """The formula as it is written, for JAX to differentiate."""
    k, v = (jnp.repeat(x, N // K, axis=2) for x in (k, v))
    scores = jnp.einsum("btnh,bsnh->bnts", q, k) / np.sqrt(H)
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores, -jnp.inf), axis=-1)
    return jnp.einsum("bnts,bsnh->btnh", weights, v)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("float64", 1e-14)])
def test_plain_gradients_equal_those_of_the_formula(dtype, bound):
    with jax.enable_x64(dtype == "float64"):
        q, k, v = (jnp.asarray(np.asarray(x), dtype) for x in tensors())
        weight = jnp.asarray(np.random.default_rng(2).normal(size=q.shape), dtype)
        where = places()
        mask = attention.visible(*where)

        def grads(function):
            return jax.grad(lambda *x: (weight * function(*x)).sum(), argnums=(0, 1, 2))(q, k, v)

        ours = grads(lambda *x: attention.attend(*x, *where, "plain"))
        for a, b in zip(ours, grads(lambda *x: direct(*x, mask)), strict=True):
            assert a.dtype == dtype
            assert jnp.abs(a - b).max() / jnp.abs(b).max() < bound


def test_segments_of_a_cache_equal_one():
    q, k, v = tensors()
    q_positions, positions, q_branch, branch = places()
    whole = attention.attend(q, k, v, q_positions, positions, q_branch, branch)
    cuts = [slice(0, 3), slice(3, 4), slice(4, S)]
    segments = [(k[:, c].transpose(0, 2, 1, 3), v[:, c].transpose(0, 2, 3, 1)) for c in cuts]
    where = [(positions[:, c], branch[:, c]) for c in cuts]
    parts = attention.attend_cached(q, segments, where, q_positions, q_branch)
    assert np.abs(np.asarray(parts - whole)).max() < 1e-6
