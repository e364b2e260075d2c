"""DICOM files that tests write, and those that pydicom ships (no download)."""

import pathlib
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

SHIPPED = pathlib.Path(pydicom.__file__).parent / "data" / "test_files"
NAME = "Doe^Jane"  # of the patient in every file that is written


def dataset(pixels: np.ndarray, **elements: Any) -> Dataset:
    """A MONOCHROME2 image (frames first, samples last), with these elements on top."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3"
    ds.PatientName, ds.PatientID, ds.Modality = NAME, "4711", "CT"
    bits = 8 * pixels.dtype.itemsize
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit, ds.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    ds.Rows, ds.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.PixelData = pixels.tobytes()
    if len(ds.PixelData) % 2:
        ds.PixelData += b"\0"
    return ds


def write(path: pathlib.Path, pixels: np.ndarray, **elements: Any) -> pathlib.Path:
    """The same as a file."""
    dataset(pixels, **elements).save_as(path, enforce_file_format=True)
    return path
