"""DICOM for Pillow: with `DicomFile` registered, ``Image.open`` takes a radiograph as it takes a JPEG.

pydicom is imported with the first DICOM file: nobody else waits for it.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from .paths import Problem


def is_dicom(path: Path) -> bool:
    """Whether a file carries DICOM's mark, whatever its name."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def stretched(pixels: np.ndarray) -> np.ndarray:
    """From the darkest half percent to the brightest: 0 to 255, not rounded."""
    if not np.isfinite(pixels).all():
        raise Problem("holds pixels that are not numbers: export it again.")
    low, high = np.percentile(pixels, [0.5, 99.5])
    return ((pixels - low) / max(high - low, 1e-9)).clip(0, 1) * 255


class DicomFile(ImageFile.ImageFile):
    """One radiograph, gray with 8 bits: rescaled and windowed as its header asks, MONOCHROME1 turned over.

    Without a window it is `stretched`; a picture in colour is the mean of its channels. ``header`` is pydicom's, which
    raises nearly anything on a damaged file. A Problem, whose sentence begins after the file's name, where it holds no
    picture or several, or says of its bits what can't be.
    """

    format = "DICOM"

    fp: Any

    def _open(self) -> None:
        if self.fp.read(132)[128:] != b"DICM":
            raise SyntaxError("no DICOM file")  # Pillow then tries another format
        import pydicom

        self.fp.seek(0)
        self.header = pydicom.dcmread(self.fp)
        if "PixelData" not in self.header:
            raise Problem("is a DICOM file without a picture: choose the one that holds it.")
        if int(self.header.get("NumberOfFrames", 1) or 1) > 1:
            raise Problem(f"holds {self.header.NumberOfFrames} pictures: save the one that is meant.")
        self._mode, self._size = "L", (int(self.header.Columns), int(self.header.Rows))

    def load(self):
        if self._im is None:
            self.im = Image.fromarray(self._gray().round().astype(np.uint8)).im
        return super().load()

    def _gray(self) -> np.ndarray:
        from pydicom.pixels import apply_modality_lut, apply_voi_lut

        self.header.pixel_array_options(correct_unused_bits=False)  # pydicom takes HighBit for BitsStored - 1
        pixels = self._stored(self.header.pixel_array)
        if pixels.ndim == 3:
            return pixels[..., :3].mean(axis=2)
        values = apply_modality_lut(pixels, self.header)
        if "WindowCenter" in self.header or "VOILUTSequence" in self.header:
            values = apply_voi_lut(values, self.header)
            values = (values - values.min()) / max(np.ptp(values), 1e-9) * 255
        else:
            values = stretched(values.astype(float))
        return 255 - values if self.header.get("PhotometricInterpretation") == "MONOCHROME1" else values

    def _stored(self, pixels: np.ndarray) -> np.ndarray:
        """The bits of each pixel that are the picture's: above and below them old devices put drawings and dates."""
        bits, width = int(self.header.BitsStored), 8 * pixels.dtype.itemsize
        top = bits - 1 if self.header.file_meta.TransferSyntaxUID.is_compressed else int(self.header.HighBit)
        if not bits - 1 <= top < width:
            said = f"says that bit {top} of {width} is the highest of {bits} that are used (HighBit, BitsStored)"
            raise Problem(f"{said}: export it again.")
        return pixels << (width - 1 - top) >> (width - bits)  # of numbers with a sign, this keeps the sign
