"""Stored values of a DICOM frame to grey levels: modality transform, window, polarity.

After DICOM PS3.3 C.11.1 (modality), C.11.2 (values of interest) and C.7.6.3 (polarity). Values of
16 bits and less go through a table, which computes each once.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Num, UInt, UInt8

Window = str | tuple[float, float]  # 'auto', 'full', or (centre, width)
Values = Float64[np.ndarray, "..."]


def grey(
    stored: Num[np.ndarray, "H W"], ds: Any, window: Window, frame: int
) -> UInt8[np.ndarray, "H W"]:
    """Levels of a frame. `ds`: the pydicom dataset of the file; `window`: see dicom.read."""
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize > 2:
        return _levels(stored.astype(np.float64), None, ds, window, frame)
    stored = np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
    index = stored.view(f"u{stored.dtype.itemsize}")
    codes = np.arange(np.iinfo(index.dtype).max + 1, dtype=index.dtype)
    values = codes.view(stored.dtype).astype(np.float64)
    return np.take(_levels(values, index, ds, window, frame), index)


def _levels(
    stored: Values, index: UInt[np.ndarray, "H W"] | None, ds: Any, window: Window, frame: int
) -> UInt8[np.ndarray, "..."]:
    """`index`: which of these are in the picture; None: they are the picture."""
    with np.errstate(all="ignore"):
        values = _modality(stored, _part(ds, "PixelValueTransformationSequence", frame))
        shown = _shown(values, window, _part(ds, "FrameVOILUTSequence", frame))
        if shown is None:
            shown = _stretched(values, _counted(stored, index, ds, window))
    shown = np.nan_to_num(shown, nan=0.0, posinf=1.0, neginf=0.0)
    levels = np.rint(np.clip(shown, 0.0, 1.0) * 255).astype(np.uint8)
    return 255 - levels if ds.get("PhotometricInterpretation") == "MONOCHROME1" else levels


def _counted(
    stored: Values, index: UInt[np.ndarray, "H W"] | None, ds: Any, window: Window
) -> Bool[np.ndarray, "..."]:
    """Whose range is shown where there is no window."""
    if index is None:
        return ~_padding(stored, ds)
    if window == "auto" and ds.get("BitsStored", 16) <= 8:
        return _storable(stored, ds)
    present = np.zeros(stored.shape, bool)
    present[index] = True
    return present & ~_padding(stored, ds)


def _part(ds: Any, name: str, frame: int) -> Any:
    """Where a frame's transform stands: in its own group, the shared one, or the file's top."""
    own, shared = (
        ds.get("PerFrameFunctionalGroupsSequence"),
        ds.get("SharedFunctionalGroupsSequence"),
    )
    groups = [own[frame]] if own and frame < len(own) else []
    groups += [shared[0]] if shared else []
    return next((group[name][0] for group in groups if group.get(name)), ds)


def _modality(stored: Values, ds: Any) -> Values:
    """In units of the modality, as Hounsfield's."""
    if table := ds.get("ModalityLUTSequence"):
        return _looked_up(stored, table[0])
    slope, intercept = _first(ds, "RescaleSlope"), _first(ds, "RescaleIntercept")
    return stored * (1.0 if slope is None else slope) + (intercept or 0.0)


def _shown(values: Values, window: Window, ds: Any) -> Values | None:
    """From 0 to 1 as the window says; None where there is none."""
    if isinstance(window, tuple):
        return _linear(values, *window)
    if window == "full":
        return None
    if table := ds.get("VOILUTSequence"):
        return _looked_up(values, table[0]) / (2 ** int(table[0].LUTDescriptor[2]) - 1)
    centre, width = _first(ds, "WindowCenter"), _first(ds, "WindowWidth")
    kind = str(ds.get("VOILUTFunction") or "LINEAR").upper()
    least = 1.0 if kind == "LINEAR" else np.finfo(float).tiny
    if centre is None or width is None or not width >= least or kind not in _FUNCTIONS:
        return None
    return _FUNCTIONS[kind](values, centre, width)


def _linear(values: Values, centre: float, width: float) -> Values:
    if width <= 1:
        return (values > centre - 0.5).astype(np.float64)
    return (values - (centre - 0.5)) / (width - 1) + 0.5


def _linear_exact(values: Values, centre: float, width: float) -> Values:
    return (values - centre) / width + 0.5


def _sigmoid(values: Values, centre: float, width: float) -> Values:
    return 1 / (1 + np.exp(-4 * (values - centre) / width))


_FUNCTIONS = {"LINEAR": _linear, "LINEAR_EXACT": _linear_exact, "SIGMOID": _sigmoid}


def _stretched(values: Values, counted: Bool[np.ndarray, "..."]) -> Values:
    """The range of the counted ones to 0-1; a constant picture is black."""
    counted = counted & np.isfinite(values)
    low, high = (values[counted].min(), values[counted].max()) if counted.any() else (0.0, 0.0)
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _storable(stored: Values, ds: Any) -> Bool[np.ndarray, "..."]:
    """Which values the stored bits can hold."""
    bits, signed = int(ds.BitsStored), bool(ds.get("PixelRepresentation", 0))
    low = -(2 ** (bits - 1)) if signed else 0
    return (stored >= low) & (stored < low + 2**bits)


def _padding(stored: Values, ds: Any) -> Bool[np.ndarray, "..."]:
    """Which values stand outside of the image."""
    value = _first(ds, "PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = _first(ds, "PixelPaddingRangeLimit")
    ends = (value, value if limit is None else limit)
    return (stored >= min(ends)) & (stored <= max(ends))


def _looked_up(values: Values, item: Any) -> Values:
    """A LUT of DICOM: the first and last entries hold beyond its ends."""
    count, first = int(item.LUTDescriptor[0]) or 2**16, float(item.LUTDescriptor[1])
    entries = item.LUTData
    if isinstance(entries, bytes):
        order = ">" if item.original_encoding[1] is False else "<"
        entries = np.frombuffer(entries, "u1" if len(entries) <= count + 1 else f"{order}u2")
    entries = np.asarray(entries, np.float64)[:count]
    index = np.rint(np.nan_to_num(values - first))
    return entries[np.clip(index, 0, len(entries) - 1).astype(np.int64)]


def _first(ds: Any, name: str) -> float | None:
    """The first value of an element; None where it is absent or empty."""
    value = ds.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, int | float | bytes):
        value = value[0] if len(value) else None
    return None if value is None else float(value)
