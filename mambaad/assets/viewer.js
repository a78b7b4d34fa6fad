/* Two components of this project's pages, for elements that are there and readable without a script:

   .mb-compare   two pictures of one size; becomes one picture with a divider to move
   .mb-curves    curves and a table at one threshold; gets a slider that moves the threshold

   Nothing is loaded from anywhere. `mambaadViewer.compare(element)` serves pages that make elements later. */
(() => {
  'use strict';

  function slider(label, low, high, value) {
    const range = document.createElement('input');
    Object.assign(range, {type: 'range', min: low, max: high, step: 1, value});
    range.setAttribute('aria-label', label);
    return range;
  }

  /* data-at: where the divider starts, in percent; left of it is the first picture, right of it the second.
     Returns a function that moves the divider. */
  function compare(box) {
    if (box.mbMove) return box.mbMove;
    const [first, second] = box.querySelectorAll('img');
    const range = slider(`divider between ${first.alt} and ${second.alt}`, 0, 100, box.dataset.at || 50);
    const show = () => {
      box.style.setProperty('--mb-cut', `${range.value}%`);
      box.classList.toggle('mb-whole', range.value % 100 === 0);
      range.setAttribute('aria-valuetext', `${range.value} percent of the first picture`);
    };
    range.addEventListener('input', show);
    box.classList.add('mb-on');
    box.append(range);
    show();
    box.mbMove = at => { range.value = at; show(); };
    return box.mbMove;
  }

  /* The JSON inside holds columns of equal length, one row per threshold, ascending; null is undefined.
     .mb-dot       a point of a curve: data-x and data-y name columns, data-xmax is the right end of the axis
     .mb-line      a line over a histogram from data-low to data-high
     [data-column] a number of the row at hand: data-of "n" for "3 of n", data-percent for shares */
  function curves(figure) {
    if (figure.mbReady) return;
    figure.mbReady = true;
    const data = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    const rows = data.columns.threshold.length;
    const name = figure.dataset.name || '';
    const range = slider(`threshold${name && ' of ' + name}`, 0, rows - 1, data.start);
    const bar = document.createElement('div');
    bar.className = 'mb-bar';
    const caption = document.createElement('span');
    caption.textContent = 'Threshold';
    bar.append(caption, range);
    for (const [label, row] of data.marks) {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = label;
      button.addEventListener('click', () => { range.value = row; show(); });
      bar.append(button);
    }
    figure.prepend(bar);

    function text(value, cell) {
      if (value === null) return 'undefined';
      if (cell.dataset.of) return `${value} of ${cell.dataset.of}`;
      if (cell.dataset.percent !== undefined) return `${(100 * value).toFixed(value < 0.01 ? 3 : 1)} %`;
      return value.toPrecision(4);
    }

    function show() {
      const row = +range.value, at = column => data.columns[column][row];
      for (const dot of figure.querySelectorAll('.mb-dot')) {
        const x = at(dot.dataset.x), y = at(dot.dataset.y), end = +dot.dataset.xmax;
        dot.style.display = x === null || y === null || x > end ? 'none' : '';
        if (x !== null && y !== null) {
          dot.setAttribute('cx', 100 * x / end);
          dot.setAttribute('cy', 100 - 100 * y);
        }
      }
      const value = at('threshold');
      for (const line of figure.querySelectorAll('.mb-line')) {
        const {low, high} = line.dataset, width = line.ownerSVGElement.viewBox.baseVal.width;
        const span = high - low || 1;  // of equal scores, which text may round to one
        const x = Math.min(Math.max((value - low) / span, 0), 1) * width;
        line.setAttribute('x1', x);
        line.setAttribute('x2', x);
      }
      const said = [];
      for (const cell of figure.querySelectorAll('[data-column]')) {
        cell.textContent = text(at(cell.dataset.column), cell);
        if (cell.dataset.of) said.push(`${cell.dataset.label} ${cell.textContent}`);
      }
      range.setAttribute('aria-valuetext', [value.toPrecision(4), ...said].join(', '));
      figure.dispatchEvent(new CustomEvent('mb-threshold', {bubbles: true, detail: {name, value}}));
    }

    range.addEventListener('input', show);
    show();
  }

  function all(root = document) {
    root.querySelectorAll('.mb-compare').forEach(compare);
    root.querySelectorAll('.mb-curves').forEach(curves);
  }

  window.mambaadViewer = {all, compare, curves};
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', () => all());
  else all();
})();
