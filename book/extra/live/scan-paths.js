/* Scan-path explorer. The orders and routes are those of mambaad/model/scan_order.py and routes.py; a test compares them. */
(function (root) {
  "use strict";

  // -- orders and routes, token = row * side + column
  const ORDERS = {
    sweep: (side) => Array.from({ length: side * side }, (_, t) => t),
    scan: (side) => Array.from({ length: side * side }, (_, t) => {
      const row = Math.floor(t / side), column = t % side;
      return row * side + (row % 2 ? side - 1 - column : column);
    }),
    zorder: (side) => Array.from({ length: side * side }, (_, t) => {
      let row = 0, column = 0;
      for (let bit = 0; 1 << bit < side; bit++) {
        column |= ((t >> (2 * bit)) & 1) << bit;
        row |= ((t >> (2 * bit + 1)) & 1) << bit;
      }
      return row * side + column;
    }),
    zigzag: (side) => {
      const order = [];
      for (let diagonal = 0; diagonal < 2 * side - 1; diagonal++) {
        const tokens = [];
        for (let row = Math.max(0, diagonal - side + 1); row <= Math.min(diagonal, side - 1); row++) tokens.push(row * side + diagonal - row);
        order.push(...(diagonal % 2 ? tokens : tokens.reverse()));
      }
      return order;
    },
    hilbert: (side) => {
      let curve = [[0, 0]];
      for (let half = 1; half < side; half *= 2)
        curve = [
          ...curve.map(([r, c]) => [c, r]),
          ...curve.map(([r, c]) => [r + half, c]),
          ...curve.map(([r, c]) => [r + half, c + half]),
          ...curve.map(([r, c]) => [half - 1 - c, 2 * half - 1 - r]),
        ];
      return curve.map(([r, c]) => r * side + c);
    },
  };
  const needsPowerOfTwo = (method) => method === "zorder" || method === "hilbert";
  const isPowerOfTwo = (side) => (side & (side - 1)) === 0;

  function routes(method, number, side) {
    const order = ORDERS[method](side);
    const at = (look) => order.map((t) => { const [r, c] = look(Math.floor(t / side), t % side); return r * side + c; });
    const forward = [
      at((r, c) => [r, c]), at((r, c) => [c, r]),                          // the image, its transpose
      at((r, c) => [c, side - 1 - r]), at((r, c) => [r, side - 1 - c]),    // rotated by 90 degrees, and that transposed
    ].slice(0, number / 2);
    return [...forward, ...forward.map((route) => [...route].reverse())];
  }
  const hybrid = (methods, side) => methods.flatMap(([method, number]) => routes(method, number, side));

  function stepsOf(route) {
    const steps = new Array(route.length);
    route.forEach((token, step) => { steps[token] = step; });
    return steps;
  }

  /* Weight with which `token` influences every place, summed over the routes: exp(-j / memory), j steps later. */
  function influence(allSteps, token, memory) {
    const weight = new Array(allSteps[0].length).fill(0);
    for (const steps of allSteps)
      steps.forEach((step, place) => { if (step > steps[token]) weight[place] += Math.exp((steps[token] - step) / memory); });
    return weight;
  }

  /* Steps between every pair of side-by-side tokens, on the route where they are nearest. */
  function gaps(allSteps, side) {
    const found = [];
    const gap = (a, b) => Math.min(...allSteps.map((steps) => Math.abs(steps[a] - steps[b])));
    for (let r = 0; r < side; r++)
      for (let c = 0; c < side; c++) {
        const token = r * side + c;
        if (r + 1 < side) found.push(gap(token, token + side));
        if (c + 1 < side) found.push(gap(token, token + 1));
      }
    return found;
  }

  const core = { ORDERS, routes, hybrid, stepsOf, influence, gaps };
  if (typeof module !== "undefined" && module.exports) { module.exports = core; return; }

  // -- the figure
  const { el, svg, slider, choice, check, player, panel, readout, mount } = root.Live;
  const HYBRIDS = {
    "sweep 4 + hilbert 4": [["sweep", 4], ["hilbert", 4]],
    "sweep 2 + scan 2 + hilbert 4": [["sweep", 2], ["scan", 2], ["hilbert", 4]],
    "zorder 2 + zigzag 2 + hilbert 4": [["zorder", 2], ["zigzag", 2], ["hilbert", 4]],
  };
  const SIDES = [4, 6, 8, 12, 16, 24, 32];
  const VIEWS = ["the image", "the transposed image", "the rotated image", "the rotated and transposed image"];
  const SIZE = 320;

  function build(host) {
    const state = { method: "hilbert", side: 8, k: 8, route: 0, step: 63, row: 3, column: 3, memory: 8, sum: false };
    let all, allSteps, cells, shownSide;

    const method = choice("Order", [...Object.keys(ORDERS), ...Object.keys(HYBRIDS)].map((m) => [m, m]), "hilbert",
      (value) => { state.method = value; reset(); });
    const side = choice("Side", SIDES.map((s) => [s, `${s} × ${s}`]), 8, (value) => {
      const old = state.side;
      state.side = +value;
      for (const axis of ["row", "column"]) state[axis] = Math.min(Math.floor(((state[axis] + 0.5) * state.side) / old), state.side - 1);
      reset();
    });
    const number = choice("Routes K", [2, 4, 8].map((k) => [k, String(k)]), 8, (value) => { state.k = +value; reset(); });
    const route = slider("Route", { min: 0, max: 7, value: 0, change: (value) => { state.route = value; draw(); } });
    const step = slider("Step", { min: 0, max: 63, value: 63, change: (value) => { play.stop(); toStep(value); } });
    const memory = slider("Memory τ", { min: 0, max: 8, value: 3, show: (v) => `${2 ** v} steps`, change: (v) => { state.memory = 2 ** v; draw(); } });
    const sum = check("sum over all routes", false, (value) => { state.sum = value; draw(); });
    const play = player(() => {
      const last = state.side ** 2 - 1;
      toStep(state.step >= last ? 0 : state.step + 1);
      return state.step < last;
    }, () => Math.max(20, 6000 / state.side ** 2));
    const grid = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "grid", tabindex: 0, role: "application",
      "aria-label": "Grid of tokens with the scan path. The arrow keys choose a token." });
    const bars = svg("svg", { viewBox: "0 0 320 220", role: "img" });
    const barsTitle = el("p", { class: "title" });
    const text = readout();
    const note = el("p", { class: "live-read" });
    note.style.minHeight = "0";
    host.append(
      el("div", { class: "live-controls" }, [method.node, side.node, number.node, route.node, step.node, play.node, memory.node, sum.node]),
      note,
      el("div", { class: "live-panels" }, [
        panel("Choose a token with the pointer or the arrow keys. Blue: the places that it influences, and how strongly.", grid),
        el("div", { class: "live-panel" }, [barsTitle, bars, text]),
      ]));

    const token = () => state.row * state.side + state.column;
    const centre = (t) => [((t % state.side) + 0.5) * (SIZE / state.side), (Math.floor(t / state.side) + 0.5) * (SIZE / state.side)];

    grid.addEventListener("pointermove", pick);
    grid.addEventListener("pointerdown", pick);
    grid.addEventListener("keydown", (event) => {
      const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!move) return;
      event.preventDefault();
      state.row = Math.min(Math.max(state.row + move[0], 0), state.side - 1);
      state.column = Math.min(Math.max(state.column + move[1], 0), state.side - 1);
      draw();
    });
    function pick(event) {
      const box = grid.getBoundingClientRect();
      const at = (value, low, length) => Math.min(Math.max(Math.floor(((value - low) / length) * state.side), 0), state.side - 1);
      const row = at(event.clientY, box.top, box.height), column = at(event.clientX, box.left, box.width);
      if (row === state.row && column === state.column) return;
      Object.assign(state, { row, column });
      draw();
    }

    function toStep(value) {
      state.step = value;
      step.set(value);
      const at = all[state.route][value];
      state.row = Math.floor(at / state.side);
      state.column = at % state.side;
      draw();
    }

    function reset() {
      play.stop();
      const methods = HYBRIDS[state.method] || [[state.method, state.k]];
      number.select.disabled = state.method in HYBRIDS;
      if (number.select.disabled) number.select.value = state.k = 8;
      const refused = methods.map(([m]) => m).find(needsPowerOfTwo);
      note.textContent = "";
      if (refused && !isPowerOfTwo(state.side)) {
        note.textContent = `The ${refused} curve needs a side that is a power of two (4, 8, 16, 32, …), and ${state.side} is not. Shown: side 8.`;
        state.side = 8;
        side.select.value = 8;
        state.row = Math.min(state.row, 7);
        state.column = Math.min(state.column, 7);
      }
      all = hybrid(methods, state.side);
      allSteps = all.map(stepsOf);
      state.route = Math.min(state.route, all.length - 1);
      state.step = state.side ** 2 - 1;
      route.set(state.route, all.length - 1);
      step.set(state.step, state.step);
      draw();
    }

    function draw() {
      const { side: n, route: k } = state, size = SIZE / n, here = token();
      if (shownSide !== n) {
        cells = Array.from({ length: n * n }, (_, t) => svg("rect", { x: (t % n) * size, y: Math.floor(t / n) * size, width: size, height: size, fill: "var(--live-a)" }));
        shownSide = n;
      }
      const used = state.sum ? allSteps : [allSteps[k]];
      const weight = influence(used, here, state.memory), most = Math.max(...weight, 1e-12);
      cells.forEach((cell, t) => cell.setAttribute("fill-opacity", (0.75 * weight[t] / most).toFixed(3)));
      const points = all[k].map((t) => centre(t).map((v) => v.toFixed(1)).join(","));
      const width = Math.max(1.2, Math.min(3, size / 9));
      const mark = (t, attributes) => svg("rect", { x: (t % n) * size + 1.5, y: Math.floor(t / n) * size + 1.5, width: size - 3, height: size - 3, fill: "none", ...attributes });
      const neighbours = [["above", -1, 0], ["below", 1, 0], ["left", 0, -1], ["right", 0, 1]]
        .map(([name, r, c]) => [name, state.row + r, state.column + c])
        .filter(([, r, c]) => r >= 0 && c >= 0 && r < n && c < n)
        .map(([name, r, c]) => [name, r * n + c]);
      const [sx, sy] = centre(all[k][0]);
      grid.replaceChildren(
        svg("rect", { x: 0.5, y: 0.5, width: SIZE - 1, height: SIZE - 1, fill: "none", stroke: "var(--live-line)" }), ...cells,
        svg("polyline", { points: points.join(" "), fill: "none", stroke: "var(--live-muted)", "stroke-width": width, "stroke-opacity": 0.35 }),
        svg("polyline", { points: points.slice(0, state.step + 1).join(" "), fill: "none", stroke: "var(--live-text)", "stroke-width": width, "stroke-opacity": 0.85, "stroke-linejoin": "round" }),
        svg("circle", { cx: sx, cy: sy, r: Math.max(4, size / 7), fill: "none", stroke: "var(--live-c)", "stroke-width": 2.5 }),
        ...neighbours.map(([, t]) => mark(t, { stroke: "var(--live-b)", "stroke-dasharray": "4 3", "stroke-width": 1.5 })),
        mark(here, { stroke: "var(--live-b)", "stroke-width": 3 }));

      // histogram of the steps between neighbours, in bins that double
      const found = gaps(used, n), top = Math.ceil(Math.log2(n * n));
      const count = new Array(top + 1).fill(0);
      for (const gap of found) count[Math.ceil(Math.log2(gap))] += 1;
      const slot = 300 / count.length;
      bars.replaceChildren(...count.flatMap((value, i) => {
        const share = value / found.length, height = 150 * share, x = 10 + i * slot;
        const label = i < 2 ? String(2 ** i) : `≤${2 ** i}`;
        return [
          svg("rect", { x: x + 2, y: 170 - height, width: slot - 4, height, fill: "var(--live-a)", "fill-opacity": 0.8 }),
          ...(value ? [svg("text", { x: x + slot / 2, y: 164 - height, "text-anchor": "middle", style: "font-size:11px" }, share < 0.01 ? "<1" : (100 * share).toFixed(0))] : []),
          ...(i % 2 === 0 || count.length < 8 ? [svg("text", { x: x + slot / 2, y: 186, "text-anchor": "middle", class: "muted", style: "font-size:11px" }, label)] : []),
        ];
      }), svg("line", { x1: 10, x2: 310, y1: 170, y2: 170, stroke: "var(--live-muted)" }),
        svg("text", { x: 160, y: 208, "text-anchor": "middle", class: "muted" }, "steps between side-by-side tokens"));
      const where = state.sum ? `on the best of ${all.length} routes` : `on route ${k}`;
      barsTitle.textContent = `Pairs of side-by-side tokens ${where}, in percent`;
      const within = (100 * found.filter((gap) => gap <= 8).length) / found.length;
      bars.setAttribute("aria-label", `${within.toFixed(0)} percent of side-by-side pairs are at most 8 steps apart ${where}; the farthest ${Math.max(...found)} steps.`);

      const steps = allSteps[k], half = all.length / 2;
      const view = state.method in HYBRIDS ? "" : ` (${VIEWS[k % half]}${k >= half ? ", backwards" : ""})`;
      const near = weight.reduce((s, w, t) => {
        const away = Math.hypot(Math.floor(t / n) - state.row, (t % n) - state.column);
        return away <= 3 ? s + w : s;
      }, 0), sum = weight.reduce((s, w) => s + w, 0);
      text.textContent = `Token in row ${state.row}, column ${state.column}: step ${steps[here]} of 0 to ${n * n - 1} on route ${k}${view}. ` +
        `Neighbours: ${neighbours.map(([name, t]) => `${name} ${Math.abs(steps[t] - steps[here])} ${steps[t] > steps[here] ? "later" : "earlier"}`).join(", ")}. ` +
        (sum ? `${((100 * near) / sum).toFixed(0)} % of its influence${state.sum ? `, summed over ${all.length} routes,` : ""} stays within 3 tokens. `
          : "It is the last token on this route and influences no other. ") +
        `${within.toFixed(0)} % of side-by-side pairs are at most 8 steps apart ${where}; the farthest pair ${Math.max(...found)}.`;
    }
    reset();
  }
  mount("scan-paths", build);
})(typeof window === "undefined" ? globalThis : window);
