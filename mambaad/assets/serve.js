/* The page of `mambaad serve`: images are sent one after the other, each answer goes to the top of the list. */
const by = id => document.getElementById(id), drop = by('drop'), file = by('file');
let queue = Promise.resolve(), waiting = 0;

function say() {
  const hint = 'Drag across a picture, or focus it and use the arrow keys, to compare it with its map.';
  by('status').textContent = waiting ? `${waiting} to do …` : document.querySelector('.mb-compare') ? hint : '';
}

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function picture(source, alt) {
  const made = new Image();
  made.src = source;
  made.alt = alt;
  return made;
}

function answered(name, found) {
  const item = element('li');
  const verdict = found.verdict || 'no verdict';
  item.append(element('h2', verdict, {OK: 'ok', 'not OK': 'bad'}[verdict]));
  const limit = found.threshold === null ? '' : `, threshold ${found.threshold.toPrecision(4)}`;
  item.append(element('p', `score ${found.score.toPrecision(4)}${limit}`, 'score'));
  const box = element('div', undefined, 'mb-compare');
  box.append(picture(found.image, name), picture(found.overlay, `${name} with its anomaly map`));
  item.append(box);
  item.append(element('p', `${name}, ${found.width} × ${found.height} pixels, ${found.milliseconds} ms`, 'note'));
  by('results').prepend(item);
  mambaadViewer.compare(box);
}

function refused(name, reason) {
  const item = element('li');
  item.append(element('h2', 'not scored', 'bad'), element('p', `${name}: ${reason}`, 'error'));
  by('results').prepend(item);
}

async function send(image) {
  const category = by('category') ? by('category').value : served.fallback;
  const name = image.name || 'pasted image';
  try {
    if (image.size > served.largest) throw new RangeError(served.tooLarge);
    const answer = await fetch(`score?category=${encodeURIComponent(category)}`, {method: 'POST', body: image});
    const found = await answer.json();
    if (answer.ok) answered(name, found);
    else refused(name, found.error);
  } catch (error) {
    const lost = 'the server does not answer: is it still running?';
    refused(name, error instanceof RangeError ? error.message : lost);
  }
  waiting -= 1;
  say();
}

function take(images) {
  for (const image of images) {
    waiting += 1;
    queue = queue.then(() => send(image));
  }
  say();
}

file.addEventListener('change', () => { take([...file.files]); file.value = ''; });
document.addEventListener('paste', event => take([...event.clipboardData.files]));
document.addEventListener('dragover', event => { event.preventDefault(); drop.classList.add('over'); });
document.addEventListener('dragleave', () => drop.classList.remove('over'));
document.addEventListener('drop', event => {
  event.preventDefault();
  drop.classList.remove('over');
  take([...event.dataTransfer.files]);
});
