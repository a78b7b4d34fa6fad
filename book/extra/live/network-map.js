/* Network map: what stands behind each box of the drawing, as mambaad.study.network_map computed it. */
(function (root) {
  "use strict";
  if (typeof document === "undefined") return;
  const { el, mount } = root.Live;

  function build(host, boxes, drawing) {
    const panel = el("div", { class: "live-read", "aria-live": "polite", style: "min-height:11em" });
    const groups = [...drawing.querySelectorAll("[data-box]")];
    const number = (value, unit) => (value ? `${value < 0.001 ? value.toExponential(1) : value.toFixed(3)} ${unit}` : "none");
    function choose(group) {
      const box = boxes[group.dataset.box];
      groups.forEach((other) => other.classList.toggle("chosen", other === group));
      groups.forEach((other) => other.setAttribute("aria-pressed", String(other === group)));
      const rows = [["Computes", box.equation], ["Shape", box.shape], ["Parameters", number(box.params_m, "M")], ["FLOPs", number(box.flops_g, "· 10⁹")], ["Source", box.file]];
      panel.replaceChildren(el("strong", {}, box.title), el("dl", { class: "facts" }, rows.filter(([, text]) => text)
        .flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, name === "Source" ? el("code", {}, text) : text)])));
    }
    groups.forEach((group, i) => {
      group.setAttribute("role", "button");
      group.setAttribute("tabindex", "0");
      group.setAttribute("aria-label", boxes[group.dataset.box].title);
      group.addEventListener("click", () => choose(group));
      group.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") choose(group);
        else if (event.key === "ArrowDown" || event.key === "ArrowRight") groups[(i + 1) % groups.length].focus();
        else if (event.key === "ArrowUp" || event.key === "ArrowLeft") groups[(i + groups.length - 1) % groups.length].focus();
        else return;
        event.preventDefault();
      });
    });
    host.append(el("div", { class: "live-panels" }, [drawing, panel]));
    choose(drawing.querySelector('[data-box="scan"]'));
  }
  mount("network-map", build);
})(typeof window === "undefined" ? globalThis : window);
