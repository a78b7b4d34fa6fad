/* What the interactive figures share: elements, controls with labels, and the switch from the still picture. */
(function (root) {
  "use strict";
  const NS = "http://www.w3.org/2000/svg";

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of [].concat(children === undefined ? [] : children)) node.append(child);
    return node;
  }
  const el = (tag, attributes, children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, children) => fill(document.createElementNS(NS, tag), attributes, children);

  /* A labelled slider; `show(value)` is its text, spoken too. Returns {node, get, set}. */
  function slider(label, { min, max, step = 1, value, show = String, change }) {
    const text = el("span");
    const input = el("input", { type: "range", min, max, step, value });
    const tell = () => {
      text.textContent = `${label}: ${show(+input.value)}`;
      input.setAttribute("aria-valuetext", show(+input.value));
    };
    input.addEventListener("input", () => { tell(); change(+input.value); });
    tell();
    return {
      node: el("label", {}, [text, input]), input, get: () => +input.value,
      set(value, top) { if (top !== undefined) input.max = top; input.value = value; tell(); },
    };
  }

  /* A labelled list of choices: options are [value, text] pairs. */
  function choice(label, options, value, change) {
    const select = el("select", {}, options.map(([v, t]) => el("option", { value: v }, t)));
    select.value = value;
    select.addEventListener("change", () => change(select.value));
    return { node: el("label", {}, [label, select]), select, get: () => select.value };
  }

  function check(label, value, change) {
    const input = el("input", { type: "checkbox" });
    input.checked = value;
    input.addEventListener("change", () => change(input.checked));
    return { node: el("label", { class: "check" }, [input, label]), input, get: () => input.checked };
  }

  /* A play button that calls `tick()` until it returns false; one step a press where motion is not wanted. */
  function player(tick, milliseconds) {
    const still = root.matchMedia && root.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const button = el("button", { type: "button" }, still ? "Next step" : "Play");
    let timer = null;
    const stop = () => { clearInterval(timer); timer = null; if (!still) button.textContent = "Play"; };
    button.addEventListener("click", () => {
      if (still) return void tick();
      if (timer) return stop();
      button.textContent = "Pause";
      timer = setInterval(() => { if (!tick()) stop(); }, milliseconds());
    });
    return { node: button, stop };
  }

  const panel = (title, node) => el("div", { class: "live-panel" }, [el("p", { class: "title" }, title), node]);
  const readout = () => el("p", { class: "live-read", "aria-live": "polite" });

  /* Puts the working figure in the place of the still picture, for every <figure data-live=name> of the page. */
  function mount(name, build) {
    for (const figure of document.querySelectorAll(`figure[data-live="${name}"]:not([data-ready])`)) {
      figure.dataset.ready = "";
      const data = figure.querySelector("script[type='application/json']");
      const host = el("div", { class: "live-host" });
      const still = figure.querySelector(".live-still");
      build(host, data ? JSON.parse(data.textContent) : null, still && still.firstElementChild);
      if (still) still.replaceWith(host); else figure.prepend(host);
    }
  }

  const api = { el, svg, slider, choice, check, player, panel, readout, mount };
  root.Live = api;
})(typeof window === "undefined" ? globalThis : window);
