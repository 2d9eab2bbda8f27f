// One case from the list of studies to the submitted label, as a person goes.
import { onCase, LONG_MS } from './case.mjs';

export default async function play({ page, bytes, asked, seen, shot, tell }) {
  const { url, project } = asked;
  const at = onCase(page);
  const { by, state, digests, changing } = at;
  const asking = [];
  page.on('request', request => { if (request.method() === 'POST' && request.url().endsWith('/prompts')) asking.push(request.postDataJSON()); });
  const take = name => shot(`${asked.name}-${name}`);

  // the worklist, and the list of studies
  await page.goto(`${url}/`);
  await by('as-next').waitFor({ timeout: LONG_MS });
  seen.start_page = new URL(page.url()).pathname;
  await take('0-worklist');
  if (asked.lists) {
    await page.goto(`${url}/viewer/`);
    await page.getByText('Sample, MR').waitFor({ timeout: LONG_MS });
    seen.studies = await page.locator('body').innerText();
    await take('1-studies');
  }

  // open
  await page.goto(`${url}${asked.address}`);
  await at.ready();
  seen.first_load_bytes = bytes();
  if (asked.modality) {
    await by(`as-modality-${asked.modality}`).click();
    await at.wait(() => window.annotateCase?.found.modality && !window.annotateCase.desk.state.doing);
    await at.ready();
  }
  seen.panes = await at.panes();
  seen.opened = await digests();

  // draft: first one that is cancelled while the workers rest, then one to the end
  await page.selectOption('[data-cy=as-app]', asked.app);
  if (asked.cancels) {
    await tell('workers rest');
    await by('as-draft').click();
    await by('as-cancel').click({ timeout: LONG_MS });
    await page.getByText('The draft was cancelled.').waitFor({ timeout: LONG_MS });
    await tell('workers go on');
    seen.cancelled = { ...await digests(), ...await state() };
  }
  await changing(() => by('as-draft').click());
  seen.drafted = { ...await digests(), ...await state() };
  await take('2-drafted');

  // prompt: a point in each plane, about a segment of its own
  const prompted = await at.addSegment('Prompted');
  seen.prompted_index = prompted;
  const first = Number(Object.entries((await state()).counts).sort((a, b) => b[1] - a[1])[0][0]);
  seen.largest = first;
  const middle = await at.inside(first);
  // its place is made free, so that a prompt has something to fill
  await by(`as-segment-${first}`).click();
  await changing(() => by('as-delete').click());
  await by(`as-segment-${prompted}`).click();
  await by('as-prompt-point').click();
  seen.prompts = [];
  const note = async (kind, pane) => seen.prompts.push({ kind, pane, there: await at.shown(middle), ...await digests(), count: (await state()).counts[prompted] ?? 0 });
  const undo = async () => { await changing(() => page.keyboard.press('Control+z')); seen.prompts.at(-1).undone = await at.shown(middle); };
  for (const pane of seen.panes) {
    if (seen.prompts.length) await undo();
    const here = await at.pixel(pane, middle);
    await changing(() => page.mouse.click(here.x, here.y));
    await note('point', pane);
  }
  await take('3-prompted');
  seen.asked = asking.slice();
  seen.middle = middle;
  seen.intensity = await page.evaluate(([k, j, i]) => {
    const { viewer, found } = window.annotateCase;
    return window.cornerstone.cache.getImage(viewer.images[k]).voxelManager.getScalarData()[j * found.geometry.shape[2] + i];
  }, middle);

  // the other kinds, each in another plane
  const around = async (pane, ...steps) => {
    const { x, y } = await at.pixel(pane, middle);
    return steps.map(([right, down]) => ({ x: x + right, y: y + down }));
  };
  const [slices, sagittal, coronal] = seen.panes;
  for (const [kind, pane, steps] of [
    ['scribble', slices, [[-12, -4], [0, 3], [12, 0]]],
    ['lasso', sagittal, [[-14, -10], [14, -10], [14, 10], [-14, 10]]],
    ['box', coronal, [[-14, -10], [14, 10]]],
  ]) {
    await undo();
    const places = await around(pane, ...steps);
    await by(`as-prompt-${kind}`).click();
    await changing(() => at.drag(...places));
    await note(kind, pane);
  }
  seen.kinds = asking.slice(-3).map(({ kind, points_mm }) => ({ kind, points: points_mm.length }));

  // undo and redo by keys
  const after = await digests();
  await changing(() => page.keyboard.press('Control+z'));
  const undone = await digests();
  await changing(() => page.keyboard.press('Control+Shift+Z'));
  seen.history = { after, undone, redone: await digests() };

  // brush, eraser, in the slices as acquired
  const [k] = middle;
  const [, nj, ni] = await page.evaluate(() => window.annotateCase.found.geometry.shape);
  const row = Math.round(nj * 0.3);
  const onStroke = [k, row, Math.round(ni * 0.5)];
  const stroke = async () => [await at.pixel(slices, [k, row, Math.round(ni * 0.42)]), await at.pixel(slices, [k, row, Math.round(ni * 0.58)])];
  const [from, to] = await stroke();
  await by('as-hand-CircularBrush').click();
  await changing(() => at.drag(from, to));
  seen.brushed = { ...await digests(), there: await at.shown(onStroke), before: after.stored };
  await take('4-brushed');
  await changing(() => page.keyboard.press('Control+z'));
  seen.unbrushed = await digests();
  await changing(() => page.keyboard.press('Control+Shift+Z'));

  // a locked segment cannot be painted over or erased; a free one can be
  const other = await at.addSegment('Other');
  await by(`as-lock-${prompted}`).click();
  await at.wait(index => window.annotateCase.desk.state.locked.includes(index), prompted);
  const count = async () => (await state()).counts[prompted];
  seen.locked = { index: prompted, before: await count() };
  for (const tool of ['CircularEraser', 'CircularBrush']) {
    await by(`as-segment-${other}`).click();
    await by(`as-hand-${tool}`).click();
    await at.drag(from, to);
    await page.waitForTimeout(1200);
    await at.saved();
    seen.locked[tool] = await at.shown(onStroke);
  }
  seen.locked.after = await count();
  await by(`as-lock-${prompted}`).click();
  await at.wait(() => !window.annotateCase.desk.state.locked.length);
  await by(`as-segment-${other}`).click();
  await by('as-hand-CircularEraser').click();
  await changing(() => at.drag(from, to));
  seen.erased = { ...await digests(), there: await at.shown(onStroke) };
  await changing(() => page.keyboard.press('Control+z'));

  // the page is loaded again: everything is there
  const kept = { ...await digests(), ...await state() };
  await page.reload();
  await at.wait(() => window.annotateCase && !window.annotateCase.desk.state.doing && window.annotateCase.desk.state.counts.size);
  await at.ready();
  seen.reloaded = { before: kept, after: { ...await digests(), ...await state() }, can_undo: await by('as-undo').isEnabled() };
  await page.keyboard.press('?');
  await by('as-keys').waitFor();
  await take('5-reloaded-keys');
  await page.keyboard.press('?');

  // submit
  seen.submitted = await digests();
  await page.keyboard.press('Control+Enter');
  await by('as-done').waitFor({ timeout: LONG_MS });
  await take('6-submitted');
}
