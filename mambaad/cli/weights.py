"""`mambaad weights list|fetch|verify`: the published checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

from mambaad.cli.options import AddCommand


def add(command: AddCommand) -> None:
    """Add the command."""
    sub = command("weights", _weights, "the published checkpoints: list them, fetch one, verify a file")
    sub.add_argument(
        "action",
        choices=["list", "fetch", "verify"],
        help="list: names and what is known of each; fetch: download (or find in the cache) and print the path; "
        "verify: hash, architecture and keys of a fetched name or a local file, without a network",
    )
    sub.add_argument("name", nargs="?", help="name from the list; for verify also the path of a file")
    sub.add_argument("--revision", help="fetch: branch, tag or commit (not given: that of the first use, else main)")
    sub.add_argument("--as", dest="pin", metavar="NAME", help="verify FILE: compare its hash with this name's, too")


def _weights(arguments: argparse.Namespace) -> int:
    if arguments.action == "list":
        return _list()
    if not arguments.name:
        raise ValueError(f"mambaad weights {arguments.action} needs a name; mambaad weights list shows them")
    if arguments.action == "fetch":
        from mambaad.inference.weights_hub import fetch, pin_of

        path = fetch(arguments.name, arguments.revision)
        pin = pin_of(arguments.name)
        assert pin is not None, "fetch pins what it returns"
        print(f"{path}\nrevision {pin.revision}\nsha256 {pin.sha256}")
        return 0
    return _verify(arguments.name, arguments.pin)


def _list() -> int:
    from mambaad.inference.weights_hub import PUBLISHED, REPOSITORY, pins_file, read_pins

    pins = read_pins()
    print(f"Hugging Face repository {REPOSITORY}; pins in {pins_file()}")
    for name, spec in PUBLISHED.items():
        pin = pins.get(name)
        unnamed = "*.pth (name known to the hub only)" if spec.weights.endswith("/") else ""
        file = pin.file if pin else spec.weights + unnamed
        state = f"revision {pin.revision[:12]} sha256 {pin.sha256[:12]}" if pin else "not fetched yet"
        print(f"{name:9} {file:50} {state}")
    return 0


def _verify(name: str, pinned_as: str | None) -> int:
    from mambaad.baselines import load_method
    from mambaad.config import ModelConfig, method_of
    from mambaad.inference.weights_hub import PUBLISHED, WeightsError, cached, check, sha256, trained_on
    from mambaad.model.checkpoint import read_checkpoint
    from mambaad.model.published_checkpoint import published_dialect

    path: Path | None = Path(name)
    assert path is not None
    if path.is_file():
        pin = check(pinned_as, path) if pinned_as else None
    else:
        if trained_on(name) is None:
            raise WeightsError(f"{name} is neither a file nor one of the published names: {', '.join(PUBLISHED)}")
        path = cached(name)
        if path is None:
            raise WeightsError(
                f"the published weights {name!r} are not on this machine: run mambaad weights fetch {name}, or give "
                "the path of a downloaded file"
            )
        pin = check(name, path)
    print(f"file      {path}\nsha256    {sha256(path)} ({'as at first use' if pin else 'not compared: no first use'})")
    content = read_checkpoint(path)
    state = content.get("state_dict", content.get("net", content))
    dialect = published_dialect(state)
    nested = "under 'state_dict'" if "state_dict" in content else "under 'net'" if "net" in content else "plain"
    model = load_method(content)
    config = model.config
    network = f"method {method_of(config)}, encoder {config.backbone}"
    if isinstance(config, ModelConfig):
        depths = " ".join(map(str, config.depths))
        network = f"{config.backbone}, depths {depths}, scan {config.scan_text}, state size {config.state_size}"
    print(
        f"keys      {'this project' if dialect is None else f'published, dialect {dialect}'}, {nested}; "
        f"all {len(model.state_dict())} tensors of the network found, none left over\n"
        f"network   {network}"
    )
    return 0
