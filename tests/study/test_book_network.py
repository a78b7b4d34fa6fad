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


def test_what_is_written_is_read_again_as_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "WEIGHTS", tmp_path / "book.safetensors")
    trained = book.untrained_network()
    with torch.no_grad():
        for parameter in trained.decoder.parameters():
            parameter.add_(0.01)
    book.save_book_network(trained.state_dict(), {"run": "abc"})
    assert json.loads((tmp_path / "book.json").read_text())["run"] == "abc"
    again = dict(book.book_network().named_parameters())
    for name, parameter in trained.named_parameters():
        expected = parameter if name.startswith("encoder.") else parameter.half().float()  # the encoder's are embedded
        assert torch.equal(again[name], expected), name
    state = trained.state_dict()
    state.pop(next(name for name in state if name.startswith("decoder.") and name.endswith("weight")))
    book.save_book_network(state | {"decoder.more": torch.zeros(1)}, {})
    with pytest.raises(
        ValueError, match=r"does not fit: missing \['decoder\..*weight'\], unexpected \['decoder.more'\]"
    ):
        book.book_network()
