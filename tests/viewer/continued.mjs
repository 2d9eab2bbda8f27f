// A session that another client began: the same voxels, its history, and where to look again.
import { onCase } from './case.mjs';

export default async function play({ page, asked, seen, shot }) {
  const at = onCase(page);
  await page.goto(`${asked.url}${asked.address}`);
  await at.ready();
  seen.opened = await at.digests();
  await at.changing(() => page.keyboard.press('Control+z'));
  seen.undone = await at.digests();
  await at.changing(() => page.keyboard.press('Control+Shift+z'));
  seen.redone = await at.digests();

  // where the draft is no longer what the model made
  const sliceShown = () => page.evaluate(() => window.annotateCase.viewer.sight.sliceShown());
  seen.slice_before = await sliceShown();
  await page.keyboard.press('j');
  await at.wait(k => window.annotateCase.viewer.sight.sliceShown() === k, asked.changed);
  await at.by('as-panel').getByText('1 changed').waitFor();
  seen.drafted_by = await at.by('as-drafted-by').innerText();
  await page.keyboard.press('m');
  await at.wait(() => document.querySelector('[data-cy=as-model-outline]').ariaPressed === 'true' && !window.annotateCase.desk.state.doing);
  await at.frames();
  seen.outlined = await at.digests();
  await shot('outlines');

  await at.by('as-theme').click();
  seen.theme = await page.evaluate(() => document.documentElement.dataset.annotateTheme);
  await shot('light');
  await page.goto(`${asked.url}/viewer/worklist`);
  await at.by('as-refused').locator('summary').click();
  seen.refused = await at.by('as-refused').innerText();
}
