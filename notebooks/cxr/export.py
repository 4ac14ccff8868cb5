"""A network's file in half precision, a third as large; Keras reads it as any other."""

import io
import json
import re
import zipfile

import h5py
import numpy as np

WEIGHTS = "model.weights.h5"  # of a .keras file
SMALL = 2**13  # numbers; smaller arrays stay exact: they stand early in a network, and errors grow on the way


def in_half(content: bytes, least: float) -> bytes:
    """A ``.keras`` file whose arrays of `least` numbers or more have 16 bits a number, others above `SMALL` 24.

    Keras reads it as any other, and computes in 32 bits. It has no date: the same weights give the same bytes.
    """
    packed, weights, seen = io.BytesIO(), io.BytesIO(), dict[bytes, int]()
    with zipfile.ZipFile(io.BytesIO(content)) as bundle, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        with h5py.File(io.BytesIO(bundle.read(WEIGHTS))) as old, h5py.File(weights, "w") as new:
            old.visititems(lambda name, entry: _copy(entry, new, name, least))
        for name in bundle.namelist():
            part = weights.getvalue() if name == WEIGHTS else bundle.read(name)
            if name == "metadata.json":
                part = json.dumps(json.loads(part) | {"date_saved": ""}).encode()
            if name == "config.json":  # shared objects are numbered in order, not by their place in memory
                number = rb'(?<="shared_object_id": )\d+'
                part = re.sub(number, lambda match: b"%d" % seen.setdefault(match[0], len(seen)), part)
            target.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), part, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _copy(entry: h5py.Group | h5py.Dataset, new: h5py.File, name: str, least: float) -> None:
    if isinstance(entry, h5py.Dataset):
        values = entry[()]
        if values.dtype == np.float32 and values.size >= SMALL:
            if values.size >= least and np.abs(values).max() <= np.finfo(np.float16).max:
                values = values.astype(np.float16)
            else:  # the last byte of four is 0
                values = ((values.view(np.uint32) + 0x80) & 0xFFFFFF00).astype(np.uint32).view(np.float32)
        packing = dict(chunks=values.shape, shuffle=True, compression="gzip") if values.size > 64 else {}
        copy = new.create_dataset(name, data=values, **packing)
    else:
        copy = new.require_group(name)
    copy.attrs.update(entry.attrs)
