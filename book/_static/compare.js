/* Image and anomaly map with a slider between them; without this script both stand side by side. */
document.addEventListener("DOMContentLoaded", () => {
  for (const figure of document.querySelectorAll("figure.compare")) {
    const cases = [...figure.querySelectorAll(".case")];
    const choices = figure.querySelector(".choices");
    const buttons = [...choices.querySelectorAll("button")];
    const label = figure.querySelector("label");
    const slider = label.querySelector("input");
    const cut = () => figure.style.setProperty("--cut", `${slider.value}%`);
    const choose = (chosen) => {
      slider.value = cases[chosen].dataset.cut;
      cut();
      cases.forEach((one, place) => (one.hidden = place !== chosen));
      buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(place === chosen)));
    };
    figure.classList.add("live");
    label.hidden = false;
    choices.hidden = !buttons.length;
    slider.addEventListener("input", cut);
    buttons.forEach((button, place) => button.addEventListener("click", () => choose(place)));
    // the pictures themselves can be dragged across, too
    for (const panes of figure.querySelectorAll(".panes")) {
      panes.addEventListener("pointermove", (event) => {
        if (event.pointerType !== "mouse") return;
        const box = panes.getBoundingClientRect();
        slider.value = Math.round((100 * (event.clientX - box.left)) / box.width);
        cut();
      });
    }
    choose(0);
  }
});
