"""Maps painted over images, and one HTML page of the most anomalous ones that needs no other file and no other host."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

import numpy as np
from PIL import Image

from mambaad.files import put_in_place, temporary_sibling
from mambaad.inference.pages import compare, foot, head, histogram
from mambaad.inference.threshold import Threshold

THUMBNAIL = 220  # pixels on the long side
_WEAK, _STRONG = np.array([255, 214, 0], dtype=np.float32), np.array([214, 0, 50], dtype=np.float32)
_OPAQUE = 0.72


def colour_scale(scores: Sequence[float], threshold: float | None = None) -> tuple[float, float]:
    """Map values shown without colour and in full colour, the same for all images.

    With a threshold it lies in the middle: half of it is bare, half as much again is full. Without one the scale runs
    from half the median score to the 99th percentile.
    """
    if threshold is not None:
        low, high = sorted((0.5 * threshold, 1.5 * threshold))
    else:
        low, high = 0.5 * float(np.median(scores)), float(np.quantile(scores, 0.99))
    return low, max(high, low + 1e-9)


def overlay(image: Image.Image, anomaly_map: np.ndarray, low: float, high: float) -> Image.Image:
    """An RGB image with a map (side, side) over it, stretched bilinearly to the image's size.

    Values up to `low` leave the image as it is; towards `high` it is covered by yellow, then red.
    """
    stretched = Image.fromarray(anomaly_map.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
    heat = np.clip((np.asarray(stretched) - low) / (high - low), 0, 1)[..., None]
    colour = _WEAK + (_STRONG - _WEAK) * heat
    opacity = _OPAQUE * np.sqrt(heat)
    mixed = np.asarray(image, dtype=np.float32) * (1 - opacity) + colour * opacity
    return Image.fromarray(mixed.round().astype(np.uint8))


class Gallery:
    """gallery.html, written image by image, complete after `close`.

    Args:
        path: the page.
        scores: of all images, for the histogram.
        threshold: drawn into the histogram and explained.
        room: images that the page takes at most.
        categories: those with a threshold of their own.
        anomalous: how many images are; None: those above `threshold`.
    """

    def __init__(
        self,
        path: str | Path,
        scores: Sequence[float],
        threshold: Threshold | None,
        room: int,
        *,
        categories: Sequence[str] = (),
        anomalous: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.room = min(room, len(scores))
        """Images that still fit in."""
        self._temporary = temporary_sibling(self.path)
        self._file: TextIO | None = self._temporary.open("w", encoding="utf-8", errors="replace")
        shown = (
            f"{len(scores)} images"
            if self.room == len(scores)
            else f"the {self.room} most anomalous of {len(scores)} images"
        )
        note = "no threshold: calibrate one on good images to have images called anomalous"
        if threshold is not None:
            above = sum(map(threshold.exceeded_by, scores)) if anomalous is None else anomalous
            note = f"{above} above the {threshold.note}"
            if len(categories) > 1:
                note = (
                    f"{above} above the threshold of their category ({', '.join(categories)}); drawn, and for other "
                    f"images: {threshold.note}"
                )
        self._file.write(
            head("Anomaly scores", _STYLE)
            + f'<h1>Anomaly scores of {shown}</h1><p class="note">{html.escape(note)}</p>'
            + histogram([scores], None if threshold is None else threshold.value)
            + _FORM.replace("@HIDE@", "" if threshold is not None else " hidden")
        )

    def add(
        self,
        name: str,
        score: float,
        anomalous: bool | None,
        image: Image.Image,
        mixed: Image.Image,
        link: str | None = None,
    ) -> None:
        """One image, plain and with its map; `link` is the file behind its name, relative to the page."""
        assert self._file is not None
        assert self.room > 0
        self.room -= 1
        text = html.escape(name, quote=True)
        state = {None: "", True: "yes", False: "no"}[anomalous]
        badge = {"": "", "yes": '<b class="bad">anomalous</b>', "no": "<b>normal</b>"}[state]
        shown = text
        if link is not None:
            shown = f'<a href="{html.escape(quote(os.fsencode(link)), quote=True)}">{text}</a>'
        pictures = compare(image, mixed, name, side=THUMBNAIL, at=0)
        self._file.write(
            f'<li data-name="{text}" data-score="{score:.9g}" data-anomalous="{state}">{pictures}'
            f'<p><span class="score">{score:.4f}</span> {badge}<br><span class="name">{shown}</span></p></li>\n'
        )

    def close(self, failed: Mapping[str, str]) -> None:
        """Add the files that were not read, with their reasons, and move the page into place."""
        assert self._file is not None
        self._file.write("</ul>")
        if failed:
            lines = "".join(
                f"<li><code>{html.escape(name)}</code>: {html.escape(why)}</li>" for name, why in failed.items()
            )
            self._file.write(f"<details open><summary>{len(failed)} not read</summary><ul>{lines}</ul></details>")
        self._file.write(foot(_SCRIPT))
        self._file.close()
        self._file = None
        put_in_place(self._temporary, self.path)

    def discard(self) -> None:
        """Remove a page that was not closed; nothing after `close`."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._temporary.unlink(missing_ok=True)


_STYLE = """
*{box-sizing:border-box}body{margin:0;background:var(--mb-bg);color:var(--mb-fg);font:15px/1.45 system-ui,sans-serif}
main{max-width:1500px;margin:0 auto;padding:16px}h1{font-size:1.25rem;margin:0 0 4px}
.note{color:var(--mb-dim);margin:0 0 12px;max-width:75ch}
form{display:flex;flex-wrap:wrap;gap:8px 14px;align-items:center;background:var(--mb-bg);padding:8px 0;
border-bottom:1px solid var(--mb-edge);margin-bottom:12px}@media(min-width:700px){form{position:sticky;top:0;z-index:1}}
label{display:flex;gap:6px;align-items:center}select,form input{font:inherit;padding:4px 6px;max-width:100%}
output{color:var(--mb-dim)}[hidden]{display:none!important}
ul.grid{list-style:none;margin:0;padding:0;display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(160px,1fr))}
ul.grid>li{background:var(--mb-card);border:1px solid var(--mb-edge);border-radius:6px;padding:8px;min-width:0}
ul.grid img{max-height:260px;object-fit:contain}
ul.grid p{margin:6px 0 0}.score{font-variant-numeric:tabular-nums;font-weight:600}
.name,.name a{color:var(--mb-dim);font-size:.78rem;overflow-wrap:anywhere}
b{font-weight:500;color:var(--mb-dim);font-size:.85rem}
b.bad{color:var(--mb-bad)}a:focus-visible{outline:3px solid var(--mb-ok);outline-offset:2px}
details{margin-top:16px}
"""

_FORM = """<form><label>Order <select id="order"><option value="down">highest score first</option>
<option value="up">lowest score first</option><option value="name">by name</option></select></label>
<label@HIDE@>Show <select id="show"><option value="">all</option><option value="yes">anomalous</option>
<option value="no">normal</option></select></label>
<label>Name <input id="name" type="search" size="14" placeholder="contains"></label>
<label><input id="plain" type="checkbox"> without map (key m)</label><output id="count"></output></form>
<p class="note">Drag over an image, or focus it and use the arrow keys, to compare it with its map.</p>
<ul class="grid">
"""

_SCRIPT = """
const grid=document.querySelector('ul.grid'),cards=[...grid.children],id=x=>document.getElementById(x);
function sort(){const o=id('order').value,s=c=>+c.dataset.score;
cards.sort((a,b)=>o==='name'?a.dataset.name.localeCompare(b.dataset.name,undefined,{numeric:true}):
(o==='up'?s(a)-s(b):s(b)-s(a)));grid.append(...cards)}
function filter(){const w=id('show').value,t=id('name').value.toLowerCase();let n=0;
for(const c of cards){c.hidden=(w&&c.dataset.anomalous!==w)||!c.dataset.name.toLowerCase().includes(t);n+=!c.hidden}
id('count').value=n+' of '+cards.length}
function bare(){for(const c of cards)mambaadViewer.compare(c.querySelector('.mb-compare'))(id('plain').checked?100:0)}
id('order').onchange=sort;id('show').onchange=filter;id('name').oninput=filter;id('plain').onchange=bare;
document.querySelector('form').onsubmit=e=>e.preventDefault();
document.onkeydown=e=>{if(e.key==='m'&&e.target.type!=='search'&&e.target.tagName!=='SELECT'&&!e.ctrlKey&&!e.metaKey){
id('plain').checked=!id('plain').checked;bare()}};
sort();filter();bare();
"""
