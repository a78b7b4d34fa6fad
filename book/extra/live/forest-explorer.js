/* Forest-plot explorer: paired differences of one group's rows to its reference, in any metric.  Means and intervals
   come from mambaad.study.evidence; this script only draws them. */
(function (root) {
  "use strict";

  const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50];

  /* Ends of the axis and its ticks, zero among them; the values as [mean, low, high, seeds...], without what is null. */
  function axis(values) {
    const all = [0, ...values.filter((value) => value !== null)];
    const least = Math.min(...all), most = Math.max(...all), span = Math.max(most - least, 0.5);
    const step = STEPS.find((s) => span / s <= 6) || 50;
    const low = least - 0.05 * span, high = most + 0.05 * span, ticks = [];
    for (let i = Math.ceil(low / step); i <= Math.floor(high / step); i++) ticks.push(step * i);
    return { low, high, ticks, places: step < 1 ? 1 : 0 };
  }
  /* A difference with its sign, a true minus, and nothing before what rounds to zero. */
  function signed(value, places = 1) {
    const text = Math.abs(value).toFixed(places);
    return +text === 0 ? text : (value > 0 ? "+" : "−") + text;
  }

  /* an end of an interval: with more digits where fewer would hide on which side of zero it lies */
  function signedEnd(value, places = 1) {
    let more = places;
    while (value && !Number(value.toFixed(more)) && more < places + 4) more += 1;
    return signed(value, more);
  }
  const core = { axis, signed, signedEnd };
  if (typeof module !== "undefined" && module.exports) { module.exports = core; return; }

  const { el, svg, choice, readout, mount } = root.Live;
  const TOP = 8, LINE = 38, FOOT = 40, SIDE = 12;

  function build(host, data) {
    const state = { group: 0, metric: data.metrics[0][0], order: "table", row: 0 };
    const plot = svg("svg", { class: "forest pick", role: "application", tabindex: 0 });
    const words = readout();
    const records = el("p", { class: "live-records" });
    const missing = el("p", { class: "live-records" });
    const redraw = (change) => (value) => { change(value); draw(); };
    const controls = el("div", { class: "live-controls" }, [
      choice("Rows of", data.groups.map((g, i) => [String(i), g.title]), "0", redraw((v) => { state.group = +v; state.row = 0; })).node,
      choice("Metric", data.metrics, state.metric, redraw((v) => (state.metric = v))).node,
      choice("Order", [["table", "of the table"], ["size", "by difference"]], "table", redraw((v) => { state.order = v; state.row = 0; })).node,
    ]);
    host.append(controls, plot, words, records, missing);

    /* The chosen group's rows with the chosen metric's numbers, in the chosen order. */
    function rows() {
      const group = data.groups[state.group];
      const found = group.rows.map((row) => ({ ...row, ...row.values[state.metric] }));
      return state.order === "size" ? found.sort((a, b) => b.mean - a.mean) : found;
    }
    const address = (hash) => `${data.records}${hash}.json`;
    const metricName = () => data.metrics.find(([name]) => name === state.metric)[1];

    function draw() {
      const group = data.groups[state.group], shown = rows();
      const width = Math.max(280, Math.min(host.clientWidth || 352, 640)), bottom = TOP + LINE * shown.length;
      const scale = axis(shown.flatMap((r) => [r.mean, r.low, r.high, ...r.differences]));
      const x = (value) => SIDE + ((width - 2 * SIDE) * (value - scale.low)) / (scale.high - scale.low);
      const parts = scale.ticks.flatMap((tick) => [
        svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: TOP, y2: bottom }),
        svg("text", { x: x(tick), y: bottom + 15, "text-anchor": "middle" }, signed(tick, scale.places)),
      ]);
      parts.push(svg("line", { class: "zero", x1: x(0), x2: x(0), y1: TOP, y2: bottom }));
      shown.forEach((row, place) => {
        const top = TOP + LINE * place, y = top + 27, state_ = row.sure ? " sure" : "", c = x(row.mean);
        const pick = () => { state.row = place; draw(); };
        const line = svg("g", { class: place === state.row ? "line chosen" : "line", onclick: pick }, [
          svg("rect", { class: "ground", x: 0, y: top, width, height: LINE }),
          svg("text", { x: SIDE, y: top + 13 }, row.name),
          svg("text", { x: width - SIDE, y: top + 13, "text-anchor": "end", class: "value" }, `${signed(row.mean)} (n ${row.n})`),
        ]);
        if (row.low !== null) line.append(svg("line", { class: `interval${state_}`, x1: x(row.low), x2: x(row.high), y1: y, y2: y }));
        row.differences.forEach((difference, i) => {
          const [seed, hash] = row.runs[i];
          line.append(svg("a", { href: address(hash), tabindex: -1, "aria-hidden": "true" },
            svg("circle", { cx: x(difference), cy: y, r: 4 }, svg("title", {}, `seed ${seed}: ${signed(difference)}`))));
        });
        line.append(svg("path", { class: `mean${state_}`, d: `M${c - 6} ${y} ${c} ${y - 6} ${c + 6} ${y} ${c} ${y + 6}z` }));
        parts.push(line);
      });
      parts.push(svg("text", { x: width / 2, y: bottom + 33, "text-anchor": "middle" }, `${metricName()} minus that of ${group.reference}`));
      plot.setAttribute("viewBox", `0 0 ${width} ${bottom + FOOT}`);
      plot.style.maxWidth = `${width}px`;
      plot.setAttribute("aria-label", `${group.title}: differences in ${metricName()} to ${group.reference}, ${shown.length} row${shown.length === 1 ? "" : "s"}; arrow keys choose a row`);
      plot.replaceChildren(...parts);
      tell(group, shown[state.row]);
      missing.textContent = group.missing.length ? `No run to compare yet: ${group.missing.join("; ")}.` : "";
    }

    function tell(group, row) {
      const interval = row.low === null ? "a single seed, no interval" : `95 % interval ${signedEnd(row.low)} to ${signedEnd(row.high)}, ${row.n} seeds`;
      const verdict = row.n < 3 ? "Fewer than three seeds: nothing is concluded." : row.sure ? "The interval excludes zero." : "The interval includes zero: no difference seen.";
      const detect = row.detectable === null ? "" : ` With this many seeds, a true difference of ${row.detectable.toFixed(1)} would be found four times out of five.`;
      words.textContent = `${row.name} minus ${group.reference}: ${signed(row.mean)} points of ${metricName()}, ${interval}. ${verdict}`
        + ` ${row.name} is ahead in ${Math.round(100 * row.improvement)} % of all pairs of runs.${detect}`;
      const links = row.runs.flatMap(([seed, hash], i) => [
        i ? ", " : "", el("a", { href: address(hash) }, `seed ${seed}`), ` ${signed(row.differences[i])}`,
      ]);
      records.replaceChildren("Records: ", ...links);
    }

    plot.addEventListener("keydown", (event) => {
      const last = rows().length - 1;
      const to = { ArrowDown: state.row + 1, ArrowUp: state.row - 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      state.row = Math.max(0, Math.min(last, to));
      draw();
    });
    let before = 0;
    if (root.ResizeObserver) new ResizeObserver(() => { if (host.clientWidth !== before) { before = host.clientWidth; draw(); } }).observe(host);
    draw();
  }
  mount("forest-explorer", build);
})(typeof window === "undefined" ? globalThis : window);
