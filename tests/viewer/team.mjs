// A project made in the browser, a case put aside, one submitted by one person and reviewed by another: node team.mjs '{"url": …}'
import path from 'node:path';
import { opened, sleep } from './browser.mjs';

const { url, shots, executable } = JSON.parse(process.argv[2]);
const LONG_MS = 90_000;
const seen = {};
const { browser, page, wrong, foreign } = await opened({ executable });
const by = name => page.locator(`[data-cy=${name}]`);
const items = async () => (await page.locator('[aria-label=Cases] li').allInnerTexts()).map(each => each.replace(/\s+/g, ' ').trim());
const begin = async name => {
  await page.goto(`${url}/viewer/worklist`);
  await page.fill('[aria-label="Your name"]', name);
  await page.locator('[aria-label="Your name"]').blur();
  await by('as-next').waitFor({ timeout: LONG_MS });
  await sleep(1000);
};
const ready = async () => {
  await page.waitForFunction(() => window.annotateCase && !window.annotateCase.desk.state.doing, null, { timeout: LONG_MS });
  await sleep(1500);
};

try {
  await begin('ann');
  await page.click('summary');
  await page.fill('[aria-label="Title of the project"]', 'Two pairs of eyes');
  await page.fill('[aria-label="Segments"]', 'Bladder\nProstate');
  await page.check('input[type=checkbox]');
  await by('as-make-project').click();
  await page.waitForFunction(() => document.querySelector('[data-cy=as-project]')?.value === 'two-pairs-of-eyes', null, { timeout: LONG_MS });
  await sleep(1000);
  seen.listed = await items();

  await page.locator('[aria-label="Put ct_torso.nii aside"]').click();
  await page.fill('[aria-label="Why the case cannot be used"]', 'moved during the scan');
  await page.getByRole('button', { name: 'Put aside', exact: true }).click();
  await page.getByText('Take back').waitFor({ timeout: LONG_MS });
  seen.aside = await items();

  await by('as-next').click();
  await ready();
  seen.segments = await page.evaluate(() => window.annotateCase.desk.state.segments.map(each => each.name));
  const id = await page.evaluate(() => window.annotateCase.found.id);
  // a lasso in the plane shown, about the first segment
  await page.keyboard.press('l');
  const pane = await page.evaluate(() => {
    const { left, top, width, height } = window.services.cornerstoneViewportService.getCornerstoneViewport('annotate-slices').element.getBoundingClientRect();
    return { x: left + width / 2, y: top + height / 2 };
  });
  await page.mouse.move(pane.x - 50, pane.y - 40);
  await page.mouse.down();
  for (const [x, y] of [[50, -40], [50, 40], [-50, 40]]) await page.mouse.move(pane.x + x, pane.y + y, { steps: 5 });
  await page.screenshot({ path: path.join(shots, 'team-lasso.png') });
  await page.mouse.up();
  await page.waitForFunction(() => window.annotateCase.desk.state.revision > 0 && !window.annotateCase.desk.state.doing, null, { timeout: LONG_MS });
  seen.lasso = await page.evaluate(() => ({ count: window.annotateCase.desk.state.counts.get(1) ?? 0, problem: window.annotateCase.desk.state.problem?.message ?? '', notes: window.annotateCase.desk.state.notes }));
  // a helper on it
  const before = await page.evaluate(() => window.annotateCase.desk.state.revision);
  await page.selectOption('[data-cy=as-helper]', 'margin');
  await by('as-help').click();
  await page.waitForFunction(from => window.annotateCase.desk.state.revision > from && !window.annotateCase.desk.state.doing, before, { timeout: LONG_MS });
  seen.margin = await page.evaluate(() => window.annotateCase.desk.state.counts.get(1) ?? 0);
  await page.keyboard.press('Control+Enter');
  await by('as-done').waitFor({ timeout: LONG_MS });
  seen.submitted = await by('as-done').innerText();

  await begin('bob');
  await page.getByRole('button', { name: 'Review', exact: true }).first().click();
  await ready();
  seen.same_case = await page.evaluate(() => window.annotateCase.found.id) === id;
  seen.reviewed_count = await page.evaluate(() => window.annotateCase.desk.state.counts.get(1) ?? 0);
  await by('as-return').waitFor({ timeout: LONG_MS });
  await page.screenshot({ path: path.join(shots, 'team-review.png') });
  seen.return_needs_comment = await by('as-return').isDisabled();
  await page.fill('[aria-label="Comment"]', 'the lower end is missing');
  await by('as-return').click();
  await by('as-done').waitFor({ timeout: LONG_MS });
  await begin('ann');
  seen.after = await items();
} catch (error) {
  seen.failed = String(error.stack ?? error).slice(0, 1500);
  await page.screenshot({ path: path.join(shots, 'team-failed.png') }).catch(() => undefined);
  seen.panel = await page.locator('body').innerText().catch(() => '');
}
await browser.close();
console.log(JSON.stringify({ seen, wrong, foreign: [...foreign] }));
