// What goes wrong around one open case: two windows, a server that is killed, a layout that changes, a plugin that fails.
import { readFileSync } from 'node:fs';
import { packages } from './browser.mjs';
import { onCase, LONG_MS } from './case.mjs';

const axe = readFileSync(packages.resolve('axe-core/axe.min.js'), 'utf8');
const [ONE, TWO, THREE] = [[20, 10, 10], [21, 11, 12], [22, 12, 14]];

/** Serious and critical findings in a part of the page, as sentences. */
const barriers = async (page, part) => {
  await page.evaluate(axe);
  const found = await page.evaluate(where => window.axe.run(where), part);
  return found.violations.filter(each => ['serious', 'critical'].includes(each.impact))
    .map(each => `${each.id}: ${each.nodes.map(node => node.html.slice(0, 120)).join(' | ')}`);
};

export default async function play({ context, page, wrong, asked, seen, shot, tell }) {
  const { url, address } = asked;
  const at = onCase(page);
  await page.goto(`${url}/viewer/worklist`);
  await page.locator('[aria-label=Cases] li').first().waitFor({ timeout: LONG_MS });
  seen.axe = await barriers(page, 'body');
  await page.goto(`${url}${address}`);
  await at.ready();
  const index = await at.addSegment('Painted');

  // two windows on one case: both changes are kept, in both
  const second = await context.newPage();
  const other = onCase(second);
  const refused = [];
  second.on('response', response => { if (response.status() === 412) refused.push(response.url()); });
  await second.goto(`${url}${address}`);
  await other.ready();
  seen.same_session = await page.evaluate(() => window.annotateCase.desk.id) === await second.evaluate(() => window.annotateCase.desk.id);
  await at.changing(() => at.paint(ONE, index));
  await other.changing(() => other.paint(TWO, index));
  seen.two_windows = { first: await other.stored(ONE), second: await other.stored(TWO), shown_in_second: await other.shown(ONE), index };
  seen.refused_edits = refused.length;
  await second.close();
  seen.wrong_before_kill = wrong.splice(0).filter(each => !each.includes('412'));

  // the server is killed under the browser, and started again
  await tell('kill');
  await at.paint(THREE, index);
  await at.wait(() => !window.annotateCase.desk.state.isReachable);
  await page.getByText('Not connected').waitFor({ timeout: LONG_MS });
  seen.away = { problem: await at.by('as-problem').innerText(), shown: await at.shown(THREE) };
  await shot('away');
  await tell('start');
  await at.saved();
  seen.back = { stored: await at.stored(THREE), first: await at.stored(ONE), second: await at.stored(TWO), status: await at.by('as-status').innerText(), digests: await at.digests() };
  wrong.length = 0;
  // the history was not lost either
  await at.changing(() => page.keyboard.press('Control+z'));
  seen.back.undone = await at.stored(THREE);
  await at.changing(() => page.keyboard.press('Control+Shift+Z'));

  // the layout changes: the draft is shown again
  await page.evaluate(() => window.commandsManager.run('setViewportGridLayout', { numRows: 1, numCols: 1 }));
  await at.wait(() => window.annotateCase.viewer.panes().length === 1 && window.annotateCase.viewer.isShown());
  seen.layout = await at.shown(THREE);

  // surfaces in three dimensions, and back to the planes
  await at.by('as-surfaces').click();
  await at.wait(() => {
    const { segmentationService, viewportGridService } = window.services;
    return [...viewportGridService.getState().viewports.keys()].some(pane => segmentationService.getSegmentationRepresentations(pane, { segmentationId: 'annotate-draft' }).some(each => each.type === 'Surface'));
  });
  await page.waitForTimeout(2500);
  await shot('surfaces');
  seen.surfaces = { voxel: await at.shown(THREE), eval_errors: wrong.filter(each => each.includes('EvalError')) };
  await at.by('as-planes').click();
  await at.wait(() => window.annotateCase.viewer.panes().includes('annotate-slices') && window.annotateCase.viewer.isShown());
  seen.planes = { panes: (await at.panes()).length, voxel: await at.shown(THREE) };

  // who cannot see or use a mouse
  await page.keyboard.press('?');
  await at.by('as-keys').waitFor();
  seen.axe.push(...await barriers(page, '[data-cy=as-panel]'));
  seen.wrong_after = wrong.splice(0);

  // a plugin that does not load, or breaks, leaves the stock viewer
  const listed = async () => {
    await page.goto(`${url}/viewer/`);
    await page.getByText('Sample, MR').waitFor({ timeout: LONG_MS });
    return page.locator('body').innerText();
  };
  await page.route('**/viewer/plugin/extension.js', route => route.fulfill({ status: 404 }));
  seen.without_plugin = { studies: await listed(), said: wrong.some(each => each.includes('extension.js of annotate-server is left out')) };
  await page.unroute('**/viewer/plugin/extension.js');
  wrong.length = 0;
  await page.route('**/viewer/plugin/extension.js', route => route.fulfill({ contentType: 'text/javascript', body: 'throw new Error("broken")' }));
  seen.broken_plugin = { studies: await listed(), said: wrong.some(each => each.includes('left out: Error: broken')) };
  await shot('without-plugin');
  await page.unroute('**/viewer/plugin/extension.js');
  wrong.length = 0;
}
