/* The verdict under each picture follows the threshold of its category. */
document.addEventListener('mb-threshold', event => {
  for (const card of document.querySelectorAll('li[data-category]')) {
    if (card.dataset.category !== event.detail.name) continue;
    const verdict = card.querySelector('b'), {value} = event.detail;
    const limit = value + card.dataset.tolerance * Math.abs(value);  // above by more than rounding
    verdict.textContent = +card.dataset.score > limit ? card.dataset.above : card.dataset.below;
    verdict.classList.toggle('wrong', /missed|alarm/.test(verdict.textContent));
  }
});
