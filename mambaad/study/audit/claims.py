"""Statements of the text against the tables, and the summary of the whole audit.

The quoted numbers are those of the NeurIPS text as listed in `results/paper/README.md`, items 13 to 18.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mambaad.study.audit import checks
from mambaad.study.published_numbers import SEVEN, load, mean_of_seven

QUOTED_F1MAX = 97.6
QUOTED_GAIN_OVER_DIAD = 1.3
QUOTED_GAIN_GLOBAL = 2.7
QUOTED_GAIN_BOTH = 1.6


def quoted_f1max(root: Path | None = None) -> pd.DataFrame:
    """Item 13: MVTec-AD image F1max of MambaAD in the text and in the tables, and the gain over DiAD from each."""
    main = load("main_results", root).query("dataset == 'mvtec' and metric == 'image_f1max'")
    value = main.set_index("method")["value"]
    sources = {"text, section 4.2": QUOTED_F1MAX, "table 1": value["MambaAD"]}
    for name in ("backbone_depth", "scan_methods", "lss_design"):
        frame = load(name, root).query("metric == 'image_f1max'")
        sources[name] = _main_row(frame)["value"].item()
    frame = pd.DataFrame({"source": list(sources), "image_f1max": list(sources.values())})
    frame["gain_over_diad"] = frame["image_f1max"] - value["DiAD"]
    return frame.assign(quoted_gain=QUOTED_GAIN_OVER_DIAD)


def _main_row(frame: pd.DataFrame) -> pd.DataFrame:
    """The main model's line in one of the MVTec-AD ablations."""
    wanted = {
        "backbone": "ResNet34", "decoder_depth": "3-4-6-3", "index": "7",
        "hss_blocks": "2_and_3", "local_conv": "dwconv_1x1", "kernel_sizes": "5-7", "skip": "yes",
    }  # fmt: skip
    for column, value in wanted.items():
        if column in frame:
            frame = frame[frame[column] == value]
    return frame


def branch_gains(root: Path | None = None) -> pd.DataFrame:
    """Item 14: gains between the rows of table 3 beside those the text names."""
    mad = load("lss_ablation", root).pivot(index="method", columns="dataset", values="value")
    gains = {
        "global over local": (mad.loc["global"] - mad.loc["local"], QUOTED_GAIN_GLOBAL),
        "local + global over the better branch": (mad.loc["local_global"] - mad.loc["global"], QUOTED_GAIN_BOTH),
    }
    return pd.DataFrame([{"gain": n, "text": text, **found.round(1).to_dict()} for n, (found, text) in gains.items()])


def table_means(name: str, root: Path | None = None) -> pd.DataFrame:
    """Items 15 and 17: the seven metrics of each row of a long table, with their mean as `mad`, one line per row."""
    frame = load(name, root)
    labels = [c for c in frame if c not in ("metric", "value")]
    mad = mean_of_seven(frame, labels).set_index(labels)["value"].rename("mad")
    wide = frame.pivot(index=labels, columns="metric", values="value")[list(SEVEN)]
    return wide.join(mad).reset_index()


def depth_claim(root: Path | None = None) -> pd.DataFrame:
    """Item 15: [2,9,2,2] against the chosen [3,4,6,3], and the average of WideResNet50 against ResNet34's."""
    rows = table_means("backbone_depth", root)
    chosen = rows.query("backbone == 'ResNet34' and decoder_depth == '3-4-6-3'")
    other = rows.query("decoder_depth == '2-9-2-2' or backbone == 'WideResNet50'")
    return pd.concat([chosen, other], ignore_index=True)


def scan_spread(root: Path | None = None) -> pd.DataFrame:
    """Item 17: the seven single-method rows of table 5 with their mAD and its distance from hilbert with 8 routes,
    beside the spread that table 1 prints for MambaAD on MVTec-AD."""
    rows = table_means("scan_methods", root)
    methods = ["sweep", "scan", "zorder", "zigzag", "hilbert"]
    single = rows[(rows[methods] != "0").sum(axis=1) == 1].copy()
    names = [next(f"{m}-{line[m]}" for m in methods if line[m] != "0") for _, line in single.iterrows()]
    spread = load("main_results_std", root).query("dataset == 'mvtec' and metric == 'mad'")["std"].item()
    single = single.assign(setting=names, printed_spread=spread)
    single["from_hilbert_8"] = single["mad"] - single.loc[single["setting"] == "hilbert-8", "mad"].item()
    columns = ["setting", "mad", "from_hilbert_8", "printed_spread", "pixel_ap", "pixel_aupro"]
    return single[columns].reset_index(drop=True)


def findings(root: Path | None = None) -> pd.DataFrame:
    """Every item of the list: what is printed, what the tables give, and whether the contradiction is there."""
    images, neurips = checks.per_category("images", root), checks.per_category("neurips", root)
    large = checks.mean_differences(images, 0.1)
    left = checks.mean_differences(neurips, 0.1)
    single = checks.mean_differences(load("single_class", root), 0.1)

    def means(dataset: str, method: str, metric: str = "") -> pd.DataFrame:
        chosen = (large["dataset"] == dataset) & (large["method"] == method)
        return large[chosen & large["metric"].str.contains(metric)]

    def changed(frame: pd.DataFrame) -> bool:
        """Whether the differences are in the images and gone in the NeurIPS text."""
        key = ["dataset", "method", "metric"]
        return len(frame) > 0 and frame.merge(left, on=key).empty

    swapped = checks.mad_of_table_6(root).query("tables_differ")["method"].tolist()
    visa = checks.mambaad_visa(root).set_index("source")["mad"]
    uniad = checks.main_against_appendix("images", root)
    plain = checks.tables_2_and_3(root)
    digits = pd.concat([means("mvtec", "SimpleNet"), means("visa", "RD4AD"), means("visa", "DeSTSeg"),
                        means("mvtec3d", "RD4AD")])  # fmt: skip
    metal = pd.concat([means("mvtec", "UniAD", "pixel"), means("mvtec", "RD4AD", "pixel")])
    liver = means("medical", "UniAD", "image")
    diad = left.query("dataset == 'medical' and method == 'DiAD'")
    ap = checks.ap_above_limit(neurips)
    realiad = checks.f1max_below_others("realiad", "DiAD", at_least=5, root=root)
    low = checks.f1max_below_one_verdict(neurips)
    image = checks.mvtec_image_level(neurips)
    f1max = quoted_f1max(root)
    gains = branch_gains(root)
    depth = depth_claim(root)
    best = checks.best_methods(root)
    spread = scan_spread(root)
    carpet = images.query("dataset == 'mvtec' and category == 'carpet' and metric == 'pixel_f1max'")
    carpet_value = carpet.set_index("method")["value"]

    def beats(column: str) -> bool:
        return bool(depth.loc[1, column] > depth.loc[0, column])

    wide = depth.iloc[-1]
    items: list[tuple[int, str, str, bool]] = [
        (1, "table 6 swaps the mAD of two methods", f"differs from table 1 for {_names(swapped)}", len(swapped) == 2),
        (2, "two values for MambaAD's mAD on VisA",
         f"table 1 {visa['table 1, printed']}, tables 2 and 3 {visa['table 2']}; the seven metrics give "
         f"{visa['table 1, mean of the seven metrics']:.2f}", visa["table 1, printed"] != visa["table 2"]),
        (3, "UniAD on VisA: table 1 is not the appendix's mean", f"{len(uniad)} of 7 metrics differ", len(uniad) == 7),
        (4, "two different networks, the same accuracy", f"equal on {_names(plain.query('equal')['dataset'])}",
         bool(plain["equal"].all())),
        (5, "a first digit lost in four cells", _largest(digits), len(digits) == 4 and changed(digits)),
        (6, "metal_nut and grid: RD4AD has UniAD's values, and UniAD others", _largest(metal),
         len(metal) == 5 and changed(metal)),
        (7, "liver: UniAD repeats RD4AD", _largest(liver), len(liver) == 3 and changed(liver)),
        (8, "DiAD's AU-PRO mean on Uni-Medical", _largest(diad), len(left) == 1 and len(diad) == 1),
        (9, "single class: UniAD's image AP mean on MVTec-AD", _largest(single), len(single) == 1),
        (10, "pixel AP above what F1max allows", _names(f"{d} {c} {m}" for d, c, m in
         ap[["dataset", "category", "method"]].itertuples(index=False)), len(ap) == 7),
        (11, "image F1max that is too low: DiAD's on Real-IAD, others below one verdict for all images",
         f"{_names(realiad['category'])}; " + _names(f"{d} {c} {m}" for d, c, m in
         low[["dataset", "category", "method"]].itertuples(index=False)), len(realiad) == 7 and len(low) == 6),
        (12, "MVTec-AD: image AP or F1max that no ranking with the printed AU-ROC has",
         "; ".join(f"{method}: {number} categories" for method, number in image["method"].value_counts().items()),
         len(image) == 18),
        (13, f"text: image F1max {QUOTED_F1MAX} on MVTec-AD", f"all tables: {_names(set(f1max['image_f1max'][1:]))}",
         bool((f1max["image_f1max"][1:] != QUOTED_F1MAX).all())),
        (14, f"text: gains of {QUOTED_GAIN_GLOBAL} and {QUOTED_GAIN_BOTH} in table 3",
         "; ".join(f"{r.gain}: {r.mvtec:+.1f} and {r.visa:+.1f}" for r in gains.itertuples()),
         not any(text in (mvtec, visa) for text, mvtec, visa in
                 gains[["text", "mvtec", "visa"]].itertuples(index=False))),
        (15, "text: depth [3,4,6,3] has slightly more parameters and is consistently best",
         f"[2,9,2,2] has {depth.loc[1, 'params_m']} M parameters against {depth.loc[0, 'params_m']} M and a higher "
         f"pixel AP and AU-PRO; WideResNet50 averages {wide['mad']:.1f} against {depth.loc[0, 'mad']:.1f}",
         beats("params_m") and beats("pixel_ap") and beats("pixel_aupro") and wide["mad"] > depth.loc[0, "mad"]),
        (16, "text: state of the art on six data sets with seven metrics",
         f"another method is printed higher in {int((~best['tie']).sum())} of 42 cells and equal in "
         f"{int(best['tie'].sum())}", bool((~best["tie"]).any())),
        (17, "table 5 as evidence for hilbert with 8 routes",
         f"single-method rows within {spread['from_hilbert_8'].abs().max():.2f} of it; table 1 prints a spread of "
         f"{spread['printed_spread'][0]}", bool((spread["from_hilbert_8"].abs() <= spread["printed_spread"]).all())),
        (18, "typography: carpet pixel F1max, RD4AD in bold",
         f"RD4AD {carpet_value['RD4AD']}, MambaAD {carpet_value['MambaAD']}",
         bool(carpet_value["RD4AD"] < carpet_value["MambaAD"])),
    ]  # fmt: skip
    frame = pd.DataFrame(items, columns=["item", "about", "recomputed", "found"])
    return frame.assign(found=frame["found"].map({True: "found", False: "not found"}))


def _names(names: object) -> str:
    return ", ".join(map(str, names))  # type: ignore[call-overload]


def _largest(frame: pd.DataFrame) -> str:
    if frame.empty:
        return "no difference"
    top = frame.iloc[0]
    count = f"{len(frame)} mean{'s' if len(frame) > 1 else ''}"
    return (
        f"{count}, for example {top['dataset']} {top['method']} {top['metric']}: printed {top['printed_mean']}, "
        f"rows average to {top['mean_of_rows']:.2f}"
    )
