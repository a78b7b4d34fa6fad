/* Threshold bench: pixel metrics under both protocols, as mambaad/metrics computes them; a test compares them. */
(function (root) {
  "use strict";

  /* 8-connected regions of a binary map (side x side): the label of each pixel, 0 outside, and the areas. */
  function regions(mask, side) {
    const label = new Int32Array(mask.length), areas = [0];
    for (let start = 0; start < mask.length; start++) {
      if (!mask[start] || label[start]) continue;
      const stack = [start], number = areas.length;
      label[start] = number;
      areas.push(0);
      while (stack.length) {
        const at = stack.pop(), row = Math.floor(at / side), column = at % side;
        areas[number]++;
        for (let r = Math.max(0, row - 1); r <= Math.min(side - 1, row + 1); r++)
          for (let c = Math.max(0, column - 1); c <= Math.min(side - 1, column + 1); c++) {
            const next = r * side + c;
            if (mask[next] && !label[next]) { label[next] = number; stack.push(next); }
          }
      }
    }
    return { label, areas };
  }

  /* All pixels of all maps, sorted: for each distinct score, from the largest, how many defect and normal pixels have at
     least this score, and the mean share of a region that has (PRO). */
  function levels(maps, masks, side) {
    const found = masks.map((mask) => regions(mask, side)), total = found.reduce((n, f) => n + f.areas.length - 1, 0);
    const pixels = [];
    maps.forEach((map, i) => map.forEach((score, p) => {
      const truth = masks[i][p];
      pixels.push([score, truth, truth ? 1 / (total * found[i].areas[found[i].label[p]]) : 0]);
    }));
    pixels.sort((a, b) => b[0] - a[0]);
    const rows = [];
    let tp = 0, fp = 0, pro = 0;
    pixels.forEach(([score, truth, weight], i) => {
      if (truth) { tp++; pro += weight; } else fp++;
      if (i + 1 === pixels.length || pixels[i + 1][0] !== score) rows.push({ score, tp, fp, pro });
    });
    return { rows, P: tp, N: fp, low: rows[rows.length - 1].score, high: rows[0].score };
  }

  /* The counts of all pixels with a score above t (strictly), by bisection. */
  function above(L, t) {
    let low = 0, high = L.rows.length;
    while (low < high) { const middle = (low + high) >> 1; if (L.rows[middle].score > t) low = middle + 1; else high = middle; }
    return low ? L.rows[low - 1] : { tp: 0, fp: 0, pro: 0 };
  }

  function auroc(L) {
    let area = 0, last = { tp: 0, fp: 0 };
    for (const row of L.rows) { area += ((row.fp - last.fp) * (row.tp + last.tp)) / 2; last = row; }
    return area / (L.P * L.N);
  }
  function averagePrecision(L) {
    let sum = 0, last = 0;
    for (const row of L.rows) { sum += ((row.tp - last) * row.tp) / (row.tp + row.fp); last = row.tp; }
    return sum / L.P;
  }
  const f1 = (row, P) => (2 * row.tp) / (row.tp + row.fp + P);
  const f1max = (L) => Math.max(...L.rows.map((row) => f1(row, L.P)));
  const f1Grid = (L) => Math.max(...Array.from({ length: 21 }, (_, k) => f1(above(L, L.low + (k / 20) * (L.high - L.low)), L.P)));

  function auproExact(L, limit = 0.3) {
    let area = 0, x = 0, y = 0;
    for (const row of L.rows) {
      const nx = row.fp / L.N, ny = row.pro;
      if (nx >= limit) {
        const share = (limit - x) / (nx - x), at = y + share * (ny - y);
        return (area + ((limit - x) * (y + at)) / 2) / limit;
      }
      area += ((nx - x) * (y + ny)) / 2;
      x = nx; y = ny;
    }
    return NaN;
  }
  /* The points of the paper protocol below the limit, from 100 thresholds between the smallest and the largest score. */
  function grid(L, limit = 0.3) {
    const points = [];
    for (let k = 99; k >= 0; k--) {
      const row = above(L, L.low + (k * (L.high - L.low)) / 100);
      if (row.fp / L.N < limit) points.push([row.fp / L.N, row.pro]);
    }
    return points;
  }
  function auproPaper(L) {
    const points = grid(L), first = points[0], last = points[points.length - 1];
    if (points.length < 2 || first[0] === last[0]) return NaN;
    let area = 0;
    for (let i = 1; i < points.length; i++) area += ((points[i][0] - points[i - 1][0]) * (points[i][1] + points[i - 1][1])) / 2;
    return area / (last[0] - first[0]);
  }

  const core = { regions, levels, above, auroc, averagePrecision, f1max, f1Grid, auproExact, auproPaper };
  if (typeof module !== "undefined" && module.exports) { module.exports = core; return; }

  // -- the figure
  const { el, svg, slider, choice, check, panel, readout, mount } = root.Live;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const percent = (value) => (Number.isNaN(value) ? "undefined" : (100 * value).toFixed(1));
  const COLOURS = { hit: [0, 158, 115, 150], alarm: [213, 94, 0, 170], miss: [0, 114, 178, 170] };

  function build(host, data) {
    const side = data.side, size = side * side;
    const maps = data.cases.map((c) => Float64Array.from(new Uint16Array(bytes(c.map).buffer)));
    const masks = data.cases.map((c) => { const packed = bytes(c.mask); return Uint8Array.from({ length: size }, (_, p) => (packed[p >> 3] >> (7 - (p & 7))) & 1); });
    const parts = masks.map((mask) => regions(mask, side));
    const clean = levels(maps, masks, side);
    const spoilt = (times) => {
      const copies = maps.map((map) => Float64Array.from(map));
      copies[data.outlier][3 * side + 3] = times * clean.high; // a normal pixel of a good image
      return { maps: copies, L: levels(copies, masks, side) };
    };
    const state = { at: 0.4, rule: "exact", outlier: false, times: 3 };

    const threshold = slider("Threshold", { min: 0, max: 1, step: 0.001, value: state.at, show: (v) => `${(100 * v).toFixed(1)} % of the largest`, change: (v) => { state.at = v; draw(); } });
    const rule = choice("Protocol", [["exact", "exact"], ["paper", "paper (grids)"]], "exact", (v) => { state.rule = v; draw(); });
    const times = slider("its score", { min: 1.5, max: 6, step: 0.5, value: 3, show: (v) => `${v} × the largest`, change: (v) => { state.times = v; draw(); } });
    const outlier = check("add one outlier pixel", false, (v) => { state.outlier = v; draw(); });
    const toBest = () => {
      const top = clean.rows.reduce((a, b) => (f1(b, clean.P) > f1(a, clean.P) ? b : a));
      threshold.set((state.at = Math.floor(1000 * (top.score / clean.high) - 1e-6) / 1000));
      draw();
    };
    const best = el("button", { type: "button", onclick: toBest }, "Go to the best F1");
    const tiles = data.cases.map((c) => el("canvas", { width: side, height: side, role: "img", "aria-label": c.words, style: "width:100%;image-rendering:pixelated;border-radius:4px;background-size:100% 100%" }));
    tiles.forEach((tile, i) => { tile.style.backgroundImage = `url(${data.cases[i].image})`; });
    const gallery = el("div", { style: "display:grid;grid-template-columns:repeat(4,1fr);gap:6px" }, tiles.map((tile, i) => el("div", { style: "font-size:0.75rem;line-height:1.3" }, [tile, data.cases[i].words])));
    const plots = [["Recall over FPR (ROC)", "FPR", "recall"], ["Precision over recall", "recall", "precision"], ["PRO over FPR", "FPR", "PRO"]]
      .map((names) => [names, svg("svg", { viewBox: "0 0 200 186", role: "img" })]);
    const bars = svg("svg", { viewBox: "0 0 320 90", role: "img" });
    const text = readout(), sums = readout();
    host.append(
      el("div", { class: "live-controls" }, [threshold.node, best, rule.node, outlier.node, times.node]),
      panel("Green: found. Orange: false alarm. Blue: missed.", gallery), text,
      el("div", { class: "live-panels", style: "grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr))" }, plots.map(([[title], node]) => panel(title, node))),
      panel("Each region: share found (the PRO value is their mean)", bars), sums);

    function curve([[title, across, up], node], points, now, top, dots) {
      const X = (x) => 24 + (170 * Math.min(x, top)) / top, Y = (y) => 160 - 150 * y;
      node.replaceChildren(
        svg("rect", { x: 24, y: 10, width: 170, height: 150, fill: "none", stroke: "var(--live-line)" }),
        ...(dots ? points.map(([x, y]) => svg("circle", { cx: X(x).toFixed(1), cy: Y(y).toFixed(1), r: 2.2, fill: "var(--live-a)" }))
          : [svg("polyline", { points: points.filter(([x]) => x <= top).map(([x, y]) => `${X(x).toFixed(1)},${Y(y).toFixed(1)}`).join(" "), fill: "none", stroke: "var(--live-a)", "stroke-width": 2 })]),
        ...(now[0] <= top ? [svg("circle", { cx: X(now[0]), cy: Y(now[1]), r: 5, fill: "none", stroke: "var(--live-b)", "stroke-width": 2.5 })] : []),
        svg("text", { x: 24, y: 178, style: "font-size:13px", class: "muted" }, "0"), svg("text", { x: 194, y: 178, "text-anchor": "end", style: "font-size:13px", class: "muted" }, String(top)),
        svg("text", { x: 18, y: 20, "text-anchor": "end", style: "font-size:13px", class: "muted" }, "1"));
      node.setAttribute("aria-label", `${title}; now at ${across} ${now[0].toFixed(3)}, ${up} ${now[1].toFixed(3)}`);
    }
    let cached = "";
    let shown = { maps, L: clean };
    function draw() {
      const key = state.outlier ? String(state.times) : "";
      if (key !== cached) { shown = state.outlier ? spoilt(state.times) : { maps, L: clean }; cached = key; }
      times.input.disabled = !state.outlier;
      const { L } = shown, t = state.at * clean.high, row = above(L, t);
      const shares = [];
      shown.maps.forEach((map, i) => {
        const context = tiles[i].getContext("2d"), picture = context.createImageData(side, side), got = new Array(parts[i].areas.length).fill(0);
        for (let p = 0; p < size; p++) {
          const on = map[p] > t, truth = masks[i][p];
          if (on && truth) got[parts[i].label[p]]++;
          const colour = on ? (truth ? COLOURS.hit : COLOURS.alarm) : truth ? COLOURS.miss : null;
          if (colour) picture.data.set(colour, 4 * p);
        }
        context.putImageData(picture, 0, 0);
        got.slice(1).forEach((n, j) => shares.push([data.cases[i].words, n / parts[i].areas[j + 1]]));
      });
      const thin = (rows) => rows.filter((_, i) => i % Math.ceil(rows.length / 400) === 0 || i === rows.length - 1);
      const rows = thin(L.rows), precision = row.tp + row.fp ? row.tp / (row.tp + row.fp) : 1;
      curve(plots[0], [[0, 0], ...rows.map((r) => [r.fp / L.N, r.tp / L.P])], [row.fp / L.N, row.tp / L.P], 1);
      curve(plots[1], rows.filter((r) => r.tp).map((r) => [r.tp / L.P, r.tp / (r.tp + r.fp)]), [row.tp / L.P, precision], 1);
      curve(plots[2], state.rule === "exact" ? [[0, 0], ...thin(L.rows.filter((r) => r.fp / L.N <= 0.32)).map((r) => [r.fp / L.N, r.pro])] : grid(L), [row.fp / L.N, row.pro], 0.3, state.rule === "paper");
      const slot = 320 / shares.length;
      bars.replaceChildren(svg("line", { x1: 0, x2: 320, y1: 80, y2: 80, stroke: "var(--live-muted)" }),
        ...shares.flatMap(([, s], i) => [svg("rect", { x: i * slot + 2, width: slot - 4, y: 10, height: 70, fill: "none", stroke: "var(--live-line)" }), svg("rect", { x: i * slot + 2, width: slot - 4, y: 80 - 70 * s, height: 70 * s, fill: "var(--live-a)" })]));
      bars.setAttribute("aria-label", shares.map(([w, s]) => `${w}: ${percent(s)} percent`).join("; "));
      text.textContent = `Of ${L.P} defect pixels ${row.tp} are found (recall ${percent(row.tp / L.P)} %); ${row.fp} false alarms (FPR ${percent(row.fp / L.N)} %, precision ${percent(precision)} %). F1 ${percent(f1(row, L.P))} %; mean share of a region ${percent(row.pro)} %.`;
      const both = (exact, paper) => (state.rule === "exact" ? `${percent(exact)} (paper: ${percent(paper)})` : `${percent(paper)} (exact: ${percent(exact)})`);
      sums.textContent = `Over all thresholds, in percent, protocol ${state.rule}: AU-ROC ${percent(auroc(L))}, AP ${percent(averagePrecision(L))}, F1max ${both(f1max(L), f1Grid(L))}, AU-PRO ${both(auproExact(L), auproPaper(L))}.` +
        (state.outlier ? ` One normal pixel now scores ${state.times} times the former maximum: the grids of the paper protocol stretch, the exact values hardly move.` : "");
    }
    toBest();
  }
  mount("threshold-bench", build);
})(typeof window === "undefined" ? globalThis : window);
