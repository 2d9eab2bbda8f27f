// What goes wrong around one open case: node trouble.mjs '{"url": …}'. Prints one JSON object of what was seen.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { opened, sleep } from './browser.mjs';

const asked = JSON.parse(process.argv[2]);
const { url, shots, address } = asked;
const LONG_MS = 90_000;
const here = path.dirname(fileURLToPath(import.meta.url));
const axe = readFileSync(createRequire(path.resolve(here, '../../viewer_plugin/ohif/package.json')).resolve('axe-core/axe.min.js'), 'utf8');
const seen = {};
const { browser, page, wrong, foreign } = await opened(asked);
const ready = async on => {
  await on.waitForFunction(() => window.annotateCase && !window.annotateCase.desk.state.doing, null, { timeout: LONG_MS });
  await sleep(1500);
};
/** Paint a voxel as a brush would: into the viewer's array, and tell the viewer. */
const paint = (on, index, value) => on.evaluate(([[k, j, i], value]) => {
  const { viewer, found } = window.annotateCase;
  viewer.arrays[k][j * found.geometry.shape[2] + i] = value;
  viewer.redraw([k]);
}, [index, value]);
const shown = (on, index) => on.evaluate(([k, j, i]) => window.annotateCase.viewer.arrays[k][j * window.annotateCase.found.geometry.shape[2] + i], index);
const saved = on => on.waitForFunction(() => { const { state } = window.annotateCase.desk; return !state.hasUnsent && !state.doing; }, null, { timeout: LONG_MS });
const stored = (on, index) => on.evaluate(async ([k, j, i]) => {
  const { desk, found } = window.annotateCase;
  const content = new Uint8Array(await (await fetch(`/api/v1/sessions/${desk.id}/labelmap`)).arrayBuffer());
  const [, nj, ni] = found.geometry.shape;
  return content[8 + new DataView(content.buffer).getUint32(4, true) + (k * nj + j) * ni + i];
}, index);
const [ONE, TWO, THREE] = [[20, 10, 10], [21, 11, 12], [22, 12, 14]];

try {
  await page.goto(`${url}${address}`);
  await ready(page);
  await page.fill('[aria-label="Name of a new segment"]', 'Painted');
  await page.click('[data-cy=as-add-segment]');
  await page.waitForFunction(() => window.annotateCase.desk.state.segments.some(each => each.name === 'Painted'), null, { timeout: LONG_MS });
  const index = await page.evaluate(() => window.annotateCase.desk.state.segments.find(each => each.name === 'Painted').index);

  // two windows on one case: both changes are kept, in both
  const other = await page.context().newPage();
  const refused = [];
  other.on('response', response => { if (response.status() === 412) refused.push(response.url()); });
  await other.goto(`${url}${address}`);
  await ready(other);
  seen.same_session = await page.evaluate(() => window.annotateCase.desk.id) === await other.evaluate(() => window.annotateCase.desk.id);
  await paint(page, ONE, index);
  await sleep(100);
  await saved(page);
  await paint(other, TWO, index);
  await sleep(100);
  await saved(other);
  seen.two_windows = { first: await stored(other, ONE), second: await stored(other, TWO), shown_in_second: await shown(other, ONE), index };
  seen.refused_edits = refused.length;
  await other.close();

  // the server is away for a while
  await page.route('**/labelmap*', route => route.abort());
  await paint(page, THREE, index);
  await page.waitForFunction(() => !window.annotateCase.desk.state.isReachable, null, { timeout: LONG_MS });
  await sleep(300);
  seen.away = { status: await page.locator('[data-cy=as-status]').innerText(), problem: await page.locator('[data-cy=as-problem]').innerText(), shown: await shown(page, THREE) };
  await page.screenshot({ path: path.join(shots, 'trouble-away.png') });
  await page.unroute('**/labelmap*');
  await saved(page);
  seen.back = { stored: await stored(page, THREE), first: await stored(page, ONE), status: await page.locator('[data-cy=as-status]').innerText() };

  // the layout changes: the draft is shown again
  await page.evaluate(() => window.commandsManager.run('setViewportGridLayout', { numRows: 1, numCols: 1 }));
  await sleep(3000);
  seen.layout = { shown: await page.evaluate(() => window.annotateCase.viewer.isShown()), voxel: await shown(page, THREE), panes: await page.evaluate(() => window.annotateCase.viewer.panes().length) };

  // surfaces in three dimensions, and back to the planes
  await page.click('[data-cy=as-surfaces]');
  await page.waitForFunction(() => {
    const { segmentationService, viewportGridService } = window.services;
    return [...viewportGridService.getState().viewports.keys()].some(pane => segmentationService.getSegmentationRepresentations(pane, { segmentationId: 'annotate-draft' }).some(each => each.type === 'Surface'));
  }, null, { timeout: LONG_MS });
  await sleep(4000);
  await page.screenshot({ path: path.join(shots, 'trouble-surfaces.png'), timeout: LONG_MS });
  seen.surfaces = { voxel: await shown(page, THREE), eval_errors: wrong.filter(each => each.includes('EvalError')) };
  await page.click('[data-cy=as-planes]');
  await page.waitForFunction(() => window.annotateCase.viewer.panes().includes('annotate-slices') && window.annotateCase.viewer.isShown(), null, { timeout: LONG_MS });
  seen.planes = { panes: await page.evaluate(() => window.annotateCase.viewer.panes().length), voxel: await shown(page, THREE) };

  // who cannot see or use a mouse
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run('[data-cy=as-panel]'));
  seen.axe = found.violations.filter(each => ['serious', 'critical'].includes(each.impact)).map(each => `${each.id}: ${each.nodes.map(node => node.html.slice(0, 120)).join(' | ')}`);

  // a plugin that does not load leaves the stock viewer
  wrong.length = 0;
  await page.route('**/viewer/plugin/extension.js', route => route.fulfill({ status: 404 }));
  await page.goto(`${url}/viewer/`);
  await page.getByText('Sample, MR').waitFor({ timeout: LONG_MS });
  seen.without_plugin = wrong.some(each => each.includes('extension.js of annotate-server is left out'));
} catch (error) {
  seen.failed = String(error.stack ?? error).slice(0, 1500);
  await page.screenshot({ path: path.join(shots, 'trouble-failed.png') }).catch(() => undefined);
}
await browser.close();
console.log(JSON.stringify({ seen, wrong, foreign: [...foreign] }));
