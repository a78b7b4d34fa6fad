"""The network that ships with the book: what its description says, and what its record says."""

import json
from pathlib import Path

import pytest
import torch

from mambaad.data.synthetic.generate import SYNTHETIC_DEFECTS
from mambaad.study import book_network as book

RECORDS = Path(__file__).parents[2] / "results" / "book" / "runs"


def test_description_and_record_name_the_run() -> None:
    described = json.loads(book.WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    assert described["run"] == book.book_run().hash
    assert (RECORDS / f"{book.PROFILE}_{described['run']}.json").is_file()
    assert book.WEIGHTS.stat().st_size < 3e6


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"book{suffix}").write_bytes(book.WEIGHTS.with_suffix(suffix).read_bytes())
    weights = tmp_path / "book.safetensors"
    with weights.open("ab") as file:
        file.write(b" ")
    monkeypatch.setattr(book, "WEIGHTS", weights)
    with pytest.raises(ValueError, match=r"expected [0-9a-f]{64}: install it again"):
        book.book_network()


def test_trained_network_tells_defects_from_their_good_twins_and_the_untrained_does_not() -> None:
    cases = [book.example_image(category, kinds[0]) for category, kinds in SYNTHETIC_DEFECTS.items()]
    pictures = torch.cat([torch.stack([case.image for case in cases]), torch.stack([case.good_twin for case in cases])])
    apart = {}
    for name, model in (("trained", book.book_network()), ("untrained", book.untrained_network())):
        defective, good = model.predict(model.normalize(pictures)).score.chunk(2)
        apart[name] = defective / good
    assert apart["trained"].min() > 1.3
    assert apart["untrained"].max() < 1.3


def test_the_twin_differs_on_the_mask_only() -> None:
    case = book.example_image()
    different = (case.image != case.good_twin).any(0)
    assert torch.equal(different, case.mask)
    assert case.words == "gear, missing"
