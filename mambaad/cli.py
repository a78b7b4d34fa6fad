"""The command line: train, evaluate, predict, reproduce, doctor, benchmark.

Every mistake a user can make ends in one sentence and exit code 2; an interrupted run in exit code 130.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mambaad.config import SCAN_METHODS, DataConfig, ModelConfig, RunConfig, TrainConfig

DEFAULT_MODEL, DEFAULT_TRAIN = ModelConfig(), TrainConfig()


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults there are; options without one say in their text what holds then."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, []) else super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last saved state", file=sys.stderr)
        return 130
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        print(f"mambaad {arguments.command}: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """All commands and options; help texts show the defaults."""
    top = argparse.ArgumentParser(prog="mambaad", description="MambaAD: anomaly detection with state space models.")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, formatter_class=_Help)
        sub.set_defaults(run=function)
        return sub

    _train_options(command("train", _train, "train one model on good images; evaluate it where there are test images"))
    evaluate = command("evaluate", _evaluate, "metrics of a checkpoint (ours or a published one) on a data set")
    evaluate.add_argument("--weights", type=Path, required=True, help="checkpoint file")
    _data_options(evaluate)
    _device_options(evaluate)
    evaluate.add_argument("--out", type=Path, help="JSON file for the metrics")

    predict = command("predict", _predict, "anomaly scores, maps and overlays of images")
    predict.add_argument("images", type=Path, help="an image, or a folder of images")
    predict.add_argument("--weights", type=Path, required=True, help="checkpoint file")
    predict.add_argument("--out", type=Path, required=True, help="folder for scores.csv, maps/ and overlays/")
    predict.add_argument("--side", type=int, default=256, help="side of the network input in pixels")
    _device_options(predict)

    from mambaad.reproduce import add_options, reproduce

    reproduce_parser = command("reproduce", reproduce, "run the study behind the paper's tables")
    add_options(reproduce_parser)
    _device_options(reproduce_parser)

    doctor = command("doctor", _doctor, "what this machine has: device, backends, versions, caches")
    doctor.add_argument("--json", action="store_true", help="print JSON")

    benchmark = command("benchmark", _benchmark, "time the scan backends on this machine and write the record")
    benchmark.add_argument("--out", type=Path, default=Path("results/benchmarks"), help="folder for the record")
    benchmark.add_argument("--threads", type=int, default=2, help="CPU threads")
    benchmark.add_argument("--repeats", type=int, default=5, help="timed repeats of each backend")
    return top


def _data_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--data", type=Path, required=True, help="root folder of the images")
    sub.add_argument(
        "--dataset",
        default="mvtec_ad",
        choices=["mvtec_ad", "folder"],
        help="layout: mvtec_ad (CATEGORY/train/good, ...) or folder (train/good, test/..., one category)",
    )
    sub.add_argument("--categories", nargs="*", default=[], help="categories, all in one model (none named: all)")
    sub.add_argument("--side", type=int, default=256, help="side of the network input in pixels")


def _device_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    sub.add_argument("--threads", type=int, help="CPU threads (not given: torch's choice)")


def _train_options(sub: argparse.ArgumentParser) -> None:
    _data_options(sub)
    _device_options(sub)
    sub.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the run record")
    encoder = sub.add_argument_group("encoder")
    encoder.add_argument("--backbone", default=DEFAULT_MODEL.backbone, help="timm model name")
    encoder.add_argument(
        "--encoder-weights",
        default=RunConfig().encoder_weights,
        help='timm tag, local .safetensors or .pth file, "embedded" (the package\'s small encoder) or "random"',
    )
    encoder.add_argument("--pad-type", help='timm padding of some backbones, for example "same"')
    encoder.add_argument("--mean", type=float, nargs=3, default=DEFAULT_MODEL.mean, help="input mean")
    encoder.add_argument("--std", type=float, nargs=3, default=DEFAULT_MODEL.std, help="input standard deviation")
    decoder = sub.add_argument_group("decoder")
    decoder.add_argument("--depths", type=int, nargs=4, default=DEFAULT_MODEL.depths, help="HSS blocks per stage")
    decoder.add_argument("--scan", default=DEFAULT_MODEL.scan, choices=SCAN_METHODS, help="scan order")
    decoder.add_argument("--directions", type=int, default=DEFAULT_MODEL.directions, help="scan routes: 2, 4 or 8")
    training = sub.add_argument_group("training")
    training.add_argument("--processes", type=int, default=1, help="training processes (cards) that share each batch")
    for name, kind, text in (
        ("epochs", int, "passes over the training images"),
        ("steps", int, "optimiser steps; overrules epochs"),
        ("batch-size", int, "images per step"),
        ("lr", float, "peak learning rate"),
        ("weight-decay", float, "weight decay"),
        ("warmup-steps", int, "steps of linear warm-up"),
        ("clip-norm", float, "largest gradient norm"),
        ("seed", int, "seed of everything random"),
        ("precision", str, "32-true or bf16-mixed"),
    ):
        default = getattr(DEFAULT_TRAIN, name.replace("-", "_"))
        training.add_argument(f"--{name}", type=kind, default=default, help=text)


def model_config(arguments: argparse.Namespace) -> tuple[ModelConfig, str, Path | None]:
    """Network, name of the encoder weights for the record, and their file if they are local."""
    weights = str(arguments.encoder_weights)
    values = {"backbone": arguments.backbone, "mean": tuple(arguments.mean), "std": tuple(arguments.std)}
    if arguments.pad_type:
        values["backbone_kwargs"] = {"pad_type": arguments.pad_type}
    if weights == "embedded":
        from mambaad.model.encoder import embedded_encoder

        description = embedded_encoder()
        values = {key: description[key] for key in ("backbone", "backbone_kwargs", "mean", "std")}
    model = ModelConfig(depths=tuple(arguments.depths), scan=arguments.scan, directions=arguments.directions, **values)
    is_file = weights.endswith((".safetensors", ".pth", ".pt", ".bin"))
    if not is_file:
        return model, weights, None
    from mambaad.model.encoder import weights_file_name

    return model, weights_file_name(weights), Path(weights)


def _train(arguments: argparse.Namespace) -> int:
    from mambaad.data import index_hash, load_dataset
    from mambaad.runner import execute
    from mambaad.train import CHECKPOINT

    samples = load_dataset(arguments.dataset, arguments.data, arguments.categories)
    model, weights, file = model_config(arguments)
    names = TrainConfig.__dataclass_fields__.keys() & vars(arguments).keys()
    run = RunConfig(
        model=model,
        encoder_weights=weights,
        data=DataConfig(
            dataset=arguments.dataset,
            categories=tuple(arguments.categories),
            side=arguments.side,
            index_hash=index_hash(samples, arguments.data),
        ),
        train=TrainConfig(**{name: getattr(arguments, name) for name in names}),
    )
    record = execute(
        run,
        arguments.out,
        profile="own",
        data_root=arguments.data,
        encoder_file=file,
        outputs=arguments.out,
        device=arguments.device,
        threads=arguments.threads,
        processes=arguments.processes,
    )
    print(f"checkpoint: {arguments.out / 'runs' / f'own_{run.hash}' / CHECKPOINT}\nrecord: {record}")
    _print_metrics(json.loads(record.read_text())["metrics"])
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from mambaad.data import load_dataset
    from mambaad.evaluate import evaluate_samples
    from mambaad.model import load_checkpoint
    from mambaad.records import write_json

    _set_threads(arguments)
    model = load_checkpoint(arguments.weights)
    samples = load_dataset(arguments.dataset, arguments.data, arguments.categories)
    results = evaluate_samples(model, samples, arguments.side, arguments.device)
    _print_metrics(results)
    if arguments.out:
        print(f"written: {write_json(arguments.out, results)}")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    from mambaad.model import load_checkpoint
    from mambaad.predict import find_images, predict_files

    _set_threads(arguments)
    images = find_images(arguments.images)
    model = load_checkpoint(arguments.weights)
    failed = predict_files(
        model, images, arguments.out, root=arguments.images, side=arguments.side, device=arguments.device
    )
    print(f"{len(images) - len(failed)} images scored: {arguments.out / 'scores.csv'}")
    for path in failed:
        print(f"not read: {path}", file=sys.stderr)
    return 1 if failed else 0


def _doctor(arguments: argparse.Namespace) -> int:
    from mambaad.doctor import diagnose, report

    facts = diagnose()
    print(json.dumps(facts, indent=1) if arguments.json else report(facts))
    return 0


def _benchmark(arguments: argparse.Namespace) -> int:
    from mambaad.benchmark import scan

    scan(repeats=arguments.repeats, threads=arguments.threads, out=arguments.out / "selective_scan_cpu.csv")
    return 0


def _set_threads(arguments: argparse.Namespace) -> None:
    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)


def _print_metrics(results: dict) -> None:
    if not results:
        print("no test images: nothing to measure")
    for protocol, result in results.items():
        names = list(result["mean"])
        width = max(map(len, (*result["categories"], "mean")))
        print(f"\nprotocol {protocol}, percent\n{'':{width}}  " + "  ".join(f"{n:>12}" for n in names))
        for category, values in (*result["categories"].items(), ("mean", result["mean"])):
            cells = ("-" if values[n] is None else f"{values[n]:.2f}" for n in names)
            print(f"{category:{width}}  " + "  ".join(f"{cell:>12}" for cell in cells))
