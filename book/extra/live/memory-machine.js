/* Selective-memory machine: the recurrence of mambaad's selective scan for one channel; a test compares them. */
(function (root) {
  "use strict";

  /* h_t = exp(d_t A) h_(t-1) + w_t B u_t for rates A = -1 .. -N and B = 1; y = mean over N (C = 1/N).
     w is d ("code": Mamba's and MambaAD's code) or (1 - exp(-d n)) / n ("hold": zero-order hold, the paper's equation 2). */
  const written = (delta, n, rule) => (rule === "hold" ? -Math.expm1(-delta * n) / n : delta);

  function scan(u, delta, N, rule) {
    const h = new Array(N).fill(0), states = [], y = [];
    u.forEach((value, t) => {
      for (let i = 0; i < N; i++) h[i] = Math.exp(-delta[t] * (i + 1)) * h[i] + written(delta[t], i + 1, rule) * value;
      states.push([...h]);
      y.push(h.reduce((a, b) => a + b, 0) / N);
    });
    return { states, y };
  }

  /* The matrix M of the same map, y = M u: M[t][s] = mean over n of exp(-n (d_(s+1) + .. + d_t)) w_s, zero above the diagonal. */
  function matrix(delta, N, rule) {
    return delta.map((_, t) => delta.map((_, s) => {
      if (s > t) return 0;
      let passed = 0, sum = 0;
      for (let r = s + 1; r <= t; r++) passed += delta[r];
      for (let n = 1; n <= N; n++) sum += Math.exp(-n * passed) * written(delta[s], n, rule);
      return sum / N;
    }));
  }

  const core = { scan, matrix };
  if (typeof module !== "undefined" && module.exports) { module.exports = core; return; }

  // -- the figure
  const { el, svg, slider, choice, check, player, panel, readout, mount } = root.Live;
  const LENGTH = 24, SIZE = 288, CELL = SIZE / LENGTH;
  const VALUES = [0.3, -0.2, 0.5, 1, -0.4, 0.1, 0.3, -0.6, 0.2, 0.4, -1, 0.2, -0.3, 0.5, 0.1, -0.2, 0.4, 0.8, -0.5, 0.3, -0.1, 0.2, -0.4, 0.1];
  const size = (value) => (value < 0.1 ? value.toFixed(3) : value.toFixed(2));

  function build(host) {
    const state = { marks: new Set([3, 10, 17]), high: 3, low: 0.01, same: false, N: 1, rule: "hold", t: LENGTH - 1 };
    const tokens = VALUES.map((value, i) => el("button", {
      type: "button", "aria-label": `token ${i}, value ${value}`,
      onclick: () => { if (state.marks.has(i)) state.marks.delete(i); else state.marks.add(i); draw(); },
    }, String(i)));
    const log = { min: -3, max: 1, step: 0.05 };
    const high = slider("δ of marked tokens", { ...log, value: Math.log10(state.high), show: (v) => size(10 ** v), change: (v) => { state.high = 10 ** v; draw(); } });
    const low = slider("δ of all others", { ...log, value: Math.log10(state.low), show: (v) => size(10 ** v), change: (v) => { state.low = 10 ** v; draw(); } });
    const same = check("one δ for all tokens", false, (v) => { state.same = v; high.input.disabled = v; draw(); });
    const memories = slider("Memories N", { min: 1, max: 8, value: 1, change: (v) => { state.N = v; draw(); } });
    const rule = choice("What is written", [["hold", "zero-order hold (paper)"], ["code", "δB (code)"]], "hold", (v) => { state.rule = v; draw(); });
    const step = slider("Step", { min: 0, max: LENGTH - 1, value: state.t, change: (v) => { play.stop(); state.t = v; draw(); } });
    const play = player(() => { state.t = (state.t + 1) % LENGTH; step.set(state.t); draw(); return state.t < LENGTH - 1; }, () => 450);
    const tanks = svg("svg", { viewBox: "0 0 320 190", role: "img" });
    const heat = svg("svg", { viewBox: `0 0 ${SIZE + 22} ${SIZE + 26}`, role: "img" });
    const series = svg("svg", { viewBox: "0 0 320 130", role: "img" });
    const text = readout();
    host.append(
      el("p", { class: "title live-read", style: "min-height:0" }, "24 tokens. Press one to mark it:"),
      el("div", { class: "live-tokens", role: "group", "aria-label": "Marks" }, tokens),
      el("div", { class: "live-controls" }, [high.node, low.node, same.node, memories.node, rule.node, step.node, play.node]),
      el("div", { class: "live-panels" }, [
        el("div", {}, [panel("Tokens u (bars) and output y (line)", series), panel("The memories at this step; each drains at its own rate", tanks)]),
        panel("The same as a matrix: row = step of the output, column = token", heat),
      ]), text);

    function draw() {
      const delta = VALUES.map((_, i) => (!state.same && state.marks.has(i) ? state.high : state.low));
      const { states, y } = scan(VALUES, delta, state.N, state.rule), M = matrix(delta, state.N, state.rule), t = state.t;
      tokens.forEach((button, i) => {
        button.setAttribute("aria-pressed", String(state.marks.has(i)));
        button.classList.toggle("now", i === t);
      });

      const wide = 320 / LENGTH, tallest = Math.max(1, ...y.map(Math.abs)), at = (v) => 65 - (55 * v) / tallest;
      series.replaceChildren(
        svg("line", { x1: 0, x2: 320, y1: 65, y2: 65, stroke: "var(--live-line)" }),
        svg("rect", { x: t * wide, y: 2, width: wide, height: 126, fill: "var(--live-text)", "fill-opacity": 0.09 }),
        ...VALUES.map((v, i) => svg("rect", { x: i * wide + 2, width: wide - 4, y: Math.min(at(v), 65), height: Math.abs(at(v) - 65), fill: state.marks.has(i) ? "var(--live-b)" : "var(--live-muted)", "fill-opacity": state.marks.has(i) ? 1 : 0.45 })),
        svg("polyline", { points: y.map((v, i) => `${(i + 0.5) * wide},${at(v).toFixed(1)}`).join(" "), fill: "none", stroke: "var(--live-a)", "stroke-width": 2.5 }));
      series.setAttribute("aria-label", `Output at step ${t}: ${y[t].toFixed(2)}`);

      const slot = 320 / state.N, now = states[t], full = Math.max(...states.flat().map(Math.abs), 1e-9);
      tanks.replaceChildren(...now.flatMap((level, i) => {
        const width = Math.min(slot - 10, 60), x = i * slot + (slot - width) / 2, height = (55 * Math.abs(level)) / full;
        return [
          svg("rect", { x, y: 20, width, height: 120, rx: 4, fill: "none", stroke: "var(--live-muted)" }),
          svg("line", { x1: x, x2: x + width, y1: 80, y2: 80, stroke: "var(--live-line)" }),
          svg("rect", { x: x + 1, width: width - 2, y: level >= 0 ? 80 - height : 80, height, fill: "var(--live-a)", "fill-opacity": 0.8 }),
          svg("text", { x: x + width / 2, y: 158, "text-anchor": "middle" }, state.N > 5 ? `−${i + 1}` : `A = −${i + 1}`),
          svg("text", { x: x + width / 2, y: 176, "text-anchor": "middle", class: "muted", style: "font-size:11px" }, level.toFixed(2)),
        ];
      }));
      tanks.setAttribute("aria-label", `State at step ${t}: ${now.map((v) => v.toFixed(2)).join(", ")}`);

      const most = Math.max(...M.flat(), 1e-12);
      heat.replaceChildren(
        ...M.flatMap((row, r) => row.slice(0, r + 1).map((value, s) => svg("rect", { x: 20 + s * CELL, y: r * CELL, width: CELL, height: CELL, fill: state.marks.has(s) && !state.same ? "var(--live-b)" : "var(--live-a)", "fill-opacity": (value / most).toFixed(3) }))),
        svg("rect", { x: 20, y: 0, width: SIZE, height: SIZE, fill: "none", stroke: "var(--live-line)" }),
        svg("rect", { x: 20, y: t * CELL, width: SIZE, height: CELL, fill: "none", stroke: "var(--live-text)", "stroke-width": 1.5 }),
        svg("text", { x: 20 + SIZE / 2, y: SIZE + 20, "text-anchor": "middle", class: "muted" }, "token s"),
        svg("text", { x: 12, y: SIZE / 2, "text-anchor": "middle", class: "muted", transform: `rotate(-90 12 ${SIZE / 2})` }, "step t"));
      const toeplitz = delta.every((d) => d === delta[0]);
      heat.setAttribute("aria-label", toeplitz ? "Lower triangular matrix, constant along its diagonals." : "Lower triangular matrix; its columns differ.");

      const loudest = M[t].indexOf(Math.max(...M[t])), half = (d) => Math.LN2 / d;
      text.textContent = `Step ${t}: the output is ${y[t].toFixed(2)}. Token ${loudest} has most influence on it, with weight ${M[t][loudest].toFixed(3)}. ` +
        `With the δ of unmarked tokens the longest memory (A = −1) loses half in ${half(state.low) < 10 ? half(state.low).toFixed(1) : half(state.low).toFixed(0)} steps. ` +
        (toeplitz ? "δ is the same for all tokens: the matrix is constant along its diagonals (Toeplitz), so this scan is a convolution."
          : "δ depends on the token: the columns of the matrix differ, and no convolution does this.");
    }
    draw();
  }
  mount("memory-machine", build);
})(typeof window === "undefined" ? globalThis : window);
