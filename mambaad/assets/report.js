/* The verdict under each picture follows the threshold of its category. */
document.addEventListener('mb-threshold', event => {
  for (const card of document.querySelectorAll('li[data-category]')) {
    if (card.dataset.category !== event.detail.name) continue;
    const verdict = card.querySelector('b');
    verdict.textContent = +card.dataset.score > event.detail.value ? card.dataset.above : card.dataset.below;
    verdict.classList.toggle('wrong', /missed|alarm/.test(verdict.textContent));
  }
});
