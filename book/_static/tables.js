/* Tables of the book: columns sort by a click on their head, further columns open by a button.  Without this script all
   columns are shown in the order of the page. */
document.addEventListener("DOMContentLoaded", () => {
  const value = (cell) => {
    const text = cell.textContent.trim().replace("−", "-").replace("±", " ");
    const number = parseFloat(text.replace("+", ""));
    return Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const compare = (a, b) => {
    const empty = (v) => v === "–" || v === "";
    if (empty(a) || empty(b)) return empty(a) - empty(b);
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  };

  for (const box of document.querySelectorAll("div.numbers")) {
    const table = box.querySelector("table");
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];

    heads.forEach((head, column) => {
      if (!head.textContent.trim() || original.length < 3) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        // first the largest number, or the text in order; then the other way; then the page's own order
        const numeric = original.some((row) => typeof value(row.cells[column]) === "number");
        const turns = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
        const next = now === turns[0] ? turns[1] : now === turns[1] ? null : turns[0];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        const rows = [...original];
        if (next) {
          head.setAttribute("aria-sort", next);
          const sign = next === "ascending" ? 1 : -1;
          rows.sort((a, b) => {
            const [x, y] = [value(a.cells[column]), value(b.cells[column])];
            const last = ["–", ""].includes(x) || ["–", ""].includes(y);
            return last ? compare(x, y) : sign * compare(x, y);
          });
        }
        body.append(...rows);
      });
    });

    const more = box.querySelector("button.more");
    if (more) {
      const what = more.textContent.replace(/^Show /, "");
      const fold = (folded) => {
        box.classList.toggle("folded", folded);
        more.textContent = (folded ? "Show " : "Hide ") + what;
        more.setAttribute("aria-expanded", String(!folded));
        // the heads above span only what is shown
        let place = 0;
        for (const head of table.tHead.rows.length > 1 ? table.tHead.rows[0].cells : []) {
          const span = Number(head.dataset.span || head.colSpan);
          head.dataset.span = span;
          const shown = heads.slice(place, place + span).filter((h) => !folded || !h.classList.contains("more")).length;
          place += span;
          head.hidden = !shown;
          if (shown) head.colSpan = shown;
        }
      };
      more.hidden = false;
      more.addEventListener("click", () => fold(!box.classList.contains("folded")));
      fold(true);
    }

    const search = box.querySelector("input[type=search]");
    if (search) {
      const count = box.querySelector("output");
      search.addEventListener("input", () => {
        const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
        let shown = 0;
        for (const row of original) {
          row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
          shown += !row.hidden;
        }
        count.textContent = `${shown} of ${original.length} rows`;
      });
      search.closest("label").hidden = false;
    }
  }
});
