/* Gallery: an image and one of its maps with a divider between them; the pictures are those of the still rows. */
(function (root) {
  "use strict";
  if (typeof document === "undefined") return;
  const { el, slider, choice, readout, mount } = root.Live;

  function build(host, data, still) {
    const pictures = [...still.querySelectorAll(".strip")].map((strip) => [...strip.querySelectorAll("img")]);
    let chosen = 0, map = data.maps.length - 1;
    const under = el("img"), over = el("img", { class: "over" });
    const stage = el("div", { class: "live-stage" }, [under, over]);
    const text = readout();
    const thumbs = data.maps.map((name, place) => {
      const button = el("button", { type: "button" }, [el("img", { alt: "" }), name]);
      button.addEventListener("click", () => { map = place; show(); });
      return button;
    });
    const names = data.cases.map((one, place) => [place, `${place + 1}. ${one.name}: ${one.verdict}`]);
    const list = choice("Image, failures first", names, 0, (value) => { chosen = +value; show(); });
    const step = (by) => {
      chosen = (chosen + by + data.cases.length) % data.cases.length;
      list.select.value = chosen;
      show();
    };
    const button = (label, by) => el("button", { type: "button", onclick: () => step(by) }, label);
    const cut = slider("Map from", { min: 0, max: 100, value: 50, show: (v) => `${v} % of the width on`, change: move });
    function move(value) { stage.style.setProperty("--cut", `${value}%`); }

    function show() {
      const one = data.cases[chosen], peak = one.peaks[map], limit = data.thresholds[map];
      const copy = (to, from) => { to.src = from.src; to.alt = from.alt; };
      copy(under, pictures[chosen][0]);
      copy(over, pictures[chosen][map + 1]);
      thumbs.forEach((thumb, place) => {
        thumb.firstElementChild.src = pictures[chosen][place + 1].src;
        thumb.setAttribute("aria-pressed", String(place === map));
      });
      text.textContent = `${one.name}: ${one.verdict}. Map shown: ${data.maps[map]}, largest value ${peak.toFixed(2)}, `
        + `${peak > limit ? "above" : "not above"} its threshold of ${limit.toFixed(2)}. `
        + `Score ${one.peaks[one.peaks.length - 1].toFixed(3)}.`;
    }
    host.append(
      el("div", { class: "live-controls" }, [list.node, button("Previous", -1), button("Next", 1), cut.node]),
      el("div", { class: "live-panels" }, [stage, el("div", {}, [
        el("div", { class: "live-thumbs", role: "group", "aria-label": "Map" }, thumbs), text])]));
    move(50);
    show();
  }
  mount("map-gallery", build);
})(typeof window === "undefined" ? globalThis : window);
