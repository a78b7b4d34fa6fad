"""The contact sheet of a data set."""

from pathlib import Path

import numpy as np
import pytest
from layouts import write_category
from PIL import Image

from mambaad.data import DatasetError
from mambaad.data.contact_sheet import contact_sheet


def test_contact_sheet_shows_every_kind_and_outlines_masks(tmp_path: Path) -> None:
    for name in ("nut", "bolt"):
        write_category(tmp_path / "data" / name, size=24)
    sheet = contact_sheet(tmp_path / "data", tmp_path / "out" / "sheet.png", good=2, side=48)
    assert sheet.size == (3 * 52 + 4, 2 * 68 + 4)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "sheet.png")), np.asarray(sheet))
    outlined = (np.asarray(sheet) == (255, 40, 200)).all(axis=-1)
    assert outlined[:, 2 * 52 :].sum() > 100
    assert not outlined[:, : 2 * 52].any()
    with pytest.raises(DatasetError, match="at least 1"):
        contact_sheet(tmp_path / "data", good=0, per_defect=0)
