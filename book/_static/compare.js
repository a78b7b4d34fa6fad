/* Of several images that are compared with their maps, the one that is chosen; without this script all are shown. */
document.addEventListener("DOMContentLoaded", () => {
  for (const figure of document.querySelectorAll("figure.compare")) {
    const cases = [...figure.querySelectorAll(".case")];
    const choices = figure.querySelector(".choices");
    const buttons = [...choices.querySelectorAll("button")];
    const choose = (chosen) => {
      cases.forEach((one, place) => (one.hidden = place !== chosen));
      buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(place === chosen)));
    };
    choices.hidden = !buttons.length;
    buttons.forEach((button, place) => button.addEventListener("click", () => choose(place)));
    choose(0);
  }
});
