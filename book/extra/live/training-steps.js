/* One image through the steps of a training: a slider over the pictures of the still rows. */
(function (root) {
  "use strict";
  if (typeof document === "undefined") return;
  const { el, slider, player, panel, readout, mount } = root.Live;

  function build(host, data, still) {
    const pictures = [...still.querySelectorAll(".strip")].map((strip) => [...strip.querySelectorAll("img")]);
    const shown = [el("img"), el("img")];
    const text = readout();
    const last = data.length - 1;
    const at = slider("Training step", { min: 0, max: last, value: last, show: (v) => String(data[v][0]), change: show });
    const tick = () => {
      const next = at.get() < last ? at.get() + 1 : 0;
      at.set(next);
      show(next);
      return next < last;
    };
    const play = player(tick, () => 900);

    function show(place) {
      const [step, defective, good] = data[place];
      shown.forEach((image, k) => { image.src = pictures[place][k].src; image.alt = pictures[place][k].alt; });
      text.textContent = `After ${step} steps the defective image scores ${defective.toFixed(3)}, its good twin `
        + `${good.toFixed(3)}: ${(defective / good).toFixed(1)} times as much.`;
    }
    const stage = (title, image) => panel(title, el("div", { class: "live-stage" }, image));
    host.append(
      el("div", { class: "live-controls" }, [at.node, play.node]),
      el("div", { class: "live-panels pair" }, [stage("Defective image", shown[0]), stage("Good twin", shown[1])]),
      text);
    show(last);
  }
  mount("training-steps", build);
})(typeof window === "undefined" ? globalThis : window);
