// One case from the list of studies to the submitted label, as a person goes: node journey.mjs '{"url": …}'
// Prints one JSON object: what was seen at each step, and what went wrong on the page.
import path from 'node:path';
import { opened, sleep } from './browser.mjs';

const asked = JSON.parse(process.argv[2]);
const { url, project, shots } = asked;
const LONG_MS = 90_000;
const seen = {};
const { browser, page, wrong, foreign, bytes } = await opened(asked);
const shot = name => page.screenshot({ path: path.join(shots, `${asked.name}-${name}.png`) });
const button = name => page.locator(`[data-cy=${name}]`);
const asking = [];
page.on('request', request => { if (request.method() === 'POST' && request.url().endsWith('/prompts')) asking.push(request.postDataJSON()); });
const state = () => page.evaluate(() => {
  const { desk } = window.annotateCase;
  return { revision: desk.state.revision, counts: Object.fromEntries(desk.state.counts), problem: desk.state.problem?.message ?? '', unsent: desk.state.hasUnsent, doing: desk.state.doing };
});

/** SHA-256 of the voxels that the viewer shows, k, j, i; and of those that the server answers with. */
const digests = () => page.evaluate(async () => {
  const { desk, viewer, found } = window.annotateCase;
  const [nk, nj, ni] = found.geometry.shape;
  const shown = new Uint8Array(nk * nj * ni);
  for (let k = 0; k < nk; k++) shown.set(viewer.arrays[k], k * nj * ni);
  const content = new Uint8Array(await (await fetch(`/api/v1/sessions/${desk.id}/labelmap`)).arrayBuffer());
  const stored = content.subarray(8 + new DataView(content.buffer).getUint32(4, true));
  const hex = async data => [...new Uint8Array(await crypto.subtle.digest('SHA-256', data))].map(byte => byte.toString(16).padStart(2, '0')).join('');
  return { shown: await hex(shown), stored: await hex(stored) };
});

/** Wait until the revision has moved on from one and nothing is under way. */
const moved = from => page.waitForFunction(before => {
  const { desk } = window.annotateCase;
  return desk.state.revision > before && !desk.state.doing && !desk.state.hasUnsent;
}, from, { timeout: LONG_MS });

/** Where on the page the centre of a voxel (k, j, i) is, in a pane that is brought to show it. */
const pixel = (pane, index) => page.evaluate(async ([id, [k, j, i]]) => {
  const { geometry: g } = window.annotateCase.found;
  const at = [0, 1, 2].map(n => g.origin_mm[n] + k * g.spacing_mm[0] * g.direction[0][n] + j * g.spacing_mm[1] * g.direction[1][n] + i * g.spacing_mm[2] * g.direction[2][n]);
  const view = window.services.cornerstoneViewportService.getCornerstoneViewport(id);
  view.jumpToWorld(at);
  view.render();
  await new Promise(done => setTimeout(done, 500));
  const [x, y] = view.worldToCanvas(at);
  const { left, top } = view.element.getBoundingClientRect();
  return { x: left + x, y: top + y };
}, [pane, index]);

/** A voxel well inside a segment: where most of its own kind lie in the row. */
const inside = segment => page.evaluate(wanted => {
  const { viewer, found } = window.annotateCase;
  const [nk, nj, ni] = found.geometry.shape;
  let best = [0, null];
  for (let k = 0; k < nk; k++) {
    for (let j = 2; j < nj - 2; j++) {
      let run = 0;
      for (let i = 0; i < ni; i++) {
        run = viewer.arrays[k][j * ni + i] === wanted ? run + 1 : 0;
        const depth = Math.min(k, nk - 1 - k, 6) / 6;
        if (run * depth > best[0]) best = [run * depth, [k, j, i - (run >> 1)]];
      }
    }
  }
  return best[1];
}, segment);
const voxel = index => page.evaluate(([k, j, i]) => window.annotateCase.viewer.arrays[k][j * window.annotateCase.found.geometry.shape[2] + i], index);

async function drag(from, to) {
  await page.mouse.move(from.x, from.y);
  await page.mouse.down();
  await page.mouse.move((from.x + to.x) / 2, (from.y + to.y) / 2, { steps: 4 });
  await page.mouse.move(to.x, to.y, { steps: 4 });
  await page.mouse.up();
}

try {
  // the worklist, and the list of studies
  await page.goto(`${url}/`);
  await page.waitForSelector('[data-cy=as-next]', { timeout: LONG_MS });
  seen.start_page = new URL(page.url()).pathname;
  await shot('0-worklist');
  await page.goto(`${url}/viewer/`);
  await page.waitForSelector('table tbody tr', { timeout: LONG_MS });
  await sleep(1000);
  await shot('1-studies');

  // open
  await page.goto(`${url}${asked.address}`);
  await page.waitForSelector('[data-cy=as-submit]', { timeout: LONG_MS });
  await page.waitForFunction(() => window.annotateCase && !window.annotateCase.desk.state.doing, null, { timeout: LONG_MS });
  await sleep(2000);
  seen.first_load_bytes = bytes();
  if (asked.modality) {
    await button(`as-modality-${asked.modality}`).click();
    await page.waitForFunction(() => window.annotateCase?.found.modality && !window.annotateCase.desk.state.doing, null, { timeout: LONG_MS });
    await sleep(2000);
  }
  seen.panes = await page.evaluate(() => window.annotateCase.viewer.panes());
  seen.opened = await digests();

  // draft
  let before = (await state()).revision;
  if (asked.app) await page.selectOption('[data-cy=as-app]', asked.app);
  await button('as-draft').click();
  await moved(before);
  await sleep(1500);
  seen.drafted = { ...await digests(), ...await state() };
  await shot('2-drafted');

  // prompt: a point in each plane, about a segment of its own
  await page.fill('[aria-label="Name of a new segment"]', 'Prompted');
  before = (await state()).revision;
  await button('as-add-segment').click();
  await moved(before);
  const prompted = await page.evaluate(() => window.annotateCase.desk.state.segments.find(each => each.name === 'Prompted').index);
  seen.prompted_index = prompted;
  const first = Number(Object.entries((await state()).counts).sort((a, b) => b[1] - a[1])[0][0]);
  seen.largest = first;
  const middle = await inside(first);
  // its place is made free, so that a prompt has something to fill
  before = (await state()).revision;
  await button(`as-segment-${first}`).click();
  await button('as-delete').click();
  await moved(before);
  await button(`as-segment-${prompted}`).click();
  await button('as-prompt-point').click();
  seen.prompts = [];
  for (const pane of seen.panes) {
    before = (await state()).revision;
    const at = await pixel(pane, middle);
    const began = Date.now();
    await page.mouse.move(at.x, at.y);
    await page.mouse.down();
    await page.mouse.up();
    await moved(before);
    seen.prompts.push({ pane, ms: Date.now() - began, there: await voxel(middle), ...await digests(), count: (await state()).counts[prompted] });
    if (pane !== seen.panes.at(-1)) {
      before = (await state()).revision;
      await page.keyboard.press('Control+z');
      await moved(before);
      seen.prompts.at(-1).undone = await voxel(middle);
    }
  }
  await shot('3-prompted');

  seen.asked = asking;
  seen.middle = middle;
  seen.intensity = await page.evaluate(([k, j, i]) => {
    const { viewer, found } = window.annotateCase;
    return window.cornerstone.cache.getImage(viewer.images[k]).voxelManager.getScalarData()[j * found.geometry.shape[2] + i];
  }, middle);

  // undo and redo by keys
  const after = await digests();
  before = (await state()).revision;
  await page.keyboard.press('Control+z');
  await moved(before);
  const undone = await digests();
  before = (await state()).revision;
  await page.keyboard.press('Control+Shift+Z');
  await moved(before);
  seen.history = { after, undone, redone: await digests() };

  // brush and eraser, in the slices as acquired
  const pane = seen.panes[0];
  await button('as-hand-CircularBrush').click();
  const [k, j, i] = middle;
  const [, nj, ni] = await page.evaluate(() => window.annotateCase.found.geometry.shape);
  const [from, to] = [await pixel(pane, [k, Math.round(nj * 0.3), Math.round(ni * 0.4)]), await pixel(pane, [k, Math.round(nj * 0.3), Math.round(ni * 0.6)])];
  before = (await state()).revision;
  await drag(from, to);
  await moved(before);
  seen.brushed = { ...await digests(), there: await voxel([k, Math.round(nj * 0.3), Math.round(ni * 0.5)]), before: after.stored };
  await shot('4-brushed');
  before = (await state()).revision;
  await page.keyboard.press('Control+z');
  await moved(before);
  seen.unbrushed = await digests();
  before = (await state()).revision;
  await page.keyboard.press('Control+Shift+Z');
  await moved(before);

  // a locked segment cannot be painted over
  await button(`as-lock-${prompted}`).click();
  await page.waitForFunction(index => window.annotateCase.desk.state.locked.includes(index), prompted, { timeout: LONG_MS });
  const locked = await digests();
  await button('as-hand-CircularEraser').click();
  await drag(from, to);
  await sleep(2500);
  seen.locked = { before: locked, after: await digests(), problem: (await state()).problem };
  await button(`as-lock-${prompted}`).click();
  await page.waitForFunction(() => !window.annotateCase.desk.state.locked.length, null, { timeout: LONG_MS });

  // the page is loaded again: everything is there
  const kept = { ...await digests(), revision: (await state()).revision };
  await page.reload();
  await page.waitForFunction(() => window.annotateCase && !window.annotateCase.desk.state.doing && window.annotateCase.desk.state.counts.size, null, { timeout: LONG_MS });
  await sleep(2500);
  seen.reloaded = { before: kept, after: await digests(), can_undo: await button('as-undo').isEnabled() };
  await page.keyboard.press('?');
  await page.waitForSelector('[data-cy=as-keys]');
  await shot('5-reloaded-keys');
  await page.keyboard.press('?');

  // submit
  seen.submitted = await digests();
  await button('as-submit').click();
  await page.waitForSelector('[data-cy=as-done]', { timeout: LONG_MS });
  await sleep(1500);
  await shot('6-submitted');
} catch (error) {
  seen.failed = String(error.stack ?? error).slice(0, 1500);
  await shot('failed').catch(() => undefined);
  seen.panel = await page.locator('[data-cy=as-panel]').innerText().catch(() => '');
}
await browser.close();
console.log(JSON.stringify({ seen, wrong, foreign: [...foreign] }));
