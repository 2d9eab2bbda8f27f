// What the README says of the demonstration: open the address, take the next case, draft, correct, submit.
import { onCase, LONG_MS } from './case.mjs';

export default async function play({ page, bytes, asked, seen, shot }) {
  const at = onCase(page);
  const began = Date.now();
  const now = name => { seen.seconds[name] = (Date.now() - began) / 1000; };
  seen.seconds = {};
  await page.goto(asked.url);
  await at.by('as-next').waitFor({ timeout: LONG_MS });
  now('worklist');
  await page.selectOption('[data-cy=as-project]', 'demo_ct');
  await page.locator('[aria-label=Cases] li').first().waitFor({ timeout: LONG_MS });
  await at.by('as-next').click();
  await at.ready(false);
  now('opened');
  // the next case may be one whose file names no modality: the panel asks
  if (await at.by('as-modality-CT').count()) {
    await at.by('as-modality-CT').click();
    await at.wait(() => window.annotateCase?.found.modality && !window.annotateCase.desk.state.doing);
    await at.ready(false);
  }
  const ordered = page.waitForResponse(response => response.url().endsWith('/draft'), { timeout: LONG_MS });
  await at.by('as-draft').click();
  await ordered;
  await page.waitForTimeout(200);
  await at.by('as-draft').waitFor({ timeout: LONG_MS }); // a button to cancel stands there meanwhile
  await at.saved();
  now('drafted');
  seen.drafted = (await at.state()).counts;
  const [lung] = (await at.state()).segments;
  await page.keyboard.press('1');
  await page.keyboard.press('b');
  const [pane] = await at.panes();
  const where = await at.inside(lung.index);
  const from = await at.pixel(pane, where);
  await page.keyboard.press('e');
  await at.changing(() => at.drag(from, { x: from.x + 30, y: from.y + 10 }));
  seen.erased = await at.shown(where);
  await page.keyboard.press('b');
  await at.changing(() => at.drag(from, { x: from.x + 30, y: from.y + 10 }));
  seen.brushed = await at.shown(where);
  seen.lung = lung.index;
  now('corrected');
  await shot('corrected');
  seen.case = await page.evaluate(() => window.annotateCase.found.id);
  Object.assign(seen, await at.digests());
  await page.keyboard.press('Control+Enter');
  await at.by('as-done').waitFor({ timeout: LONG_MS });
  now('submitted');
  seen.bytes = bytes();
}
